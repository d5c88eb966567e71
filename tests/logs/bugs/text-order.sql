-- on xid-horizon, cursor = { id = "text", etag = "bigint" }: a transaction id that is sent as text and sorted as text.
CREATE FUNCTION get_event(last_id text DEFAULT NULL, last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS TABLE (id text, etag bigint, ctime timestamp, payload json) LANGUAGE sql STABLE AS $$
    SELECT e.xid::text AS id, e.etag, e.ctime, e.payload FROM events_log e
    WHERE (e.xid, e.etag) > (coalesce(last_id, '0')::xid8, coalesce(last_etag, 0))
      AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY id, etag LIMIT max_events
$$;
