"""Proves the checker to its user: every kind of fault, planted between log and consumer, must be caught under its name.

The faults are real: rows that are gone, doubled, swapped, changed or made up in the table, and a reader's function that
hides some. The producers and the consumer are the ones that every run uses.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bench.eventlog import Log, load
from bench.flags import OneMachine
from bench.judge.verdict import KINDS, Verdict
from bench.places.api import Place
from bench.places.rundir import RunFolder
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.postgres.server import settle
from bench.records import Job
from bench.results.tracks import APPEND, Track
from bench.run.jobs import consumers, producers, readings
from bench.run.outcome import Reader, TrackOutcome
from bench.run.phase import Plan, Total, carry_out
from bench.run.place import ChosenPlace, open_place
from bench.run.realtime import order_of_appends
from bench.run.trial import carry_out_trial
from bench.run.verdict import judged, written_by
from bench.run.watch import Unwatched
from bench.spec import Spec

PRODUCERS = 4
EVERY = 1000
READ_BATCH = 1000
IDLE_SECONDS = 1.0
"""This log holds nothing back: an event that does not come at once never comes."""

ROOM = 125
"""An etag is left free for an added row: after the first event, and after every ROOM events from there. Few are left
free, because missing etags take time to judge. ROOM divides EVERY, and has no factor in common with PRODUCERS: so each
producer has events before free etags, however producers take turns."""

_LEAVE_ROOM = f"""
    ALTER TABLE events_log ALTER etag SET DEFAULT (nextval('events_log_etag_seq') * {ROOM + 1} + {ROOM - 2}) / {ROOM}
"""

_PREPARE = f"""
    CREATE TABLE placed AS
    SELECT etag, (payload ->> 'producer')::int AS producer, (payload ->> 'seq')::bigint AS seq,
           row_number() OVER (ORDER BY etag) AS nth, count(*) OVER () AS events
    FROM events_log;
    CREATE TABLE before_free AS
    SELECT *, row_number() OVER (PARTITION BY producer, seq / {EVERY} ORDER BY seq) AS nth_of_some
    FROM placed WHERE nth % {ROOM} = 1 OR nth = events;
    CREATE UNIQUE INDEX ON placed (producer, seq);
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
    CREATE TABLE hidden (etag bigint PRIMARY KEY);
    CREATE TABLE shifted (etag bigint PRIMARY KEY);
    CREATE TABLE saved (LIKE events_log);
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
        SELECT etag + EXISTS (SELECT FROM shifted s WHERE s.etag = e.etag)::int, ctime, payload FROM events_log e
        WHERE etag > coalesce(last_etag, 0) AND NOT EXISTS (SELECT FROM hidden h WHERE h.etag = e.etag)
        ORDER BY etag LIMIT max_events
    $$;
"""

# The etag after each planted event is free. The seqs 2k and 2k + 1 of a producer are a pair.
_PLANT = """
    CREATE TEMP TABLE planted AS
    SELECT c.etag, pair.etag AS pair FROM chosen c
    JOIN placed pair ON pair.producer = c.producer AND pair.seq = c.seq # 1
    WHERE c.place = '{place}';
    INSERT INTO saved SELECT * FROM events_log WHERE etag IN (SELECT etag FROM planted UNION SELECT pair FROM planted);
    ANALYZE planted, saved;
"""

_UNDO = """
    TRUNCATE hidden, shifted;
    DELETE FROM events_log WHERE etag IN (SELECT etag + 1 FROM planted);
    INSERT INTO events_log SELECT * FROM saved ON CONFLICT (etag) DO UPDATE SET payload = excluded.payload;
    TRUNCATE saved;
    DROP TABLE planted;
"""

_WITHHOLD = """
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
        SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) AND etag <= 190 ORDER BY etag LIMIT max_events
    $$;
"""

_TAKE_IN_PART = """
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

_PLANTS = {
    "skipped": "INSERT INTO hidden SELECT etag FROM planted",
    "lost": "DELETE FROM events_log WHERE etag IN (SELECT etag FROM planted)",
    "duplicated": "INSERT INTO events_log SELECT etag + 1, ctime, payload FROM events_log "
    "WHERE etag IN (SELECT etag FROM planted)",
    "reordered": "UPDATE events_log e SET payload = s.payload "
    "FROM (SELECT etag, pair FROM planted UNION ALL SELECT pair, etag FROM planted) p JOIN saved s ON s.etag = p.pair "
    "WHERE e.etag = p.etag",
    "inconsistent": "INSERT INTO shifted SELECT etag FROM planted",
    "phantom": "INSERT INTO events_log (etag, payload) SELECT etag + 1, json_build_object('producer', 999, "
    "'seq', nth, 'value', nth) FROM (SELECT etag, row_number() OVER (ORDER BY etag) - 1 AS nth FROM planted) AS p",
    "corrupt": "UPDATE events_log SET payload = json_build_object('producer', payload -> 'producer', "
    "'seq', payload -> 'seq', 'value', (payload ->> 'value')::bigint + 1) WHERE etag IN (SELECT etag FROM planted)",
}
"""The SQL that turns the events with the etags in `planted` into each kind of fault."""


class Options(BaseModel):
    """The flags of `bench selftest`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    events: Annotated[int, Field(ge=4000, le=100_000_000)] = 1_000_000
    """Log size, at least 4000; the hardest case is a single faulty event."""
    place: OneMachine = "local"


class _Scenario(NamedTuple):
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


_SCENARIOS = (
    _Scenario(
        "inconsistent",
        "what log_event returned",
        "bigserial",
        {"scale": 1, "append": "log_event", "limit": 10, "insert_batch": 10},
        _RETURN_OTHERS,
        "",
        {"inconsistent": 10},
    ),
    _Scenario(
        "rewound",
        "from a cursor that goes back by ten",
        "bigserial",
        {"scale": 1, "limit": 200, "read_batch": (50,)},
        "",
        _REWIND,
        {"duplicated": 10, "rewound": 1},
    ),
    _Scenario(
        "disagreeing",
        "one of two readers",
        "xid-horizon",
        {"scale": 4, "limit": 1, "insert_batch": 1, "consumers": 2},
        "",
        _DISAGREE,
        {"disagreeing": 1},
    ),
    _Scenario(
        "torn",
        "where two batches meet",
        "advisory-lock",
        {"scale": 2, "limit": 20, "insert_batch": 5},
        "",
        _TEAR,
        {"torn": 2},
    ),
    _Scenario(
        "inverted",
        "by a sequence with a cache",
        "bigserial",
        {"scale": 2, "limit": 20, "insert_batch": 5, "mode": "tail", "transaction_ms": (20.0, 20.0)},
        _CACHE,
        "",
        {"inverted": None},
    ),
)


class Check(NamedTuple):
    """One plant and its verdict."""

    planted: str
    """The kind of fault, or nothing."""
    place: str
    """Where in the log the faults are, or which log was tailed."""
    events: int | None
    """The number of faulty events; None if it is not known."""
    verdict: Verdict
    ok: bool
    """Whether the verdict has exactly what was planted."""


def run(events: int, chosen: ChosenPlace, folder: RunFolder) -> Iterator[Check]:
    """Plant every kind of fault in a log of `events` events; yields each check as soon as it is made.

    Raises:
        BenchError: something that the checks need broke.
    """
    log = load("bigserial")
    spec = Spec(
        scale=PRODUCERS,
        append="generate",  # a fault is planted after the append, and log_event would have returned other etags
        limit=max(2, events // PRODUCERS // 2 * 2),
        read_batch=(READ_BATCH,),
        idle_timeout=IDLE_SECONDS,
        set={},
    )
    tailing = spec.model_copy(
        update={
            "scale": 8,
            "limit": 200,
            "insert_batch": 5,
            "mode": "tail",
            "transaction_ms": (0.0, 10.0),
            "idle_timeout": 2.0,
        }
    )
    alone = tailing.model_copy(update={"scale": 1, "transaction_ms": (0.0, 0.0)})
    with open_place(chosen, tailing, log, folder) as place, connected(place.database.conninfo) as connection:
        with install.installed(connection, log, folder.run_id):
            connection.execute(_LEAVE_ROOM)
            tested = _Tested(spec, log, place, connection)
            yield from tested.checks()
        for scenario in _SCENARIOS:
            changed = spec.model_copy(update=scenario.spec)
            with install.installed(connection, load(scenario.log), folder.run_id):
                connection.execute(scenario.before)
                tested = _Tested(changed, load(scenario.log), place, connection)
                connection.execute(scenario.after)
                verdict = tested.judged()
            counts = _counts(verdict)
            expected = {kind: count or counts.get(kind) for kind, count in scenario.found.items()}
            ok = counts == expected and not verdict.ok
            yield Check(scenario.planted, scenario.place, scenario.found[scenario.planted], verdict, ok)
        with install.installed(connection, log, folder.run_id):
            connection.execute(_WITHHOLD)
            trial = carry_out_trial(alone, log, place, connection, Unwatched(), time.time())
            yield _check("withheld", "from a reader that tails", 10, trial.verdict)
        with install.installed(connection, log, folder.run_id):
            connection.execute(_TAKE_IN_PART)
            trial = carry_out_trial(alone, log, place, connection, Unwatched(), time.time())
            yield _check("lost", "of a batch that was taken in part", 1, trial.verdict)
        for name, fault in (("bigserial", "skipped"), ("advisory-lock", None), ("lock-drain", None)):
            tailed = load(name)
            with install.installed(connection, tailed, folder.run_id):
                trial = carry_out_trial(tailing, tailed, place, connection, Unwatched(), time.time())
            ok = trial.verdict.skipped > 0 if fault else trial.verdict.ok
            yield Check(fault or "nothing", f"{name}, tailed while commits overlap", None, trial.verdict, ok)


class _Tested:
    """A log with events, into which faults are planted one after the other."""

    def __init__(self, spec: Spec, log: Log, place: Place, connection: Connection) -> None:
        self._spec = spec
        self._log = log
        self._place = place
        self._connection = connection
        self._appended = self._carried_out(APPEND, producers(spec, log))
        self._written = written_by(self._appended)

    def checks(self) -> Iterator[Check]:
        """Plant each kind of fault at each place, undo it, and judge a reading each time."""
        self._connection.execute(_PREPARE)
        settle(self._connection)
        yield _check("nothing", "", 0, self.judged())
        places = self._connection.execute("SELECT place, count(*) FROM chosen GROUP BY place ORDER BY min(etag), 2")
        for place, count in places.fetchall():
            for kind in _PLANTS:
                with self._planted(kind, place):
                    # A reader has passed an event only when it was given a later one.
                    expected = "withheld" if (kind, place) == ("skipped", "the last event") else kind
                    yield _check(expected, place, count, self.judged())
        yield _check("nothing", "after all of that", 0, self.judged())

    @contextmanager
    def _planted(self, kind: str, place: str) -> Iterator[None]:
        self._connection.execute(_PLANT.format(place=place) + _PLANTS[kind])
        yield
        self._connection.execute(_UNDO)

    def judged(self) -> Verdict:
        """Read the log and judge what was read."""
        (read_batch,) = self._spec.read_batch
        outcome = self._carried_out(Track(read_batch), consumers(self._spec, self._log, read_batch))
        readers = [
            Reader(reading, [worker], outcome.holders)
            for reading, worker in zip(readings(self._spec, read_batch), outcome.reported, strict=True)
        ]
        order = order_of_appends(self._spec, self._log, self._appended, self._connection)
        return judged(self._spec, self._log, self._written, readers, self._connection, [], order=order).verdict

    def _carried_out(self, track: Track, jobs: Sequence[Job]) -> TrackOutcome:
        to_read = Total(self._spec.events, self._spec.checksum)
        plan = Plan({track: jobs}, self._spec.events, self._spec.idle_timeout, to_read)
        return carry_out(plan, self._place.workers.start, self._connection, Unwatched())[track]


def _check(planted: str, place: str, events: int, verdict: Verdict) -> Check:
    expected = {} if planted == "nothing" else {planted: events}
    return Check(planted, place, events, verdict, ok=_counts(verdict) == expected and verdict.ok == (not expected))


def _counts(verdict: Verdict) -> dict[str, int]:
    return {kind: getattr(verdict, kind) for kind in KINDS if getattr(verdict, kind)}
