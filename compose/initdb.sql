-- Run once by the Postgres image, before the log's own schema.sql, which goes into the schema of the search_path.
CREATE SCHEMA bench;
ALTER DATABASE postgres SET search_path TO bench, public;
CREATE SEQUENCE bench.producer_number MINVALUE 0 START 0;
