-- on xid-horizon: a reader that was given all looks again only when it is woken by a commit, and a rollback wakes nobody.
-- Here the log's own get_event sleeps, so a reader that polls is given nothing either. A reader that itself sleeps until a
-- notification comes needs no bug in the log: that is --wake notify on xid-horizon.
CREATE TABLE wakeups (n bigserial);
CREATE TABLE heard (n bigint);
INSERT INTO heard VALUES (0);
CREATE FUNCTION wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO wakeups DEFAULT VALUES;
    RETURN NULL;
END $$;
CREATE TRIGGER wake AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION wake();
ALTER FUNCTION get_event(xid8, bigint, bigint) RENAME TO page;
CREATE FUNCTION get_event(last_xid xid8 DEFAULT NULL, last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    woken bigint := (SELECT count(*) FROM wakeups);
BEGIN
    IF woken = (SELECT n FROM heard) THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM page(last_xid, last_etag, max_events);
    IF NOT FOUND THEN
        UPDATE heard SET n = woken;
    END IF;
END $$;
