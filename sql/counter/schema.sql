-- The counter log: etags from one row instead of a sequence.
--
-- How it works   log_event() adds to the counter and numbers its events with what it added. The row stays locked
--                until the commit, so the next writer counts on from what is committed.
-- Promises       Tailed or drained: every committed event once, in etag order, which is the order of commits, without
--                gaps: a rollback takes the counter back.
-- Breaks         With synchronous_commit=off a crash may lose the last commits and give their etags out again.
-- Stalls         Writers wait for an open writer, readers see nothing new meanwhile. No group commit. The row is
--                updated at each append: it is kept on a page of its own, so that old versions go without a vacuum.
-- Used by        commanded/eventstore (Elixir).

CREATE TABLE events_log (
    etag    bigint    PRIMARY KEY,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);

CREATE TABLE events_counter (n bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO events_counter VALUES (0);

-- Append one event, or each element of an array as an event of its own, and return the rows.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    WITH events AS MATERIALIZED (
        SELECT value, ordinality
        FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
             WITH ORDINALITY
    ), counted AS (
        UPDATE events_counter SET n = n + (SELECT count(*) FROM events) RETURNING n
    )
    INSERT INTO events_log (etag, payload)
    SELECT n - (SELECT count(*) FROM events) + ordinality, value
    FROM counted, events
    ORDER BY ordinality
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
