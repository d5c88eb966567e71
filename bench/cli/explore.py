"""`bench explore`. No logic."""

import logging
import sys
from pathlib import Path
from typing import Any

import click

from bench import eventlog, spec, specfile
from bench.cli import console, options
from bench.cli.options import Command, of_field, of_model
from bench.errors import InfrastructureError, UsageError
from bench.explore import explore as exploring
from bench.explore.models import FILE, Exploration, Options, Settings
from bench.output import STDOUT, refuse_unusable, refuse_unwritable, write
from bench.report import explore as report
from bench.report import screen, tabular
from bench.results.store import store_record
from bench.run.place import choose

_news = logging.getLogger("bench")

EXPLORE_CODES = (
    "Exit codes: 0 no promise was broken; 1 a log broke a promise, or some of the logs could not be explored; "
    "2 bad usage or input, or no log could be explored; 3 something outside is missing or broke; 130 interrupted."
)


@click.command("explore", cls=Command, epilog=EXPLORE_CODES, short_help="Try all orders of a few sessions on a log.")
@click.argument(
    "names",
    metavar="[LOG]...",
    nargs=-1,
    shell_complete=options.completing(eventlog.shipped, files=True),
)
@of_model(Settings, Options)
@of_field(spec.Spec, "dsn")
def explore(*, names: tuple[str, ...], **flags: Any) -> None:
    """Try all orders of a few sessions on a log, on a real Postgres: writers that append and commit or roll back, and
    readers that read pages. Each order is judged by what the log promises, and a failing order is minimised.
    """
    asked, settings = options.made(Options, flags), options.made(Settings, flags)
    if asked.all and names:
        raise UsageError("explore: LOG and --all exclude each other; give only one of them")
    if not asked.all and not names:
        raise UsageError("explore: no log is given; name logs, or give --all for every log that ships")
    place = specfile.make({"place": "local", **options.given({"dsn": flags["dsn"]})}, None)
    refuse_unwritable("--export-sql", asked.export_sql)
    refuse_unwritable("--export-markdown", asked.export_markdown)
    logs = eventlog.load_side_by_side(eventlog.shipped() if asked.all else names)
    refuse_unusable("--output", asked.output)
    console.listen()
    output = ExploreOutput(asked)
    try:
        exploring.explore(logs, settings, place, choose(place), options.typed(), output.keep)
    except BaseException as end:  # a failure or an interrupt leaves the scopes before it
        try:
            output.show()
        except InfrastructureError as error:
            end.add_note(str(error))
        raise
    output.show()
    if output.exploration and not output.exploration.ok:
        sys.exit(1)


class ExploreOutput:
    """Stores an exploration after each scope, and prints it at the end. One that cannot be stored is printed too."""

    def __init__(self, asked: Options) -> None:
        self._asked = asked
        self._stored_at: Path | None = None
        self.exploration: Exploration | None = None

    def keep(self, exploration: Exploration) -> None:
        """Store the exploration, replacing an earlier state of it.

        Raises:
            InfrastructureError: the exploration cannot be stored.
        """
        self.exploration, self._stored_at = exploration, None
        self._stored_at = store_record(exploration, self._asked.output / exploration.run_id / FILE)

    def show(self) -> None:
        """Print the exploration, and write the exports that were asked for.

        Raises:
            InfrastructureError: an export cannot be written.
        """
        exploration = self.exploration
        if exploration is None:
            return
        if STDOUT not in {self._asked.export_markdown, self._asked.export_sql}:
            print(screen.coloured(tabular.shown(lambda form: report.whole(exploration, form))))
            if self._stored_at:
                print(f"exploration: {self._stored_at}")
        scripts = [each.sql for log in exploration.logs for each in log.counterexamples]
        if self._asked.export_sql and not scripts:
            _news.warning("no counterexample: --export-sql %s not written", self._asked.export_sql)
        _export(report.whole(exploration) + "\n", self._asked.export_markdown)
        _export(scripts[0] if scripts else "", self._asked.export_sql if scripts else None)


def _export(text: str, file: Path | None) -> None:
    if file == STDOUT:
        print(text, end="")
    elif file is not None:
        write(file, text)
