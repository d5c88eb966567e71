"""The commands about logs. No logic."""

import sys
from pathlib import Path
from shlex import quote
from typing import Any

import click

from bench import eventlog, spec, specfile
from bench.cli import console, options
from bench.cli.codes import CODES
from bench.cli.options import Command, of_field, of_model
from bench.errors import UsageError
from bench.logs import check as log_check
from bench.logs import compare as log_comparison
from bench.logs.comparison import Comparison, Workload
from bench.output import refuse_unusable
from bench.places import rundir
from bench.report import logs as logs_report
from bench.report import progress, screen, tabular
from bench.results.store import new_run_id, store_record
from bench.run.place import choose

_CHECK_CODES = (
    "Exit codes: 0 the log keeps the contract; 2 it does not, or bad usage; "
    "3 something outside is missing or broke; 130 interrupted."
)
COMPARE_CODES = (
    "Exit codes: 0 done; 1 a log could not be measured, and the table has FAILED there; 2 bad usage or input; "
    "3 something outside is missing or broke; 130 interrupted."
)


@click.group(
    epilog=CODES, invoke_without_command=True, short_help="List the logs that ship, write a new one, check your own."
)
@click.pass_context
def logs(context: click.Context) -> None:
    """List the logs that ship and what they promise, write a new log, or check one of your own."""
    if context.invoked_subcommand is None:
        print(tabular.shown(logs_report.listing))


@logs.command(cls=Command, epilog=CODES)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def new(directory: Path) -> None:
    """Write a log to start from into DIR: the bigserial log, with every key of log.toml explained."""
    eventlog.write_new(directory)
    # A bare name could be that of a log that ships.
    path = quote(str(directory) if directory.name != str(directory) else f"./{directory}")
    print(f"{directory}: edit log.toml and schema.sql, then `bench logs check {path}`")


@logs.command(cls=Command, epilog=_CHECK_CODES)
@click.argument("directory", metavar="DIR|NAME", shell_complete=options.completing(eventlog.shipped, files=True))
@of_field(spec.Spec, "dsn")
def check(directory: str, **flags: Any) -> None:
    """Check a log's files, its contract and its promises, one statement at a time. Load is for `bench run`.

    The outcome is "ok, but untested" where the check had no chance to find a promise broken.
    """
    log = eventlog.load(directory)
    asked = specfile.make({**options.given(flags), "log": directory, "place": "local"}, None)
    with rundir.opened(new_run_id()) as run_folder:
        complaints, untested = log_check.check(log, asked, choose(asked), run_folder)
    if complaints:
        raise UsageError("\n".join(f"the log {log.name}: {complaint}" for complaint in complaints))
    # A log that does not promise to be complete when tailed would fail.
    tail = "--mode tail " if log.promises.tail else ""
    outcome = f"ok, but untested: {'; '.join(untested)}" if untested else "no fault found"
    print(
        f"{log.name}: {outcome}; it promises: {log.promises.words()}.\n"
        f"Next, test it under load: bench run {tail}--transaction-ms 0..20 --abort-rate 0.1 --insert-batch 10 "
        f"--insert-loops 100 --log {quote(directory)}\n"
        f"Then try every order of a few sessions: bench explore {quote(directory)}"
    )


@click.command("compare-logs", cls=Command, epilog=COMPARE_CODES, short_help="Compare logs side by side.")
@of_model(log_comparison.Options, Workload)
def compare_logs(**flags: Any) -> None:
    """Compare logs side by side: promises, verdict, speed, delay, size, and the effect of open transactions.

    The logs alternate, on the same workload and each on a Postgres of its own.
    """
    asked, workload = options.made(log_comparison.Options, flags), options.made(Workload, flags)
    given = log_comparison.loaded(asked, workload)
    choice = choose(specfile.make({"place": asked.place}, None))
    refuse_unusable("--output", asked.output)
    console.introduce(choice)
    watch = progress.watch(quiet=False, brief=True)
    comparison: Comparison | None = None
    try:
        for comparison in log_comparison.compare(given, workload, choice, watch):
            file = store_record(comparison, asked.output / comparison.run_id / log_comparison.FILE)
    finally:  # a failure or an interrupt leaves the rounds before it
        if comparison:
            print(screen.coloured(_shown(comparison, short=asked.short)))
            print(f"comparison: {file}")
    if comparison and not comparison.ok:
        sys.exit(1)


def _shown(comparison: Comparison, *, short: bool) -> str:
    if short:
        return tabular.shown(lambda form: logs_report.short([comparison], form))
    return tabular.shown(lambda form: logs_report.whole(comparison, form))
