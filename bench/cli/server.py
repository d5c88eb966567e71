"""The development server: `bench start`, `seed`, `psql` and `stop`. No logic."""

import sys
from typing import Annotated, Any

import click
from pydantic import BaseModel, ConfigDict, Field

from bench import eventlog
from bench import server as by_hand
from bench.cli import options
from bench.cli.codes import CODES
from bench.cli.options import Command, of_model
from bench.flags import Flag
from bench.report import screen
from bench.spec import DEFAULT_LOG, LogName


class _Start(BaseModel):
    """The flags of `bench start`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    port: Annotated[int | None, Field(ge=1, le=65535), Flag(default="a free port")] = None
    """Port on 127.0.0.1 to listen on."""
    log: LogName = DEFAULT_LOG


@click.command(cls=Command, epilog=CODES, short_help="Start a Postgres with a log, for development.")
@of_model(_Start)
def start(**flags: Any) -> None:
    """Start a Postgres with a log installed, for development. `bench stop` keeps its data."""
    asked = options.made(_Start, flags)
    print(screen.shown(by_hand.start(asked.port, eventlog.load(asked.log))))


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
