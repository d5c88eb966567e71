"""What is written about the program is true of it."""

import contextlib
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from bench import table_size
from bench.cli.app import app
from bench.flags import flag_name, flag_of
from bench.gate import compare, sides
from bench.gate.regression import Rules
from bench.logs import compare as log_comparison
from bench.logs.comparison import Workload
from bench.output import write
from bench.overhead import measure as overhead
from bench.run.payloads import MOST_COMPRESSED_BYTES, MOST_OBJECTS
from bench.selftest import checks as selftest
from bench.spec import Spec
from bench.specfile import OutputOptions
from tests.conftest import REPOSITORY, Bench, golden

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("results/*.md")])
IMAGE = ["image build", "image push", "image load"]
COMMANDS = [*sorted(app.commands), "logs new", "logs check", "baseline save", *IMAGE]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_as_expected_and_lists_the_exit_codes(bench: Bench, command: str) -> None:
    ran = bench(*command.split(), "--help")
    assert ran.returncode == 0
    assert "xit code" in ran.stdout
    golden(f"help-{command.replace(' ', '-')}.txt", ran.stdout)


@pytest.mark.parametrize(
    ("command", "models"),
    [
        ("run", [Spec, OutputOptions]),
        ("ab", [sides.Options, Rules]),
        ("compare", [compare.Options, Rules]),
        ("compare-logs", [log_comparison.Options, Workload]),
        ("limits", [overhead.Options]),
        ("table-size", [table_size.Options, Spec]),
        ("selftest", [selftest.Options]),
    ],
)
def test_every_flag_is_a_field_of_a_model(command: str, models: list[type[BaseModel]]) -> None:
    options = [parameter for parameter in app.commands[command].params if isinstance(parameter, click.Option)]
    flags = {name for option in options for name in option.opts}
    fields = {
        flag_name(name) for model in models for name in model.model_fields if not flag_of(model, name).in_file_only
    }
    assert flags - {"--spec", "--producers"} == fields | {"--debug"}
    assert all(option.help for option in options)


@pytest.mark.parametrize(
    "words",
    [
        "limits --events 500",
        "limits --rounds 0",
        "limits --grown 5",
        "limits --place swarm",
        "selftest --events x",
        "selftest --place swarm",
        "compare-logs --tails -1",
        "compare-logs --rounds 0 --tails 0",
        "compare-logs --insert-batch x",
        "compare-logs --insert-batch 1,x",
        "compare-logs --transaction-ms 9..1",
        "compare-logs --abort-rate 1",
        "compare-logs --place swarm",
        "ab --aa --max-trials 5",
        "ab --aa --precision 100%",
        "ab --aa --threshold 5",
        "ab --aa --per-metric read_10",
        "ab --aa --per-metric read_10=x",
        "ab --a --bogus",
        "compare nosuch --per-metric foo=3%",
        "clean --place moon",
        "clean --dsn foo",
        "run --producers -1",
        "start --port 99999",
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_flag(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        app.main(words.split())
    assert end.value.code == 2
    assert words.split()[-2] in capsys.readouterr().err


def test_a_shell_completes_commands_flags_and_values(bench: Bench) -> None:
    script = bench("completion", "bash")
    assert script.returncode == 0
    assert "_BENCH_COMPLETE=bash_complete" in script.stdout

    def completed(*words: str) -> str:
        line = shlex.join(["bench", *words])
        asked = {"_BENCH_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        return CliRunner().invoke(app, prog_name="bench", env=asked).stdout

    assert "plain,compare-logs" in completed("comp")
    assert "plain,--insert-batch" in completed("run", "--insert")
    assert "plain,lock-drain" in completed("run", "--log", "lock")
    assert "plain,tail" in completed("run", "--mode", "t")
    assert "plain,lock-drain" in completed("explore", "lock")
    assert "plain,junit" in completed("export", "j")
    assert "plain,lock-drain" in completed("logs", "check", "lock")
    assert "plain,fish" in completed("completion", "f")
    write(bench.folder / "results/baselines/main/result.json", "{}")
    with contextlib.chdir(bench.folder):
        assert "plain,main" in completed("compare", "m")


@pytest.mark.parametrize("command", ["plot x.foo", "table nosuch.md"])
def test_a_file_that_cannot_be_used_is_complained_of_before_results(bench: Bench, command: str) -> None:
    ran = bench(*command.split(), "--from", "nowhere")
    assert ran.returncode == 2
    assert command.split()[1] in ran.stderr
    assert "nowhere" not in ran.stderr


def test_a_flag_of_one_side_is_refused_by_the_name_of_its_side(bench: Bench) -> None:
    ran = bench("ab", "--a", "--limit 5", "--both", "--nosuch")
    assert ran.returncode == 2
    assert "--both '--nosuch'" in ran.stderr


def test_a_new_log_with_the_name_of_one_that_ships_is_checked_by_its_path(bench: Bench) -> None:
    ran = bench("logs", "new", "bigserial")
    assert "`bench logs check ./bigserial`" in ran.stdout


@pytest.mark.parametrize("command", ["run --scale 2 --limit 10 --place swarm --constraint x", "doctor --debug x"])
def test_wrong_use_is_2(bench: Bench, command: str) -> None:
    assert bench(*command.split()).returncode == 2


@pytest.mark.parametrize(
    ("command", "code"),
    [("compare nosuch", 5), ("logs check nosuch", 2), ("export csv nosuch", 2), ("ab --a nosuch.toml", 2)],
)
def test_every_command_takes_debug(bench: Bench, command: str, code: int) -> None:
    for words, shows in ((command.split(), False), ([*command.split(), "--debug"], True)):
        ran = bench(*words)
        assert ran.returncode == code, ran.stderr
        assert ("Traceback" in ran.stderr) == shows, ran.stderr


def test_commands_and_flags_that_pages_name_are_there() -> None:
    commands = app.commands

    def options(name: str) -> set[str]:
        return {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}

    text = "\n".join(page.read_text() for page in PAGES)
    calls = re.findall(r"(?:python -m )?\bbench (\w+)((?: [^\n`|]*)?)", text)
    assert {name for name, _ in calls} >= {"run", "logs", "compare"}
    for name, words in calls:
        if name in commands:
            # What stands in quotes is for `bench run`.
            words = words.replace("'", '"')  # noqa: PLW2901
            own, quoted = re.sub('"[^"]*"', "", words), " ".join(re.findall('"([^"]*)"', words))
            assert set(re.findall(r"(?<= )--[a-z-]+", own)) <= options(name), f"bench {name}{words}"
            assert set(re.findall(r"--[a-z-]+", quoted)) <= options("run"), f"bench {name}{words}"
    targets = set(re.findall(r"`make (\w+)", text))
    assert targets
    makefile = (REPOSITORY / "Makefile").read_text()
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_links_of_pages_lead_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())]
    own = [(page, link) for page, link in links if "://" not in link]
    assert own
    assert [(page.name, link) for page, link in own if not (page.parent / link).exists()] == []


def test_a_wheel_has_all_that_it_needs(bench: Bench, tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = bench.home / "wheel"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    assert (unpacked / "bench" / "compose" / "worker.Dockerfile").is_file()
    assert "bench = bench.__main__:main" in next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    # -P and the path: nothing of the checkout may be found.
    ran = bench.afresh(
        "run", "--place", "local", "--limit", "10", "--scale", "1", PYTHONPATH=str(unpacked), PYTHONSAFEPATH="1"
    )
    assert ran.returncode == 0, ran.stderr


def test_constraints_name_every_package_and_no_address() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    constraints = (REPOSITORY / "constraints.txt").read_text().lower().replace("_", "-")
    for requirement in wanted:
        name = re.split(r"[\[>]", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}==", constraints, re.MULTILINE), name
    assert "//" not in constraints


def test_files_that_pages_name_are_there() -> None:
    path = r"`((?:bench|producers|consumer|tests|sql|compose)/[\w./-]*)`"
    names = [(page, name) for page in PAGES for name in re.findall(path, page.read_text()) if "NAME" not in name]
    assert names
    assert [(page.name, name) for page, name in names if not (REPOSITORY / name).exists()] == []


def test_the_pages_about_payloads_name_the_limits_of_a_file_and_of_preloading() -> None:
    payloads, table_size = (
        " ".join((REPOSITORY / "docs" / name).read_text().split()) for name in ("payloads.md", "table-size.md")
    )
    assert f"{MOST_OBJECTS:,} objects" in payloads
    assert f"{MOST_COMPRESSED_BYTES:,} bytes" in payloads
    assert "`--payload-file` are refused with `--preload`" in table_size
