-- Loses an event after the commit: seq 7 of every producer is deleted by a later append.
CREATE FUNCTION forget() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM events_log WHERE (payload ->> 'seq')::bigint = 7;
    RETURN NULL;
END $$;

CREATE TRIGGER forget AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION forget();
