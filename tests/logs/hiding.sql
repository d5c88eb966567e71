-- Never delivers the event with etag 5, though it is stored.
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE AS $$
    SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) AND etag <> 5 ORDER BY etag LIMIT max_events
$$;
