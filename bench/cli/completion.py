"""`bench completion`. No logic."""

import click
from click.shell_completion import get_completion_class

from bench.cli.codes import CODES
from bench.cli.options import Command
from bench.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command, epilog=CODES, short_help="Print what makes a shell complete commands and flags.")
@click.argument("shell", metavar=f"{'|'.join(SHELLS)}")
def completion(shell: str) -> None:
    """Print a script for a shell, after which it completes the commands and flags of `bench`.

    For bash: eval "$(bench completion bash)"
    """
    made = get_completion_class(shell) if shell in SHELLS else None
    if made is None:
        raise UsageError(f"there is no completion for {shell!r}: give one of {', '.join(SHELLS)}")
    from bench.cli.app import app  # noqa: PLC0415 - which has this command, too

    print(made(app, {}, "bench", "_BENCH_COMPLETE").source())
