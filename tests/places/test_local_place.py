"""What the local place makes of a user's environment."""

import os
from pathlib import Path

import pytest

from bench import eventlog
from bench.places.api import Program
from bench.places.rundir import opened
from bench.run.place import choose, open_place
from bench.specfile import make

BIGSERIAL = eventlog.load("bigserial")


def programs_in(folder: Path) -> Path:
    """Make a folder of programs whose psql prints its environment and the file that PGPASSFILE names."""
    for name, script in (
        ("initdb", ""),
        ("postgres", "echo 'postgres (PostgreSQL) 18'"),
        ("psql", 'env; cat "$PGPASSFILE"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_password_in_the_environment_serves_every_dsn_and_reaches_workers_in_a_file(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(short_folder))
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    spec = make({"place": "local", "dsn": "host=db.example"}, None)
    spec = spec.model_copy(update={"pg_bin": programs_in(short_folder)})
    with opened("a") as folder_a, opened("b") as folder_b:
        for folder in (folder_a, folder_b):
            with open_place(choose(spec), spec, BIGSERIAL, folder) as place:
                assert place.database.password == "s3cret"
                variables, _, passfile = place.workers.run_program(Program(["psql"], "", "bench")).rpartition(
                    "*:*:*:*:"
                )
                assert passfile == "s3cret\n"
                assert "PGPASSWORD" not in variables
                assert "PGHOST=db.example" in variables
    assert os.environ["PGPASSWORD"] == "s3cret"
