-- Loses an event after the commit: seq 7 of every producer is deleted by a later append.
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
    SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events
$$;

CREATE FUNCTION forget() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM events_log WHERE (payload ->> 'seq')::bigint = 7;
    RETURN NULL;
END $$;

CREATE TRIGGER forget AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION forget();
