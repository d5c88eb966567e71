"""The development server: `bench start`, `seed`, `psql` and `stop`. No logic."""

import sys

import click

from bench import eventlog
from bench import server as by_hand
from bench.cli.codes import CODES
from bench.cli.options import Command
from bench.report import screen


@click.command(cls=Command, epilog=CODES, short_help="Start a Postgres with a log, for development.")
@click.option("--port", metavar="NUMBER", type=int, help="Port on 127.0.0.1 to listen on [default: a free port]")
@click.option("--log", metavar="NAME|DIR", default="bigserial",
              help="A log that ships, or the folder of your own [default: bigserial]")  # fmt: skip
def start(port: int | None, log: str) -> None:
    """Start a Postgres with a log installed, for development. `bench stop` keeps its data."""
    print(screen.shown(by_hand.start(port, eventlog.load(log))))


@click.command(cls=Command, epilog=CODES, short_help="Append dummy events to the log of `bench start`.")
@click.option("--events", metavar="NUMBER", type=click.IntRange(min=1), default=1000,
              help="Number of events [default: 1000]")  # fmt: skip
def seed(events: int) -> None:
    """Append dummy events to the log of `bench start`."""
    print(screen.shown(by_hand.seed(events)))


@click.command(cls=Command, epilog="The exit code is psql's.", short_help="Open psql on the server of `bench start`.")
@click.argument("arguments", metavar="[ARGUMENT]...", nargs=-1)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the server of `bench start`. Arguments after -- go to psql."""
    sys.exit(by_hand.psql(list(arguments)))


@click.command(cls=Command, epilog=CODES, short_help="Stop the server of `bench start`.")
@click.option("--drop", is_flag=True, help="Remove its data too")
def stop(*, drop: bool) -> None:
    """Stop the server of `bench start`."""
    print(screen.shown(by_hand.drop() if drop else by_hand.stop()))
