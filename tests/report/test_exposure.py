"""What a verdict, a gate and JUnit report of the chances to fail that a tailed log met."""

from dataclasses import replace
from typing import Any

import junitparser
import pytest

from bench.gate.compare import compare
from bench.gate.regression import Rules
from bench.judge.exposure import Exposure, Unknown
from bench.judge.verdict import EarlierAppend, Fault, ShortReader, Verdict
from bench.report import export, gate, terminal
from bench.report.verdict import trial_verdict
from bench.results.costs import Retention
from bench.results.models import Result
from bench.results.series import Unseen
from tests.report.test_table import FAILED, OK, result

AT_RISK = Exposure(
    transactions=400,
    overlapped=390,
    out_of_order=120,
    rolled_back_between=30,
    pages=3000,
    pages_amid_overlap=2500,
    pages_at_risk=1812,
)
SHELTERED = Exposure(transactions=400, overlapped=390, out_of_order=1, pages=30, pages_at_risk=0)
ALONE = Exposure(transactions=400, out_of_order=0, pages=30, pages_at_risk=0)
IN_ORDER = Exposure(
    transactions=400, overlapped=390, out_of_order=0, pages=30, pages_amid_overlap=20, pages_at_risk=0
)  # fmt: skip
QUEUE = Exposure(transactions=400, overlapped=390, pages=30, pages_amid_overlap=20, unknown="taken away", ordered=False)


def met(exposure: Exposure | None, verdict: Verdict = OK) -> Result:
    made = result(verdict=None if verdict is OK else verdict)
    return made.model_copy(
        update={"trials": [trial.model_copy(update={"exposure": exposure}) for trial in made.trials]}
    )


def shown(exposure: Exposure | None, verdict: Verdict = OK) -> str:
    return trial_verdict(met(exposure, verdict).trials[0])


def test_an_ok_comes_with_what_it_was_worth() -> None:
    text = shown(AT_RISK)
    assert text.startswith("verdict: ok. ")
    for fact in ("Exposed: 1,812 of 3,000 pages", "nothing was skipped", "390 of 400", "120 commits", "30 rollbacks"):
        assert fact in text


def test_one_page_has_a_verb_of_its_own() -> None:
    assert "1 of 3,000 pages was asked for" in shown(replace(AT_RISK, pages_at_risk=1))
    assert "1 of 30 pages was asked for" in shown(replace(QUEUE, pages_amid_overlap=1))


def test_a_failed_verdict_does_not_report_that_nothing_was_skipped() -> None:
    text = shown(AT_RISK, FAILED)
    assert "Exposed: 1,812 of 3,000 pages" in text
    assert "nothing was skipped" not in text


@pytest.mark.parametrize(("exposure", "advice"), [(SHELTERED, "--transaction-ms"), (ALONE, "--scale")])
def test_without_a_chance_to_fail_an_ok_is_untested_in_its_first_line(exposure: Exposure, advice: str) -> None:
    headline = shown(exposure).splitlines()[0]
    assert headline.startswith("verdict: ok, but untested: ")
    assert advice in headline
    assert "\nUntested: none of 30 pages" in shown(exposure)
    assert terminal.outcome(met(exposure)) == headline
    assert terminal.trial_line("trial 1", met(exposure).trials[0]).startswith("trial 1: ok, but untested, ")


def test_a_log_that_keeps_its_writers_in_order_is_not_untested() -> None:
    assert "untested" not in shown(IN_ORDER)
    assert "Exposed: the log committed events in the order of their etags" in shown(IN_ORDER)


def test_a_queue_is_not_judged_by_its_etags() -> None:
    assert "Exposed: 20 of 30 pages were asked for while transactions overlapped" in shown(QUEUE)


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [("no xmin", "no transaction ids"), ("no commit times", "track_commit_timestamp"), ("taken away", "took events")],
)
def test_what_is_unknown_has_a_reason(unknown: Unknown, reason: str) -> None:
    text = shown(Exposure(transactions=4, overlapped=3, pages=30, unknown=unknown))
    assert text.startswith("verdict: ok. ")
    assert "Unknown: " in text
    assert reason in text


def test_a_drained_run_has_no_word_of_it() -> None:
    assert not any(word in shown(None).lower() for word in ("exposed", "untested", "unknown"))


def test_times_that_were_not_reported_are_in_no_count_and_reported() -> None:
    assert "1,500 later pages and transactions" in shown(Exposure(pages=9, pages_at_risk=1, untimed=1500))


def tried(verdict: Verdict, mode: str = "drain", exposure: Exposure | None = None) -> Result:
    """A result with this verdict."""
    made = met(exposure, verdict)
    reads = [read.model_copy(update={"mode": mode}) for read in made.trials[0].reads]
    return made.model_copy(update={"trials": [made.trials[0].model_copy(update={"reads": reads})]})


@pytest.mark.parametrize(
    ("changes", "mode", "fact"),
    [
        ({"untested": ["real_time"]}, "drain", "--mode tail"),
        ({"untested": ["real_time"]}, "tail", "not known"),
        ({"untested": ["real_time"], "real_time_pairs": 0}, "tail", "--scale"),
        ({"real_time_pairs": 1234}, "tail", "1,234 pairs"),
    ],
)
def test_an_ok_comes_with_the_real_time_order_that_was_tried(changes: dict[str, Any], mode: str, fact: str) -> None:
    of = tried(replace(OK, **changes), mode)
    (line,) = [line for line in trial_verdict(of.trials[0]).splitlines() if "eal-time order" in line]
    assert fact in line
    assert line.startswith("Untested: ") == bool(changes.get("untested"))
    assert line in export.junit(of).replace("&apos;", "'")


def test_an_order_of_appends_whose_events_were_deleted_is_untested_because_of_retention() -> None:
    (trial,) = tried(replace(OK, untested=["real_time"], real_time_pairs=0), "tail").trials
    behind = Retention(deleted=800, too_early=0, statements=3, seconds=0.1)
    text = trial_verdict(trial.model_copy(update={"retention": behind}))
    (line,) = [line for line in text.splitlines() if "eal-time order" in line]
    assert "--retention deleted events" in line
    assert "--insert-loops" not in line


def test_an_order_that_is_neither_promised_nor_tried_is_not_mentioned() -> None:
    assert not any("eal-time" in trial_verdict(tried(of).trials[0]) for of in (OK, replace(OK, real_time_pairs=0)))


def test_an_inverted_append_is_shown_with_the_one_that_came_before_it() -> None:
    fault = Fault("inverted", None, 1, 10, 11, earlier_append=EarlierAppend(0, 0, 1001, 0.0612))
    failed = Verdict(
        ok=False, expected_events=20, expected_checksum=0, inverted=1, real_time_pairs=9, examples=[fault]
    )  # fmt: skip
    text = shown(None, failed)
    assert "1 inverted append." in text
    assert "inverted: producer 1, seq 10, etag 11" in text
    for fact in ("61.2 ms", "producer 0", "seq 0", "etag 1001"):
        assert fact in text
    assert "Real-time order: etags kept it" not in text


def test_a_tailing_run_ends_with_the_peaks_of_how_far_readers_were_behind() -> None:
    of = tried(OK, "tail")
    unseen = [Unseen(seconds=1, events=1480, lag_seconds=0.1), Unseen(seconds=2, events=7, lag_seconds=0.314)]
    trial = of.trials[0].model_copy(update={"unseen": {of.trials[0].reads[0].reader: unseen}})
    text = terminal.summary(of.model_copy(update={"trials": [trial]}))
    assert "unseen: at most 1,480 acknowledged events; lag at most 0.31 s" in text
    assert "unseen" not in terminal.summary(of)


def test_junit_has_it_for_each_case_of_a_tailed_trial() -> None:
    def outputs(of: Result) -> list[str]:
        read = junitparser.JUnitXml.fromstring(export.junit(of).encode())
        suite = read if isinstance(read, junitparser.TestSuite) else next(iter(read))
        return [case.system_out or "" for case in suite]

    assert all(text.startswith("Untested: ") for text in outputs(met(ALONE)))
    assert all(text.startswith("Exposed: ") for text in outputs(met(AT_RISK)))
    assert not any(outputs(met(None)))


def test_the_gate_has_a_line_of_it_where_a_side_was_tailed() -> None:
    def lines(before: Result, after: Result) -> list[str]:
        text = gate.comparison(compare(before, after, Rules()), before, after, gate.MARKDOWN)
        return [line for line in text.splitlines() if "exposure" in line]

    assert [line.partition(": ")[2] for line in lines(met(AT_RISK), met(ALONE))] == ["before exposed, after untested"]
    assert not lines(met(None), met(None))


def test_readers_that_got_nothing_come_before_all_examples() -> None:
    never = ShortReader("consumer", 0, 20_000, "get_event(NULL, 100)")
    short = ShortReader("consumer", 15_000, 5_000, "get_event(NULL, 100)")
    failed = Verdict(ok=False, expected_events=20_000, expected_checksum=0, withheld=20_000, short=[never])
    _, first, *_ = shown(None, failed).splitlines()
    assert "get_event(NULL, 100) gave no rows while 20,000 events are stored" in first
    failed = Verdict(ok=False, expected_events=20_000, expected_checksum=0, withheld=5000, short=[short])
    _, first, *_ = shown(None, failed).splitlines()
    assert "stopped short of the tail: after 15,000 events" in first
