-- The snapshot-cursor log: what this snapshot sees and the one before did not.
--
-- How it works   An event keeps its transaction's id. A reader goes through windows between two snapshots: the events
--                whose transactions the newer one sees as committed and the older one does not. The cursor is the two
--                snapshots and the last event in that window, so a page may be smaller than a window.
-- Promises       Tailed or drained: every committed event once; the events of one session in its order.
-- Breaks         When the dump is restored into a younger cluster, whose transaction ids start over.
-- Stalls         Never: what is committed is delivered, whoever else is open. While a transaction stays open, each new
--                window looks again at all that was logged since it began.
-- Used by        PgQ, which makes the snapshots at ticks.

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

-- Up to max_events that the newer snapshot sees and the older one does not, after the event (last_xid, last_etag).
CREATE FUNCTION events_between(
    older pg_snapshot, newer pg_snapshot, last_xid xid8, last_etag bigint, max_events bigint
) RETURNS TABLE (etag bigint, ctime timestamp, payload json, since pg_snapshot, upto pg_snapshot, xid xid8)
LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT e.etag, e.ctime, e.payload, older, newer, e.xid
    FROM events_log e
    WHERE (e.xid, e.etag) > (last_xid, last_etag)
      AND e.xid >= pg_snapshot_xmin(older) AND e.xid < pg_snapshot_xmax(newer)
      AND NOT pg_visible_in_snapshot(e.xid, older) AND pg_visible_in_snapshot(e.xid, newer)
    ORDER BY e.xid, e.etag
    LIMIT max_events
$$;

-- Up to max_events that follow a cursor; NULLs read from the start.
-- Without defaults: get_event(last_etag => 1005), by etag alone, would read from the start. So it is an error.
CREATE FUNCTION get_event(
    last_since pg_snapshot, last_upto pg_snapshot, last_xid xid8, last_etag bigint, max_events bigint
) RETURNS TABLE (etag bigint, ctime timestamp, payload json, since pg_snapshot, upto pg_snapshot, xid xid8)
LANGUAGE plpgsql VOLATILE ROWS 1000 AS $$
BEGIN
    IF last_upto IS NOT NULL THEN
        RETURN QUERY SELECT * FROM events_between(last_since, last_upto, last_xid, last_etag, max_events);
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    -- That window is read: the next one begins where it ended.
    RETURN QUERY
        SELECT * FROM events_between(coalesce(last_upto, '1:1:'), pg_current_snapshot(), '0', 0, max_events);
END $$;

-- The first event.
CREATE FUNCTION get_event()
RETURNS TABLE (etag bigint, ctime timestamp, payload json, since pg_snapshot, upto pg_snapshot, xid xid8)
LANGUAGE sql AS $$
    SELECT * FROM get_event(NULL, NULL, NULL, NULL, 1)
$$;
