"""Spec and log in, one job per worker out, with the exact SQL that it runs. Pure."""

from typing import NamedTuple

from bench.errors import BadInputError
from bench.eventlog import Log, load, shipped
from bench.postgres.settings import alike
from bench.records import ConsumerJob, ProducerJob
from bench.spec import Spec

SCHEMA = "bench"
"""The log is installed into this schema."""

GATE = 0x62656E6368
"""The advisory lock that holds the workers back: "bench" in ASCII."""


STOP = GATE + 2
"""The advisory lock that is let go when consumers may stop."""

ALIVE = GATE + 3
"""The advisory lock that the orchestrator holds for as long as it waits for workers."""

END = GATE + 4
"""The advisory lock that is let go when producers are to end before they have appended everything."""

PASSES = 5000
"""A tailing consumer remembers so many jumps over etags, to tell the story of those that skipped an event."""

AWAKE_SECONDS = 50e-6
"""A reader that is alone waits awake for so long: a virtual machine needs about as much to wake up a processor."""

GROUP = "bench"
"""What named clients' names begin with."""


class Table(NamedTuple):
    """What the table or view of a log has beyond what every log must have."""

    ctime: bool = True
    """A column `ctime` that holds times: when an event was logged."""
    xmin: bool = True
    """A column `xmin`: the transaction that wrote a row. Tables have it, views when they pass it on."""
    unique_etag: bool = True
    """An index under which no two rows have the same etag."""


PLAIN_TABLE = Table()


def refuse_misfits(spec: Spec, log: Log) -> None:
    """Refuse what a log does not allow.

    Raises:
        BadInputError: the message names the flag and what the log allows.
    """
    for name, value in spec.set.items():
        if name.lower() == "default_transaction_read_only" and alike(value, "on", "bool", None):
            raise BadInputError(f"--set {name}={value}: nothing can be appended when sessions are read-only")
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


def producers(spec: Spec, log: Log, table: Table = PLAIN_TABLE) -> list[ProducerJob]:
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
            drawn=drawn_sql(log) if spec.abort_rate and table.xmin else None,
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
    """The query that yields the etags of the open transaction's own events above $1, as texts: first and last.

    A row that a subtransaction wrote (a savepoint, or an EXCEPTION block of PL/pgSQL) has that one's id as its xmin.
    Such ids are drawn after the transaction's own, so its rows are those that are visible, have its id or a later one,
    and are of a transaction that is still in progress. `later` is computed modulo 2^32, because xmin has no epoch;
    `age` leaves out most rows of others at less cost.

    Source: PostgreSQL's manual, chapter "Transaction Processing", on identifiers and subtransactions.
    """
    return f"""
        SELECT min(etag)::text, max(etag)::text
        FROM (SELECT etag, etag::numeric - row_number() OVER (ORDER BY etag) AS island
              FROM (SELECT {log.etag}::bigint AS etag, own_xid, (xmin::text::bigint - own_xid) & 4294967295 AS later
                    FROM {log.table}, (SELECT pg_current_xact_id()::text::bigint AS own_xid) AS own
                    WHERE {log.etag} > $1::bigint AND {_has_etag(log)} AND age(xmin) <= 0) AS rows
              WHERE CASE WHEN later = 0 THEN true
                         WHEN later < 2147483648 THEN pg_xact_status((own_xid + later)::text::xid8) = 'in progress'
                         ELSE false END) AS drawn
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
    return f"""(left({start} || $4::text, {payload_bytes - 2}) || '"}}')::json"""


def _has_etag(log: Log) -> str:
    """The condition that a row's etag is one that `get_event` could yield: not NULL, and no NaN of a numeric."""
    return f"{log.etag} BETWEEN '{-(2**63)}'::bigint AND '{2**63 - 1}'::bigint"


def stored_sql(log: Log, below: int | None = None) -> str:
    """The query that yields each row of the log's table, or each with an etag below `below`: its etag, NULL when it has
    no proper one, and its payload.

    The payload comes as the text that it is. A server that looked into it could fail: `->>` raises an error for
    {"note": "\\u0000"}, whatever key is asked for.
    """
    rows = f"SELECT CASE WHEN {_has_etag(log)} THEN {log.etag}::bigint END, payload::text FROM {log.table}"
    return rows if below is None else f"{rows} WHERE {log.etag} < '{below}'::bigint"


def count_sql(log: Log) -> str:
    """The query that yields how many rows the log's table has, and how many of them have an etag."""
    return f"SELECT count(*), count(*) FILTER (WHERE {_has_etag(log)}) FROM {log.table}"


def bounds_sql(log: Log) -> str:
    """The query that yields the lowest etag of the log's table and the highest; NULLs when no row has one."""
    return f"SELECT min({log.etag})::bigint, max({log.etag})::bigint FROM {log.table} WHERE {_has_etag(log)}"


def gaps_sql(log: Log) -> str:
    """The query that yields the etags between the lowest one and the highest that no row has: (first, last)."""
    return f"""
        SELECT before + 1, etag - 1
        FROM (SELECT etag, lag(etag) OVER (ORDER BY etag) AS before FROM ({_etags_sql(log)}) AS etags) AS pairs
        WHERE CASE WHEN etag > before THEN etag - 1 > before ELSE false END
        ORDER BY 1"""


def doubled_sql(log: Log, most: int) -> str:
    """The query that yields the first etags that several rows have."""
    return f"SELECT etag FROM ({_etags_sql(log)}) AS etags GROUP BY etag HAVING count(*) > 1 ORDER BY etag LIMIT {most}"


def _etags_sql(log: Log) -> str:
    return f"SELECT {log.etag}::bigint AS etag FROM {log.table} WHERE {_has_etag(log)}"


def stories_sql(log: Log, table: Table, *, commits: bool) -> str:
    """The query that yields the rows with the etags %s: etag, payload, Unix time of ctime and of the commit. A time is
    NULL where the table has no such column, or the server keeps no commit times.
    """
    logged = "extract(epoch FROM ctime)::float8" if table.ctime else "NULL::float8"
    committed = (
        "extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8" if commits and table.xmin else "NULL::float8"
    )
    return f"""
        SELECT {log.etag}::bigint, payload::text, {logged}, {committed}
        FROM {log.table} WHERE {log.etag} = ANY (%s::bigint[])"""


def commits_sql(log: Log) -> str:
    """The query that yields the events in a reader's jumps: payload, and whether it was committed after the reader had
    asked for the page with the later event. Its parameters are arrays: the etags before the jumps, those after them,
    and the Unix times of asking.
    """
    return f"""
        SELECT l.payload::text, extract(epoch FROM pg_xact_commit_timestamp(l.xmin))::float8 > jumps.at
        FROM unnest(%s::bigint[], %s::bigint[], %s::float8[]) AS jumps (before, after, at)
        JOIN {log.table} l ON l.{log.etag} > jumps.before AND l.{log.etag} < jumps.after"""


_PAGE_BYTES, _PAGE_SPACE = 8192, 8192 - 24
"""A page, and what of it rows can take."""
_POINTER_BYTES = 4
_ROW_BYTES = 24 + 8 + 8
"""A tuple's header, its etag and its ctime."""
_INDEX_BYTES = 23
"""An 8-byte key with its header and line pointer, pages 90 % full."""
_TOASTED_ROW = 2032
"""A larger row has its payload elsewhere, in chunks, and 18 bytes that point to them (TOAST_TUPLE_THRESHOLD)."""
_TOAST_POINTER_BYTES = 18
_CHUNK_BYTES = 1996
_CHUNK_HEAD_BYTES = 24 + 4 + 4 + 4
"""A tuple's header, the number of the value and of the chunk, and the chunk's own header."""
_CHUNK_INDEX_BYTES = 20
_ROW_WAL_BYTES = 150
"""The heads of two records, of the row and of its place in the index: measured, as the next one, on PostgreSQL 18."""
_CHUNK_WAL_BYTES = 143
_NATURAL_PAYLOAD_BYTES = 50
_ENOUGH_ROWS = 1000
"""So many are laid on pages for an average."""
_BASE_BYTES = 512 * 2**20
"""A new cluster, its first WAL segments, sorts of the audit."""
_WAL_BYTES = 2**30
"""max_wal_size as PostgreSQL ships it; a checkpoint starts before, but a log that grows fast overshoots by half."""


def disk_bytes(spec: Spec) -> int:
    """An estimate of the disk that a run needs: table, index, WAL and the cluster itself."""
    stored_bytes, wal_bytes = event_bytes(spec.payload_bytes)
    return round(_BASE_BYTES + spec.events * stored_bytes + min(spec.events * wal_bytes, _WAL_BYTES * 3 // 2))


def event_bytes(payload_bytes: int) -> tuple[float, float]:
    """An estimate of what an event of the log bigserial takes in table and indexes, and what it takes in WAL.

    Payloads do not compress.
    """
    payload = payload_bytes or _NATURAL_PAYLOAD_BYTES
    row = _aligned(_ROW_BYTES + payload + 4)
    if row <= _TOASTED_ROW:
        return _on_pages([row]) + _INDEX_BYTES, payload + _ROW_WAL_BYTES
    whole, rest = divmod(payload, _CHUNK_BYTES)
    chunks = [_CHUNK_BYTES] * whole + [rest] * (rest > 0)
    stored = _on_pages([_aligned(_ROW_BYTES + _TOAST_POINTER_BYTES)])
    stored += _on_pages([_aligned(_CHUNK_HEAD_BYTES + chunk) for chunk in chunks])
    return (
        stored + _INDEX_BYTES + len(chunks) * _CHUNK_INDEX_BYTES,
        payload + _ROW_WAL_BYTES + _TOAST_POINTER_BYTES + len(chunks) * _CHUNK_WAL_BYTES,
    )


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _on_pages(rows: list[int]) -> float:
    """The bytes of pages that these rows take when they are stored again and again.

    A row that does not fit into the page of the one before goes into one that was left with enough space, as the free
    space map has it, or begins another one.
    """
    times = -(-_ENOUGH_ROWS // len(rows))
    smallest = min(rows) + _POINTER_BYTES
    pages = left = 0
    holes: list[int] = []
    for row in rows * times:
        needed = row + _POINTER_BYTES
        if needed > left:
            if left >= smallest:
                holes.append(left)
            hole = next((hole for hole in holes if hole >= needed), None)
            if hole is None:
                pages, left = pages + 1, _PAGE_SPACE
            else:
                holes.remove(hole)
                left = hole
        left -= needed
    return pages * _PAGE_BYTES / times
