"""`bench run` and its flags, and how a run is kept and shown."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import eventlog, interrupts, spec
from bench.cli.codes import RUNS
from bench.cli.options import given
from bench.errors import OutsideError
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

LogFlag = Annotated[str, typer.Option("--log", metavar="NAME|DIR", help="A log that ships, or your own folder")]


def run(
    context: typer.Context,
    *,
    scale: Annotated[int, typer.Option(help="Number of producers")] = 10,
    insert_batch: Annotated[int, typer.Option(help="Events an append transaction")] = 10_000,
    insert_loops: Annotated[int, typer.Option(help="Append transactions a producer")] = 100,
    limit: Annotated[
        int | None,
        typer.Option(help="Events a producer, instead of --insert-loops; the last batch may be short"),
    ] = None,
    read_batch: Annotated[
        str,
        typer.Option(metavar="N[,N...]", help="Events a read; several sizes read the log one after the other"),
    ] = "1000",
    append: Annotated[
        str,
        typer.Option(
            metavar="generate|log_event|copy",
            help="How to append: built in the server, a JSON array through the log's function, or COPY",
        ),
    ] = "log_event",
    payload_bytes: Annotated[int, typer.Option(help="Pad each payload to this size; 0 pads nothing")] = 0,
    mode: Annotated[
        str, typer.Option(metavar="drain|tail", help="Read when the producers are done, or while they append")
    ] = "drain",
    consumers: Annotated[int, typer.Option(help="Consumers that each read the whole log")] = 1,
    group: Annotated[int, typer.Option(help="Members of one consumer that share the log's events; 0 is no group")] = 0,
    rejoin: Annotated[
        int, typer.Option(help="group: a member leaves after so many pages and joins again; 0 never")
    ] = 0,
    cursor: Annotated[
        str,
        typer.Option(
            metavar="own|client",
            help="Who remembers how far a consumer has read: itself, or the database under its name",
        ),
    ] = "own",
    depth: Annotated[
        int, typer.Option(help="client, group: reads that are sent together and make one transaction")
    ] = 1,
    transaction_ms: Annotated[
        str,
        typer.Option(metavar="A..B", help="Append transactions stay open for a random time before they end"),
    ] = "0..0",
    abort_rate: Annotated[float, typer.Option(help="The share of append transactions that is rolled back")] = 0,
    seed: Annotated[int, typer.Option(help="Of the random times and rollbacks")] = 0,
    idle_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Give up reading when nothing new comes for so long")
    ] = 10,
    trials: Annotated[int, typer.Option(help="How often all of it is done, each time on a fresh log")] = 1,
    warm_up: Annotated[
        int | None, typer.Option(help="Trials before these that are not kept [default: 1 when there are several]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="A fresh Postgres for each trial, too")] = False,
    log: LogFlag = "bigserial",
    place: Annotated[
        str,
        typer.Option(metavar="auto|local|docker|swarm", help="Where to run; auto takes Docker when an engine answers"),
    ] = "auto",
    dsn: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="BENCH_DSN",
            help="Use this Postgres; a schema `bench` is made and dropped in it",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A Postgres setting; may be repeated", show_default=False),
    ] = None,
    postgres_image: Annotated[
        str | None, typer.Option(help="docker, swarm: the Postgres image [default: postgres:18]")
    ] = None,
    worker_image: Annotated[
        str | None, typer.Option(help="docker, swarm: the workers' image, by tag or digest [default: built here]")
    ] = None,
    postgres_memory: Annotated[str | None, typer.Option(metavar="SIZE", help="docker, swarm: limit, like 4g")] = None,
    postgres_cpus: Annotated[float | None, typer.Option(help="docker, swarm: limit, like 1.5")] = None,
    worker_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="docker, swarm: limit for each worker")
    ] = None,
    worker_cpus: Annotated[float | None, typer.Option(help="docker, swarm: limit for each worker")] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPRESSION",
            help="swarm: where workers may run, like node.labels.disk==ssd; may be repeated",
            show_default=False,
        ),
    ] = None,
    max_per_node: Annotated[int | None, typer.Option(help="swarm: the most producers on one node")] = None,
    postgres_node: Annotated[
        str | None, typer.Option(metavar="NODE", help="swarm: Postgres's node [default: the manager that is asked]")
    ] = None,
    on_node_loss: Annotated[
        str,
        typer.Option(metavar="fail|continue", help="swarm: when a node is lost with producers on it"),
    ] = "fail",
    pg_bin: Annotated[
        Path | None, typer.Option(metavar="DIR", help="local: a folder with initdb and postgres to use")
    ] = None,
    spec_file: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE", help="A TOML file with the same keys; its paths are relative to it"),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept, a folder each")] = RUNS,
    export_json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write result.json here too")] = None,
    export_markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table here too")] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End the run when it takes longer than this, like 90s, 10m or 2h"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the table")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors")] = False,
) -> None:
    """Start Postgres and a log in it, append with N producers, read it through, check that every event is there.

    A flag that is not given comes from --spec, if it is there, or has its default.
    """
    flags, spec_file = given(context)
    telling = spec.make_telling(flags, spec_file)
    context.find_root().obj = telling
    what = spec.make(flags, spec_file)
    which = eventlog.load(what.log)
    preflight.refuse_misfits(what, which)
    refuse_unwritable("--export-json", telling.export_json)
    refuse_unwritable("--export-markdown", telling.export_markdown)
    refuse_unusable("--output", telling.output)

    where = choose(what)
    tell = progress.news(where, quiet=telling.quiet)
    shown = RunOutput(telling, tell)
    with interrupts.time_limit(telling.time_limit), rundir.opened(store.new_run_id()) as run_folder:
        result = execute(
            what,
            which,
            where,
            run_folder,
            progress.watch(quiet=telling.quiet, brief=what.trials > 1),
            shown,
        )
    if not result.ok:
        raise typer.Exit(1)
    if shown.complaints:
        raise OutsideError("; ".join(shown.complaints))


class RunOutput:
    """Keeps what a run has found as soon as it is found, and shows it. What cannot be kept is shown all the same."""

    def __init__(self, telling: spec.Telling, tell: Callable[[str], None]) -> None:
        """`tell` says on stderr what is done next."""
        self._telling = telling
        self._tell = tell
        self._kept: Path | None = None
        self.complaints: list[str] = []

    def opened(self, asked: Mapping[str, Any], where: models.Environment) -> None:
        """Say where a run takes place, and under which settings."""
        self._tell(runs_report.heading(asked, where))

    def judged(self, name: str, trial: models.Trial) -> None:
        """Say what one of several trials came to."""
        self._tell(terminal.trial_line(name, trial))

    def keep(self, result: models.Result) -> None:
        """Store a result, in place of what is known of this run already."""
        try:
            self._kept = store.store(result, self._telling.output)
        except OutsideError as error:
            self._kept = None
            self._complain(error)

    def show(self, result: models.Result) -> None:
        """Print a result, and write it where it was asked for."""
        to_stdout = STDOUT in {self._telling.export_json, self._telling.export_markdown}
        if not to_stdout:
            if not self._telling.quiet:
                print()
                print(screen.coloured(f"{runs_report.heading(result.spec, result.environment)}\n"))
            print(screen.coloured(runs_report.terminal(result)))
            if not self._telling.quiet:
                print(screen.coloured(terminal.summary(result)))
                if self._kept:
                    print(f"result: {self._kept}")
        for file, text in (
            (self._telling.export_json, store.json_text),
            (self._telling.export_markdown, lambda found: runs_report.published([found]) + "\n"),
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
        except OutsideError as error:
            self._complain(error)

    def _complain(self, error: OutsideError) -> None:
        if str(error) not in self.complaints:
            self.complaints.append(str(error))
