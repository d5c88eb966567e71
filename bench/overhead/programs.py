"""pgbench and psql doing the work of our workers: their command lines, their scripts, and the parsing of their output.

pgbench sends the statements that a worker sends and discards the rows. psql copies all rows with one COPY.
"""

import re
from dataclasses import replace

from bench.errors import InfrastructureError
from bench.places.api import Program

_PROCESSED = re.compile(r"^number of transactions actually processed: (\d+)/(\d+)$", re.MULTILINE)
_LATENCY = re.compile(r"^\d+ \d+ (\d+) \d+ \d+ \d+ \d+$", re.MULTILINE)
"""A line of pgbench's log: client, transaction, microseconds, script, time in seconds and microseconds, lag."""
_LOG = "latencies"
_LOGGING = ("--log", f"--log-prefix={_LOG}")
_RATE = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)$", re.MULTILINE)
_TIME = re.compile(r"^Time: ([0-9.]+) ms", re.MULTILINE)
_COPIED = re.compile(r"^COPY (\d+)$", re.MULTILINE)


def pgbench_reads(schema: str, sql: str, read_batch: int, pages: int, readings: int) -> Program:
    """pgbench reading a log of `pages` pages and gapless etags from start to end; `sql` takes the cursor as $1."""
    script = f"{_named(sql, last='bigint')};\n\\set last (:last + {read_batch}) % {pages * read_batch}\n"
    return _pgbench(schema, script, clients=1, transactions=pages * readings, threads=1, last="0")


def pgbench_generates(schema: str, sql: str, insert_batch: int, clients: int, loops: int, threads: int) -> Program:
    """pgbench appending batches that the server builds; `sql` takes producer, first seq and last seq as $1 to $3."""
    script = (
        f"{_named(sql, client_id='int', first='bigint', last='bigint')};\n"
        f"\\set first :first + {insert_batch}\n\\set last :last + {insert_batch}\n"
    )
    ends = {"first": "0", "last": str(insert_batch - 1)}
    return _pgbench(schema, script, clients, loops, threads, **ends)


def pgbench_appends(schema: str, sql: str, event: str, clients: int, loops: int, threads: int = 1) -> Program:
    """pgbench appending one event per transaction, always the same; `sql` takes the JSON as $1."""
    script = f"{_named(sql, event='json')};\n"
    return _pgbench(schema, script, clients, loops, threads, event=event)


def pgbench_offers(schema: str, sql: str, event: str, clients: int, rate: float, seconds: float) -> Program:
    """pgbench as in `pgbench_appends`, at a rate in transactions per second of all clients together, with its log.

    Each client is a thread of its own, and so has a schedule of its own as a producer has: the clients of one thread
    share its schedule, and the first one that is free takes the next transaction.
    """
    appends = pgbench_appends(schema, sql, event, clients, round(rate * seconds / clients), threads=clients)
    return replace(appends, command=[*appends.command, f"--rate={rate:g}", *_LOGGING], files=f"{_LOG}.*")


def pgbench_latencies(printed: str) -> list[float]:
    """Milliseconds from the time at which each transaction was due to its end, from pgbench's output and log: with
    --rate, pgbench counts latencies from there (https://www.postgresql.org/docs/current/pgbench.html).

    Raises:
        InfrastructureError: as in `pgbench_rate`.
    """
    pgbench_rate(printed)
    return [int(latency) / 1000 for latency in _LATENCY.findall(printed)]


def pgbench_rate(printed: str) -> float:
    """Transactions per second, without the time to connect, from pgbench's output.

    Raises:
        InfrastructureError: pgbench did not complete all transactions.
    """
    processed, rate = _PROCESSED.search(printed), _RATE.search(printed)
    if not processed or not rate or processed[1] != processed[2]:
        raise InfrastructureError(f"pgbench did not complete all transactions: {printed.strip()}")
    return float(rate[1])


def psql_copies_out(schema: str, query: str, readings: int) -> Program:
    """psql reading all rows of a query with one binary COPY, `readings` times, and discarding them."""
    copy = f"\\copy ({query}) TO '/dev/null' (FORMAT binary)\n"
    return _psql(schema, "\\timing on\n" + copy * readings)


def psql_copies_in(schema: str, table: str, events: int) -> Program:
    """psql appending one producer's events with one COPY from a file, whose making is not timed."""
    text = '{"producer":%s,"seq":%s,"value":%s}'
    rows = f"SELECT format('{text}', 0, i, i) FROM generate_series(0, {events - 1}) AS i"
    return _psql(schema, f"\\copy ({rows}) TO 'rows'\n\\timing on\n\\copy {table} (payload) FROM 'rows'\n")


def psql_seconds(printed: str, events: int) -> float:
    """The mean time of psql's timed COPYs.

    Raises:
        InfrastructureError: one of them did not copy `events` rows.
    """
    copied, times = _COPIED.findall(printed), [float(milliseconds) for milliseconds in _TIME.findall(printed)]
    if not times or set(copied) != {str(events)}:
        raise InfrastructureError(f"psql did not copy {events:,} rows: {printed.strip()}")
    return sum(times) / len(times) / 1000


def _pgbench(schema: str, script: str, clients: int, transactions: int, threads: int, **variables: str) -> Program:
    command = ["pgbench", "--no-vacuum", "--protocol=prepared", "--file=-", f"--client={clients}", f"--jobs={threads}"]
    command += [f"--transactions={transactions}", *(f"--define={name}={value}" for name, value in variables.items())]
    return Program(command, script, schema)


def _psql(schema: str, script: str) -> Program:
    return Program(["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1"], script, schema)


def _named(sql: str, **types: str) -> str:
    """Replace the parameters of a statement, in order, by pgbench's variables."""
    for number, (name, of) in enumerate(types.items(), 1):
        sql = re.sub(rf"\${number}::{of}\b", f":{name}::{of}", sql)
    return " ".join(sql.split())
