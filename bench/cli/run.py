"""`bench run` and its flags, and how a run is kept and shown."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from bench import eventlog, interrupts, spec
from bench.cli.options import Command, given, run_options, typed
from bench.errors import InfrastructureError
from bench.output import STDOUT, is_output_cut_short, refuse_unusable, refuse_unwritable, write
from bench.places import rundir
from bench.report import progress, screen, terminal
from bench.report import runs as runs_report
from bench.results import models, store
from bench.run import preflight
from bench.run.place import choose
from bench.run.run import execute

CODES = (
    "Exit codes: 0 the verdict is ok; 1 the verdict failed; 2 a bad flag, file or log; "
    "3 something outside is missing or broke, so there is no verdict; 130 interrupted."
)


@click.command(cls=Command, epilog=CODES, short_help="Append, read, check: one run, or several trials of it.")
@run_options
@click.pass_context
def run(context: click.Context, /, **given_flags: Any) -> None:
    """Start Postgres and a log in it, append with N producers, read it through, check that every event is there.

    A flag that is not given comes from --spec, if it is there, or has its default.

    \b
      bench run --scale 10 --insert-batch 10000 --read-batch 1000
      bench run --mode tail --transaction-ms 0..20 --insert-batch 10 --log counter
      bench run --dsn postgresql://me@host/db --limit 100000 --trials 5
    """
    flags, spec_file = given(given_flags)
    output = spec.make_output_options(flags, spec_file)
    context.find_root().obj = output.debug
    what = spec.make(flags, spec_file)
    which = eventlog.load(what.log)
    preflight.refuse_misfits(what, which)
    refuse_unwritable("--export-json", output.export_json)
    refuse_unwritable("--export-markdown", output.export_markdown)
    refuse_unusable("--output", output.output)

    where = choose(what)
    tell = progress.news(where, quiet=output.quiet)
    shown = RunOutput(output, tell)
    with interrupts.time_limit(output.time_limit), rundir.opened(store.new_run_id()) as run_folder:
        result = execute(
            what,
            which,
            where,
            run_folder,
            progress.watch(quiet=output.quiet, brief=what.trials > 1),
            shown,
            typed(),
        )
    if not result.ok:
        sys.exit(1)
    if shown.complaints:
        raise InfrastructureError("; ".join(shown.complaints))


class RunOutput:
    """Keeps what a run has found as soon as it is found, and shows it. What cannot be kept is shown all the same."""

    def __init__(self, output: spec.OutputOptions, tell: Callable[[str], None]) -> None:
        """`tell` says on stderr what is done next."""
        self._options = output
        self._tell = tell
        self._kept: Path | None = None
        self.complaints: list[str] = []

    def opened(self, asked: Mapping[str, Any], where: models.Environment) -> None:
        """Say where a run takes place, and under which settings."""
        self._tell(runs_report.heading(asked, where))

    def judged(self, name: str, trial: models.Trial) -> None:
        """Say what one of several trials came to."""
        self._tell(terminal.trial_line(name, trial))

    def unjudged(self, asked: Mapping[str, Any], found: models.Unjudged) -> None:
        """Print what a trial had measured that ended without a verdict."""
        if not self._options.quiet and STDOUT not in {self._options.export_json, self._options.export_markdown}:
            print(f"\n{screen.coloured(terminal.unjudged(found, asked))}", flush=True)

    def keep(self, result: models.Result) -> None:
        """Store a result, in place of what is known of this run already."""
        try:
            self._kept = store.store(result, self._options.output)
        except InfrastructureError as error:
            self._kept = None
            self._complain(error)

    def show(self, result: models.Result) -> None:
        """Print a result, and write it where it was asked for."""
        to_stdout = STDOUT in {self._options.export_json, self._options.export_markdown}
        if not to_stdout:
            if not self._options.quiet:
                print()
                print(screen.coloured(f"{runs_report.heading(result.spec, result.environment)}\n"))
            print(screen.coloured(runs_report.terminal(result)))
            if not self._options.quiet:
                print(screen.coloured(terminal.summary(result)))
                if not result.ok:
                    print(f"again: {result.reproduce}")
                if self._kept:
                    print(f"result: {self._kept}")
        for file, text in (
            (self._options.export_json, store.json_text),
            (self._options.export_markdown, lambda found: runs_report.published([found]) + "\n"),
        ):
            if file == STDOUT:
                print(text(result), end="")
            elif file is not None:
                self._export(file, text(result))
        if is_output_cut_short() or self.complaints:
            self._say_on_stderr(result)

    def _say_on_stderr(self, result: models.Result) -> None:
        """Say the verdict and where the result is to whoever could not be shown them, or may have nothing else."""
        kept = f"\nresult: {self._kept}" if self._kept else ""
        print(screen.shown(f"{terminal.outcome(result)}{kept}", sys.stderr), file=sys.stderr)

    def _export(self, file: Path, text: str) -> None:
        try:
            write(file, text)
        except InfrastructureError as error:
            self._complain(error)

    def _complain(self, error: InfrastructureError) -> None:
        if str(error) not in self.complaints:
            self.complaints.append(str(error))
