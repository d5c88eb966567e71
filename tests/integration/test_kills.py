"""A run that is killed at a random moment leaves nothing that the next start in the same place does not remove.

BENCH_TEST_KILLS says how often that is tried in each place.
"""

import os
import random
import subprocess

import docker
import pytest

from bench.places.rundir import is_held
from tests.conftest import Bench, wait_until
from tests.integration import ours

KILLS = int(os.environ.get("BENCH_TEST_KILLS", "1"))
LONG = ("run", "--scale", "2", "--limit", "1000000", "--insert-batch", "1000", "--read-batch", "10", "--append", "copy")
SHORT = ("run", "--scale", "1", "--limit", "10", "--insert-batch", "10")


def kill_and_start_again(bench: Bench, place: str, most_seconds: float) -> str:
    """Kill a run at some moment and carry out a short one; says when that was."""
    seconds = random.uniform(0, most_seconds)
    running = bench.start(*LONG, "--place", place)
    try:
        _, stderr = running.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        running.kill()
        _, stderr = running.communicate()
    await_released(bench)
    when = f"killed after {seconds:.3f} s: {stderr[-300:]}"
    again = bench(*SHORT, "--place", place)
    assert again.returncode == 0, f"{when}\n{again.stderr}"
    return when


def await_released(bench: Bench) -> None:
    """Wait until nobody holds the lock of a killed run: a program that it was just starting has the lock until exec."""
    wait_until(lambda: not any(map(is_held, bench.home.glob("bench-*/*/lock"))))


@pytest.mark.parametrize("number", range(KILLS))
def test_a_local_run(bench: Bench, number: int) -> None:
    when = kill_and_start_again(bench, "local", 4)
    assert bench.runs() == [], when
    assert bench.processes() == [], when


def test_a_run_whose_server_is_only_being_made(bench: Bench) -> None:
    running = bench.start(*LONG, "--place", "local")
    wait_until(lambda: list(bench.home.glob("bench-*/*/data/*")), running)
    running.kill()
    running.communicate()
    await_released(bench)
    cleaned = bench("clean")
    assert cleaned.returncode == 0
    assert not cleaned.stderr
    assert bench.runs() == []
    wait_until(lambda: not bench.processes())  # a fork server that still loads ends after that


@pytest.mark.parametrize("number", range(KILLS))
def test_a_run_in_docker(bench: Bench, engine: docker.DockerClient, number: int) -> None:
    when = kill_and_start_again(bench, "docker", 10)
    assert ours.left(engine, bench) == [], when
    assert bench.runs() == [], when
    assert bench.processes() == [], when
