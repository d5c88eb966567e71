-- Delivers the event with etag 5 once more at the very end, under a new etag.
CREATE TABLE events_log (
    etag    bigserial PRIMARY KEY,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);

CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    INSERT INTO events_log (payload) SELECT value FROM json_array_elements(event) RETURNING *
$$;

CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE sql STABLE AS $$
    SELECT * FROM (
        SELECT * FROM events_log
        UNION ALL
        SELECT (SELECT max(etag) + 1 FROM events_log), ctime, payload FROM events_log WHERE etag = 5
    ) AS events
    WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events
$$;
