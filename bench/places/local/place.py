"""The local place: Postgres and workers are processes of this machine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.places import dsn
from bench.places.api import Database, Workers
from bench.places.local import postgres as embedded
from bench.places.local import workers
from bench.places.local.workers import ForkServer
from bench.places.rundir import RunFolder, disk


@dataclass(frozen=True)
class LocalHost:
    """This machine, and what the Postgres and the workers of one run share on it."""

    folder: Path
    """The run's."""
    pg_bin: Path | None
    """The folder of PostgreSQL's programs; None for those of the wheel."""
    forkserver: ForkServer
    """Loads what workers need while initdb runs."""

    @contextmanager
    def postgres(self, settings: Mapping[str, str]) -> Iterator[Database]:
        """Start a Postgres that listens on a unix socket in the run's folder."""
        programs = embedded.binaries(self.pg_bin)
        with embedded.postgres(programs, self.folder, settings) as conninfo:
            yield Database(
                conninfo=conninfo,
                variables=embedded.variables(self.folder),
                usage=partial(workers.usage, embedded.server(self.folder)),
                about={"postgres_programs": str(programs.folder), "disk": disk(self.folder)},
            )

    @contextmanager
    def workers(self, database: Database) -> Iterator[Workers]:
        """Run workers as processes; the password, if there is one, reaches them in a file of the run's folder."""
        variables = dict(database.variables)
        if database.password is not None:
            passfile = self.folder / "pgpass"
            passfile.touch(mode=0o600)
            passfile.write_text(dsn.pgpass(database.password), encoding="utf-8")
            variables["PGPASSFILE"] = str(passfile)
        yield Workers(
            start=partial(workers.start_workers, self.forkserver, variables),
            run_program=lambda program: workers.run_program(
                embedded.binaries(self.pg_bin).folder, self.folder, variables, program
            ),
        )


@contextmanager
def opened(folder: RunFolder, pg_bin: Path | None, existing: Database | None) -> Iterator[LocalHost]:
    """Prepare this machine for a run, whose Postgres is either started on it or `existing`.

    Raises:
        UsageError: `pg_bin` has no PostgreSQL in it.
        InfrastructureError: PostgreSQL's programs cannot be run.
    """
    if existing is None:
        embedded.binaries(pg_bin)
    with workers.forkserver() as forkserver:
        yield LocalHost(folder.path, pg_bin, forkserver)
