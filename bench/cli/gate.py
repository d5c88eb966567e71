"""The commands that compare results and specs. No logic."""

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.cli import console, options
from bench.cli.codes import CODES
from bench.cli.options import Command, of_field, of_model, typed
from bench.cli.results import to_summary
from bench.flags import RESULTS
from bench.gate import ab, compare, sides
from bench.gate.compare import EXIT_CODES
from bench.gate.regression import Rules
from bench.output import STDOUT, refuse_unusable, refuse_unwritable, write
from bench.report import gate as gate_report
from bench.report import progress, screen, tabular
from bench.report.gate import MARKDOWN
from bench.results import models, store

GATE_CODES = (
    "Exit codes: 0 no worse; 1 a verdict failed; 2 bad usage or input; 3 something outside is missing or broke; "
    "4 regressed; 5 inconclusive, not comparable, or no baseline; 130 interrupted."
)
_news = logging.getLogger("bench")


@click.group(epilog=CODES)
def baseline() -> None:
    """Store results for later runs to be compared with."""


@baseline.command(cls=Command, epilog=CODES)
@click.argument("name", metavar="NAME")
@click.argument("result", metavar="[RESULT]", type=click.Path(path_type=Path), required=False)
@of_field(compare.Options, "baselines")
def save(name: str, result: Path | None, **flags: Any) -> None:
    """Store a result as the baseline NAME, replacing one of that name.

    RESULT is a result.json or its directory [default: the latest run].
    """
    asked = options.made(compare.Options, flags)
    print(screen.shown(f"baseline: {compare.save(name, _result(result), asked.baselines)}"))


@click.command("compare", cls=Command, epilog=GATE_CODES, short_help="Compare a result with a baseline: is it slower?")
@click.argument(
    "baseline_",
    metavar="BASELINE",
    shell_complete=options.completing(lambda: compare.names(compare.BASELINES), files=True),
)
@click.argument("result", metavar="[RESULT]", type=click.Path(path_type=Path), required=False)
@of_model(Rules, compare.Options)
def compare_(baseline_: str, result: Path | None, **flags: Any) -> None:
    """Compare a result with a baseline: is it slower?

    BASELINE is a baseline's name or a result.json. RESULT is a result.json or its directory [default: the latest run].

    Outcomes: no worse; regressed, if a slowdown is both significant and beyond the threshold; inconclusive, if there
    are too few trials or too much noise; not comparable, if the two were measured under different conditions. A faster
    result always passes, a failed verdict never does.
    """
    asked, rules = options.made(compare.Options, flags), options.made(Rules, flags)
    refuse_unwritable("--export-markdown", asked.export_markdown)
    before, after = compare.baseline(baseline_, asked.baselines), _result(result)
    compared = compare.compare(before, after, rules, asked.allow)
    print(screen.shown(gate_report.comparison(compared, before, after)))
    _export(gate_report.comparison(compared, before, after, MARKDOWN), asked.export_markdown)
    sys.exit(EXIT_CODES[compared.word])


@click.command("ab", cls=Command, epilog=GATE_CODES, short_help="Compare two specs by alternating trials.")
@of_model(sides.Options, Rules)
def ab_(**flags: Any) -> None:
    """Compare two specs by alternating trials (A B B A), until the intervals are narrow or --max-trials is reached.

    Alternating exposes both sides to the same disturbances of the machine. With --aa both sides run the same spec, all
    trials are made, and comparisons are simulated with the noise that was measured: how often the gate raises a false
    alarm, and the smallest slowdown that it detects.

    \b
      bench ab --both "--scale 4 --limit 500000" --b "--set synchronous_commit=off"
      bench ab --both "--log db/events" --a-rev main --b-rev HEAD
    """
    rules, asked = options.made(Rules, flags), options.made(sides.Options, flags)
    refuse_unwritable("--export-markdown", asked.export_markdown)
    given = [options.parsed({"--both": asked.both, flag: text}) for flag, text in asked.texts]
    with tempfile.TemporaryDirectory(prefix="bench-rev-") as revisions:
        arms = sides.arms(given, asked.revisions, Path(revisions))
        choice = sides.choose(arms)
        refuse_unusable("--output", asked.output)
        console.introduce(choice)
        watch = progress.watch(quiet=False, brief=True)
        for record in ab.alternate(arms, choice, rules, asked.stop_at, asked.max_trials, typed(), watch):
            file = store.store_record(record, asked.output / record.run_id / ab.FILE)
            _news.info("%s", gate_report.so_far(record, rules, asked.max_trials))
    compared = ab.judged(record, rules)
    print(screen.coloured(screen.shown(gate_report.ab_text(record, compared))))
    if asked.aa and compared.changes:
        _news.info("simulating comparisons")
        record = ab.with_power(record, rules, asked)
        store.store_record(record, file)
        print("\n" + tabular.shown(lambda form: gate_report.power_analysis(record, form)))
    _export(gate_report.ab_text(record, compared, MARKDOWN), asked.export_markdown)
    print(f"record: {file}")
    if asked.aa and record.ok:
        sys.exit(0)  # between equal sides any difference is noise
    sys.exit(EXIT_CODES[compared.word])


def _result(path: Path | None) -> models.Result:
    return store.latest(RESULTS) if path is None else store.load(path)


def _export(text: str, file: Path | None) -> None:
    commented = gate_report.commented(text)
    to_summary(commented)
    if file == STDOUT:
        print(commented)
    elif file is not None:
        write(file, commented)
