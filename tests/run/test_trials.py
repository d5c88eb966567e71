"""When a command began."""

import subprocess
import sys
import time

from tests.conftest import REPOSITORY

TICK = 0.01
"""Seconds: the kernel notes a process's start in these."""


def test_a_process_knows_when_it_was_started() -> None:
    program = "import time; from bench.run.trials import process_began_at; print(process_began_at(), time.time())"
    before = time.time()
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    began_at, now = map(float, ran.stdout.split())
    assert before - TICK <= began_at < now
