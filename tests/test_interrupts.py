"""Interrupts, in a process of their own: signals are the process's."""

import subprocess
import sys

from tests.conftest import REPOSITORY

START = """
import os, signal
from bench.interrupts import held, install
install()
def strike(): os.kill(os.getpid(), signal.SIGINT)
"""


def run(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", START + program], capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr.strip().rpartition("\n")[2]


def test_an_interrupt_is_raised_at_once() -> None:
    assert run("strike(); print('not reached')") == "KeyboardInterrupt"


def test_whatever_would_end_a_process_is_an_interrupt_unless_it_is_ignored() -> None:
    program = """
for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM}):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
install()
print(*(signal.Signals(number).name for number in sorted(signal.valid_signals())
        if signal.getsignal(number) is signal.SIG_DFL and number < signal.SIGRTMIN))
for number in (signal.SIGHUP, signal.SIGPIPE):
    os.kill(os.getpid(), number)
print(signal.getsignal(signal.SIGRTMIN) is signal.getsignal(signal.SIGRTMAX) is signal.getsignal(signal.SIGUSR1))
os.kill(os.getpid(), signal.SIGRTMAX)
print('not reached')
"""
    assert run(program).splitlines() == [
        "SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGSEGV SIGALRM SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU "
        "SIGURG SIGXFSZ SIGWINCH SIGSYS",
        "True",
        "KeyboardInterrupt",
    ]


def test_an_interrupt_is_held_until_the_last_hold_ends() -> None:
    program = """
with held():
    with held():
        strike()
        print('held')
    print('still')
print('not reached')
"""
    assert run(program) == "held\nstill\nKeyboardInterrupt"


def test_a_second_interrupt_does_not_stop_the_stopping() -> None:
    program = """
try:
    strike()
finally:
    strike()
    with held():
        strike()
    print('stopped')
"""
    assert run(program) == "stopped\nKeyboardInterrupt"


def test_other_threads_hold_nothing() -> None:
    program = """
import threading
go, holding = threading.Event(), threading.Event()
def hold():
    with held():
        holding.set()
        go.wait()
thread = threading.Thread(target=hold)
thread.start()
holding.wait()
try:
    strike()
    print('not reached')
finally:
    go.set()
"""
    assert run(program) == "KeyboardInterrupt"


def test_a_fault_of_our_own_is_no_failed_verdict() -> None:
    result = next(REPOSITORY.glob("results/published/*/result.json"))
    program = f"""
import sys
from bench.cli import app
from bench.report import export
export.FORMATS["csv"] = lambda _: 1 / 0
sys.argv = ["bench", "export", "csv", {str(result)!r}]
app.main()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 3
    assert ran.stderr.startswith("bench: internal error: ZeroDivisionError")
    assert "Traceback" not in ran.stderr
