-- Adapts Message DB to the contract of a log: a view of its table under our column names, and the two functions.

CREATE VIEW events_log AS
SELECT xmin, global_position AS etag, time AS ctime, data AS payload FROM messages;

CREATE FUNCTION stream_of(event jsonb) RETURNS varchar
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'producer-' || coalesce(event ->> 'producer', '0')
$$;

CREATE FUNCTION log_event(event json) RETURNS SETOF bigint
LANGUAGE sql AS $$
    SELECT write_message(gen_random_uuid()::varchar, stream_of(value), 'Appended', value)
    FROM jsonb_array_elements(
        CASE json_typeof(event) WHEN 'array' THEN event::jsonb ELSE jsonb_build_array(event::jsonb) END
    )
$$;

-- get_category_messages reads from a position on, including it; get_event reads after an etag: hence the + 1.
CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS TABLE (etag bigint, ctime timestamp, payload jsonb)
LANGUAGE sql STABLE AS $$
    SELECT global_position, "time", data::jsonb
    FROM get_category_messages('producer', coalesce(last_etag, 0) + 1, max_events)
$$;
