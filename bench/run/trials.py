"""Trials of one spec, one after the other: a place that is open, a fresh log each time."""

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

import psutil

from bench import statements
from bench.eventlog import Log
from bench.places.dsn import without_password
from bench.places.rundir import RunFolder
from bench.postgres import install
from bench.postgres.connection import connected
from bench.postgres.read_back import refuse_without_effect
from bench.postgres.server import check_connections
from bench.results.models import Environment, Result, Trial
from bench.run import environment, preflight
from bench.run.jobs import consumers
from bench.run.place import ChosenPlace, open_place
from bench.run.trial import Over, carry_out_trial
from bench.run.watch import Watch
from bench.spec import Spec


class Done(NamedTuple):
    """A trial, and where it took place."""

    environment: Environment
    trial: Trial


def carry_out(
    spec: Spec,
    log: Log,
    chosen: ChosenPlace,
    folder: RunFolder,
    watch: Watch,
    judged: Callable[[Done], None] = lambda _: None,
    opened: Callable[[Environment], None] = lambda _: None,
    over: Over = lambda _phases, _observed: None,
) -> Generator[Done, None, None]:
    """Carry out a trial whenever one is asked for; what was started is gone when the generator is closed.

    `opened` is called with where they take place, before the first one. `judged` is called with a trial before what it
    made is cleared away: so its outcome is safe, whatever that meets. `over` is as in `carry_out_trial`.

    Raises:
        BenchError: something broke; that trial has no verdict.
    """
    began_at = process_began_at()
    where: Environment | None = None
    while True:
        with ExitStack() as stack:
            with watch.step("starting PostgreSQL" if spec.dsn is None else "connecting to PostgreSQL"):
                place = stack.enter_context(open_place(chosen, spec, log, folder))
                connection = stack.enter_context(connected(place.database.conninfo))
            refuse_without_effect(connection, spec.set)
            preflight.refuse_depth(spec, connection)
            for _ in range(1) if spec.fresh else count():
                with install.installed(connection, log, folder.run_id, stays=spec.dsn is not None):
                    check_connections(connection, spec.workers)
                    if where is None:
                        where = environment.of(chosen.name, place.about, connection)
                        opened(where)
                    trial = carry_out_trial(spec, log, place, connection, watch, began_at, over)
                    done = Done(where, trial)
                    judged(done)
                yield done
                began_at = time.time()


def process_began_at() -> float:
    """When this process was started (Unix), to a hundredth of a second."""
    began_at = psutil.Process().create_time()
    if sys.platform == "linux":
        # Counted from the boot, of which Linux says when it was in whole seconds only: up to one too early.
        began_at += time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - psutil.boot_time()
    return began_at


def stored_spec(spec: Spec) -> dict[str, Any]:
    """A spec as a result has it: every value that is in force, and no password."""
    shown = {} if spec.dsn is None else {"dsn": without_password(spec.dsn)}
    return {**spec.model_dump(mode="json"), "limit": spec.events_per_producer, **shown}


def result_of(
    spec: Spec, log: Log, run_id: str, started_at: datetime, done: Sequence[Done], reproduce: str = ""
) -> Result:
    """The record of some trials of a spec. `reproduce` is the command that was typed."""
    return Result(
        run_id=run_id,
        started_at=started_at,
        spec=stored_spec(spec),
        reproduce=reproduce,
        sql={
            "append": statements.append_sql(spec, log),
            **{f"read {size}": consumers(spec, log, size)[0].sql for size in spec.read_batch},
        },
        log_sha256=log.sha256,
        environment=done[0].environment,
        trials=[each.trial for each in done],
    )
