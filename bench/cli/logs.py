"""The commands about logs, and their flags. No logic."""

import sys
from pathlib import Path
from shlex import quote
from typing import Any

import click

from bench import eventlog, spec
from bench.cli.codes import CODES
from bench.cli.options import Command, of_field, of_model, output_option, place_option
from bench.errors import UsageError
from bench.logs import check as log_check
from bench.logs import compare as log_comparison
from bench.output import refuse_unusable
from bench.places import rundir
from bench.report import logs as logs_report
from bench.report import progress, screen, tabular
from bench.results.store import new_run_id, store_record
from bench.run.place import choose

_CHECK_CODES = "Exit codes: 0 the log keeps the contract; 2 it does not; 3 something outside is missing or broke."
COMPARE_CODES = (
    "Exit codes: 0 done; 1 a log failed to do something, so the table has no value there; 2 bad usage or input; "
    "3 something outside is missing or broke; 130 interrupted."
)


@click.group(
    epilog=CODES, invoke_without_command=True, short_help="List the logs that ship; write a new one; check your own."
)
@click.pass_context
def logs(context: click.Context) -> None:
    """List the logs that ship with what they promise; write a new one; check one of your own."""
    if context.invoked_subcommand is None:
        print(tabular.shown(logs_report.listing))


@logs.command(cls=Command, epilog=CODES)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def new(directory: Path) -> None:
    """Write a log to start from: the bigserial log, with every key of log.toml explained."""
    eventlog.write_new(directory)
    print(f"{directory}: edit log.toml and schema.sql, then `bench logs check {directory}`")


@logs.command(cls=Command, epilog=_CHECK_CODES)
@click.argument("directory", metavar="DIR|NAME")
@of_field(spec.Spec, "dsn")
def check(directory: str, dsn: str | None) -> None:
    """Say what is wrong with a log: its files, its contract, and what it promises, stepped by hand."""
    log = eventlog.load(directory)
    what = spec.make({"log": directory, "place": "local", **({"dsn": dsn} if dsn else {})}, None)
    with rundir.opened(new_run_id()) as run_folder:
        complaints = log_check.check(log, what, choose(what), run_folder)
    if complaints:
        raise UsageError("\n".join(f"the log {log.name}: {complaint}" for complaint in complaints))
    # What does not promise to be complete when tailed would fail tailed.
    tail = "--mode tail " if log.promises.tail else ""
    print(
        f"{log.name}: nothing wrong; it promises: {log.promises.words()}.\n"
        f"Now under load: bench run {tail}--transaction-ms 0..20 --abort-rate 0.1 --insert-batch 10 "
        f"--insert-loops 100 --log {quote(directory)}"
    )


@click.command("compare-logs", cls=Command, epilog=COMPARE_CODES, short_help="Run logs side by side, in turns.")
@click.option("--logs", "names", metavar="A,B,C", default="all", show_default=True,
              help="Logs that ship, or folders; bigserial is always among them")  # fmt: skip
@of_model(log_comparison.Workload)
@place_option()
@output_option("Where the comparison is kept")
@click.option("--short", is_flag=True, help="Print one line per log")
def compare_logs(*, names: str, place: str, output: Path, short: bool, **load: Any) -> None:
    """Run logs side by side, in turns: promise, verdict, speed, delay, size, and what open transactions do to them."""
    workload = spec.validated(
        log_comparison.Workload, {name: value for name, value in load.items() if value is not None}
    )
    where = choose(spec.make({"place": place, "transaction_ms": workload.transaction_ms}, None))
    refuse_unusable("--output", output)
    chosen = eventlog.shipped() if names == "all" else names.split(",")
    tell = progress.news(where)
    found: log_comparison.Comparison | None = None
    try:
        for found in log_comparison.compare(chosen, workload, where, progress.watch(quiet=False, brief=True), tell):
            kept = store_record(found, output / found.run_id / log_comparison.FILE)
    finally:  # what broke or was interrupted leaves the rounds before it
        if found:
            print(screen.coloured(_shown(found, short=short)))
            print(f"comparison: {kept}")
    if found and not found.ok:
        sys.exit(1)


def _shown(found: log_comparison.Comparison, *, short: bool) -> str:
    if short:
        return tabular.shown(lambda form: logs_report.short([found], form))
    return tabular.shown(lambda form: logs_report.whole(found, form))
