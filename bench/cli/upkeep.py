"""`bench doctor` and `bench clean`. No logic."""

import sys
from typing import Annotated, Any, Literal

import click
from pydantic import BaseModel, ConfigDict, Field

from bench.cli import options
from bench.cli.codes import CODES
from bench.cli.options import Command, of_model
from bench.errors import InfrastructureError
from bench.flags import Flag
from bench.report import screen
from bench.values import Dsn

DOCTOR_CODES = "Exit codes: 0 at least one place works; 3 no place works."


class _Clean(BaseModel):
    """The flags of `bench clean`. Its --dsn has no variable: BENCH_DSN names a database to run on, not to clean."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    place: Literal["auto", "swarm"] = "auto"
    """swarm: clean the swarm too, and its nodes that have a Docker context."""
    dsn: Annotated[Dsn | None, Field(repr=False), Flag("URL")] = None
    """Drop a schema `bench` that a dead run left in this database, too."""


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
@of_model(_Clean)
def clean(**flags: Any) -> None:
    """Remove what killed runs left behind: processes, data folders, containers, networks, volumes. Runs in progress
    are left alone.

    Worker images that were built from an older state of this checkout are removed too; those of other checkouts stay.

    Other users' folders, databases not named by --dsn and, without --place swarm, swarms are not touched. To remove
    what compose.yml or stack.yml started, see the comment at the top of each.
    """
    from bench import cleanup  # noqa: PLC0415

    asked = options.made(_Clean, flags)
    print(screen.shown("\n".join(cleanup.clean(swarm=asked.place == "swarm", dsn=asked.dsn))))
