-- on table-lock: each session draws fifty etags ahead, so the lock orders nothing.
ALTER SEQUENCE events_log_etag_seq CACHE 50;
