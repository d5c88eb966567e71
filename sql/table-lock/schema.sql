-- The table-lock log: one writer at a time, by a lock on the table.
--
-- How it works   log_event() locks the table against other writers before its insert draws an etag, until its commit.
--                So whoever draws a higher etag does so after all lower ones are visible.
-- Promises       Tailed or drained: every committed event once, in etag order, which is the order of commits.
-- Breaks         When anybody inserts without log_event(): the lock would come after the insert's own, so two such
--                writers could wait for one another; and when the sequence has a CACHE.
-- Stalls         Writers wait for an open writer, readers see nothing new meanwhile. No group commit. The lock and
--                autovacuum's exclude one another, so a busy log is vacuumed late.
-- Used by        The Python library eventsourcing.

CREATE TABLE events_log (
    etag    bigserial PRIMARY KEY,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);

-- Append one event, or each element of an array as an event of its own, and return the rows.
-- In plpgsql, because an SQL function would take the insert's own lock before it runs LOCK TABLE.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE events_log IN SHARE ROW EXCLUSIVE MODE;
    RETURN QUERY
        INSERT INTO events_log (payload)
        SELECT value
        FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
        RETURNING *;
END $$;

-- Up to max_events that follow last_etag, in order; a NULL etag reads from the start.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT etag, ctime, payload
    FROM events_log
    WHERE etag > coalesce(last_etag, 0)
    ORDER BY etag
    LIMIT max_events
$$;
