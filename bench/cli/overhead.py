"""`bench limits`. No logic."""

import sys
from typing import Any

import click

from bench import specfile
from bench.cli import console, options
from bench.cli.options import Command, of_model
from bench.output import refuse_unusable
from bench.overhead import measure as overhead
from bench.places import rundir
from bench.report import overhead as overhead_report
from bench.report import progress, screen, tabular
from bench.results.store import new_run_id, store_record
from bench.run.place import choose

CODES = (
    "Exit codes: 0 every target was met; 1 a target was missed; 2 bad usage; "
    "3 something outside is missing or broke; 130 interrupted."
)


@click.command("limits", cls=Command, epilog=CODES, short_help="Measure the harness itself against pgbench and psql.")
@of_model(overhead.Options)
def limits_(**flags: Any) -> None:
    """Measure the harness itself: is a number Postgres's, or Python's?

    The producers and the consumer alternate with pgbench, with psql's COPY and with variants of themselves on the same
    data. A target is judged from two rounds on.
    """
    asked = options.made(overhead.Options, flags)
    refuse_unusable("--output", asked.output)
    choice = choose(specfile.make({"place": asked.place}, None))
    console.introduce(choice)
    watch = progress.watch(quiet=False, brief=True)
    with rundir.opened(new_run_id()) as run_folder:
        for record in overhead.measure(asked, choice, run_folder, watch):
            file = store_record(record, asked.output / record.run_id / overhead.FILE)
    print(screen.coloured(tabular.shown(lambda form: overhead_report.whole(record, form))))
    print(f"limits: {file}")
    sys.exit(0 if overhead_report.met(record) else 1)
