"""Every SQL text that is composed from the keys of log.toml. Pure: nothing is run here."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from bench.eventlog import Log
from bench.pairing import term_sql
from bench.records import EXAMPLES
from bench.shapes import FIRST_LETTER
from bench.spec import Spec
from bench.values import Retained

SCHEMA = "bench"
"""The log is installed into this schema."""
LATER = "bench_later"
"""The view of the rows that came after the preloaded events, in a run that has some."""
PAUSES = "bench_pause"
"""The functions that pause are in this schema, in a run that pauses inside statements."""

CHANNEL = "bench_wake"
"""Writers notify readers on this channel where the log's own SQL does not notify them."""


class Table(NamedTuple):
    """The optional columns and indexes of a log's table or view."""

    ctime: bool = True
    """A column `ctime` that holds times: when an event was logged."""
    xmin: bool = True
    """A column `xmin`: the transaction that wrote a row. Tables have it; views have it if they pass it on."""
    unique_etag: bool = True
    """An index under which no two rows have the same etag."""


PLAIN_TABLE = Table()


def read_sql(log: Log, read_batch: int, *, client: str | None = None) -> str:
    """The statement that reads one page: the events after a cursor, or the next events of a named client.

    The page's size is written out: for a parameter in its place, PostgreSQL would assume a page of a tenth of the log,
    find the generic plan expensive, and plan each call anew.
    """
    columns = ", ".join(["etag", "ctime", "payload", *_more_columns(log)])
    parameters = [f"${number}::{kind}" for number, kind in enumerate(log.cursor.values(), 1)]
    if client and log.group != "competing":
        columns, parameters = "etag, ctime, payload", [f"'{client}'::text"]
    return f"SELECT {columns} FROM get_event({', '.join([*parameters, str(read_batch)])})"


def _more_columns(log: Log) -> list[str]:
    """The columns of the cursor besides the etag, which a reader fetches anyway."""
    return [column for column in log.cursor if column != "etag"]


def cursor_columns(log: Log) -> list[int]:
    """The numbers of the cursor's columns in the rows that `read_sql` yields."""
    columns = ["etag", "ctime", "payload", *_more_columns(log)]
    return [columns.index(column) for column in log.cursor]


def channel(log: Log) -> str:
    """The channel on which a log's writers notify its readers."""
    return log.notify or CHANNEL


def drawn_sql(log: Log) -> str:
    """The query that yields the etags of the open transaction's own events above $1, as texts: first and last.

    A row that a subtransaction wrote (a savepoint, or an EXCEPTION block of PL/pgSQL) has the subtransaction's id as
    its xmin. Such ids are drawn after the transaction's own, so the transaction's rows are the visible rows that have
    its id, or a later id of a transaction that is still in progress. `later` is computed modulo 2^32, because xmin has
    no epoch; `age` leaves out most rows of other transactions at less cost.

    Source: PostgreSQL's manual, chapter "Transaction Processing", on identifiers and subtransactions.
    """
    return f"""
        SELECT min(etag)::text, max(etag)::text
        FROM (SELECT etag, etag::numeric - row_number() OVER (ORDER BY etag) AS island
              FROM (SELECT {log.etag}::bigint AS etag, own_xid, (xmin::text::bigint - own_xid) & 4294967295 AS later
                    FROM {log.table}, (SELECT pg_catalog.pg_current_xact_id()::text::bigint AS own_xid) AS own
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
        # The rows are counted instead of sent back: a producer has no use for them.
        return "SELECT count(*)::text FROM log_event($1::json)"
    payload = _payload_sql([size for size, _ in spec.payload_sizes])
    return f"INSERT INTO {log.table} (payload) SELECT {payload} FROM generate_series($2::bigint, $3::bigint) AS i"


def returned_sql(spec: Spec, log: Log) -> str | None:
    """The statement that appends one batch as `append_sql` does, and yields the first rows that log_event returned, as
    texts: etag, payload, and the number of all rows. None where log_event is not used, or does not promise etags.
    """
    if spec.append != "log_event" or not log.promises.returns_etags:
        return None
    return (
        f"SELECT etag::bigint::text, payload::text, (count(*) OVER ())::text FROM log_event($1::json) LIMIT {EXAMPLES}"
    )


def preload_sql(log: Log, payload_bytes: int) -> str:
    """The statement that appends the events $2 to $3 of the producer $1, as the log's writers append a batch. $4 is the
    padding, where payloads are padded.
    """
    payload, events = _payload_sql([payload_bytes]), "generate_series($2::bigint, $3::bigint) AS i"
    if {"generate", "copy"} & {*log.append}:
        return f"INSERT INTO {log.table} (payload) SELECT {payload} FROM {events}"
    return f"SELECT count(*) FROM log_event((SELECT json_agg({payload}) FROM {events}))"


def passing_sql(log: Log, most: int, client: str | None = None) -> str:
    """The query that reads one page as `read_sql` does, and yields only the number of its events and the cursor in its
    last row; no row when the page is empty.
    """
    columns = ["bench_row", *([] if client else log.cursor)]
    return f"""
        SELECT {", ".join(columns)}
        FROM (SELECT page.*, row_number() OVER () AS bench_row FROM ({read_sql(log, most, client=client)}) AS page)
             AS numbered
        ORDER BY bench_row DESC LIMIT 1"""


def retention_sql(log: Log, readers: int, retained: Retained) -> str:
    """The statement that deletes the rows that each of some readers has passed and that need not be retained; yields
    the events in them as runs: producer, first seq, last seq, number of rows; of rows that are no event, producer or
    seq are NULL.

    Its parameters are the cursors of all readers, one after the other, then the seconds or the number of events that
    are retained.
    """
    kinds = list(log.cursor.values())

    def passed_by(reader: int) -> str:
        first = reader * len(kinds)
        return re.sub(r"\$(\d+)", lambda name: f"${first + int(name[1])}::{kinds[int(name[1]) - 1]}", log.passed)

    last = f"${readers * len(kinds) + 1}"
    if retained.seconds is None:
        older = f"{log.etag} <= (SELECT max({log.etag}) FROM {log.table}) - {last}::bigint"
    else:
        older = f"ctime < clock_timestamp() - make_interval(secs => {last}::float8)"
    conditions = " AND ".join(f"({condition})" for condition in (*map(passed_by, range(readers)), older))
    return f"""
        WITH deleted AS (DELETE FROM {log.table} WHERE {conditions} RETURNING payload::text::json AS payload),
             events AS (SELECT (payload ->> 'producer')::bigint AS producer, (payload ->> 'seq')::bigint AS seq
                        FROM deleted),
             islands AS (SELECT producer, seq, seq - row_number() OVER (PARTITION BY producer ORDER BY seq) AS island
                         FROM events)
        SELECT producer, min(seq), max(seq), count(*) FROM islands GROUP BY producer, island ORDER BY 1, 2"""


def fingerprint_sql(log: Log) -> str:
    """The query that yields the number of rows with an etag up to %s, and a checksum of their etags and payloads."""
    return f"""
        SELECT count(*), coalesce(sum(hashtextextended({log.etag}::bigint::text || ' ' || payload::text, 0)), 0)::text
        FROM {log.table} WHERE {log.etag} <= %s::bigint"""


def later_view_sql(log: Log, table: Table, last: int) -> str:
    """The statement that makes the view `LATER` of the rows of the log's table with an etag above `last`, or none."""
    columns = f"{log.table}.*" + (", xmin" if table.xmin else "")
    return f"""
        CREATE VIEW {SCHEMA}.{LATER} AS
        SELECT {columns} FROM {log.table} WHERE {log.etag} > {last} OR {log.etag} IS NULL"""


def other_payloads_sql(log: Log, payload_bytes: int) -> str:
    """The query that yields the rows with an etag up to the last parameter whose payload is none of those of some
    events: etag, 0, and payload as text. The first parameters are arrays, of producers and of their last seqs, and the
    padding. Payloads are compared as they were appended, and as jsonb writes them.
    """
    payload = _payload_sql([payload_bytes]).replace("%", "%%")
    for parameter, value in (("$1", "given.producer"), ("$4", "given.pad")):
        payload = payload.replace(parameter, value)
    return f"""
        WITH given AS (SELECT unnest(%s::int[]) AS producer, unnest(%s::bigint[]) AS last, %s::text AS pad),
             payloads AS MATERIALIZED (
                 SELECT {payload} AS payload FROM given, generate_series(0, given.last) AS i
             )
        SELECT stored.{log.etag}::bigint, 0::bigint, stored.payload::text FROM {log.table} AS stored
        WHERE stored.{log.etag} <= %s::bigint
          AND NOT EXISTS (SELECT FROM payloads WHERE payloads.payload::text = stored.payload::text)
          AND NOT EXISTS (SELECT FROM payloads WHERE payloads.payload::jsonb::text = stored.payload::text)"""


def _payload_sql(sizes: Sequence[int]) -> str:
    """The expression for the payload of event i, padded to its size; $5 names the size of each event by a letter."""
    if sizes == [0]:
        return "json_build_object('producer', $1::int, 'seq', i, 'value', i)"
    start = """format('{"producer":%s,"seq":%s,"value":%s,"pad":"', $1::int, i, i)"""
    without_end = ", ".join(str(size - len('"}')) for size in sizes)
    if len(sizes) > 1:
        without_end = f"(ARRAY[{without_end}])[get_byte($5::bytea, (i - $2::bigint)::int) - {FIRST_LETTER - 1}]"
    return f"""(left({start} || $4::text, {without_end}) || '"}}')::json"""


def _has_etag(log: Log) -> str:
    """The condition for an etag that `get_event` could yield: within bigint, so neither NULL nor a numeric's NaN."""
    return f"{log.etag} BETWEEN '{-(2**63)}'::bigint AND '{2**63 - 1}'::bigint"


def stored_sql(log: Log) -> str:
    """The query that yields each row of the log's table: its etag, NULL when it has no proper one, and its payload.

    The payload comes as unparsed text, because parsing in the server could fail: `->>` raises an error for
    {"note": "\\u0000"}, whatever key is asked for.
    """
    return f"SELECT CASE WHEN {_has_etag(log)} THEN {log.etag}::bigint END, payload::text FROM {log.table}"


def numbered_sql(log: Log) -> str:
    """The query that yields the rows with the etags %s: etag and payload, as `stored_sql` does."""
    return f"{stored_sql(log)} WHERE {log.etag} = ANY (%s::bigint[])"


def between_sql(log: Log) -> str:
    """The query that yields the rows whose etags are at least the first %s and at most the second: etag and payload, as
    `stored_sql` does.
    """
    return f"{stored_sql(log)} WHERE {log.etag} BETWEEN %s::bigint AND %s::bigint"


def etag_checksum_sql(log: Log) -> str:
    """The query that yields the checksum of `bench.pairing` over the rows with an etag, not yet reduced modulo 2^64. It
    fails where a payload is stored as a text, or has no numbers for the keys of an event.
    """
    producer, seq = (f"(payload ->> '{key}')::bigint" for key in ("producer", "seq"))
    term = term_sql(f"{log.etag}::bigint", producer, seq)
    return f"SELECT coalesce(sum({term}), 0) FROM {log.table} WHERE {_has_etag(log)}"


def count_sql(log: Log) -> str:
    """The query that yields the number of rows in the log's table, and the number of rows with an etag."""
    return f"SELECT count(*), count(*) FILTER (WHERE {_has_etag(log)}) FROM {log.table}"


def bounds_sql(log: Log) -> str:
    """The query that yields the lowest etag of the log's table and the highest; NULLs when no row has one."""
    return f"SELECT min({log.etag})::bigint, max({log.etag})::bigint FROM {log.table} WHERE {_has_etag(log)}"


def gaps_sql(log: Log) -> str:
    """The query that yields the runs of etags between the lowest and the highest that no row has: (first, last)."""
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
    """The query that yields the rows with the etags %s: etag, payload, ctime and time of commit, both as Unix times. A
    time is NULL where the table has no such column, or where the server keeps no commit times.
    """
    logged = "extract(epoch FROM ctime)::float8" if table.ctime else "NULL::float8"
    committed = (
        "extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8" if commits and table.xmin else "NULL::float8"
    )
    return f"""
        SELECT {log.etag}::bigint, payload::text, {logged}, {committed}
        FROM {log.table} WHERE {log.etag} = ANY (%s::bigint[])"""


def commits_sql(log: Log) -> str:
    """The query that yields the events in a reader's jumps: payload, and whether the event was committed after the
    reader had asked for the page with the later event. Its parameters are arrays: the etags before the jumps, the etags
    after them, and the Unix times at which the reader asked.
    """
    return f"""
        SELECT l.payload::text, extract(epoch FROM pg_xact_commit_timestamp(l.xmin))::float8 > jumps.at
        FROM unnest(%s::bigint[], %s::bigint[], %s::float8[]) AS jumps (before, after, at)
        JOIN {log.table} l ON l.{log.etag} > jumps.before AND l.{log.etag} < jumps.after"""


def transactions_sql(log: Log) -> str:
    """The query that yields the transactions whose events the log's table holds, in one row of four arrays: lowest
    etags, highest etags, numbers of events, and times of commit as Unix times. The arrays are in PostgreSQL's binary
    format, and NULL when the table is empty.

    Transactions without a known time of commit are one element, whose time is NaN. A subtransaction has its
    transaction's time; transactions that were committed in one microsecond are one element.

    The time is looked up for each row, in the order of the table, which is about that of the commits. In the random
    order of groups the server would read the times from disk again and again: it keeps few pages of them in memory.
    """
    columns = ("lowest", "highest", "events", "committed_at")
    return f"""
        SELECT {", ".join(f"array_send(array_agg({column}))" for column in columns)}
        FROM (SELECT min({log.etag}::bigint) AS lowest, max({log.etag}::bigint) AS highest, count(*) AS events,
                     coalesce(extract(epoch FROM pg_xact_commit_timestamp(xmin)), 'NaN')::float8 AS committed_at
              FROM {log.table} WHERE {_has_etag(log)}
              GROUP BY pg_xact_commit_timestamp(xmin)) AS transactions"""
