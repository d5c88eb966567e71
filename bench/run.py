"""A run told from top to bottom: open the place, install the log, carry out the trial, keep what came out."""

from datetime import UTC, datetime

import psutil

from bench import control, environment, plan
from bench.logs import Log
from bench.phase import Watch
from bench.place import Choice, open_site, refuse_few_open_files, refuse_full_disk
from bench.places.dsn import without_password
from bench.places.folder import RunFolder
from bench.results import Result
from bench.spec import Spec
from bench.trial import carry_out_trial


def execute(spec: Spec, log: Log, choice: Choice, folder: RunFolder, watch: Watch) -> Result:
    """Run a spec at a place. Everything that it starts is gone when it returns or raises.

    Raises:
        BenchError: it cannot be run, or something broke; there is no verdict then.
    """
    plan.refuse_misfits(spec, log)
    started_at = datetime.now(UTC)
    refuse_few_open_files(choice, spec)
    refuse_full_disk(choice, spec, folder)
    with (
        open_site(choice, spec, log, folder) as site,
        control.connected(site.conninfo) as connection,
        control.installed(connection, log, folder.run_id),
    ):
        control.check_connections(connection, spec.workers)
        where = environment.of(choice.name, site.about, connection)
        trial = carry_out_trial(spec, log, site, connection, watch, psutil.Process().create_time())
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
        trials=[trial],
    )
