-- on bigserial, cursor = { xid = "bigint", etag = "bigint" }: the system column xmin, which in a savepoint is another one.
CREATE OR REPLACE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        RETURN QUERY INSERT INTO events_log (payload) VALUES (event -> 0) RETURNING *;
    EXCEPTION WHEN not_null_violation THEN
        NULL;
    END;
    RETURN QUERY
        INSERT INTO events_log (payload)
        SELECT value FROM json_array_elements(event) WITH ORDINALITY WHERE ordinality > 1 RETURNING *;
END $$;
CREATE FUNCTION get_event(last_xid bigint DEFAULT NULL, last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS TABLE (xid bigint, etag bigint, ctime timestamp, payload json) LANGUAGE sql STABLE AS $$
    SELECT e.xmin::text::bigint, e.etag, e.ctime, e.payload FROM events_log e
    WHERE (e.xmin::text::bigint, e.etag) > (coalesce(last_xid, 0), coalesce(last_etag, 0))
      AND e.xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    ORDER BY 1, 2 LIMIT max_events
$$;
