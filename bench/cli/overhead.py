"""The command that measures ourselves, and its flags. No logic."""

import sys
from pathlib import Path

import click

from bench import spec
from bench.cli.options import Command, output_option, place_option
from bench.errors import UsageError
from bench.output import refuse_unusable
from bench.overhead import measure as overhead
from bench.places import rundir
from bench.report import overhead as overhead_report
from bench.report import progress, screen, tabular
from bench.results.store import new_run_id, store_record
from bench.run.place import choose

CODES = (
    "Exit codes: 0 all targets are met; 1 one was missed; 2 bad usage; "
    "3 something outside is missing or broke; 130 interrupted."
)


@click.command("limits", cls=Command, epilog=CODES, short_help="Measure the harness itself beside pgbench and psql.")
@click.option("--events", type=click.IntRange(1000, 100_000_000), default=1_000_000, show_default=True,
              help="Events in the log that is read, and appended each time")  # fmt: skip
@click.option("--grown", type=click.IntRange(0, 1_000_000_000), default=10_000_000, show_default=True,
              help="Events in a log that was left to grow; 0 for none")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True,
              help="Number of rounds; each runs every pair once")  # fmt: skip
@place_option()
@output_option("Where the record is kept")
def limits_(*, events: int, grown: int, rounds: int, place: str, output: Path) -> None:
    """Measure the harness itself: is a number Postgres's, or Python's?

    Our producers and consumer take turns with pgbench, psql's COPY and themselves on the same data.
    """
    if place == "swarm":
        raise UsageError("--place swarm: programs are compared side by side on one machine: give local or docker")
    refuse_unusable("--output", output)
    where = choose(spec.make({"place": place}, None))
    tell = progress.news(where)
    with rundir.opened(new_run_id()) as run_folder:
        for found in overhead.measure(
            events, grown, rounds, where, run_folder, progress.watch(quiet=False, brief=True), tell
        ):
            kept = store_record(found, output / found.run_id / overhead.FILE)
    print(screen.coloured(tabular.shown(lambda form: overhead_report.whole(found, form))))
    print(f"limits: {kept}")
    sys.exit(0 if overhead_report.met(found) else 1)
