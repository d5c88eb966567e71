-- on xid-horizon: the rows are of one snapshot, the horizon of the next statement's.
CREATE OR REPLACE FUNCTION get_event(last_xid xid8, last_etag bigint, max_events bigint)
RETURNS SETOF events_log LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    given events_log[] := ARRAY(
        SELECT e FROM events_log e WHERE (xid, etag) > (coalesce(last_xid, '0'), coalesce(last_etag, 0))
        ORDER BY e.xid, e.etag LIMIT max_events);
BEGIN
    RETURN QUERY SELECT * FROM unnest(given) AS e WHERE e.xid < pg_snapshot_xmin(pg_current_snapshot());
END $$;
