-- The lock-drain log: the bigserial log, read so that nothing is skipped.
--
-- How it works   Whoever inserts holds a RowExclusiveLock on the table from before its first nextval() until its events
--                are visible. So: see how far etags are drawn, then see who holds that lock, wait until these are gone,
--                and read up to there. Whoever comes later draws higher etags.
-- Promises       Tailed or drained: every committed event once, in etag order, and each session's events in its order.
-- Breaks         When a writer draws the etag before its INSERT (nextval() by itself), when the sequence has a CACHE, on
--                a standby (locks are not there), in REPEATABLE READ (it says so).
-- Stalls         A reader waits for writers of this log that were open when it asked, prepared ones too, and for nobody
--                else. Writers never wait.
-- Named clients  A name that is all digits is an etag: get_event('1005') is get_event(1005). Many drivers send numbers
--                without a type, and PostgreSQL takes those for texts.
-- Used by        Whoever has a bigserial log: docs/make-a-bigserial-log-safe.md tells how to adopt it.

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
    drawn   bigint;
    writers text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' OR pg_is_in_recovery() THEN
        RAISE EXCEPTION 'get_event: the log is read on the primary, in READ COMMITTED'
            USING HINT = 'Elsewhere the locks of its writers, or what they have committed since, cannot be seen.';
    END IF;

    SELECT last_value INTO drawn FROM events_log_etag_seq;
    IF last_etag >= drawn THEN
        RETURN;
    END IF;

    -- After, and not before: a writer that has drawn an etag up to here is among these, or its events are visible.
    writers := open_writers();
    WHILE writers <> '{}' LOOP
        PERFORM pg_sleep(0.001);
        writers := ARRAY(SELECT unnest(writers) INTERSECT SELECT unnest(open_writers()));
    END LOOP;

    RETURN QUERY
        SELECT etag, ctime, payload
        FROM events_log
        WHERE etag > coalesce(last_etag, 0) AND etag <= drawn
        ORDER BY etag
        LIMIT max_events;
END $$;

-- Up to max_events that this client has not had yet. The position moves in the caller's transaction; a second session
-- of the same client waits here until the first one has ended, so sessions take turns.
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
