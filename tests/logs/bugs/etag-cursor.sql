-- on xid-horizon, cursor = { etag = "bigint" }: the horizon is of transaction ids, the cursor is not.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE AS $$
    SELECT * FROM events_log
    WHERE etag > coalesce(last_etag, 0) AND xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY etag LIMIT max_events
$$;
