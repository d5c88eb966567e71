-- on xid-horizon: the rows are of one snapshot, the horizon of a later one, a round trip after it.
CREATE OR REPLACE FUNCTION get_event(last_xid xid8 DEFAULT NULL, last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found events_log[] := ARRAY(
        SELECT e FROM events_log e WHERE (xid, etag) > (coalesce(last_xid, '0'), coalesce(last_etag, 0))
        ORDER BY e.xid, e.etag LIMIT max_events);
BEGIN
    PERFORM pg_sleep(0.001);
    RETURN QUERY SELECT * FROM unnest(found) AS e WHERE e.xid < pg_snapshot_xmin(pg_current_snapshot());
END $$;
