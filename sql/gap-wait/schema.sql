-- The gap-wait log: the bigserial log, read no further than the first gap that may still be filled.
--
-- How it works   A reader delivers etags as long as one follows the other. At a gap it notes who is writing to the log,
--                and waits until the gap is filled or these have all ended: then nobody is left who could fill it.
-- Promises       Tailed or drained: every committed event once, in etag order, and each session's events in its order.
-- Breaks         When a writer draws the etag before its INSERT (nextval() by itself), when the sequence has a CACHE, on
--                a standby (locks are not there), in REPEATABLE READ (it says so).
-- Stalls         At a gap only: until its writer has ended, or, when it was rolled back, until those have that were open
--                beside it. Each rollback ends a page. Writers never wait.
-- Used by        Marten and Axon wait at gaps too, but with a time-out in place of the proof.

CREATE TABLE events_log (
    etag    bigserial PRIMARY KEY,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);

-- Append one event, or each element of an array as an event of its own, and return the rows.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    INSERT INTO events_log (payload)
    SELECT value
    FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
    RETURNING *
$$;

-- The transactions that have written to the log and are still open, prepared ones too (which have no pid), but not
-- our own. A writer takes its lock before it draws its first etag, and lets go of it after its events are visible.
CREATE FUNCTION open_writers() RETURNS text[]
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(array_agg(l.virtualtransaction), '{}')
    FROM pg_locks l
    JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database()
      AND l.relation = 'events_log'::regclass
      AND l.mode = 'RowExclusiveLock'
      AND l.granted
      AND l.pid IS DISTINCT FROM pg_backend_pid()
$$;

-- Up to max_events that follow last_etag, in order; a NULL etag reads from the start.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE plpgsql VOLATILE ROWS 1000 AS $$
DECLARE
    here    bigint := coalesce(last_etag, 0);
    writers text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' OR pg_is_in_recovery() THEN
        RAISE EXCEPTION 'get_event: the log is read on the primary, in READ COMMITTED'
            USING HINT = 'Elsewhere the locks of its writers, or what they have committed since, cannot be seen.';
    END IF;

    LOOP
        RETURN QUERY
            SELECT etag, ctime, payload
            FROM (
                SELECT *, row_number() OVER (ORDER BY etag) AS nth
                FROM events_log WHERE etag > here ORDER BY etag LIMIT max_events
            ) AS page
            WHERE etag = here + nth;
        IF FOUND OR max_events = 0 OR NOT EXISTS (SELECT FROM events_log WHERE etag > here) THEN
            RETURN;
        END IF;

        -- A gap: what follows it is visible, so whoever drew its etags is among these or has ended.
        IF writers IS NULL THEN
            writers := open_writers();
        ELSE
            writers := ARRAY(SELECT unnest(writers) INTERSECT SELECT unnest(open_writers()));
        END IF;
        IF writers = '{}' THEN
            SELECT min(etag) - 1 INTO here FROM events_log WHERE etag > here;
            writers := NULL;
        ELSE
            PERFORM pg_sleep(0.001);
        END IF;
    END LOOP;
END $$;
