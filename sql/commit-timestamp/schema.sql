-- The commit-timestamp log: a documented failure.
--
-- How it works   A reader takes events in the order of (commit timestamp of the transaction, etag).
-- Promises       Drained after the writers are done: every committed event once, the events of one session in its order.
-- Breaks         Tailed: a transaction takes its stamp, then waits for the disk, then becomes visible. One that was
--                stamped later may be visible earlier, and a reader that is past it never sees the other. It cannot be
--                made right by itself: no function tells the lowest stamp that is taken and not yet visible; the oldest
--                open transaction id would, and then it is the xid-horizon log with a slower order. Stamps of
--                transactions that are frozen are gone.
-- Stalls         Never. The stamp cannot be indexed: each page sorts the whole log. Needs track_commit_timestamp=on.
-- Used by        Nobody should.

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

-- Up to max_events that follow the event (last_committed, last_etag); NULLs read from the start.
-- Without defaults: get_event('101112', '10'), by etag alone and with numbers that have no type, would be taken for a
-- date and an etag, and yield wrong events. So it is an error.
CREATE FUNCTION get_event(last_committed timestamptz, last_etag bigint, max_events bigint)
RETURNS TABLE (etag bigint, ctime timestamp, payload json, committed timestamptz)
LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT e.etag, e.ctime, e.payload, pg_xact_commit_timestamp(e.xmin)
    FROM events_log e
    WHERE (pg_xact_commit_timestamp(e.xmin), e.etag) > (coalesce(last_committed, '-infinity'), coalesce(last_etag, 0))
    ORDER BY 4, 1
    LIMIT max_events
$$;

-- The first event.
CREATE FUNCTION get_event() RETURNS TABLE (etag bigint, ctime timestamp, payload json, committed timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT * FROM get_event(NULL, NULL, 1)
$$;
