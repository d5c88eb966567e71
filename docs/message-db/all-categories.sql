-- Message DB with one category per producer, and a reader that reads all categories by their global position.

CREATE OR REPLACE FUNCTION stream_of(event jsonb) RETURNS varchar
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'producer' || coalesce(event ->> 'producer', '0') || '-1'
$$;

CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS TABLE (etag bigint, ctime timestamp, payload jsonb)
LANGUAGE sql STABLE AS $$
    SELECT global_position, "time", data
    FROM messages WHERE global_position > coalesce(last_etag, 0) ORDER BY global_position LIMIT max_events
$$;
