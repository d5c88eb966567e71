"""The commands and their flags. No logic: each command calls what does it and turns its end into an exit code."""

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench import interrupts, spec
from bench.cli import gate as cli_gate
from bench.cli import image as cli_image
from bench.cli import logs as cli_logs
from bench.cli import overhead as cli_overhead
from bench.cli import results as cli_results
from bench.cli import run as cli_run
from bench.cli import selftest, upkeep
from bench.cli import server as cli_server
from bench.cli.codes import CODES
from bench.errors import BenchError, OutsideError
from bench.output import lost_output, secure_streams
from bench.run.environment import bench_version

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
            _say(error, str(error))
            sys.exit(error.exit_code)
        except (typer.Exit, typer.Abort, _PARSERS_OWN):
            raise
        except Exception as error:  # noqa: BLE001 - Python's own exit code, 1, would say that a verdict failed
            if "--debug" in sys.argv:
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            _say(error, f"a fault of bench itself: {type(error).__name__}: {error} ({where})")
            sys.exit(OutsideError.exit_code)
        except interrupts.TimeIsUp as end:
            where = f" {end}" if str(end) else ""
            _say(end, f"the time limit is over{where}; everything that was started is stopped")
            sys.exit(end.exit_code)
        except KeyboardInterrupt as interrupt:
            where = f" {interrupt}" if str(interrupt) else ""
            _say(interrupt, f"interrupted{where}; everything that was started is stopped")
            sys.exit(interrupts.EXIT_CODE)


def _say(end: BaseException, words: str) -> None:
    """Say on stderr how a command ended, and then what the notes on that end, or on its causes, add."""
    print(f"bench: {words}", file=sys.stderr)
    cause: BaseException | None = end
    while cause:
        for note in getattr(cause, "__notes__", ()):
            print(f"bench: {note}", file=sys.stderr)
        cause = cause.__cause__


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


@app.callback(invoke_without_command=True)
def _bench(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"bench {bench_version()}")
        raise typer.Exit


for command, function, codes, short in (
    ("run", cli_run.run, cli_run.CODES, "Append, read, check: one run, or several trials of it."),
    ("table", cli_results.table_, CODES, "Rebuild the published tables from stored results."),
    ("plot", cli_results.plot_, CODES, "Draw how appending grows with the number of producers."),
    ("doctor", upkeep.doctor_, upkeep.DOCTOR_CODES, "Show what is here and what is missing."),
    ("clean", upkeep.clean, CODES, "Remove what killed runs left."),
    ("start", cli_server.start, CODES, "Start a Postgres with a log, to play with."),
    ("seed", cli_server.seed, CODES, "Append dummy events to the log of `bench start`."),
    ("psql", cli_server.psql, "The exit code is psql's.", "Open psql on the server of `bench start`."),
    ("stop", cli_server.stop, CODES, "Stop the server of `bench start`."),
    ("selftest", selftest.selftest_, selftest.SELFTEST_CODES, "Prove the checker with planted faults."),
    ("compare-logs", cli_logs.compare_logs, cli_logs.COMPARE_CODES, "Run logs side by side, in turns."),
    ("limits", cli_overhead.limits_, cli_overhead.CODES, "Measure the harness itself beside pgbench and psql."),
    ("ab", cli_gate.ab_, cli_gate.GATE_CODES, "Compare two specs in turns: which one is slower?"),
    ("compare", cli_gate.compare_, cli_gate.GATE_CODES, "Compare a result with a baseline: is it slower?"),
    ("export", cli_results.export_, CODES, "Write a stored result in the format of another tool."),
):
    app.command(command, epilog=codes, short_help=short)(function)
for group in (cli_logs.app, cli_image.app, cli_gate.baselines):
    app.add_typer(group)


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
