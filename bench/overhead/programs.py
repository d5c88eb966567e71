"""PostgreSQL's own programs at the work of ours: pgbench and psql, as commands with their scripts, and what they print.

pgbench makes the calls that a worker makes, with the same statements, and throws the rows away. psql copies in one go.
"""

import re

from bench.errors import InfrastructureError
from bench.places.api import Program

_PROCESSED = re.compile(r"^number of transactions actually processed: (\d+)/(\d+)$", re.MULTILINE)
_RATE = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)$", re.MULTILINE)
_TIME = re.compile(r"^Time: ([0-9.]+) ms", re.MULTILINE)
_COPIED = re.compile(r"^COPY (\d+)$", re.MULTILINE)


def pgbench_reads(schema: str, sql: str, read_batch: int, pages: int, readings: int) -> Program:
    """Reads a log of so many pages, whose etags have no gaps, from start to end; `sql` takes the cursor as $1."""
    script = f"{_named(sql, last='bigint')};\n\\set last (:last + {read_batch}) % {pages * read_batch}\n"
    return _pgbench(schema, script, clients=1, transactions=pages * readings, threads=1, last="0")


def pgbench_generates(schema: str, sql: str, insert_batch: int, clients: int, loops: int, threads: int) -> Program:
    """Appends batches that the server builds; `sql` takes the producer as $1, the first seq as $2, the last as $3."""
    script = (
        f"{_named(sql, client_id='int', first='bigint', last='bigint')};\n"
        f"\\set first :first + {insert_batch}\n\\set last :last + {insert_batch}\n"
    )
    ends = {"first": "0", "last": str(insert_batch - 1)}
    return _pgbench(schema, script, clients, loops, threads, **ends)


def pgbench_appends(schema: str, sql: str, event: str, clients: int, loops: int) -> Program:
    """Appends one event a transaction, always the same; `sql` takes the JSON as $1."""
    script = f"{_named(sql, event='json')};\n"
    return _pgbench(schema, script, clients, loops, threads=1, event=event)


def pgbench_rate(printed: str) -> float:
    """Transactions a second, without the time to connect.

    Raises:
        InfrastructureError: it did not do all of them.
    """
    processed, rate = _PROCESSED.search(printed), _RATE.search(printed)
    if not processed or not rate or processed[1] != processed[2]:
        raise InfrastructureError(f"pgbench did not do all of its work: {printed.strip()}")
    return float(rate[1])


def psql_copies_out(schema: str, query: str, readings: int) -> Program:
    """Reads all rows of a query with one binary COPY, again and again, and throws them away."""
    copy = f"\\copy ({query}) TO '/dev/null' (FORMAT binary)\n"
    return _psql(schema, "\\timing on\n" + copy * readings)


def psql_copies_in(schema: str, table: str, events: int) -> Program:
    """Appends one producer's events with one COPY, from a file that it made before and that is not timed."""
    text = '{"producer":%s,"seq":%s,"value":%s}'
    rows = f"SELECT format('{text}', 0, i, i) FROM generate_series(0, {events - 1}) AS i"
    return _psql(schema, f"\\copy ({rows}) TO 'rows'\n\\timing on\n\\copy {table} (payload) FROM 'rows'\n")


def psql_seconds(printed: str, events: int) -> float:
    """How long a COPY took that was timed, on the average.

    Raises:
        InfrastructureError: one did not copy so many rows.
    """
    copied, took = _COPIED.findall(printed), [float(milliseconds) for milliseconds in _TIME.findall(printed)]
    if not took or set(copied) != {str(events)}:
        raise InfrastructureError(f"psql did not copy {events:,} rows: {printed.strip()}")
    return sum(took) / len(took) / 1000


def _pgbench(schema: str, script: str, clients: int, transactions: int, threads: int, **variables: str) -> Program:
    words = ["pgbench", "--no-vacuum", "--protocol=prepared", "--file=-", f"--client={clients}", f"--jobs={threads}"]
    words += [f"--transactions={transactions}", *(f"--define={name}={value}" for name, value in variables.items())]
    return Program(words, script, schema)


def _psql(schema: str, script: str) -> Program:
    return Program(["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1"], script, schema)


def _named(sql: str, **types: str) -> str:
    """The statement with pgbench's variables in the places of its parameters, in order."""
    for number, (name, of) in enumerate(types.items(), 1):
        sql = re.sub(rf"\${number}::{of}\b", f":{name}::{of}", sql)
    return " ".join(sql.split())
