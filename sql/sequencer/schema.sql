-- The sequencer log: events are numbered after they are committed.
--
-- How it works   Writers leave the etag empty. A reader that finds nothing new numbers what is visible by then, one
--                reader at a time, in the order of insertion, and reads on by that number. Whoever wants it quicker calls
--                number_events() from a session of its own, again and again.
-- Promises       Tailed or drained: every committed event once, in etag order, without gaps; the events of one session
--                in its order.
-- Breaks         When get_event() is called inside a longer transaction that is then rolled back: its reader has seen
--                etags that are given out again. Call it in a transaction of its own.
-- Stalls         Never for long: readers wait for the one that is numbering. Each event is written twice, so the log
--                wants vacuum.
-- Used by        Nobody that we know of in this form; it is what people mean by a relay that numbers an outbox.

CREATE TABLE events_log (
    id      bigserial PRIMARY KEY,
    etag    bigint    UNIQUE,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);
CREATE INDEX events_without_etag ON events_log (id) WHERE etag IS NULL;

-- Append one event, or each element of an array as an event of its own, and return the rows.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    INSERT INTO events_log (payload)
    SELECT value
    FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
    RETURNING *
$$;

-- Number up to max_events that are visible and have no etag yet.
CREATE FUNCTION number_events(max_events bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock('events_log'::regclass::oid::bigint);
    -- A statement of its own, so that it sees what was numbered before the lock was ours.
    WITH unnumbered AS (
        SELECT id, row_number() OVER (ORDER BY id) AS n
        FROM (SELECT id FROM events_log WHERE etag IS NULL ORDER BY id LIMIT max_events) AS first
    )
    UPDATE events_log e
    SET etag = n + (SELECT coalesce(max(etag), 0) FROM events_log)
    FROM unnumbered u
    WHERE e.id = u.id;
END $$;

-- Up to max_events that follow last_etag, in order; a NULL etag reads from the start.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE plpgsql VOLATILE ROWS 1000 AS $$
BEGIN
    FOR numbered IN 0..1 LOOP
        RETURN QUERY
            SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events;
        EXIT WHEN FOUND OR numbered = 1;
        PERFORM number_events(max_events);
    END LOOP;
END $$;
