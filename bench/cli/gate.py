"""The commands that compare, and their flags. No logic."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bench import eventlog, spec
from bench.cli import options
from bench.cli.codes import CODES, RUNS
from bench.cli.options import Command, output_option, typed
from bench.cli.results import to_summary
from bench.errors import UsageError
from bench.gate import ab, compare, power
from bench.gate.compare import BASELINES, EXIT_CODES
from bench.gate.regression import MIN_TRIALS
from bench.output import STDOUT, refuse_unusable, refuse_unwritable, write
from bench.report import gate as gate_report
from bench.report import progress, screen, tabular
from bench.report.gate import MARKDOWN
from bench.report.verdict import verdict_text
from bench.results import metrics, models, store
from bench.run.place import choose

GATE_CODES = (
    "Exit codes: 0 no worse; 1 a verdict failed; 2 a bad flag or file; 3 something outside is missing or broke; "
    "4 regressed; 5 inconclusive, not comparable, or no baseline; 130 interrupted."
)
F = TypeVar("F", bound=Callable[..., Any])
_NOT_FOR_SIDES = {"trials", "warm_up", *spec.OutputOptions.model_fields}


def _rules(command: F) -> F:
    """The flags that say what a regression is, and where to write that."""
    for option in (
        click.option("--export-markdown", metavar="FILE", type=click.Path(path_type=Path),
                     help="Write it here too, for a pull request"),
        click.option("--per-metric", metavar="NAME=SHARE", multiple=True,
                     help="Another threshold for a metric (may be repeated)"),
        click.option("--threshold", metavar="SHARE", default="5%", show_default=True,
                     help="A slowdown of this share is a regression"),
    ):  # fmt: skip
        command = option(command)
    return command


def _baselines(command: F) -> F:
    return click.option(
        "--baselines", "folder", metavar="DIR", type=click.Path(path_type=Path), default=BASELINES, show_default=True,
        help="Where baselines are kept",
    )(command)  # fmt: skip


@click.group(epilog=CODES)
def baseline() -> None:
    """Keep results that later ones are compared with."""


@baseline.command(cls=Command, epilog=CODES)
@click.argument("name", metavar="NAME")
@click.argument("result", metavar="[RESULT]", type=click.Path(path_type=Path), required=False)
@_baselines
def save(name: str, result: Path | None, folder: Path) -> None:
    """Keep a result as the baseline NAME, in place of one that is there. RESULT is a result.json or its folder, else
    the latest run.
    """
    print(screen.shown(f"baseline: {compare.save(name, _result(result), folder)}"))


@click.command("compare", cls=Command, epilog=GATE_CODES, short_help="Compare a result with a baseline: is it slower?")
@click.argument("baseline_", metavar="BASELINE")
@click.argument("result", metavar="[RESULT]", type=click.Path(path_type=Path), required=False)
@_rules
@click.option("--allow", metavar="KEY", multiple=True, help="Compare even though KEY differs (may be repeated)")
@_baselines
def compare_(
    *,
    baseline_: str,
    result: Path | None,
    threshold: str,
    per_metric: tuple[str, ...],
    allow: tuple[str, ...],
    folder: Path,
    export_markdown: Path | None,
) -> None:
    """Compare a result with a baseline: is it slower? BASELINE is a baseline's name or a result.json, RESULT a
    result.json or its folder, else the latest run.

    Four outcomes: no worse; regressed, which takes both significance and an effect beyond the threshold; inconclusive,
    when there are too few trials or too much noise to tell; not comparable, when the two were not measured alike.
    A faster result never fails, a failed verdict always does.
    """
    refuse_unwritable("--export-markdown", export_markdown)
    rules = compare.thresholds(threshold, options.named("--per-metric", per_metric))
    before, after = compare.baseline(baseline_, folder), _result(result)
    found = compare.compare(before, after, rules, allow)
    print(screen.shown(gate_report.comparison(found, before, after)))
    _export(gate_report.comparison(found, before, after, MARKDOWN), export_markdown)
    sys.exit(EXIT_CODES[found.word])


@click.command("ab", cls=Command, epilog=GATE_CODES, short_help="Compare two specs in turns: which one is slower?")
@click.option("--a", metavar="FLAGS", default="", help="Flags of `bench run`, or a spec's TOML file")
@click.option("--b", metavar="FLAGS", default="", help="The same for the other side")
@click.option("--both", metavar="FLAGS", default="", help="Flags that both sides have")
@click.option("--a-rev", metavar="REV", help="Take a's log as it was at this git revision of its folder")
@click.option("--b-rev", metavar="REV", help="The same for b's")
@click.option("--aa", is_flag=True, help="Run a against itself, and report what this machine can see")
@click.option("--max-trials", type=click.IntRange(MIN_TRIALS, 1000), default=50, show_default=True,
              help="The most trials per side")  # fmt: skip
@click.option("--precision", metavar="SHARE", default="4%", show_default=True,
              help="Stop once every rate's 95 % interval is within this share to either side")  # fmt: skip
@_rules
@click.option("--comparisons", type=click.IntRange(10, 100_000), default=power.COMPARISONS, show_default=True,
              help="With --aa: number of simulated comparisons")  # fmt: skip
@output_option("Where the record is kept")
def ab_(
    *,
    a: str,
    b: str,
    both: str,
    a_rev: str | None,
    b_rev: str | None,
    aa: bool,
    max_trials: int,
    precision: str,
    threshold: str,
    per_metric: tuple[str, ...],
    comparisons: int,
    output: Path,
    export_markdown: Path | None,
) -> None:
    """Compare two specs in turns, A B B A, until the intervals are narrow enough or there were trials enough.

    The two sides share all that a machine does to them meanwhile. With --aa both are the same, all trials are made, and
    comparisons are simulated with the noise that was seen: false alarms, and the smallest slowdown that can be seen.
    """
    rules = compare.thresholds(threshold, options.named("--per-metric", per_metric))
    narrow = compare.share("--precision", precision)
    refuse_unwritable("--export-markdown", export_markdown)
    if not (aa or a or b or both or a_rev or b_rev):
        raise UsageError("both sides would be alike: give --b or --b-rev, or --aa to measure the noise of this machine")
    if aa and (b or b_rev):
        raise UsageError("--aa runs a against itself: leave --b and --b-rev out")
    with tempfile.TemporaryDirectory(prefix="bench-rev-") as kept:
        arms = (
            _arm((both, a), a_rev, Path(kept)),
            _arm((both, a if aa else b), a_rev if aa else b_rev, Path(kept)),
        )
        where, other = (choose(arm.spec) for arm in arms)
        if where.name != other.name:
            raise UsageError(f"a would run in the {where.name} place and b in the {other.name} place: give --place")
        if arms[0].spec.dsn and arms[0].spec.dsn == arms[1].spec.dsn:
            raise UsageError("both sides are on one database by --dsn, where one run at a time can be: name two")
        refuse_unusable("--output", output)
        tell = progress.news(where)
        for found in ab.alternate(
            arms,
            where,
            rules,
            0 if aa else narrow,
            max_trials,
            typed(),
            progress.watch(quiet=False, brief=True),
            tell,
        ):
            kept_at = store.store_record(found, output / found.run_id / ab.FILE)
            tell(gate_report.so_far(found, rules, max_trials))
    failed = [trial for side in (found.a, found.b) for trial in side.trials if not trial.verdict.ok]
    if failed:
        print(screen.coloured(verdict_text(failed[0])))
        print(f"\nfailed verdict\nrecord: {kept_at}")
        sys.exit(EXIT_CODES["failed verdict"])
    compared = compare.judged(found.a, found.b, rules, allowed=compare.differences(found.a, found.b))
    print(screen.shown(gate_report.sides(compared)))
    if aa and compared.changes:
        tell("simulating comparisons")
        of_a, of_b = metrics.of_result(found.a), metrics.of_result(found.b)
        known = power.calibrate(of_a, of_b, rules, narrow, max_trials, comparisons)
        store.store_record(found.model_copy(update={"calibration": known}), kept_at)
        print("\n" + tabular.shown(lambda form: gate_report.calibration(found, known, form)))
    _export(gate_report.sides(compared, MARKDOWN), export_markdown)
    print(f"record: {kept_at}")
    sys.exit(0 if aa else EXIT_CODES[compared.word])


def _arm(texts: tuple[str, str], revision: str | None, folder: Path) -> ab.Arm:
    given, file = options.parsed("--a, --b or --both", *texts)
    taken = sorted(_NOT_FOR_SIDES & given.keys())
    if taken:
        raise UsageError(f"--{taken[0].replace('_', '-')} is no flag for one side of a comparison")
    what = spec.make({**given, "trials": 1}, file)
    if revision:
        what = what.model_copy(update={"log": ab.at_revision(what.log, revision, folder)})
    return ab.Arm(what, eventlog.load(what.log))


def _result(path: Path | None) -> models.Result:
    return store.latest(RUNS) if path is None else store.load(path)


def _export(text: str, file: Path | None) -> None:
    commented = gate_report.commented(text)
    to_summary(commented)
    if file == STDOUT:
        print(commented)
    elif file is not None:
        write(file, commented)
