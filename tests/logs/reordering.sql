-- Delivers the event with etag 5 after all others.
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE AS $$
    SELECT * FROM (
        SELECT CASE etag WHEN 5 THEN (SELECT max(etag) + 1 FROM events_log) ELSE etag END, ctime, payload
        FROM events_log
    ) AS events (etag, ctime, payload)
    WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events
$$;
