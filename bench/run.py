"""A run told from top to bottom: open the place, install the log, carry out each trial, keep what came out."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime

import psutil

from bench import control, environment, plan
from bench.control import Connection
from bench.logs import Log
from bench.phase import Watch
from bench.place import Choice, open_site, refuse_few_open_files, refuse_full_disk
from bench.places.dsn import without_password
from bench.places.folder import RunFolder
from bench.places.site import Site
from bench.results import Environment, Result, Trial
from bench.spec import Spec
from bench.trial import carry_out_trial

Tell = Callable[[str], None]
"""Tells a person what is done next."""


def execute(spec: Spec, log: Log, choice: Choice, folder: RunFolder, watch: Watch, tell: Tell) -> Result:
    """Run a spec at a place. Everything that it starts is gone when it returns or raises.

    Raises:
        BenchError: it cannot be run, or something broke; there is no verdict then.
    """
    plan.refuse_misfits(spec, log)
    started_at = datetime.now(UTC)
    refuse_few_open_files(choice, spec)
    refuse_full_disk(choice, spec, folder)
    began_at = psutil.Process().create_time()
    trials: list[Trial] = []
    where: Environment | None = None
    with closing(_sites(spec, log, choice, folder)) as sites:
        for number, (site, connection) in enumerate(sites, 1 - spec.warm_ups):
            if spec.trials > 1:
                tell(f"trial {number} of {spec.trials}" if number > 0 else "trial to warm up")
            with control.installed(connection, log, folder.run_id):
                control.check_connections(connection, spec.workers)
                where = where or environment.of(choice.name, site.about, connection)
                trial = carry_out_trial(spec, log, site, connection, watch, began_at)
            began_at = time.time()
            if number > 0 or not trial.verdict.ok:
                trials.append(trial)
    if where is None:
        raise AssertionError("a spec has a trial at least")
    shown = {} if spec.dsn is None else {"dsn": without_password(spec.dsn)}
    return Result(
        run_id=folder.run_id,
        started_at=started_at,
        spec={**spec.model_dump(mode="json"), "limit": spec.events_per_producer, **shown},
        sql={
            "append": plan.append_sql(spec, log),
            **{f"read {size}": plan.consumers(spec, log, size)[0].sql for size in spec.read_batch},
        },
        environment=where,
        trials=trials,
    )


def _sites(spec: Spec, log: Log, choice: Choice, folder: RunFolder) -> Generator[tuple[Site, Connection], None, None]:
    """A place with a connection to its Postgres for each trial: always the same one, or a fresh one each time."""
    times = spec.warm_ups + spec.trials
    for _ in range(times if spec.fresh else 1):
        with open_site(choice, spec, log, folder) as site, control.connected(site.conninfo) as connection:
            for _ in range(1 if spec.fresh else times):
                yield site, connection
