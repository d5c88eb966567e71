-- The xid-horizon log: read only what no open transaction can come before.
--
-- How it works   An event keeps its transaction's id. Ids are given out in ascending order, so below the oldest id that
--                is still open everything is settled. A reader takes events in the order of (xid, etag), below that
--                horizon, in one statement: rows and horizon are of one snapshot.
-- Promises       Tailed or drained: every committed event once; the events of one session in its order. The order of
--                all is by transaction id: neither that of etags nor that of commits.
-- Breaks         When the cursor is the etag alone; when the horizon is asked for after the rows; when the dump is
--                restored into a younger cluster, whose ids start over.
-- Stalls         Readers wait for every open transaction in the whole cluster that has written something: in this log,
--                another table, another database, prepared and forgotten. Writers never wait.
-- Used by        Emmett, eugene-khyst's postgresql-event-sourcing, sliceworkz.

CREATE TABLE events_log (
    xid     xid8      NOT NULL DEFAULT pg_current_xact_id(),
    etag    bigserial NOT NULL,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL,
    PRIMARY KEY (xid, etag)
);

-- Append one event, or each element of an array as an event of its own, and return the rows.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    INSERT INTO events_log (payload)
    SELECT value
    FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
    RETURNING *
$$;

-- Up to max_events that follow the event (last_xid, last_etag); NULLs read from the start.
-- Without defaults: get_event('1005', '10'), by etag alone and with numbers that have no type, would be taken for an xid
-- and an etag, and yield wrong events. So it is an error.
CREATE FUNCTION get_event(last_xid xid8, last_etag bigint, max_events bigint) RETURNS SETOF events_log
LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT e.xid, e.etag, e.ctime, e.payload
    FROM events_log e
    WHERE (e.xid, e.etag) > (coalesce(last_xid, '0'), coalesce(last_etag, 0))
      AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY e.xid, e.etag
    LIMIT max_events
$$;

-- The first event.
CREATE FUNCTION get_event() RETURNS SETOF events_log
LANGUAGE sql STABLE AS $$
    SELECT * FROM get_event(NULL, NULL, 1)
$$;
