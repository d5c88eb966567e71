"""`bench completion`. No logic."""

import click
from click.shell_completion import get_completion_class

from bench.cli.codes import CODES
from bench.cli.options import Command, completing
from bench.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command, epilog=CODES, short_help="Print a shell completion script.")
@click.argument("shell", metavar=f"{'|'.join(SHELLS)}", shell_complete=completing(lambda: SHELLS))
def completion(shell: str) -> None:
    """Print a script that makes a shell complete the commands and flags of `bench`.

    For bash: eval "$(bench completion bash)"
    """
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise UsageError(f"SHELL {shell!r}: no completion; give one of {', '.join(SHELLS)}")
    from bench.cli.app import app  # noqa: PLC0415 - app imports this module

    print(kind(app, {}, "bench", "_BENCH_COMPLETE").source())
