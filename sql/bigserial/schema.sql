-- The bigserial log: append with log_event(), read what follows an etag with get_event().
--
-- How it works   A sequence numbers the events as they are inserted; a reader asks for etags above its last one.
-- Promises       Drained after the writers are done: every committed event once, in etag order, and each session's
--                events in the order in which it appended them.
-- Breaks         Tailed while writers commit out of order: an event that commits late with a lower etag is skipped
--                by every reader that is past it, silently and for ever.
-- Stalls         Never. A rolled back append leaves a hole in the etags, which is harmless.
-- Named clients  A name that is all digits is an etag: get_event('1005') is get_event(1005). Many drivers send numbers
--                without a type, and PostgreSQL takes those for texts.
-- Used by        Nearly every event table that somebody made at home.

CREATE TABLE events_log (
    etag    bigserial PRIMARY KEY,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);

-- Where each named client is. A client without a row is at the beginning.
CREATE TABLE events_client (
    name text   PRIMARY KEY,
    etag bigint NOT NULL
);

-- Append one event, or each element of an array as an event of its own, and return the rows.
-- To log an event that is itself an array, put it into an array of one.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE plpgsql AS $$
BEGIN
    IF event IS NULL THEN
        RAISE EXCEPTION 'log_event: the event must not be NULL'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Log the JSON value null as ''null''::json.';
    ELSIF json_typeof(event) = 'array' THEN
        RETURN QUERY
            INSERT INTO events_log (payload)
            SELECT value FROM json_array_elements(event)
            RETURNING *;
    ELSE
        RETURN QUERY
            INSERT INTO events_log (payload) VALUES (event) RETURNING *;
    END IF;
END $$;

-- The same under its second name.
CREATE FUNCTION log_events(events json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    SELECT * FROM log_event(events)
$$;

-- Up to max_events that follow last_etag, in order; a NULL etag reads from the start.
-- One SELECT and nothing else, so that the planner inlines it: no plpgsql, no STRICT, no SET.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT etag, ctime, payload
    FROM events_log
    WHERE etag > coalesce(last_etag, 0)
    ORDER BY etag
    LIMIT max_events
$$;

-- Up to max_events that this client has not had yet; an unknown name starts at the beginning.
-- The position moves in the caller's transaction: a rollback takes it back, and a second session of the same
-- client waits here until the first one has ended.
-- A NULL or a number is not a name but an etag that was sent without a type. Whatever drivers write for a number counts
-- (1005, -1, 1e+21, NaN), and the empty text: one that is not a bigint is an error, and never silently a client.
CREATE FUNCTION get_event(client text, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE plpgsql AS $$
DECLARE
    last_etag bigint;
    event     events_log;
BEGIN
    IF client IS NULL OR client ~* '^\s*[-+]?([0-9]*\.?[0-9]*(e[-+][0-9]+)?|nan|inf(inity)?)\s*$' THEN
        RETURN QUERY SELECT * FROM get_event(client::bigint, max_events);
        RETURN;
    END IF;

    INSERT INTO events_client (name, etag) VALUES (client, 0) ON CONFLICT DO NOTHING;
    SELECT c.etag INTO last_etag FROM events_client c WHERE c.name = client FOR UPDATE;

    FOR event IN SELECT * FROM get_event(last_etag, max_events) LOOP
        last_etag := event.etag;
        RETURN NEXT event;
    END LOOP;
    UPDATE events_client c SET etag = last_etag WHERE c.name = client;
END $$;
