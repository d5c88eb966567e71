-- on bigserial, read by a group: the position is kept in the session, and stored at every third page only.
CREATE OR REPLACE FUNCTION get_event(client text, max_events bigint DEFAULT 1) RETURNS SETOF events_log
LANGUAGE plpgsql AS $$
DECLARE
    pages     int    := coalesce(nullif(current_setting('bench.pages', true), '')::int, 0) + 1;
    last_etag bigint := nullif(current_setting('bench.etag', true), '')::bigint;
    event     events_log;
BEGIN
    INSERT INTO events_client (name, etag) VALUES (client, 0) ON CONFLICT DO NOTHING;
    last_etag := coalesce(last_etag, (SELECT c.etag FROM events_client c WHERE c.name = client));
    FOR event IN SELECT * FROM get_event(last_etag, max_events) LOOP
        last_etag := event.etag;
        RETURN NEXT event;
    END LOOP;
    PERFORM set_config('bench.pages', pages::text, false), set_config('bench.etag', last_etag::text, false);
    UPDATE events_client c SET etag = last_etag WHERE c.name = client AND pages % 3 = 0;
END $$;
