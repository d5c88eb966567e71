"""The commands about logs, and their flags. No logic."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from bench import eventlog, spec
from bench.cli.codes import CODES, RUNS
from bench.cli.options import numbers
from bench.errors import BadInputError
from bench.logs import check as log_check
from bench.logs import compare as log_comparison
from bench.output import refuse_unusable
from bench.places import rundir
from bench.report import logs as logs_report
from bench.report import progress, screen, tabular
from bench.results.store import new_run_id, store_kept
from bench.run.place import choose

_CHECK_CODES = "Exit codes: 0 the log keeps the contract; 2 it does not; 3 something outside is missing or broke."
COMPARE_CODES = (
    "Exit codes: 0 done; 1 a log failed to do something, so the table has no value there; 2 bad usage or input; "
    "3 something outside is missing or broke; 130 interrupted."
)

app = typer.Typer(
    name="logs",
    help="List the logs that ship with what they promise; write a new one; check one of your own.",
    short_help="List the logs that ship; write a new one; check your own.",
    rich_markup_mode=None,
    epilog=CODES,
)

_Place = Annotated[str, typer.Option(metavar="auto|local|docker", help="Where to run")]
_Dsn = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar="BENCH_DSN", help="Use this Postgres; a schema `bench` is made and dropped in it"
    ),
]


@app.callback(invoke_without_command=True)
def list_(context: typer.Context) -> None:
    """List the logs that ship, with what they promise."""
    if context.invoked_subcommand is None:
        print(tabular.shown(logs_report.listing))


@app.command(epilog=CODES)
def new(directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make")]) -> None:
    """Write a log to start from: the bigserial log, with every key of log.toml explained."""
    eventlog.write_new(directory)
    print(f"{directory}: edit log.toml and schema.sql, then `bench logs check {directory}`")


@app.command(epilog=_CHECK_CODES)
def check(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The log's folder, or the name of one that ships")],
    dsn: _Dsn = None,
) -> None:
    """Say what is wrong with a log: its files, its contract, and what it promises, stepped by hand."""
    log = eventlog.load(directory)
    what = spec.make({"log": directory, "place": "local", **({"dsn": dsn} if dsn else {})}, None)
    with rundir.opened(new_run_id()) as run_folder:
        complaints = log_check.check(log, what, choose(what), run_folder)
    if complaints:
        raise BadInputError("\n".join(f"the log {log.name}: {complaint}" for complaint in complaints))
    # What does not promise to be complete when tailed would fail tailed.
    tail = "--mode tail " if log.promises.tail else ""
    print(
        f"{log.name}: nothing wrong; it promises: {log.promises.words()}.\n"
        f"Now under load: bench run {tail}--transaction-ms 0..20 --abort-rate 0.1 --insert-batch 10 "
        f"--insert-loops 100 --log {quote(directory)}"
    )


def compare_logs(
    *,
    names: Annotated[
        str, typer.Option("--logs", metavar="A,B,C", help="Logs that ship, or folders; bigserial is always among them")
    ] = "all",
    insert_batch: Annotated[str, typer.Option(metavar="N[,N...]", help="Events an append transaction")] = "1,100,10000",
    read_batch: Annotated[int, typer.Option(help="Events a read")] = 1000,
    scale: Annotated[int, typer.Option(help="Number of producers")] = 10,
    rounds: Annotated[int, typer.Option(help="How often speed is measured; 0 not at all")] = 3,
    tails: Annotated[int, typer.Option(help="How often each log is tailed while commits overlap; 0 not at all")] = 3,
    transaction_ms: Annotated[
        str, typer.Option(metavar="A..B", help="Tailed: transactions stay open for a random time")
    ] = "0..20",
    abort_rate: Annotated[float, typer.Option(help="Tailed: the share of transactions that is rolled back")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the random times and rollbacks")] = 0,
    place: _Place = "auto",
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the comparison is kept")] = RUNS,
    short: Annotated[bool, typer.Option("--short", help="Print one line a log")] = False,
) -> None:
    """Run logs side by side, in turns: promise, verdict, speed, delay, size, and what open transactions do to them."""
    workload = spec.validated(
        log_comparison.Workload,
        {
            "scale": scale,
            "insert_batch": numbers("--insert-batch", insert_batch),
            "read_batch": read_batch,
            "rounds": rounds,
            "tails": tails,
            "transaction_ms": transaction_ms,
            "abort_rate": abort_rate,
            "seed": seed,
        },
    )
    where = choose(spec.make({"place": place, "transaction_ms": transaction_ms}, None))
    refuse_unusable("--output", output)
    chosen = eventlog.shipped() if names == "all" else names.split(",")
    tell = progress.news(where)
    found: log_comparison.Comparison | None = None
    try:
        for found in log_comparison.compare(chosen, workload, where, progress.watch(quiet=False, brief=True), tell):
            kept = store_kept(found, output / found.run_id / log_comparison.FILE)
    finally:  # what broke or was interrupted leaves the rounds before it
        if found:
            print(screen.coloured(_shown(found, short=short)))
            print(f"comparison: {kept}")
    if found and not found.ok:
        raise typer.Exit(1)


def _shown(found: log_comparison.Comparison, *, short: bool) -> str:
    if short:
        return tabular.shown(lambda form: logs_report.short([found], form))
    return tabular.shown(lambda form: logs_report.whole(found, form))
