"""The faults of the selftest: the SQL that makes them, in a log's table or in its functions."""

from typing import NamedTuple

PRODUCERS = 4
EVERY = 1000

ROOM = 125
"""An etag is left free for an added row: after the first event, and after every ROOM events from there. Few are left
free, because missing etags take time to judge. ROOM divides EVERY, and has no factor in common with PRODUCERS: so each
producer has events before free etags, however producers take turns."""

LEAVE_ROOM = f"""
    ALTER TABLE events_log ALTER etag SET DEFAULT (nextval('events_log_etag_seq') * {ROOM + 1} + {ROOM - 2}) / {ROOM}
"""

PREPARE = f"""
    CREATE VIEW placed AS
    SELECT etag, (payload ->> 'producer')::int AS producer, (payload ->> 'seq')::bigint AS seq,
           etag - (etag + {ROOM - 1}) / {ROOM + 1} AS nth
    FROM events_log;
    CREATE TABLE before_free AS
    SELECT *, row_number() OVER (PARTITION BY producer, seq / {EVERY} ORDER BY seq) AS nth_of_some
    FROM placed, (SELECT max(nth) AS events FROM placed) AS last
    WHERE etag % {ROOM + 1} = 1 OR nth = events;
    CREATE TABLE chosen AS
    SELECT place, etag, producer, seq
    FROM before_free,
         LATERAL (VALUES ('the first event', nth = 1),
                         ('one in the middle', nth = events / 2 / {EVERY} * {EVERY} + 1),
                         ('the last event', nth = events),
                         ('every {EVERY}th', nth % {EVERY} = 1),
                         ('one in {EVERY}, of one producer', nth_of_some = 1 AND producer = 1 AND nth < events)
                 ) AS places (place, here)
    WHERE here;
    CREATE TABLE pairs AS
    -- Producers that generate their events spell them like this: texts are compared much faster than JSON is parsed.
    SELECT DISTINCT c.etag, pair.etag AS pair FROM chosen c
    JOIN events_log pair
    ON pair.payload::text = json_build_object('producer', c.producer, 'seq', c.seq # 1, 'value', c.seq # 1)::text;
    CREATE TABLE saved (LIKE events_log);
"""

READ_WITH_FAULTS = """
    CREATE TABLE hidden (etag bigint PRIMARY KEY);
    CREATE TABLE shifted (etag bigint PRIMARY KEY);
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
        SELECT etag + EXISTS (SELECT FROM shifted s WHERE s.etag = e.etag)::int, ctime, payload FROM events_log e
        WHERE etag > coalesce(last_etag, 0) AND NOT EXISTS (SELECT FROM hidden h WHERE h.etag = e.etag)
        ORDER BY etag LIMIT max_events
    $$;
"""

# The etag after each planted event is free. The seqs 2k and 2k + 1 of a producer are a pair.
PLANT = """
    CREATE TEMP TABLE planted AS
    SELECT etag, pair FROM chosen JOIN pairs USING (etag) WHERE place = '{place}';
    INSERT INTO saved SELECT * FROM events_log WHERE etag IN (SELECT etag FROM planted UNION SELECT pair FROM planted);
    ANALYZE planted, saved;
"""

UNDO = """
    DELETE FROM events_log WHERE etag IN (SELECT etag + 1 FROM planted);
    INSERT INTO events_log SELECT * FROM saved ON CONFLICT (etag) DO UPDATE SET payload = excluded.payload;
    TRUNCATE saved;
    DROP TABLE planted;
"""

# Not TRUNCATE: a judge's snapshot would see the tables empty.
UNHIDE = "DELETE FROM hidden; DELETE FROM shifted;"

WITHHOLD = """
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
        SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) AND etag <= 190 ORDER BY etag LIMIT max_events
    $$;
"""

TAKE_IN_PART = """
    CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RETURN CASE WHEN NEW.payload ->> 'seq' = '57' THEN NULL ELSE NEW END; END $$;
    CREATE TRIGGER leave_out BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION leave_out();
"""
"""A log that takes fewer events than it is given and reports no error."""

_RETURN_OTHERS = """
    CREATE OR REPLACE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE sql AS $$
        WITH appended AS (
            INSERT INTO events_log (payload) SELECT value FROM json_array_elements(event) RETURNING *
        )
        SELECT etag + 1, ctime, payload FROM appended
    $$;
"""

_REWIND = """
    CREATE TABLE rewound ();
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE plpgsql AS $$
    BEGIN
        IF last_etag = 100 AND NOT EXISTS (SELECT FROM rewound) THEN
            INSERT INTO rewound DEFAULT VALUES;
            last_etag := 90;
        END IF;
        RETURN QUERY SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0) ORDER BY e.etag LIMIT max_events;
    END $$;
"""

_DISAGREE = """
    CREATE OR REPLACE FUNCTION get_event(last_xid xid8, last_etag bigint, max_events bigint)
    RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
        SELECT xid, etag, ctime, payload
        FROM (SELECT *, row_number() OVER (ORDER BY xid, etag) AS n FROM events_log e
              WHERE (e.xid, e.etag) > (coalesce(last_xid, '0'), coalesce(last_etag, 0))) AS events
        ORDER BY CASE WHEN n <= 2 AND current_setting('application_name') LIKE '%consumer-%-1' THEN 3 - n ELSE n END
        LIMIT max_events
    $$;
"""

_TEAR = """
    WITH neighbours AS (
        SELECT etag, lead(etag) OVER places AS next,
               payload ->> 'producer' <> lead(payload ->> 'producer') OVER places AS differ
        FROM events_log WINDOW places AS (ORDER BY etag)
    ), swap AS (
        SELECT etag, next FROM neighbours WHERE differ ORDER BY etag LIMIT 1
    )
    UPDATE events_log e SET payload = other.payload FROM swap, events_log other
    WHERE (e.etag, other.etag) IN ((swap.etag, swap.next), (swap.next, swap.etag))
"""
"""The last event of a batch and the first one of the next batch exchange their places."""

_CACHE = """
    ALTER SEQUENCE events_log_etag_seq CACHE 1000;
    CREATE FUNCTION in_turn() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        first_is_next bool := current_setting('application_name') LIKE '%producer-0';
        of_first int;
        of_second int;
    BEGIN
        LOOP
            SELECT count(*) FILTER (WHERE payload ->> 'producer' = '0'),
                   count(*) FILTER (WHERE payload ->> 'producer' = '1')
            INTO of_first, of_second FROM events_log;
            EXIT WHEN CASE WHEN first_is_next THEN of_second > 0 ELSE of_second = 0 OR of_first = 20 END;
            PERFORM pg_sleep(0.001);
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE TRIGGER in_turn BEFORE INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION in_turn();
"""
"""Each session draws a thousand etags in advance. Producer 1 appends its first batch, then producer 0 all of its 20
events, then producer 1 the rest, with lower etags than those of producer 0."""

STORED_FAULTS = {
    "lost": "DELETE FROM events_log WHERE etag IN (SELECT etag FROM planted)",
    "duplicated": "INSERT INTO events_log SELECT etag + 1, ctime, payload FROM events_log "
    "WHERE etag IN (SELECT etag FROM planted)",
    "reordered": "UPDATE events_log e SET payload = s.payload "
    "FROM (SELECT etag, pair FROM planted UNION ALL SELECT pair, etag FROM planted) p JOIN saved s ON s.etag = p.pair "
    "WHERE e.etag = p.etag",
    "phantom": "INSERT INTO events_log (etag, payload) SELECT etag + 1, json_build_object('producer', 999, "
    "'seq', nth, 'value', nth) FROM (SELECT etag, row_number() OVER (ORDER BY etag) - 1 AS nth FROM planted) AS p",
    "corrupt": "UPDATE events_log SET payload = json_build_object('producer', payload -> 'producer', "
    "'seq', payload -> 'seq', 'value', (payload ->> 'value')::bigint + 1) WHERE etag IN (SELECT etag FROM planted)",
}
"""The SQL that turns the events with the etags in `planted` into each kind of fault in the table."""

READING_FAULTS = {
    "skipped": "INSERT INTO hidden SELECT etag FROM planted",
    "inconsistent": "INSERT INTO shifted SELECT etag FROM planted",
}
"""The SQL that has the reader's function of READ_WITH_FAULTS deliver these events with each kind of fault."""


class Scenario(NamedTuple):
    """A fault that takes a small log of its own."""

    planted: str
    place: str
    log: str
    spec: dict[str, object]
    """What differs from the spec of the large log."""
    before: str
    """Changes the log before the append."""
    after: str
    """Changes the log or its table after the append."""
    found: dict[str, int | None]
    """What a verdict must count; None is any number above 0."""


SCENARIOS = (
    Scenario(
        "inconsistent",
        "what log_event returned",
        "bigserial",
        {"scale": 1, "append": "log_event", "limit": 10, "insert_batch": 10},
        _RETURN_OTHERS,
        "",
        {"inconsistent": 10},
    ),
    Scenario(
        "rewound",
        "from a cursor that goes back by ten",
        "bigserial",
        {"scale": 1, "limit": 200, "read_batch": (50,)},
        "",
        _REWIND,
        {"duplicated": 10, "rewound": 1},
    ),
    Scenario(
        "disagreeing",
        "one of two readers",
        "xid-horizon",
        {"scale": 4, "limit": 1, "insert_batch": 1, "consumers": 2},
        "",
        _DISAGREE,
        {"disagreeing": 1},
    ),
    Scenario(
        "torn",
        "where two batches meet",
        "advisory-lock",
        {"scale": 2, "limit": 20, "insert_batch": 5},
        "",
        _TEAR,
        {"torn": 2},
    ),
    Scenario(
        "inverted",
        "by a sequence with a cache",
        "bigserial",
        {"scale": 2, "limit": 20, "insert_batch": 5, "mode": "tail", "transaction_ms": (20.0, 20.0)},
        _CACHE,
        "",
        {"inverted": None},
    ),
)
