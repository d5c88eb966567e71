-- on bigserial: the lock is taken for each row, after the row's default has drawn its etag.
CREATE FUNCTION one_writer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(TG_RELID::bigint);
    RETURN NEW;
END $$;
CREATE TRIGGER one_writer BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION one_writer();
