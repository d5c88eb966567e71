-- Holds events that nobody appended: one after every statement, once of a producer that does not exist, once no event at all.
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

CREATE SEQUENCE invented;

CREATE FUNCTION invent() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() = 1 AND nextval('invented') <= 2 THEN
        INSERT INTO events_log (payload) VALUES
            (CASE currval('invented') WHEN 1 THEN '{"producer": 99, "seq": 0, "value": 0}' ELSE '"what"' END::json);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER invent AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION invent();
