"""`bench table-size`. No logic."""

import sys
from typing import Any

import click

from bench import eventlog, spec, specfile, table_size
from bench.cli import console, options
from bench.cli.codes import RUN_CODES
from bench.cli.options import Command, of_model
from bench.output import refuse_unusable
from bench.places import rundir
from bench.report import progress, screen, tabular
from bench.report import table_size as table_size_report
from bench.results.store import new_run_id, store_record
from bench.run import preflight
from bench.run.place import choose


@click.command(
    "table-size", cls=Command, epilog=RUN_CODES, short_help="Measure a log with few and with many events in it."
)
@of_model(table_size.Options, spec.Spec)
def table_size_(**flags: Any) -> None:
    """Measure how fast a log is when it holds few events and when it holds many.

    Each trial fills the log to a size (as `bench run --preload` does), appends to it and reads what was appended.
    """
    asked = options.made(table_size.Options, flags)
    of_run = {name: value for name, value in options.given(flags).items() if name in spec.Spec.model_fields}
    of_sizes = table_size.specs(specfile.make(of_run, None), asked)
    log = eventlog.load(of_sizes[-1].log)
    preflight.refuse_misfits(of_sizes[-1], log)
    refuse_unusable("--output", asked.output)
    choice = choose(of_sizes[-1])
    console.introduce(choice)
    watch = progress.watch(quiet=False, brief=True)
    record: table_size.TableSizes | None = None
    try:
        with rundir.opened(new_run_id()) as run_folder:
            measured = table_size.measure(of_sizes, log, asked.rounds, choice, run_folder, options.typed(), watch)
            for record in measured:
                file = store_record(record, asked.output / record.run_id / table_size.FILE)
    finally:  # a failure or an interrupt leaves the rounds before it
        if record:
            print(screen.coloured(tabular.shown(lambda form: table_size_report.table(record, form))))
            print(f"table sizes: {file}")
    if record and not record.ok:
        sys.exit(1)
