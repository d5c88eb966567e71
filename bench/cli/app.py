"""The commands and their flags. No logic: each command calls what does it and turns its end into an exit code."""

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench import eventlog, interrupts, server, spec
from bench.cli import gate as cli_gate
from bench.cli import image as cli_image
from bench.cli import logs as cli_logs
from bench.cli import overhead as cli_overhead
from bench.cli import results as cli_results
from bench.cli.logs import CODES, RUNS
from bench.cli.options import given
from bench.errors import BadInputError, BenchError, OutsideError
from bench.gate import ab
from bench.logs import compare as log_comparison
from bench.output import STDOUT, lost_output, refuse_unusable, refuse_unwritable, secure_streams, write
from bench.overhead import measure as overhead
from bench.places import rundir
from bench.report import gate as gate_report
from bench.report import logs as logs_report
from bench.report import markers, plot, progress, screen, terminal
from bench.report import overhead as overhead_report
from bench.report import runs as runs_report
from bench.results import models, store
from bench.run import preflight
from bench.run.environment import bench_version
from bench.run.place import choose
from bench.run.run import execute

PUBLISHED = Path("results/published")
_PARSERS_OWN: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer's parser raises, which has no name of its own there."""


class _Commands(TyperGroup):
    """Turns what a command raises into a sentence on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Invoke a command."""
        try:
            return super().invoke(ctx)
        except BenchError as error:
            if "--debug" in sys.argv or _file_asks_for_debug(ctx):
                traceback.print_exc()
            print(f"bench: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except (typer.Exit, typer.Abort, _PARSERS_OWN):
            raise
        except Exception as error:  # noqa: BLE001 - Python's own exit code, 1, would say that a verdict failed
            if "--debug" in sys.argv:
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            print(f"bench: a fault of bench itself: {type(error).__name__}: {error} ({where})", file=sys.stderr)
            sys.exit(OutsideError.exit_code)
        except interrupts.TimeIsUp as end:
            where = f" {end}" if str(end) else ""
            print(f"bench: the time limit is over{where}; everything that was started is stopped", file=sys.stderr)
            sys.exit(end.exit_code)
        except KeyboardInterrupt as interrupt:
            where = f" {interrupt}" if str(interrupt) else ""
            print(f"bench: interrupted{where}; everything that was started is stopped", file=sys.stderr)
            sys.exit(interrupts.EXIT_CODE)


app = typer.Typer(
    name="bench",
    cls=_Commands,
    help="Measure an event log kept in PostgreSQL, and check that it keeps and delivers every event.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

_RUN_CODES = (
    "Exit codes: 0 the verdict is ok; 1 the verdict failed; 2 a bad flag, file or log; "
    "3 something outside is missing or broke, so there is no verdict; 130 interrupted."
)

_Port = Annotated[int | None, typer.Option(help="The port to listen on, on 127.0.0.1 [default: a free one]")]
_LogFlag = Annotated[str, typer.Option("--log", metavar="NAME|DIR", help="A log that ships, or your own folder")]


@app.callback(invoke_without_command=True)
def _bench(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"bench {bench_version()}")
        raise typer.Exit


@app.command(epilog=_RUN_CODES, short_help="Append, read, check: one run, or several trials of it.")
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
    log: _LogFlag = "bigserial",
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
    keeper = _Keeper(telling)
    with interrupts.time_limit(telling.time_limit), rundir.opened(store.new_run_id()) as run_folder:
        result = execute(
            what,
            which,
            where,
            run_folder,
            progress.watch(quiet=telling.quiet, brief=what.trials > 1),
            tell,
            keeper.keep,
            keeper.show,
        )
    if not result.ok:
        raise typer.Exit(1)
    if keeper.complaints:
        raise OutsideError("; ".join(keeper.complaints))


class _Keeper:
    """Keeps what a run has found as soon as it is found, and shows it. What cannot be kept is shown all the same."""

    def __init__(self, telling: spec.Telling) -> None:
        self._telling = telling
        self._kept: Path | None = None
        self.complaints: list[str] = []

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
        sys.stdout.flush()

    def _export(self, file: Path, text: str) -> None:
        try:
            write(file, text)
        except OutsideError as error:
            self._complain(error)

    def _complain(self, error: OutsideError) -> None:
        if str(error) not in self.complaints:
            self.complaints.append(str(error))


@app.command("table", epilog=CODES, short_help="Rebuild the published tables from stored results.")
def table_(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="The pages to rewrite", show_default=False),
    ] = None,
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="Where the published results are")] = PUBLISHED,
) -> None:
    """Rebuild the published table from stored results, between its markers in results/README.md or in other pages."""
    stored = store.load_all(source)
    compared = store.load_kept(log_comparison.Comparison, source, log_comparison.FILE)
    sections = {"table": runs_report.published(stored)} if stored else {}
    made = {"saturation": runs_report.saturation(stored), "nodes": runs_report.by_node(stored)}
    sections |= {name: text for name, text in made.items() if text}
    if compared:
        sections |= {
            "logs": "\n\n".join(logs_report.whole(each) for each in compared),
            "logs short": logs_report.short(compared),
        }
    measured = store.load_kept(overhead.Limits, source, overhead.FILE)
    if measured:
        sections["limits"] = "\n\n".join(overhead_report.whole(each) for each in measured)
    calibrated = [each for each in store.load_kept(ab.Ab, source, ab.FILE) if each.calibration]
    if calibrated and calibrated[-1].calibration:
        sections["calibration"] = gate_report.calibration(calibrated[-1], calibrated[-1].calibration)
    if not sections:
        raise BadInputError(f"{source}: there are no results in it; `bench run --output {source}` puts one there")
    for file in files or [Path("results/README.md")]:
        changed = markers.rewrite(file, sections)
        found = f"{len(stored)} runs, {len(compared)} comparisons, {len(measured)} limits"
        print(f"{file}: {'rewritten' if changed else 'is up to date'}, {found}")


@app.command("plot", epilog=CODES, short_help="Draw how appending grows with the number of producers.")
def plot_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The picture to write, .svg or .png")],
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="Where the results are")] = PUBLISHED,
) -> None:
    """Draw how the rate of appending grows with the number of producers, from stored results."""
    stored = store.load_all(source)
    if not stored:
        raise BadInputError(f"{source}: there are no results in it; `bench run --output {source}` puts one there")
    plot.saturation(stored, file)
    print(f"{file}: {len(stored)} runs")


@app.command(
    "doctor",
    epilog="Exit codes: 0 at least one place works; 3 none does.",
    short_help="Show what is here and what is missing.",
)
def doctor_() -> None:
    """Show what is here: Docker, Postgres, disk, limits; what is missing and how to get it."""
    from bench import doctor  # noqa: PLC0415 - it loads Docker's client, which other commands need not wait for

    findings = doctor.examine()
    for finding in findings:
        print(finding.line())
    raise typer.Exit(0 if doctor.some_place_works(findings) else OutsideError.exit_code)


@app.command(epilog=CODES, short_help="Remove what killed runs left.")
def clean(
    place: Annotated[
        str, typer.Option(metavar="auto|swarm", help="swarm: in a swarm too, and on its nodes that contexts lead to")
    ] = "auto",
    dsn: Annotated[
        str | None, typer.Option(metavar="URL", help="In this database too: a schema `bench` that a dead run left")
    ] = None,
) -> None:
    """Remove whatever earlier runs left: processes, data folders, containers, networks, volumes. Living runs stay.

    Worker images that this folder's sources built and that have changed since go too; those of other folders stay.

    Nobody else's folders are looked at, no other database than that of --dsn, and no swarm without --place swarm. What
    compose.yml or stack.yml started is theirs: their heads say how it is removed.
    """
    from bench import doctor  # noqa: PLC0415

    if place not in {"auto", "swarm"}:
        raise BadInputError(f"--place {place!r}: give swarm, or leave it out")
    print("\n".join(doctor.clean(swarm=place == "swarm", dsn=dsn)))


@app.command(epilog=CODES, short_help="Start a Postgres with a log, to play with.")
def start(port: _Port = None, log: _LogFlag = "bigserial") -> None:
    """Start a Postgres of your own to play with, with a log installed. Its data outlives `bench stop`."""
    print(server.start(port, eventlog.load(log)))


@app.command(epilog=CODES)
def seed(events: Annotated[int, typer.Option(min=1, help="How many events to append")] = 1000) -> None:
    """Append dummy events to the log of `bench start`."""
    print(server.seed(events))


@app.command(epilog="The exit code is psql's.")
def psql(
    arguments: Annotated[list[str] | None, typer.Argument(help="What to pass on to psql, after --")] = None,
) -> None:
    """Open psql on the server of `bench start`."""
    raise typer.Exit(server.psql(arguments or []))


@app.command(epilog=CODES)
def stop(
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Remove its data too")] = False,
) -> None:
    """Stop the server of `bench start`."""
    print(server.drop() if drop else server.stop())


app.add_typer(cli_logs.app)
app.add_typer(cli_image.app)
app.command("selftest", epilog=cli_logs.SELFTEST_CODES, short_help="Prove the checker with planted faults.")(
    cli_logs.selftest_
)
app.command("compare-logs", epilog=cli_logs.COMPARE_CODES, short_help="Run logs side by side, in turns.")(
    cli_logs.compare_logs
)
app.command("limits", epilog=cli_overhead.CODES, short_help="Measure the harness itself beside pgbench and psql.")(
    cli_overhead.limits_
)
app.command("ab", epilog=cli_gate.GATE_CODES, short_help="Compare two specs in turns: which one is slower?")(
    cli_gate.ab_
)
app.add_typer(cli_gate.baselines)
app.command("compare", epilog=cli_gate.GATE_CODES)(cli_gate.compare_)
app.command("export", epilog=CODES)(cli_results.export_)


def main() -> None:
    """Run the command line. Ends the process with an exit code."""
    secure_streams()
    interrupts.install()
    code: object = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    lost = lost_output()
    if lost:
        print(f"bench: standard output could not be written: {lost}", file=sys.stderr)
        code = code or OutsideError.exit_code
    sys.exit(code)  # type: ignore[arg-type]


def _file_asks_for_debug(context: Any) -> bool:
    return isinstance(context.obj, spec.Telling) and context.obj.debug
