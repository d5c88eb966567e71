"""`bench selftest`. No logic."""

from typing import Annotated

import typer

from bench import selftest, spec
from bench.cli.logs import _Place
from bench.places import rundir
from bench.results.store import new_run_id
from bench.run.place import choose

SELFTEST_CODES = (
    "Exit codes: 0 all was caught and nothing else; 1 something was not; 2 bad usage; "
    "3 something outside is missing or broke; 130 interrupted."
)


def selftest_(
    *,
    events: Annotated[
        int, typer.Option(min=4000, max=100_000_000, help="Events in the log; one of them is the rarest fault")
    ] = 1_000_000,
    place: _Place = "local",
) -> None:
    """Prove the checker: plant each kind of fault between log and consumer, and see that it is caught and named.

    Healthy runs must not be accused, and bigserial, tailed while commits overlap, must be caught skipping.
    """
    what = spec.make({"place": place}, None)
    with rundir.opened(new_run_id()) as run_folder:
        ok = selftest.run(events, choose(what), run_folder, print)
    raise typer.Exit(0 if ok else 1)
