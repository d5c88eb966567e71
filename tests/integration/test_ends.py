"""How a run ends: whatever stdout, a disk, a signal or a clean-up does, what was measured is kept and the exit code is
that of the verdict."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import InfrastructureError
from bench.output import write
from bench.results import models, store
from tests.conftest import REPOSITORY, Bench, broken_log, read_until

LOSSY = (REPOSITORY / "tests" / "logs" / "lossy.sql").read_text()
SMALL = ("run", "--place", "local", "--scale", "1", "--limit", "100", "--insert-batch", "10", "--idle-timeout", "1")


def kept(bench: Bench) -> list[models.Result]:
    return store.load_all(bench.folder / "results" / "runs")


def shell(bench: Bench, how: str, *words: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in a shell that does something to its streams; $0 is the program."""
    command = ["bash", "-o", "pipefail", "-c", f'"$@" {how}', "bash", *bench.command(*words)]
    environment = bench.environment(**extra)
    return subprocess.run(command, cwd=bench.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("how", "code"),
    [("| true", 0), (">&-", 0), ("2>&-", 0), ("2> /dev/full", 0), ("> /dev/full", 3), ("2> >(true)", 0)],
)
def test_streams_that_cannot_be_written_cost_nothing(bench: Bench, address: str, how: str, code: int) -> None:
    ran = shell(bench, how, *SMALL, "--dsn", address, "--export-json", "r.json")
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "internal error" not in ran.stderr
    (result,) = kept(bench)
    if not how.startswith("2>"):  # who was shown nothing reads on stderr what came out
        assert "verdict: ok. 100 events were acknowledged" in ran.stderr
        assert f"result: results/runs/{result.run_id}/result.json" in ran.stderr
    assert result.ok
    assert store.load(bench.folder / "r.json") == result


@pytest.mark.parametrize("how", ["| true", "2> /dev/full", "> /dev/full"])
def test_a_failed_verdict_is_one_whatever_the_streams_do(bench: Bench, address: str, how: str) -> None:
    ran = shell(bench, how, *SMALL, "--dsn", address, "--log", str(broken_log(bench.folder / "lossy", LOSSY)))
    assert ran.returncode == 1
    assert len(kept(bench)) == 1
    if not how.startswith("2>"):
        assert "verdict: FAILED. Of 100 acknowledged events" in ran.stderr


def test_bad_input_is_2_even_if_it_cannot_be_said(bench: Bench) -> None:
    assert shell(bench, "2> /dev/full", "run", "--scale", "0").returncode == 2


def test_letters_that_a_terminal_does_not_know(bench: Bench, address: str) -> None:
    ran = bench.afresh(
        *SMALL, "--dsn", address, "--output", "größe", "--export-json", "r.json", PYTHONIOENCODING="ascii:strict"
    )
    assert ran.returncode == 0, ran.stderr
    assert (bench.folder / "r.json").is_file()
    assert r"gr\xf6\xdfe" in ran.stdout


def test_names_that_no_result_can_hold_are_refused(bench: Bench) -> None:
    ran = bench(*SMALL, "--set", "search_path=\udcff")
    assert ran.returncode == 2
    assert "not UTF-8" in ran.stderr


def test_a_dependency_that_cannot_be_loaded_is_no_failed_verdict(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.mkdir()
    (broken / "click.py").write_text("raise ModuleNotFoundError('no module named click')")
    ran = bench.afresh(*SMALL, PYTHONPATH=f"{broken}:{REPOSITORY}")
    assert ran.returncode == 3
    assert "`make bench` puts what it needs into .venv" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--export-json", "nowhere/r.json"), "its folder does not exist"),
        (("--export-markdown", "."), "it is a folder"),
        (("--output", "file/runs"), "--output"),
    ],
)
def test_what_cannot_be_written_is_refused_first(bench: Bench, words: tuple[str, ...], says: str) -> None:
    (bench.folder / "file").touch()
    for command in (SMALL, ("limits",), ("compare-logs",), ("ab", "--b", "--scale 2")):
        if command != SMALL and words[0] != "--output":
            continue
        ran = bench(*command, *words)
        assert ran.returncode == 2, ran.stderr
        assert says in ran.stderr
        assert "append" not in ran.stderr


def test_an_export_that_cannot_be_written_hides_nothing(bench: Bench, address: str) -> None:
    ran = bench(*SMALL, "--dsn", address, "--quiet", "--export-json", "/dev/full")
    assert ran.returncode == 3, ran.stderr
    (result,) = kept(bench)
    verdict, where, why = ran.stderr.splitlines()
    assert verdict.startswith("verdict: ok. ")
    assert where == f"result: results/runs/{result.run_id}/result.json"
    assert why == "bench: /dev/full cannot be written: No space left on device"


def test_a_full_disk_costs_no_verdict(bench: Bench, address: str) -> None:
    """Files may grow to 100 kB and no further, which is too little for a result."""
    (bench.folder / "r.json").write_text("what was there")
    ran = subprocess.run(
        bench.command(*SMALL, "--dsn", address, "--export-json", "r.json", "--limit", "1000"),
        cwd=bench.folder,
        env=bench.environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
    )
    assert ran.returncode == 3, ran.stderr
    assert "verdict: ok" in ran.stdout
    assert "cannot be written: File too large" in ran.stderr
    assert (bench.folder / "r.json").read_text() == "what was there"
    assert not list(bench.folder.rglob("*.part"))
    assert list((bench.folder / "results" / "runs").iterdir()) == []


def test_the_latest_result_is_that_of_the_latest_folder_which_has_one(bench: Bench) -> None:
    result = store.load_all(REPOSITORY / "results" / "published")[0]
    store.store(result, bench.folder / "results" / "runs")
    (bench.folder / "results" / "runs" / "29991231-235959-ffff").mkdir()
    for command in (("baseline", "save", "main"), ("compare", "main"), ("export", "csv")):
        ran = bench(*command)
        assert "bench: " not in ran.stderr, ran.stderr
    assert len(ran.stdout.splitlines()) == 1 + len(result.trials[0].reads)


def test_json_on_standard_output(bench: Bench, address: str) -> None:
    ran = bench(*SMALL, "--dsn", address, "--export-json", "-")
    assert ran.returncode == 0, ran.stderr
    assert models.Result.model_validate_json(ran.stdout) == kept(bench)[0]


def test_finished_trials_survive_an_interrupt(bench: Bench, address: str) -> None:
    running = bench.start(*SMALL, "--dsn", address, "--trials", "1000", "--warm-up", "0")
    read_until(running, "trial 2 of 1000")
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted in trial" in stderr
    (result,) = kept(bench)
    assert len(result.trials) >= 2
    assert stdout.count("| ") > len(result.trials)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_run_in_order(bench: Bench, address: str, number: signal.Signals) -> None:
    running = bench.start(*SMALL, "--dsn", address, "--limit", "100000000")
    read_until(running, "append: 1 producer started")
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert "bench: stopping" in stderr
    assert bench.runs() == []
    assert bench.processes() == []


def test_what_nohup_ignores_stays_ignored(bench: Bench) -> None:
    program = "import signal; from bench.interrupts import install; install(); print(signal.getsignal(signal.SIGHUP))"
    ran = subprocess.run(
        ["nohup", sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(int(signal.SIG_IGN))


@pytest.mark.parametrize(
    ("when", "limit"), [("append: 1 producer started", "3000000"), ("read 10: 1 consumer started", "300000")]
)
def test_a_postgres_that_stands_still_keeps_nobody(bench: Bench, when: str, limit: str) -> None:
    """An interrupt is heard, and a second one ends the run at once; the processes that stood still are gone too."""
    running = bench.start(*SMALL, "--limit", limit, "--insert-batch", "3000", "--read-batch", "10", "--append", "copy")
    read_until(running, when)
    (postmaster,) = [each for each in bench.processes("postgres") if str(bench.home) in " ".join(each.cmdline())]
    for process in [postmaster, *postmaster.children(recursive=True)]:
        process.send_signal(signal.SIGSTOP)
    running.send_signal(signal.SIGINT)
    read_until(running, "bench: stopping")
    while running.poll() is None:
        try:
            running.wait(timeout=2)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
    assert running.returncode == 130
    assert bench("clean").returncode == 0
    assert bench.runs() == []
    assert bench.processes() == []


def test_a_worker_process_that_says_much_before_it_begins_is_started(bench: Bench, address: str) -> None:
    ran = bench.afresh(*SMALL, "--dsn", address, PYTHONVERBOSE="1", timeout=120)
    assert ran.returncode == 0, ran.stderr[-500:]


def test_a_page_is_whole_or_as_it_was(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    page = tmp_path / "page.md"
    page.write_text("by hand")
    page.chmod(0o640)
    write(page, "new")
    assert (page.read_text(), page.stat().st_mode & 0o777) == ("new", 0o640)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InfrastructureError, match="No space left"):
        write(page, "newer")
    assert page.read_text() == "new"
    assert list(tmp_path.glob(".*")) == []


def test_phases_that_were_over_are_shown_when_a_run_is_interrupted(bench: Bench, address: str) -> None:
    running = bench.start(*SMALL, "--dsn", address, "--limit", "200000", "--insert-batch", "5000", "--append", "copy",
                          "--read-batch", "1000,1")  # fmt: skip
    read_until(running, "read 1: 1 consumer started")
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    shown = stdout.partition("No verdict: the figures below were not verified.")[2]
    assert [line.split()[0] for line in shown.splitlines() if line[:1].isalpha()] == ["append", "read"]
    assert "p99" in shown
    assert kept(bench) == []
