"""The commands that compare, and their flags. No logic."""

import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench import eventlog, spec
from bench.cli import options
from bench.cli.codes import CODES, RUNS
from bench.cli.results import to_summary
from bench.errors import BadInputError
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
baselines = typer.Typer(
    name="baseline", help="Keep results that later ones are compared with.", rich_markup_mode=None, epilog=CODES
)


@baselines.callback()
def _baselines() -> None:
    """So that `save` is a command of its own, although it is the only one."""


_NOT_FOR_SIDES = {"trials", "warm_up", *spec.Telling.model_fields}
_Threshold = Annotated[str, typer.Option(metavar="SHARE", help="A slowdown of this share is a regression")]
_PerMetric = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SHARE", help="Another threshold for a metric; may be repeated", show_default=False),
]
_Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write it here too, for a pull request", show_default=False)
]


@baselines.command("save", epilog=CODES)
def save(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The baseline's name; one that is there is replaced")],
    result: Annotated[
        Path | None, typer.Argument(metavar="[RESULT]", help="A result.json or its folder [default: the latest run]")
    ] = None,
    folder: Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Where baselines are kept")] = BASELINES,
) -> None:
    """Keep a result as a baseline."""
    print(screen.shown(f"baseline: {compare.save(name, _result(result), folder)}"))


def compare_(
    *,
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="A baseline's name, or a result.json")],
    result: Annotated[
        Path | None, typer.Argument(metavar="[RESULT]", help="A result.json or its folder [default: the latest run]")
    ] = None,
    threshold: _Threshold = "5%",
    per_metric: _PerMetric = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Compare although this is not alike; may be repeated", show_default=False),
    ] = None,
    folder: Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Where baselines are kept")] = BASELINES,
    export_markdown: _Markdown = None,
) -> None:
    """Compare a result with a baseline: is it slower?

    Four outcomes: no worse; regressed, which takes both significance and an effect beyond the threshold; inconclusive,
    when there are too few trials or too much noise to tell; not comparable, when the two were not measured alike.
    A faster result never fails, a failed verdict always does.
    """
    refuse_unwritable("--export-markdown", export_markdown)
    rules = compare.thresholds(threshold, options.named("--per-metric", per_metric or []))
    before, after = compare.baseline(baseline, folder), _result(result)
    found = compare.compare(before, after, rules, allow or [])
    print(screen.shown(gate_report.comparison(found, before, after)))
    _export(gate_report.comparison(found, before, after, MARKDOWN), export_markdown)
    raise typer.Exit(EXIT_CODES[found.word])


def ab_(
    *,
    context: typer.Context,
    a: Annotated[str, typer.Option("--a", metavar="FLAGS", help="Flags of `bench run`, or a spec's TOML file")] = "",
    b: Annotated[str, typer.Option("--b", metavar="FLAGS", help="The same for the other side")] = "",
    both: Annotated[str, typer.Option(metavar="FLAGS", help="Flags that both sides have")] = "",
    a_rev: Annotated[
        str | None, typer.Option(metavar="REV", help="Take a's log as it was at this git revision of its folder")
    ] = None,
    b_rev: Annotated[str | None, typer.Option(metavar="REV", help="The same for b's")] = None,
    aa: Annotated[
        bool, typer.Option("--aa", help="Run a against itself, and report what this machine can see")
    ] = False,
    max_trials: Annotated[int, typer.Option(min=MIN_TRIALS, max=1000, help="Trials a side, at most")] = 50,
    precision: Annotated[
        str, typer.Option(metavar="SHARE", help="End when the intervals of all rates reach no further to either side")
    ] = "4%",
    threshold: _Threshold = "5%",
    per_metric: _PerMetric = None,
    comparisons: Annotated[
        int, typer.Option(min=10, max=100_000, help="aa: how many comparisons are simulated")
    ] = power.COMPARISONS,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the record is kept")] = RUNS,
    export_markdown: _Markdown = None,
) -> None:
    """Compare two specs in turns, A B B A, until the intervals are narrow enough or there were trials enough.

    The two sides share all that a machine does to them meanwhile. With --aa both are the same, all trials are made, and
    comparisons are simulated with the noise that was seen: false alarms, and the smallest slowdown that can be seen.
    """
    rules = compare.thresholds(threshold, options.named("--per-metric", per_metric or []))
    narrow = compare.share("--precision", precision)
    refuse_unwritable("--export-markdown", export_markdown)
    if not (aa or a or b or both or a_rev or b_rev):
        raise BadInputError(
            "both sides would be alike: give --b or --b-rev, or --aa to measure the noise of this machine"
        )
    if aa and (b or b_rev):
        raise BadInputError("--aa runs a against itself: leave --b and --b-rev out")
    with tempfile.TemporaryDirectory(prefix="bench-rev-") as kept:
        arms = (
            _arm(context, (both, a), a_rev, Path(kept)),
            _arm(context, (both, a if aa else b), a_rev if aa else b_rev, Path(kept)),
        )
        where, other = (choose(arm.spec) for arm in arms)
        if where.name != other.name:
            raise BadInputError(f"a would run in the {where.name} place and b in the {other.name} place: give --place")
        refuse_unusable("--output", output)
        tell = progress.news(where)
        for found in ab.alternate(
            arms,
            where,
            rules,
            0 if aa else narrow,
            max_trials,
            _command(),
            progress.watch(quiet=False, brief=True),
            tell,
        ):
            kept_at = store.store_kept(found, output / found.run_id / ab.FILE)
            tell(gate_report.so_far(found, rules, max_trials))
    failed = [trial for side in (found.a, found.b) for trial in side.trials if not trial.verdict.ok]
    if failed:
        print(screen.coloured(verdict_text(failed[0])))
        print(f"\nfailed verdict\nrecord: {kept_at}")
        raise typer.Exit(EXIT_CODES["failed verdict"])
    compared = compare.judged(found.a, found.b, rules, allowed=compare.differences(found.a, found.b))
    print(screen.shown(gate_report.sides(compared)))
    if aa and compared.changes:
        tell("simulating comparisons")
        of_a, of_b = metrics.of(found.a), metrics.of(found.b)
        known = power.calibrate(of_a, of_b, rules, narrow, max_trials, comparisons)
        store.store_kept(found.model_copy(update={"calibration": known}), kept_at)
        print("\n" + tabular.shown(lambda form: gate_report.calibration(found, known, form)))
    _export(gate_report.sides(compared, MARKDOWN), export_markdown)
    print(f"record: {kept_at}")
    raise typer.Exit(0 if aa else EXIT_CODES[compared.word])


def _arm(context: typer.Context, texts: tuple[str, str], revision: str | None, folder: Path) -> ab.Arm:
    given, file = options.parsed(context, "--a, --b or --both", *texts)
    taken = sorted(_NOT_FOR_SIDES & given.keys())
    if taken:
        raise BadInputError(f"--{taken[0].replace('_', '-')} is no flag for one side of a comparison")
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


def _command() -> str:
    """What was asked for, without where its record is kept."""
    words = sys.argv[1:]
    if "--output" in words:
        place = words.index("--output")
        del words[place : place + 2]
    return f"python -m bench {shlex.join(words)}"
