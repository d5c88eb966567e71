-- The skip-locked log: a queue.
--
-- How it works   A reader deletes the first events that nobody else has locked, and is given them. When its transaction
--                rolls back they are there again.
-- Promises       Every committed event once, to one of its readers. In any order.
-- Breaks         When two readers each want all events: one's events are gone for the other.
-- Stalls         Never. What was deleted stays in the table until a vacuum may remove it, and an old transaction
--                anywhere in the database keeps that from happening: reads get slower and slower meanwhile.
-- Used by        pgmq, Que, GoodJob, Solid Queue, procrastinate.

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

-- Take up to max_events that nobody else is taking.
CREATE FUNCTION get_event(max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql AS $$
    DELETE FROM events_log
    WHERE etag = ANY (ARRAY(SELECT etag FROM events_log ORDER BY etag LIMIT max_events FOR UPDATE SKIP LOCKED))
    RETURNING *
$$;
