-- The logical-slot log: read from the write-ahead log itself.
--
-- How it works   A replication slot decodes the inserts of each transaction when it has committed. The cursor is the
--                place of that commit and the number of the event in its transaction. A reader that shows its cursor
--                confirms the transactions before it, and the slot lets go of them.
-- Promises       Tailed: every committed event once, in the order of commits, events of one transaction in theirs.
--                One reader; what it has confirmed cannot be read again.
-- Breaks         When the slot is lost or dropped, as a failover to a standby without it does.
-- Stalls         Never by others' transactions. A reader that does not come back makes the server keep all WAL from
--                there on until the disk is full: set max_slot_wal_keep_size. Needs wal_level=logical and the right to
--                replicate. Each look at the slot decodes again from the oldest transaction that is not settled.
-- Used by        Debezium and Sequin, as clients of the replication protocol.

-- First, because a slot cannot be made by a transaction that has written.
SELECT pg_create_logical_replication_slot('events_log_' || oid, 'test_decoding')
FROM pg_database WHERE datname = current_database();

CREATE TABLE events_log (
    etag    bigserial PRIMARY KEY,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL
);

CREATE FUNCTION events_slot() RETURNS name
LANGUAGE sql STABLE AS $$
    SELECT ('events_log_' || oid)::name FROM pg_database WHERE datname = current_database()
$$;

-- Append one event, or each element of an array as an event of its own, and return the rows.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE sql AS $$
    INSERT INTO events_log (payload)
    SELECT value
    FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
    RETURNING *
$$;

-- What was decoded and is not confirmed, so that a transaction is decoded once and not for each page of it. When a crash
-- empties this, it is decoded again.
CREATE UNLOGGED TABLE events_decoded (
    committed pg_lsn,
    nth       bigint,
    settled   pg_lsn,
    etag      bigint    NOT NULL,
    ctime     timestamp NOT NULL,
    payload   json      NOT NULL,
    PRIMARY KEY (committed, nth)
);

-- Up to max_events that follow the event number last_nth of the transaction that ended at last_committed; NULLs read
-- from the start. All transactions up to last_settled are confirmed.
CREATE FUNCTION get_event(
    last_settled pg_lsn DEFAULT NULL, last_committed pg_lsn DEFAULT NULL, last_nth bigint DEFAULT NULL,
    max_events bigint DEFAULT 1
) RETURNS TABLE (etag bigint, ctime timestamp, payload json, settled pg_lsn, committed pg_lsn, nth bigint)
LANGUAGE plpgsql VOLATILE ROWS 1000 AS $$
#variable_conflict use_column
DECLARE
    slot name   := events_slot();
    here pg_lsn := pg_current_wal_flush_lsn();
    most bigint;
BEGIN
    PERFORM pg_replication_slot_advance(slot, last_settled)
    FROM pg_replication_slots s WHERE s.slot_name = slot AND s.confirmed_flush_lsn < last_settled;

    -- First what is decoded, then some thousands of changes more. They begin with the transaction that was read last,
    -- and those of other tables count too: when there is nothing else among them, all.
    FOREACH most IN ARRAY ARRAY[0, coalesce(last_nth, 0) + 2 + greatest(max_events, 10000), NULL] LOOP
        IF most IS DISTINCT FROM 0 THEN
            DELETE FROM events_decoded;
            INSERT INTO events_decoded
            SELECT committed, nth, coalesce(settled, last_settled),
                   split_part(split_part(data, 'etag[bigint]:', 2), ' ', 1)::bigint,
                   split_part(data, '''', 2)::timestamp,
                   replace(left(substr(data, strpos(data, ' payload[json]:''') + 16), -1), '''''', '''')::json
            FROM (
                SELECT data,
                       max(lsn) OVER (PARTITION BY xid::text) AS committed,
                       max(lsn) FILTER (WHERE data LIKE 'COMMIT%') OVER (ORDER BY n) AS settled,
                       row_number() OVER (PARTITION BY xid::text, data LIKE 'table %events_log: INSERT: %' ORDER BY n)
                           AS nth
                FROM pg_logical_slot_peek_changes(
                         slot, NULL, most::int, 'include-xids', '0', 'skip-empty-xacts', '1'
                     ) WITH ORDINALITY AS c (lsn, xid, data, n)
            ) AS changes
            WHERE data LIKE 'table %events_log: INSERT: %'
              AND (committed, nth) > (coalesce(last_committed, '0/0'), coalesce(last_nth, 0));
        END IF;
        RETURN QUERY
            SELECT d.etag, d.ctime, d.payload, d.settled, d.committed, d.nth
            FROM events_decoded d
            WHERE (d.committed, d.nth) > (coalesce(last_committed, '0/0'), coalesce(last_nth, 0))
            ORDER BY d.committed, d.nth
            LIMIT max_events;
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;

    -- There was none up to here, so that other tables' WAL need not be kept for us.
    PERFORM pg_replication_slot_advance(slot, here)
    FROM pg_replication_slots s WHERE s.slot_name = slot AND s.confirmed_flush_lsn < here;
END $$;

-- The slot is outside of the schema and outlives it: this is called before the schema is dropped.
CREATE FUNCTION uninstall_log() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WHILE (SELECT active FROM pg_replication_slots WHERE slot_name = events_slot()) LOOP
        PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = events_slot();
        PERFORM pg_sleep(0.01);
    END LOOP;
    PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = events_slot();
END $$;
