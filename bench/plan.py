"""Spec and log in, one job per worker out, with the exact SQL that it runs. Pure."""

from bench.logs import Log
from bench.records import ConsumerJob, ProducerJob
from bench.spec import Spec

SCHEMA = "bench"
"""The log is installed into this schema."""

GATE = 0x62656E6368
"""The advisory lock that holds the workers back: "bench" in ASCII."""


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
        )
        for number in range(spec.scale)
    ]


def consumer(spec: Spec, log: Log, read_batch: int) -> ConsumerJob:
    """The job of the consumer that reads the log through once."""
    return ConsumerJob(
        name=f"consumer-{read_batch}",
        schema=SCHEMA,
        gate=GATE,
        sql=read_sql(log, read_batch),
        limit=spec.events_per_producer,
    )


def read_sql(log: Log, read_batch: int) -> str:
    """The statement that reads one page.

    Its size is written out: with a parameter in its place PostgreSQL would take a tenth of the log for the size of a
    page it does not know, find that expensive, and plan each call anew.
    """
    return f"SELECT {log.cursor[0]}, ctime, payload FROM get_event($1::bigint, {read_batch})"


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


def audit_sql(log: Log) -> str:
    """The query that yields what the table holds as runs of consecutive seqs: (producer, first, last).

    Rows whose payload is no event of a producer come as (NULL, 0, how many there are).
    """
    return f"""
        WITH stored AS (
            SELECT CASE WHEN payload ->> 'producer' ~ '^[0-9]{{1,9}}$' AND payload ->> 'seq' ~ '^[0-9]{{1,18}}$'
                        THEN (payload ->> 'producer')::int END AS producer, payload
            FROM {log.table}
        ), numbered AS (
            SELECT producer, seq, seq - dense_rank() OVER (PARTITION BY producer ORDER BY seq) AS island
            FROM (SELECT producer, CASE WHEN producer IS NOT NULL THEN (payload ->> 'seq')::bigint END AS seq
                  FROM stored WHERE producer IS NOT NULL) AS events
        )
        SELECT producer, min(seq), max(seq) FROM numbered GROUP BY producer, island
        UNION ALL
        SELECT NULL, 0, count(*) FROM stored WHERE producer IS NULL HAVING count(*) > 0
        ORDER BY 1, 2"""


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
