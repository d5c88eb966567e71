"""`bench doctor` and `bench clean`. No logic."""

import sys

import click

from bench.cli.codes import CODES
from bench.cli.options import Command
from bench.errors import InfrastructureError, UsageError
from bench.report import screen

DOCTOR_CODES = "Exit codes: 0 at least one place works; 3 no place works."


@click.command("doctor", cls=Command, epilog=DOCTOR_CODES, short_help="Show what works here and what is missing.")
def doctor_() -> None:
    """Check Docker, Postgres, disk and system limits; show what is missing and how to get it."""
    from bench import doctor  # noqa: PLC0415 - loads Docker's client, which is slow
    from bench.report import upkeep  # noqa: PLC0415

    findings = doctor.examine()
    for finding in findings:
        print(screen.shown(upkeep.finding(finding)))
    sys.exit(0 if doctor.some_place_works(findings) else InfrastructureError.exit_code)


@click.command(cls=Command, epilog=CODES, short_help="Remove what killed runs left behind.")
@click.option("--place", metavar="auto|swarm", default="auto",
              help="swarm: clean the swarm too, and its nodes that have a Docker context [default: auto]")  # fmt: skip
@click.option("--dsn", metavar="URL", help="Drop a schema `bench` that a dead run left in this database, too")
def clean(place: str, dsn: str | None) -> None:
    """Remove what killed runs left behind: processes, data folders, containers, networks, volumes. Runs in progress
    are left alone.

    Worker images that were built from an older state of this checkout are removed too; those of other checkouts stay.

    Other users' folders, databases not named by --dsn and, without --place swarm, swarms are not touched. To remove
    what compose.yml or stack.yml started, see the comment at the top of each.
    """
    from bench import cleanup  # noqa: PLC0415

    if place not in {"auto", "swarm"}:
        raise UsageError(f"--place {place!r}: give auto or swarm")
    print(screen.shown("\n".join(cleanup.clean(swarm=place == "swarm", dsn=dsn))))
