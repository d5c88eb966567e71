"""The command line: all commands, and how their errors become messages and exit codes."""

import sys
import traceback
from pathlib import Path
from typing import Any

import click

from bench import interrupts
from bench.cli import (
    completion,
    explore,
    gate,
    image,
    logs,
    overhead,
    results,
    run,
    selftest,
    server,
    table_size,
    upkeep,
)
from bench.errors import BenchError, InfrastructureError
from bench.output import lost_output, secure_streams
from bench.report import screen
from bench.run.environment import bench_version


class _Commands(click.Group):
    """Turns the exception of a command into a message on stderr and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List the commands in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke a command."""
        try:
            return super().invoke(ctx)
        except BenchError as error:
            _trace(ctx)
            _report(error, str(error))
            sys.exit(error.exit_code)
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except Exception as error:  # noqa: BLE001 - Python's own exit code, 1, means a failed verdict here
            _trace(ctx)
            last = traceback.extract_tb(error.__traceback__)[-1]
            line = f"{Path(last.filename).name}:{last.lineno}"
            _report(error, f"internal error: {type(error).__name__}: {error} ({line}); please report it, with --debug")
            sys.exit(InfrastructureError.exit_code)
        except interrupts.TimeIsUp as end:
            phase = f" {end}" if str(end) else ""
            _report(end, f"the time limit was reached{phase}; everything that was started is stopped")
            sys.exit(end.exit_code)
        except KeyboardInterrupt as interrupt:
            phase = f" {interrupt}" if str(interrupt) else ""
            _report(interrupt, f"interrupted{phase}; everything that was started is stopped")
            sys.exit(interrupts.EXIT_CODE)


def _report(end: BaseException, message: str) -> None:
    """Print the message on stderr, then the notes on the exception and on its causes."""
    _complain(message)
    cause: BaseException | None = end
    while cause:
        for note in getattr(cause, "__notes__", ()):
            _complain(note)
        cause = cause.__cause__


def _trace(context: click.Context) -> None:
    """Print the traceback, if --debug or a spec file asks for it."""
    if context.obj:
        traceback.print_exc()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(bench_version(), prog_name="bench", message="%(prog)s %(version)s")
def app() -> None:
    """Load-test an event log in PostgreSQL, and check that it stores and delivers every event."""


for each in (
    run.run,
    logs.compare_logs,
    table_size.table_size_,
    gate.ab_,
    gate.compare_,
    gate.baseline,
    results.export_,
    results.table_,
    results.plot_,
    logs.logs,
    explore.explore,
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
    """Run the command line and end the process with its exit code."""
    secure_streams()
    interrupts.install()
    code: object = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    lost = lost_output()
    if lost:
        _complain(f"standard output cannot be written: {lost}")
        code = code or InfrastructureError.exit_code
    sys.exit(code)  # type: ignore[arg-type]


def _complain(message: str) -> None:
    print(screen.shown(f"bench: {message}", sys.stderr), file=sys.stderr)
