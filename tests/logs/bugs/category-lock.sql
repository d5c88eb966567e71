-- on partitioned, cursor = { etag = "bigint" }: a lock for each category, and a reader of all of them by one etag.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE AS $$
    SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events
$$;
