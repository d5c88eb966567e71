"""`bench selftest`. No logic."""

import sys
from typing import Any

import click

from bench import specfile
from bench.cli import options
from bench.cli.options import Command, of_model
from bench.places import rundir
from bench.report import selftest as selftest_report
from bench.results.store import new_run_id
from bench.run.place import choose
from bench.selftest import checks as selftest

SELFTEST_CODES = (
    "Exit codes: 0 every check passed; 1 a check failed; 2 bad usage; "
    "3 something outside is missing or broke; 130 interrupted."
)


@click.command("selftest", cls=Command, epilog=SELFTEST_CODES, short_help="Prove the checker with planted faults.")
@of_model(selftest.Options)
def selftest_(**flags: Any) -> None:
    """Prove the checker: plant faults of each kind between log and consumer, and check that each is caught and named.

    Healthy runs must pass, and bigserial, tailed while commits overlap, must be caught skipping events.
    """
    asked = options.made(selftest.Options, flags)
    choice = choose(specfile.make({"place": asked.place}, None))
    checks = []
    print(selftest_report.HEADING)
    with rundir.opened(new_run_id()) as run_folder:
        for check in selftest.run(asked.events, choice, run_folder):
            print(selftest_report.line(check))
            checks.append(check)
    print(selftest_report.outcome(checks))
    sys.exit(0 if all(check.ok for check in checks) else 1)
