"""Removes what dead runs left, for `bench clean`: on this machine, in Docker, in a swarm, in a database."""

import shutil

from bench.errors import BenchError
from bench.places import rundir
from bench.places.docker import address, engine, image, leftovers
from bench.places.swarm import cluster, images
from bench.postgres import install, stops
from bench.postgres.connection import connected
from bench.statements import SCHEMA


def clean(*, swarm: bool, dsn: str | None) -> list[str]:
    """Remove what dead runs left on this machine and in its Docker engine; return a line per thing that was done.

    With `swarm`, the nodes of the swarm that Docker contexts lead to are cleaned as well; with `dsn`, that database.

    Raises:
        InfrastructureError: `swarm` is asked for and the engine does not manage one, or the database cannot be cleaned.
    """
    dead = rundir.sweep()
    done = [f"removed what run {run_id} left on this machine" for run_id in dead]
    try:
        with engine.failures():
            client = address.connect()
            if swarm:
                cluster.refuse_unless_manager(client)
            engines = list(images.engines(client, address.contexts()).values()) if swarm else [client]
            done += _report(leftovers.sweep(engines, dead))
            done += [f"removed {tag}, a worker image of other sources" for tag in image.remove_old(client)]
    except BenchError as error:
        if swarm:
            raise
        done.append(f"Docker was not looked at: {error}")
    if dsn is not None:
        with connected(dsn) as connection:
            if install.clear_left(connection):
                done.append(f"removed the schema {SCHEMA} that a run left in that database")
            if stops.clear_left(connection):
                done.append(f"removed the schema {stops.STOPS} that an exploration left in that database")
    copies = sorted(rundir.root().glob("binaries-*"))
    if copies and rundir.anything_runs():
        done.append("left alone copies of Postgres's programs: a run or the server of `bench start` may use them")
    else:
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)
            done.append(f"removed {copy}, a copy of Postgres's programs")
    return done or ["there was nothing to remove"]


def _report(found: leftovers.Found) -> list[str]:
    removed = sorted({(leftover.run_id, leftover.location) for leftover in found.dead})
    return [
        *(f"removed what run {run_id} left in {location}" for run_id, location in removed),
        *(
            f"left alone what run {run.run_id} has here: {run.origin} started it through another engine of this swarm, "
            "and only that engine knows whether the run is still in progress: run `bench clean` there, or `bench clean "
            "--place swarm` where a Docker context leads to it"
            for run in found.unseen
        ),
    ]
