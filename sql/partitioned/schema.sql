-- The partitioned log: as many ordered logs as there are partitions, in one table.
--
-- How it works   An event's key says which of eight partitions it is in. log_event() takes the advisory lock of each
--                partition that it writes to, before it draws etags, until its commit: within a partition etags become
--                visible in their order. A reader remembers the last etag of each partition. The sessions of one named
--                client each take a partition that none of the others has, for as long as their transaction lasts.
-- Promises       Tailed or drained: every committed event once; the events of one key in their order. Not across keys.
-- Breaks         When anybody inserts without log_event(); when the cursor is one etag for all partitions.
-- Stalls         Writers wait for an open writer of the same partition, readers see nothing new of it meanwhile.
-- Named clients  A name that begins with a brace is a vector of etags: get_event('{5,0,7,0,0,0,0,0}') reads what follows
--                it. Many drivers send parameters without a type, and PostgreSQL takes those for texts. A name that is
--                all digits is refused.
-- Used by        message-db locks a category in this way, and loses events where all categories are read by one etag.

CREATE TABLE events_log (
    part    int       NOT NULL,
    etag    bigserial NOT NULL,
    ctime   timestamp NOT NULL DEFAULT clock_timestamp(),
    payload json      NOT NULL,
    PRIMARY KEY (part, etag)
);

-- Where each named client is in each partition.
CREATE TABLE events_client (
    name text,
    part int,
    etag bigint NOT NULL,
    PRIMARY KEY (name, part)
);

-- The partition of an event: what has the same key keeps its order. Put your own key here.
CREATE FUNCTION part_of(event json) RETURNS int
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(hashtext(event ->> 'producer') & 7, 0)
$$;

-- Append one event, or each element of an array as an event of its own, and return the rows.
-- Locks are taken in ascending order, so that two writers never wait for one another.
CREATE FUNCTION log_event(event json) RETURNS SETOF events_log
LANGUAGE plpgsql AS $$
DECLARE
    events json := CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END;
BEGIN
    PERFORM pg_advisory_xact_lock('events_log'::regclass::oid::int, part)
    FROM (SELECT DISTINCT part_of(value) AS part FROM json_array_elements(events) ORDER BY part) AS parts;
    RETURN QUERY
        INSERT INTO events_log (part, payload)
        SELECT part_of(value), value FROM json_array_elements(events)
        RETURNING *;
END $$;

-- About max_events that follow the vector last_etags, an equal share of each partition; NULL reads from the start.
CREATE FUNCTION get_event(last_etags bigint[] DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS TABLE (etag bigint, ctime timestamp, payload json, etags bigint[])
LANGUAGE plpgsql STABLE ROWS 1000 AS $$
DECLARE
    part int;
BEGIN
    etags := coalesce(last_etags, '{0,0,0,0,0,0,0,0}');
    FOR part, etag, ctime, payload IN
        SELECT e.part, e.etag, e.ctime, e.payload
        FROM generate_series(0, 7) AS p
        CROSS JOIN LATERAL (
            SELECT * FROM events_log l
            WHERE l.part = p AND l.etag > coalesce(last_etags[p + 1], 0)
            ORDER BY l.etag LIMIT greatest(1, max_events / 8)
        ) AS e
        ORDER BY e.etag
        LIMIT max_events
    LOOP
        etags[part + 1] := etag;
        RETURN NEXT;
    END LOOP;
END $$;

-- Up to max_events that this client has not had yet, of one partition that none of its other sessions has now.
-- The position moves in the caller's transaction: when that rolls back, another session gets these events. The client
-- has nothing to remember: its etags are NULL.
-- A NULL or a vector is not a name but a cursor that was sent without a type. Whatever drivers write for a number (1005,
-- -1, 1e+21, NaN) and the empty text are neither: they are an error, and never silently a client.
CREATE FUNCTION get_event(client text, max_events bigint DEFAULT 1)
RETURNS TABLE (etag bigint, ctime timestamp, payload json, etags bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    mine events_client;
BEGIN
    IF client IS NULL OR client ~ '^\s*\{' THEN
        RETURN QUERY SELECT * FROM get_event(client::bigint[], max_events);
        RETURN;
    ELSIF client ~* '^\s*[-+]?([0-9]*\.?[0-9]*(e[-+][0-9]+)?|nan|inf(inity)?)\s*$' THEN
        RAISE EXCEPTION 'get_event: "%" is neither a vector of etags nor the name of a client', client
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Send back the etags of the last row that you were given; NULL reads from the start.';
    END IF;

    IF NOT EXISTS (SELECT FROM events_client c WHERE c.name = client) THEN
        INSERT INTO events_client SELECT client, p, 0 FROM generate_series(0, 7) AS p ON CONFLICT DO NOTHING;
    END IF;

    SELECT * INTO mine
    FROM events_client c
    WHERE c.name = client AND EXISTS (SELECT FROM events_log l WHERE l.part = c.part AND l.etag > c.etag)
    ORDER BY random()
    LIMIT 1
    FOR UPDATE SKIP LOCKED;

    FOR etag, ctime, payload IN
        SELECT l.etag, l.ctime, l.payload
        FROM events_log l WHERE l.part = mine.part AND l.etag > mine.etag ORDER BY l.etag LIMIT max_events
    LOOP
        mine.etag := etag;
        RETURN NEXT;
    END LOOP;
    UPDATE events_client c SET etag = mine.etag WHERE c.name = client AND c.part = mine.part;
END $$;
