-- on lock-drain: the reader sees who writes, then how far etags are drawn: a writer may begin between the two.
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    drawn   bigint;
    writers text[] := open_writers();
BEGIN
    SELECT last_value INTO drawn FROM events_log_etag_seq;
    WHILE writers <> '{}' LOOP
        PERFORM pg_sleep(0.001);
        writers := ARRAY(SELECT unnest(writers) INTERSECT SELECT unnest(open_writers()));
    END LOOP;
    RETURN QUERY
        SELECT etag, ctime, payload FROM events_log
        WHERE etag > coalesce(last_etag, 0) AND etag <= drawn ORDER BY etag LIMIT max_events;
END $$;
