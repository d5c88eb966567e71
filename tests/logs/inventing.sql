-- Holds events that nobody appended: one after every statement, once of a producer that does not exist, once no event at all.
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
