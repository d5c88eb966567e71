"""`bench explore`. No logic."""

import sys
from typing import Any

import click

from bench import eventlog, spec
from bench.cli import console, options
from bench.cli.options import Command, of_field, of_model
from bench.errors import UsageError
from bench.explore import explore as exploring
from bench.explore.models import FILE, Exploration, Options, Settings
from bench.output import refuse_unusable, refuse_unwritable, write
from bench.report import explore as report
from bench.report import screen, tabular
from bench.results.store import store_record
from bench.run.place import choose

EXPLORE_CODES = (
    "Exit codes: 0 no promise was broken; 1 a log broke a promise, or could not be explored; 2 bad usage or input; "
    "3 something outside is missing or broke; 130 interrupted."
)


@click.command("explore", cls=Command, epilog=EXPLORE_CODES, short_help="Try all orders of a few sessions on a log.")
@click.argument("names", metavar="[LOG]...", nargs=-1)
@of_model(Settings, Options)
@of_field(spec.Spec, "dsn")
def explore(*, names: tuple[str, ...], **flags: Any) -> None:
    """Try all orders of a few sessions on a log, on a real Postgres: writers that append and commit or roll back, and
    readers that read pages. Each order is judged by what the log promises, and one in which something goes wrong is
    shrunk to its fewest steps.
    """
    asked, settings = options.made(Options, flags), options.made(Settings, flags)
    if asked.all == bool(names):
        raise UsageError("explore: name logs, or give --all for every log that ships")
    place = spec.make({"place": "local", **options.given({"dsn": flags["dsn"]})}, None)
    chosen = choose(place)
    refuse_unwritable("--export-sql", asked.export_sql)
    refuse_unwritable("--export-markdown", asked.export_markdown)
    refuse_unusable("--output", asked.output)
    console.introduce(chosen)
    logs = eventlog.shipped() if asked.all else names
    known: Exploration | None = None
    try:
        for known in exploring.explore(logs, settings, place, chosen, options.typed()):
            file = store_record(known, asked.output / known.run_id / FILE)
    finally:  # a failure or an interrupt leaves the logs before it
        if known:
            print(screen.coloured(tabular.shown(lambda form: report.whole(known, form))))
            print(f"exploration: {file}")
            if asked.export_markdown:
                write(asked.export_markdown, report.whole(known) + "\n")
            scripts = [each.sql for log in known.logs for each in log.counterexamples]
            if asked.export_sql and scripts:
                write(asked.export_sql, scripts[0])
    if known and not known.ok:
        sys.exit(1)
