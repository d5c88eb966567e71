"""Spec and log in, one job per worker out, with the exact SQL that it runs. Pure."""

from bench.errors import BadInputError
from bench.logs import Log, load, shipped
from bench.records import ConsumerJob, ProducerJob
from bench.spec import Spec

SCHEMA = "bench"
"""The log is installed into this schema."""

GATE = 0x62656E6368
"""The advisory lock that holds the workers back: "bench" in ASCII."""


STOP = GATE + 2
"""The advisory lock that is let go when consumers may stop."""

PASSES = 5000
"""A tailing consumer remembers so many jumps over etags, to tell the story of those that skipped an event."""

AWAKE_SECONDS = 50e-6
"""A reader that is alone waits awake for so long: a virtual machine needs about as much to wake up a processor."""

GROUP = "bench"
"""What named clients' names begin with."""


def refuse_misfits(spec: Spec, log: Log) -> None:
    """Refuse what a log does not allow.

    Raises:
        BadInputError: the message names the flag and what the log allows.
    """
    if spec.append not in log.append:
        raise BadInputError(f"--append {spec.append}: the log {log.name} supports {', '.join(log.append)}")
    if spec.group and log.group == "no":
        able = [name for name in shipped() if load(name).group != "no"]
        raise BadInputError(f"--group: sessions cannot share the log {log.name}; of those that ship, {', '.join(able)}")
    if spec.cursor == "client" and log.group not in {"turns", "partitions"}:
        able = [name for name in shipped() if load(name).group in {"turns", "partitions"}]
        raise BadInputError(
            f"--cursor client: the log {log.name} keeps no named client's cursor; of those that ship, {', '.join(able)}"
        )
    if not log.promises.replay and (spec.consumers > 1 or len(spec.read_batch) > 1):
        raise BadInputError(
            f"the log {log.name} can be read once only: give one --read-batch and one of --consumers"
            + ("" if log.group == "no" else ", or a --group")
        )


def producers(spec: Spec, log: Log) -> list[ProducerJob]:
    """One job for each producer, numbered from 0."""
    return [
        ProducerJob(
            name=f"producer-{number}",
            schema=SCHEMA,
            gate=GATE,
            append=spec.append,
            sql=append_sql(spec, log),
            producer=number,
            limit=spec.events_per_producer,
            insert_batch=spec.insert_batch,
            payload_bytes=spec.payload_bytes,
            transaction_ms=spec.transaction_ms,
            abort_rate=spec.abort_rate,
            seed=spec.seed,
            drawn=drawn_sql(log) if spec.abort_rate else None,
        )
        for number in range(spec.scale)
    ]


def consumers(spec: Spec, log: Log, read_batch: int) -> list[ConsumerJob]:
    """The jobs of those that read the log: consumers that each read all of it, or the members of a group."""
    group = spec.group > 0
    kept = group or spec.cursor == "client"
    tails = spec.mode == "tail"
    number = spec.group or spec.consumers
    alone = number == 1 and not tails
    return [
        ConsumerJob(
            name=f"{'member' if group else 'consumer'}-{read_batch}" + (f"-{index}" if number > 1 else ""),
            schema=SCHEMA,
            gate=GATE,
            sql=read_sql(log, read_batch, client=_client(read_batch, 0 if group else index) if kept else None),
            cursor=[] if kept else cursor_columns(log),
            depth=spec.depth if kept else 1,
            limit=spec.events_per_producer,
            payload_bytes=spec.payload_bytes,
            most_events=2 * spec.events + 1000,
            stop=STOP,
            tails=tails,
            passes=PASSES if tails and log.promises.order == "etag" and not kept else 0,
            awake_seconds=AWAKE_SECONDS if alone else 0,
            rejoin_pages=spec.rejoin if group else 0,
            read_batch=read_batch,
        )
        for index in range(number)
    ]


def _client(read_batch: int, number: int) -> str:
    """The name of a client: the members of a group share one, consumers have one each."""
    return f"{GROUP} {read_batch} {number}"


def read_sql(log: Log, read_batch: int, *, client: str | None = None) -> str:
    """The statement that reads one page: after a cursor, or what the named client has not had.

    Its size is written out: with a parameter in its place PostgreSQL would take a tenth of the log for the size of a
    page it does not know, find that expensive, and plan each call anew.
    """
    columns = ", ".join(["etag", "ctime", "payload", *_more_columns(log)])
    parameters = [f"${number}::{kind}" for number, kind in enumerate(log.cursor.values(), 1)]
    if client and log.group != "competing":
        columns, parameters = "etag, ctime, payload", [f"'{client}'::text"]
    return f"SELECT {columns} FROM get_event({', '.join([*parameters, str(read_batch)])})"


def _more_columns(log: Log) -> list[str]:
    """The columns of the cursor that a reader would not fetch anyway."""
    return [column for column in log.cursor if column != "etag"]


def cursor_columns(log: Log) -> list[int]:
    """Where the cursor's columns are in what `read_sql` yields."""
    columns = ["etag", "ctime", "payload", *_more_columns(log)]
    return [columns.index(column) for column in log.cursor]


def drawn_sql(log: Log) -> str:
    """The query that yields the etags of the open transaction's own events above $1, as texts: first and last."""
    return f"""
        SELECT min({log.etag})::text, max({log.etag})::text
        FROM (SELECT {log.etag}, {log.etag} - row_number() OVER (ORDER BY {log.etag}) AS island FROM {log.table}
              WHERE {log.etag} > $1::bigint AND xmin = pg_current_xact_id()::xid) AS drawn
        GROUP BY island"""


def append_sql(spec: Spec, log: Log) -> str:
    """The statement that appends one batch."""
    if spec.append == "copy":
        return f"COPY {log.table} (payload) FROM STDIN"
    if spec.append == "log_event":
        # The rows are counted and not sent back: a producer has no use for them.
        return "SELECT count(*)::text FROM log_event($1::json)"
    payload = _payload_sql(spec.payload_bytes)
    return f"INSERT INTO {log.table} (payload) SELECT {payload} FROM generate_series($2::bigint, $3::bigint) AS i"


def _payload_sql(payload_bytes: int) -> str:
    if not payload_bytes:
        return "json_build_object('producer', $1::int, 'seq', i, 'value', i)"
    start = """format('{"producer":%s,"seq":%s,"value":%s,"pad":"', $1::int, i, i)"""
    return f"""(rpad({start}, {payload_bytes - 2}, 'x') || '"}}')::json"""


def audit_sql(source: str) -> str:
    """The query that yields the events in `source`, a log's table or `given_sql`, as runs of consecutive seqs:
    (producer, first, last).

    Rows whose payload is no event of a producer come as (NULL, 0, how many there are).
    """
    return f"""
        WITH stored AS (
            SELECT CASE WHEN payload ->> 'producer' ~ '^[0-9]{{1,9}}$' AND payload ->> 'seq' ~ '^[0-9]{{1,18}}$'
                        THEN (payload ->> 'producer')::int END AS producer, payload
            FROM {source}
        ), numbered AS (
            SELECT producer, seq, seq - dense_rank() OVER (PARTITION BY producer ORDER BY seq) AS island
            FROM (SELECT producer, CASE WHEN producer IS NOT NULL THEN (payload ->> 'seq')::bigint END AS seq
                  FROM stored WHERE producer IS NOT NULL) AS events
        )
        SELECT producer, min(seq), max(seq) FROM numbered GROUP BY producer, island
        UNION ALL
        SELECT NULL, 0, count(*) FROM stored WHERE producer IS NULL HAVING count(*) > 0
        ORDER BY 1, 2"""


def gaps_sql(log: Log) -> str:
    """The query that yields the etags between the first one and the last that no row has: (first, last)."""
    return f"""
        SELECT before + 1, etag - 1
        FROM (SELECT {log.etag} AS etag, lag({log.etag}, 1, 0::bigint) OVER (ORDER BY {log.etag}) AS before
              FROM {log.table} WHERE {log.etag} IS NOT NULL) AS etags
        WHERE etag > before + 1
        ORDER BY 1"""


def stories_sql(log: Log, *, commits: bool) -> str:
    """The query that yields the rows of some events, given as JSON [[producer, seq], ...]: producer, seq, etag, Unix
    times of ctime and, when the server keeps them, of the commit.
    """
    committed = "extract(epoch FROM pg_xact_commit_timestamp(l.xmin))::float8" if commits else "NULL::float8"
    return f"""
        SELECT (wanted.event ->> 0)::int, (wanted.event ->> 1)::bigint, l.{log.etag},
               extract(epoch FROM l.ctime)::float8, {committed}
        FROM json_array_elements(%s::json) AS wanted (event)
        JOIN {log.table} l
          ON l.payload ->> 'producer' = wanted.event ->> 0 AND l.payload ->> 'seq' = wanted.event ->> 1"""


def commits_sql(log: Log) -> str:
    """The query that counts the events in readers' jumps that were committed after a reader had asked for the page with
    the later event, and those that were committed before. Its parameters are arrays: the etags before the jumps, those
    after them, and the Unix times of asking.
    """
    return f"""
        SELECT count(*) FILTER (WHERE late), count(*) FILTER (WHERE NOT late)
        FROM (SELECT bool_or(extract(epoch FROM pg_xact_commit_timestamp(l.xmin))::float8 > jumps.at) AS late
              FROM unnest(%s::bigint[], %s::bigint[], %s::float8[]) AS jumps (before, after, at)
              JOIN {log.table} l ON l.{log.etag} > jumps.before AND l.{log.etag} < jumps.after
              GROUP BY l.{log.etag}) AS passed"""


_ROW_BYTES = 48
"""On disk: 24 of tuple header, 4 of line pointer, 8 of etag, 8 of ctime, up to 4 of the payload's own header."""
_INDEX_BYTES = 23
"""An 8-byte key with its header and line pointer, pages 90 % full."""
_NATURAL_PAYLOAD_BYTES = 50
_BASE_BYTES = 512 * 2**20
"""A new cluster, its first WAL segments, sorts of the audit."""
_WAL_BYTES = 2**30
"""max_wal_size as PostgreSQL ships it; a checkpoint starts before, but a log that grows fast overshoots by half."""


def disk_bytes(spec: Spec) -> int:
    """An estimate of the disk that a run needs: table, index, WAL and the cluster itself."""
    event = _ROW_BYTES + _INDEX_BYTES + (spec.payload_bytes or _NATURAL_PAYLOAD_BYTES)
    events_bytes = spec.events * event
    return _BASE_BYTES + events_bytes + min(events_bytes * 2, _WAL_BYTES * 3 // 2)
