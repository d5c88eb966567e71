-- Delivers the event with etag 5 once more at the very end, under a new etag.
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE AS $$
    SELECT * FROM (
        SELECT * FROM events_log
        UNION ALL
        SELECT (SELECT max(etag) + 1 FROM events_log), ctime, payload FROM events_log WHERE etag = 5
    ) AS events
    WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events
$$;
