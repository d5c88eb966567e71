-- The advisory-lock log: one writer at a time, by an advisory lock in a trigger.
--
-- How it works   A BEFORE STATEMENT trigger takes an advisory lock until the commit. It fires before defaults are
--                computed, for INSERT and for COPY, so the lock comes before nextval() whoever writes.
-- Promises       Tailed or drained: every committed event once, in etag order, which is the order of commits.
-- Breaks         When the trigger is made FOR EACH ROW (defaults come first then), when the sequence has a CACHE, when
--                a writer draws the etag itself.
-- Stalls         Writers wait for an open writer, readers see nothing new meanwhile. No group commit. Vacuum is not
--                disturbed.
-- Used by        Rails Event Store.

CREATE TABLE events_log (
    etag    bigserial PRIMARY KEY,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);

CREATE FUNCTION one_writer() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(TG_RELID::bigint);
    RETURN NULL;
END $$;

CREATE TRIGGER one_writer BEFORE INSERT ON events_log
FOR EACH STATEMENT EXECUTE FUNCTION one_writer();

-- Append one event, or each element of an array as an event of its own, and return the rows.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    INSERT INTO events_log (payload)
    SELECT value
    FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
    RETURNING *
$$;

-- Up to max_events that follow last_etag, in order; a NULL etag reads from the start.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT etag, ctime, payload
    FROM events_log
    WHERE etag > coalesce(last_etag, 0)
    ORDER BY etag
    LIMIT max_events
$$;
