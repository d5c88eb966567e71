"""Folders of runs on this machine: which of them are left over, and what becomes of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.places import rundir

NOBODY = 65534


@pytest.fixture(autouse=True)
def home(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(short_folder))
    rundir.make(rundir.root())
    return rundir.root()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may remove everything: have it be nobody for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_without_a_lock_is_left_over_and_a_living_run_is_not(home: Path) -> None:
    kept = {"by-hand", "binaries-1"}
    for name in {*kept, "without-a-lock"}:
        (home / name / "data").mkdir(parents=True)
    with rundir.opened("alive") as alive:
        assert alive.swept == ["without-a-lock"]
        assert rundir.dead() == []
        assert rundir.sweep() == []
        assert alive.lock.exists()
    assert {path.name for path in home.iterdir() if path.is_dir()} == kept


def test_what_cannot_be_removed_is_said_and_is_found_again(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with rundir.opened("stays") as folder:
        (folder.path / "data" / "base").mkdir(parents=True)
        (folder.path / "data").chmod(0o500)
        folder.path.chmod(0o777)
        with unprivileged():
            assert not rundir._remove(folder.path)
        assert f"{home}/stays/data" in caplog.text
        assert folder.lock.exists()
        (folder.path / "data").chmod(0o700)
    assert rundir.dead() == []
    assert not folder.path.exists()
