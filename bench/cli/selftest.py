"""`bench selftest`. No logic."""

import sys

import click

from bench import selftest, spec
from bench.cli.options import Command, place_option
from bench.places import rundir
from bench.results.store import new_run_id
from bench.run.place import choose

SELFTEST_CODES = (
    "Exit codes: 0 all was caught and nothing else; 1 something was not; 2 bad usage; "
    "3 something outside is missing or broke; 130 interrupted."
)


@click.command("selftest", cls=Command, epilog=SELFTEST_CODES, short_help="Prove the checker with planted faults.")
@click.option("--events", type=click.IntRange(4000, 100_000_000), default=1_000_000, show_default=True,
              help="Log size; the hardest case is a single faulty event")  # fmt: skip
@place_option("local")
def selftest_(events: int, place: str) -> None:
    """Prove the checker: plant each kind of fault between log and consumer, and see that it is caught and named.

    Healthy runs must not be accused, and bigserial, tailed while commits overlap, must be caught skipping.
    """
    what = spec.make({"place": place}, None)
    with rundir.opened(new_run_id()) as run_folder:
        ok = selftest.run(events, choose(what), run_folder, print)
    sys.exit(0 if ok else 1)
