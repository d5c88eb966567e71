"""`bench doctor` and `bench clean`. No logic."""

import sys

import click

from bench.cli.codes import CODES
from bench.cli.options import Command
from bench.errors import InfrastructureError, UsageError
from bench.report import screen

DOCTOR_CODES = "Exit codes: 0 at least one place works; 3 none does."


@click.command("doctor", cls=Command, epilog=DOCTOR_CODES, short_help="Show what is here and what is missing.")
def doctor_() -> None:
    """Show what is here: Docker, Postgres, disk, limits; what is missing and how to get it."""
    from bench import doctor  # noqa: PLC0415 - it loads Docker's client, which other commands need not wait for
    from bench.report import upkeep  # noqa: PLC0415

    findings = doctor.examine()
    for finding in findings:
        print(screen.shown(upkeep.finding(finding)))
    sys.exit(0 if doctor.some_place_works(findings) else InfrastructureError.exit_code)


@click.command(cls=Command, epilog=CODES, short_help="Remove what killed runs left.")
@click.option("--place", metavar="auto|swarm", default="auto", show_default=True,
              help="swarm: in a swarm too, and on its nodes that contexts lead to")  # fmt: skip
@click.option("--dsn", metavar="URL", help="In this database too: a schema `bench` that a dead run left")
def clean(place: str, dsn: str | None) -> None:
    """Remove whatever earlier runs left: processes, data folders, containers, networks, volumes. Living runs stay.

    Worker images that this folder's sources built and that have changed since go too; those of other folders stay.

    Nobody else's folders are looked at, no other database than that of --dsn, and no swarm without --place swarm. What
    compose.yml or stack.yml started is theirs: their heads say how it is removed.
    """
    from bench import cleanup  # noqa: PLC0415

    if place not in {"auto", "swarm"}:
        raise UsageError(f"--place {place!r}: give swarm, or leave it out")
    print(screen.shown("\n".join(cleanup.clean(swarm=place == "swarm", dsn=dsn))))
