-- The Postgres image runs this once, before the log's schema.sql, which goes into the first schema of the search_path.
CREATE SCHEMA bench;
ALTER DATABASE postgres SET search_path TO bench, public;
CREATE SEQUENCE bench.producer_number MINVALUE 0 START 0;
