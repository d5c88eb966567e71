"""The command that measures ourselves, and its flags. No logic."""

from pathlib import Path
from typing import Annotated

import typer

from bench import spec
from bench.cli.codes import RUNS
from bench.errors import BadInputError
from bench.output import refuse_unusable
from bench.overhead import measure as overhead
from bench.places import rundir
from bench.report import overhead as overhead_report
from bench.report import progress, screen, tabular
from bench.results.store import new_run_id, store_kept
from bench.run.place import choose

CODES = (
    "Exit codes: 0 all targets are met; 1 one was missed; 2 bad usage; "
    "3 something outside is missing or broke; 130 interrupted."
)


def limits_(
    *,
    events: Annotated[
        int, typer.Option(min=1000, max=100_000_000, help="Events in the log that is read, and appended each time")
    ] = 1_000_000,
    grown: Annotated[
        int, typer.Option(min=0, max=1_000_000_000, help="Events in a log that was left to grow; 0 for none")
    ] = 10_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How often each pair takes its turn")] = 5,
    place: Annotated[str, typer.Option(metavar="auto|local|docker", help="Where to run")] = "auto",
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the record is kept")] = RUNS,
) -> None:
    """Measure the harness itself: is a number Postgres's, or Python's?

    Our producers and consumer take turns with pgbench, psql's COPY and themselves on the same data.
    """
    if place == "swarm":
        raise BadInputError("--place swarm: programs are compared side by side on one machine: give local or docker")
    refuse_unusable("--output", output)
    where = choose(spec.make({"place": place}, None))
    tell = progress.news(where)
    with rundir.opened(new_run_id()) as run_folder:
        for found in overhead.measure(
            events, grown, rounds, where, run_folder, progress.watch(quiet=False, brief=True), tell
        ):
            kept = store_kept(found, output / found.run_id / overhead.FILE)
    print(screen.coloured(tabular.shown(lambda form: overhead_report.whole(found, form))))
    print(f"limits: {kept}")
    raise typer.Exit(0 if overhead_report.met(found) else 1)
