"""Trials of one spec, one after the other, and the record of them."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import psutil

from bench import statements
from bench.command import run_command
from bench.eventlog import Log
from bench.places.api import Place
from bench.places.dsn import without_password
from bench.places.rundir import RunFolder
from bench.postgres import install, notifications, pauses, shadows
from bench.postgres.connection import Connection, connected
from bench.postgres.read_back import refuse_without_effect
from bench.postgres.server import check_connections
from bench.results.environment import Environment
from bench.results.models import Result, Trial
from bench.results.tracks import APPEND, Track
from bench.run import environment, preflight
from bench.run.disk_watch import DiskWatch
from bench.run.jobs import consumers
from bench.run.payloads import fingerprint
from bench.run.place import ChosenPlace, open_place
from bench.run.trial import Over, carry_out_trial
from bench.run.watch import Watch
from bench.spec import Spec

_news = logging.getLogger("bench")


class Done(NamedTuple):
    """A trial and its environment."""

    environment: Environment
    trial: Trial


class Trials:
    """Runs trials of one spec, each on an empty log.

    The first trial opens the place; where the spec is `fresh`, each trial opens it anew.
    """

    def __init__(
        self,
        spec: Spec,
        log: Log,
        chosen: ChosenPlace,
        folder: RunFolder,
        watch: Watch,
        described: Callable[[Environment], None],
        place: ExitStack,
    ) -> None:
        self._spec = spec
        self._log = log
        self._chosen = chosen
        self._folder = folder
        self._watch = watch
        self._described = described
        self._closing = place
        self._open: tuple[Place, Connection] | None = None
        self._environment: Environment | None = None

    @contextmanager
    def run_one(self, over: Over = lambda _outcomes, _observed: None, spec: Spec | None = None) -> Iterator[Done]:
        """Run a trial and yield it; its log is cleared away at the end of the `with`, so store the trial before that.

        `over` is as in `carry_out_trial`. `spec` is that of this trial, where it offers another load than the spec of
        all trials.

        Raises:
            BenchError: something broke; this trial has no verdict.
        """
        began_at = process_began_at() if self._environment is None else time.time()
        if self._open is None or self._spec.fresh:
            self._closing.close()
            self._open = self._open_place()
        place, connection = self._open
        with install.installed(connection, self._log, self._folder.run_id, stays=self._spec.dsn is not None):
            if self._spec.pause:
                self._add_pauses(connection)
            if self._spec.wake in {"notify", "both"}:
                notifications.add(connection, self._log)
            check_connections(connection, self._spec.workers)
            if self._environment is None:
                self._environment = environment.describe(self._chosen.name, place.about, connection)
                self._described(self._environment)
            disk = DiskWatch(partial(preflight.free_bytes, self._chosen, self._spec, self._folder))
            offered = spec or self._spec
            trial = carry_out_trial(offered, self._log, place, connection, self._watch, began_at, over, disk)
            yield Done(self._environment, trial)

    def _add_pauses(self, connection: Connection) -> None:
        pauses.add(connection, self._log, self._folder.run_id)
        if self._environment is None:  # in the first trial
            for function, reason in shadows.out_of_reach(connection, self._log):
                _news.warning("--pause: cannot be paused inside %s: %s", function, reason)

    def _open_place(self) -> tuple[Place, Connection]:
        with self._watch.step("starting PostgreSQL" if self._spec.dsn is None else "connecting to PostgreSQL"):
            place = self._closing.enter_context(open_place(self._chosen, self._spec, self._log, self._folder))
            connection = self._closing.enter_context(connected(place.database.conninfo))
        refuse_without_effect(connection, self._spec.set)
        preflight.refuse_depth(self._spec, connection)
        preflight.refuse_unpreparable(self._spec, connection)
        return place, connection


@contextmanager
def opened(
    spec: Spec,
    log: Log,
    chosen: ChosenPlace,
    folder: RunFolder,
    watch: Watch,
    described: Callable[[Environment], None] = lambda _: None,
) -> Iterator[Trials]:
    """Refuse a spec that cannot run, else yield a way to run its trials; all they start is gone when the `with` ends.

    `described` is called with the environment of the trials, just before the first one begins to append.

    Raises:
        BenchError: the message says what is in the way.
    """
    preflight.refuse(spec, log, chosen, folder)
    preflight.raise_open_files_limit(spec)
    with ExitStack() as place:
        yield Trials(spec, log, chosen, folder, watch, described, place)


def process_began_at() -> float:
    """Return when this process was started (Unix), to a hundredth of a second."""
    began_at = psutil.Process().create_time()
    if sys.platform == "linux":
        # psutil counts from the boot, whose time Linux gives in whole seconds: up to one second too early.
        began_at += time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - psutil.boot_time()
    return began_at


def stored_spec(spec: Spec) -> dict[str, Any]:
    """Return a spec as a result stores it: every value that is in force, and no password."""
    shown = {} if spec.dsn is None else {"dsn": without_password(spec.dsn)}
    return {**spec.model_dump(mode="json"), "limit": spec.events_per_producer, **shown}


def command(spec: Spec) -> str:
    """Return the command with every field of a spec that was given, without a password."""
    stored = stored_spec(spec)
    return run_command({name: stored[name] for name in spec.model_fields_set})


def result_of(spec: Spec, log: Log, run_id: str, started_at: datetime, done: Sequence[Done]) -> Result:
    """Return the record of trials of a spec."""
    return Result(
        run_id=run_id,
        started_at=started_at,
        spec={**stored_spec(spec), **fingerprint(spec)},
        reproduce=command(spec),
        sql={
            APPEND.key: statements.append_sql(spec, log),
            **{Track(size).key: consumers(spec, log, size)[0].sql for size in spec.read_batch},
        },
        log_sha256=log.sha256,
        environment=done[0].environment,
        trials=[each.trial for each in done],
    )
