"""`bench run`, and how its result is stored and shown."""

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench import eventlog, interrupts, specfile
from bench.cli import console
from bench.cli.options import Command, run_flags, run_options
from bench.errors import InfrastructureError
from bench.output import STDOUT, is_output_cut_short, refuse_unusable, refuse_unwritable, write
from bench.places import rundir
from bench.report import export, percentiles, progress, screen, tabular, terminal
from bench.report import runs as runs_report
from bench.report import search as search_report
from bench.results import latency_log, models, store
from bench.results.environment import Environment
from bench.results.search import Window
from bench.run import preflight
from bench.run.find import find
from bench.run.place import choose
from bench.run.run import execute

CODES = (
    "Exit codes: 0 the verdict is ok; 1 the verdict failed, or no load meets --slo; 2 a bad flag, file or log; "
    "3 no verdict, because something outside is missing or broke; 130 interrupted."
)
_news = logging.getLogger("bench")


@click.command(cls=Command, epilog=CODES, short_help="Append, read and check events, in one or several trials.")
@run_options
@click.pass_context
def run(context: click.Context, /, **typed_flags: Any) -> None:
    """Start Postgres with a log, append events with N producers, read the log, and check that no event is missing.

    Flags overrule the keys of the file that --spec names.

    \b
      bench run --scale 10 --insert-batch 10000 --read-batch 1000
      bench run --mode tail --transaction-ms 0..20 --insert-batch 10 --log counter
      bench run --dsn postgresql://me@host/db --limit 100000 --trials 5
      bench run --rate find --slo "end_to_end p99 < 50ms" --mode tail --log lock-drain
    """
    flags, spec_file = run_flags(typed_flags)
    output = specfile.make_output_options(flags, spec_file)
    context.find_root().obj = output.debug
    asked = specfile.make(flags, spec_file)
    log = eventlog.load(asked.log)
    preflight.refuse_misfits(asked, log)
    refuse_unwritable("--export-json", output.export_json)
    refuse_unwritable("--export-markdown", output.export_markdown)
    refuse_unusable("--output", output.output)

    choice = choose(asked)
    console.introduce(choice, quiet=output.quiet)
    shown = RunOutput(output)
    with interrupts.time_limit(output.time_limit), rundir.opened(store.new_run_id()) as run_folder:
        watch = progress.watch(quiet=output.quiet, brief=asked.trials > 1 or asked.is_search)
        carry_out = find if asked.is_search else execute
        result = carry_out(asked, log, choice, run_folder, watch, shown)
    if not result.ok or (result.search and result.search.events_per_second is None):
        sys.exit(1)
    if shown.complaints:
        raise InfrastructureError("; ".join(shown.complaints))


class RunOutput:
    """Stores each outcome of a run as soon as it is known, then shows it. One that cannot be stored is shown too."""

    def __init__(self, output: specfile.OutputOptions) -> None:
        self._options = output
        self._stored_at: Path | None = None
        self.complaints: list[str] = []

    def opened(self, asked: Mapping[str, Any], environment: Environment, command: str) -> None:
        """Log the machine, the settings and the command of a run."""
        _news.info("%s", runs_report.heading(asked, environment, command))

    def judged(self, name: str, trial: models.Trial) -> None:
        """Log the outcome of one of several trials."""
        _news.info("%s", terminal.trial_line(name, trial))

    def tried(self, windows: Sequence[Window]) -> None:
        """Log the last window of a search."""
        _news.info("%s", search_report.line(len(windows), windows[-1]))

    def unjudged(self, asked: Mapping[str, Any], measured: models.Unjudged) -> None:
        """Print the measurements of a trial that ended without a verdict."""
        if not self._options.quiet and STDOUT not in {self._options.export_json, self._options.export_markdown}:
            print(f"\n{screen.coloured(terminal.unjudged(measured, asked))}", flush=True)

    def keep(self, result: models.Result, latencies: Mapping[str, latency_log.Measured]) -> None:
        """Store the result, replacing an earlier state of it, and the latencies of its last trial."""
        self._stored_at = None
        try:
            self._stored_at = store.store(result, self._options.output)
            latency_log.store(latencies, latency_log.latency_file(self._stored_at.parent, len(result.trials)))
        except InfrastructureError as error:
            self._complain(error)

    def show(self, result: models.Result) -> None:
        """Print the result, and write the exports that were asked for."""
        if STDOUT not in {self._options.export_json, self._options.export_markdown}:
            self._print(result)
        for file, text in (
            (self._options.export_json, store.json_text),
            (self._options.export_markdown, lambda whole: export.tables(whole) + "\n"),
        ):
            if file == STDOUT:
                print(text(result), end="")
            elif file is not None:
                self._export(file, text(result))
        if is_output_cut_short() or self.complaints:
            self._repeat_on_stderr(result)

    def _print(self, result: models.Result) -> None:
        if not self._options.quiet:
            print()
            heading = runs_report.heading(result.spec, result.environment, result.reproduce)
            print(screen.coloured(f"{heading}\n"))
        if result.search and result.search.windows:
            print(tabular.shown(partial(search_report.table, result.search)), end="\n\n")
        print(screen.coloured(runs_report.terminal(result)))
        if not self._options.quiet:
            print(screen.coloured(terminal.summary(result)))
        if result.search and result.search.over:
            print(screen.shown(f"\n{search_report.sentence(result.search)}"))
        if not self._options.quiet:
            if not result.ok:
                print(f"again: {result.reproduce}")
            if self._stored_at:
                print(f"result: {self._stored_at}")
        if self._options.percentiles:
            print(f"\n{percentiles.table(result, tabular.form())}")

    def _repeat_on_stderr(self, result: models.Result) -> None:
        """Print the verdict and the result's path on stderr, because stdout or a file may lack them."""
        path = f"\nresult: {self._stored_at}" if self._stored_at else ""
        print(screen.shown(f"{terminal.outcome(result)}{path}", sys.stderr), file=sys.stderr)

    def _export(self, file: Path, text: str) -> None:
        try:
            write(file, text)
        except InfrastructureError as error:
            self._complain(error)

    def _complain(self, error: InfrastructureError) -> None:
        if str(error) not in self.complaints:
            self.complaints.append(str(error))
