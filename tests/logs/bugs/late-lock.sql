-- on bigserial: log_event draws the etag, then takes the lock that was to order the writers.
CREATE OR REPLACE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE plpgsql AS $$
DECLARE
    one   json;
    drawn bigint;
BEGIN
    FOR one IN
        SELECT value
        FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
    LOOP
        drawn := nextval('events_log_etag_seq');
        PERFORM pg_advisory_xact_lock('events_log'::regclass::bigint);
        RETURN QUERY INSERT INTO events_log (etag, payload) VALUES (drawn, one) RETURNING *;
    END LOOP;
END $$;
