"""`bench doctor` and `bench clean`. No logic."""

from typing import Annotated

import typer

from bench.errors import BadInputError, OutsideError
from bench.report import screen

DOCTOR_CODES = "Exit codes: 0 at least one place works; 3 none does."


def doctor_() -> None:
    """Show what is here: Docker, Postgres, disk, limits; what is missing and how to get it."""
    from bench import doctor  # noqa: PLC0415 - it loads Docker's client, which other commands need not wait for
    from bench.report import upkeep  # noqa: PLC0415

    findings = doctor.examine()
    for finding in findings:
        print(screen.shown(upkeep.finding(finding)))
    raise typer.Exit(0 if doctor.some_place_works(findings) else OutsideError.exit_code)


def clean(
    place: Annotated[
        str, typer.Option(metavar="auto|swarm", help="swarm: in a swarm too, and on its nodes that contexts lead to")
    ] = "auto",
    dsn: Annotated[
        str | None, typer.Option(metavar="URL", help="In this database too: a schema `bench` that a dead run left")
    ] = None,
) -> None:
    """Remove whatever earlier runs left: processes, data folders, containers, networks, volumes. Living runs stay.

    Worker images that this folder's sources built and that have changed since go too; those of other folders stay.

    Nobody else's folders are looked at, no other database than that of --dsn, and no swarm without --place swarm. What
    compose.yml or stack.yml started is theirs: their heads say how it is removed.
    """
    from bench import doctor  # noqa: PLC0415

    if place not in {"auto", "swarm"}:
        raise BadInputError(f"--place {place!r}: give swarm, or leave it out")
    print(screen.shown("\n".join(doctor.clean(swarm=place == "swarm", dsn=dsn))))
