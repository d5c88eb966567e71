"""The gate, as a CI job uses it: outcomes' words and exit codes, made by real runs. Never a timing."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bench.gate import compare
from bench.gate.ab import Ab
from bench.gate.regression import Rules
from tests.conftest import REPOSITORY, Bench, broken_log

LOSES = (REPOSITORY / "tests" / "logs" / "lossy.sql").read_text()
QUICK = "--place local --scale 2 --insert-batch 100 --limit 500 --read-batch 500"


def code_of(stdout: str) -> int:
    """The exit code that belongs to the word that was printed."""
    words = {"no worse": 0, "failed verdict": 1, "regressed": 4, "inconclusive": 5, "not comparable": 5}
    (found,) = {code for line in stdout.splitlines() for word, code in words.items() if line.startswith(f"{word}:")}
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a log in it; in its second revision an append sleeps."""
    folder = tmp_path / "repository" / "db" / "events"
    shutil.copytree(REPOSITORY / "sql" / "bigserial", folder)

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=folder, check=True)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "quick")
    git("tag", "quick")
    schema = (folder / "schema.sql").read_text()
    slow = schema.replace("BEGIN\n    IF event IS NULL", "BEGIN\n    PERFORM pg_sleep(0.05);\n    IF event IS NULL")
    assert slow != schema
    (folder / "schema.sql").write_text(slow)
    git("commit", "--quiet", "--all", "--message", "slow")
    return folder


def test_what_is_printed_of_a_side_against_itself_is_what_its_trials_say(bench: Bench) -> None:
    for name in ("a.toml", "b.toml"):
        (bench.folder / name).write_text('place = "local"\nscale = 2\ninsert-batch = 100\nlimit = 1000\n')
    words = ("--max-trials", "6", "--threshold", "80%", "--output", "runs")
    ran = bench("ab", "--a", "a.toml", "--b", "b.toml", *words)
    (record,) = bench.folder.glob("runs/*/ab.json")
    known = Ab.model_validate_json(record.read_text())
    assert (len(known.a.trials), len(known.b.trials)) == (6, 6)
    word = compare.judged(known.a, known.b, Rules(threshold=0.8), {}).word
    # Whether trials this short are precise enough to be conclusive is chance.
    assert word in {"no worse", "inconclusive"}
    assert ran.returncode == code_of(ran.stdout) == compare.EXIT_CODES[word], ran.stdout + ran.stderr
    assert "a and b are alike" in ran.stdout
    assert bench.runs() == []


def test_a_slowdown_that_was_planted_in_a_revision_is_found(bench: Bench, repository: Path) -> None:
    ran = bench(
        *("ab", "--both", f"{QUICK} --log {repository}", "--a-rev", "quick", "--b-rev", "HEAD"),
        *("--max-trials", "6", "--output", "runs", "--export-markdown", "comment.md"),
        GITHUB_STEP_SUMMARY=str(bench.folder / "summary.md"),
    )
    assert ran.returncode == 4, ran.stdout + ran.stderr
    assert code_of(ran.stdout) == 4
    assert "append" in ran.stdout[ran.stdout.index("regressed:") :]
    comment = (bench.folder / "comment.md").read_text()
    assert comment.startswith("<!-- bench compare: begin -->")
    assert "**regressed**: " in comment
    assert (bench.folder / "summary.md").read_text() == comment
    (record,) = bench.folder.glob("runs/*/ab.json")
    known = Ab.model_validate_json(record.read_text())
    assert known.a.log_sha256 != known.b.log_sha256
    assert len(known.a.trials) == len(known.b.trials) >= 6


def test_a_log_that_is_wrong_is_not_called_slow(bench: Bench, tmp_path: Path) -> None:
    wrong = broken_log(tmp_path / "wrong", LOSES)
    ran = bench(
        "ab",
        "--both",
        f"{QUICK} --idle-timeout 0.3",
        "--b",
        f"--log {wrong}",
        "--max-trials",
        "6",
        "--output",
        "runs",
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "failed verdict" in ran.stdout


def test_noise_is_measured_and_told(bench: Bench) -> None:
    ran = bench(
        *(
            "ab",
            "--aa",
            "--a",
            QUICK,
            "--max-trials",
            "6",
            "--comparisons",
            "20",
            "--output",
            "runs",
        ),
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"\| trials per side +\| append slower by", ran.stdout)
    (record,) = bench.folder.glob("runs/*/ab.json")
    known = Ab.model_validate_json(record.read_text())
    assert known.power is not None
    assert known.power.comparisons == 20
    assert '"calibration"' in record.read_text()
    page = bench.folder / "page.md"
    page.write_text("<!-- bench calibration: begin -->\n<!-- bench calibration: end -->\n")
    assert bench("table", "page.md", "--from", "runs").returncode == 0
    assert "20 simulated comparisons" in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--a", "--scale much"], "--scale"),
        (["--both", "--trials 3"], "--trials:"),
        (["--both", "--output x"], "--output:"),
        (["--a", "nowhere.toml"], "--spec nowhere.toml: No such file"),
        (["--both", "--dsn host=x"], "--dsn: both sides"),
        (["--a", "--log 'x"], '--a "--log'),
        (["--aa", "--b", "--scale 2"], "leave --b"),
        ([], "--aa"),
        (["--threshold", "5"], "--threshold '5'"),
        (["--precision", "0"], "--precision '0'"),
        (["--max-trials", "5"], "--max-trials '5'"),
        (["--comparisons", "1"], "--comparisons '1'"),
        (["--per-metric", "append"], "read_1000=3%"),
        (["--per-metric", "append=5"], "--per-metric append '5'"),
        (["--aa", "--export-markdown", "no/such/file"], "--export-markdown"),
        (["--both", "--log bigserial --place local", "--a-rev", "HEAD"], "--log bigserial"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_starts(bench: Bench, words: list[str], said: str) -> None:
    ran = bench("ab", *words)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr
    assert not (bench.folder / "results").exists()


def test_a_threshold_for_what_is_not_measured_is_refused(bench: Bench) -> None:
    ran = bench("ab", "--both", QUICK, "--per-metric", "reed_1000=3%", "--output", "runs")
    assert ran.returncode == 2, ran.stderr
    assert re.search("--per-metric 'reed_1000': .*append, ", ran.stderr)


def test_a_revision_that_is_not_there_is_named(bench: Bench, repository: Path) -> None:
    ran = bench("ab", "--both", f"{QUICK} --log {repository}", "--a-rev", "nothing")
    assert ran.returncode == 2
    assert f"revision nothing of {repository}" in ran.stderr


def test_outcomes_of_a_comparison_with_a_baseline(bench: Bench, address: str, repository: Path, tmp_path: Path) -> None:
    missing = bench("compare", "main")
    assert missing.returncode == 5
    assert "bench baseline save main" in missing.stderr

    flags = [*QUICK.split(), "--dsn", address, "--warm-up", "0", "--quiet"]
    six = [*flags, "--trials", "6"]
    assert bench("run", *six, "--export-json", "quick.json").returncode == 0
    assert bench("baseline", "save", "main").returncode == 0
    same = bench("compare", "main", "--threshold", "90%")
    assert (same.returncode, code_of(same.stdout)) == (0, 0), same.stdout

    assert bench("run", *flags).returncode == 0
    few = bench("compare", "main")
    assert (few.returncode, code_of(few.stdout)) == (5, 5)
    assert "--trials 6" in few.stdout

    assert bench("run", *six, "--log", str(repository), "--export-json", "slow.json").returncode == 0
    other = bench("compare", "main")
    assert (other.returncode, code_of(other.stdout)) == (5, 5)
    assert "--allow log" in other.stdout
    slow = bench("compare", "main", "slow.json", "--allow", "log")
    assert (slow.returncode, code_of(slow.stdout)) == (4, 4)
    faster = bench("compare", "slow.json", "quick.json", "--allow", "log", "--threshold", "90%")
    assert (faster.returncode, code_of(faster.stdout)) == (0, 0), faster.stdout

    wrong = broken_log(tmp_path / "wrong", LOSES)
    assert bench("run", *flags, "--log", str(wrong), "--idle-timeout", "0.3").returncode == 1
    failed = bench("compare", "main")
    assert (failed.returncode, code_of(failed.stdout)) == (1, 1)


def test_the_action_runs_compares_and_leaves_what_is_uploaded(bench: Bench, address: str, tmp_path: Path) -> None:
    action = yaml.safe_load((REPOSITORY / "action.yml").read_text())
    (script,) = [step["run"] for step in action["runs"]["steps"] if step.get("id") == "bench"]
    assert "$GITHUB_ACTION_PATH/.github/action.sh" in script
    program = tmp_path / "bench"
    program.write_text(f'#!/bin/sh\nexec {bench.command()[0]} -m bench "$@"\n')
    program.chmod(0o755)

    def act(command: str, **more: str) -> str:
        output = tmp_path / "output"
        output.write_text("")
        environment = bench.environment(
            BENCH=str(program),
            RUNNER_TEMP=str(tmp_path),
            GITHUB_OUTPUT=str(output),
            COMMAND=command,
            **{"THRESHOLD": "90%", "GITHUB_ACTION_PATH": str(REPOSITORY), **more},
        )
        subprocess.run(["bash", "-c", script], cwd=bench.folder, env=environment, check=True, capture_output=True)
        return output.read_text()

    comment = tmp_path / "bench-results" / "comment.md"
    run = f"run {QUICK} --dsn '{address}' --warm-up 0 --trials 6"
    assert act(run) == "exit-code=0\n"
    assert comment.read_text().startswith("<!-- bench result: begin -->")
    result = json.loads((tmp_path / "bench-results" / "result.json").read_text())
    assert len(result["trials"]) == 6
    shutil.copy(tmp_path / "bench-results" / "result.json", tmp_path / "before.json")
    act(run, BASELINE=str(tmp_path / "before.json"))
    assert comment.read_text().startswith("<!-- bench compare: begin -->")
    assert act("dance") == "exit-code=2\n"
    assert not (bench.folder / "results").exists()
