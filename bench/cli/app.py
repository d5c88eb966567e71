"""The command line: all commands, and how each one's end becomes an exit code."""

import sys
import traceback
from pathlib import Path
from typing import Any

import click

from bench import interrupts
from bench.cli import completion, gate, image, logs, overhead, results, run, selftest, server, upkeep
from bench.errors import BenchError, InfrastructureError
from bench.output import lost_output, secure_streams
from bench.report import screen
from bench.run.environment import bench_version


class _Commands(click.Group):
    """Turns what a command raises into a sentence on stderr and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke a command."""
        try:
            return super().invoke(ctx)
        except BenchError as error:
            _trace(ctx)
            _say(error, str(error))
            sys.exit(error.exit_code)
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except Exception as error:  # noqa: BLE001 - Python's own exit code, 1, would say that a verdict failed
            _trace(ctx)
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            _say(error, f"a fault of bench itself: {type(error).__name__}: {error} ({where})")
            sys.exit(InfrastructureError.exit_code)
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
    _complain(words)
    cause: BaseException | None = end
    while cause:
        for note in getattr(cause, "__notes__", ()):
            _complain(note)
        cause = cause.__cause__


def _trace(context: click.Context) -> None:
    """Show where it was raised, when --debug or a spec's file asks for that."""
    if context.obj:
        traceback.print_exc()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(bench_version(), prog_name="bench", message="%(prog)s %(version)s")
def app() -> None:
    """Measure an event log kept in PostgreSQL, and check that it keeps and delivers every event."""


for each in (
    run.run,
    logs.compare_logs,
    gate.ab_,
    gate.compare_,
    gate.baseline,
    results.export_,
    results.table_,
    results.plot_,
    logs.logs,
    selftest.selftest_,
    overhead.limits_,
    upkeep.doctor_,
    upkeep.clean,
    server.start,
    server.seed,
    server.psql,
    server.stop,
    image.image,
    completion.completion,
):
    app.add_command(each)


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
        _complain(f"standard output could not be written: {lost}")
        code = code or InfrastructureError.exit_code
    sys.exit(code)  # type: ignore[arg-type]


def _complain(words: str) -> None:
    print(screen.shown(f"bench: {words}", sys.stderr), file=sys.stderr)
