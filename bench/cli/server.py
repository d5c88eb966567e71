"""A server to play with: `bench start`, `seed`, `psql` and `stop`. No logic."""

from typing import Annotated

import typer

from bench import eventlog, server
from bench.cli.run import LogFlag
from bench.report import screen

_Port = Annotated[int | None, typer.Option(help="The port to listen on, on 127.0.0.1 [default: a free one]")]


def start(port: _Port = None, log: LogFlag = "bigserial") -> None:
    """Start a Postgres of your own to play with, with a log installed. Its data outlives `bench stop`."""
    print(screen.shown(server.start(port, eventlog.load(log))))


def seed(events: Annotated[int, typer.Option(min=1, help="How many events to append")] = 1000) -> None:
    """Append dummy events to the log of `bench start`."""
    print(screen.shown(server.seed(events)))


def psql(
    arguments: Annotated[list[str] | None, typer.Argument(help="What to pass on to psql, after --")] = None,
) -> None:
    """Open psql on the server of `bench start`."""
    raise typer.Exit(server.psql(arguments or []))


def stop(
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Remove its data too")] = False,
) -> None:
    """Stop the server of `bench start`."""
    print(screen.shown(server.drop() if drop else server.stop()))
