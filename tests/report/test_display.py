"""What a person sees: how it fits the screen, what is said of many trials, what is shown while a run lasts."""

import fcntl
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Callable

import pytest

from bench import stats
from bench.overhead.measure import Limits, Pairing
from bench.report import export, screen, tabular, terminal
from bench.report import logs as logs_report
from bench.report import overhead as overhead_report
from bench.report import phases as phases_report
from bench.report import runs as runs_report
from bench.report.progress import Track, _Tracks, line
from bench.report.tabular import Form
from bench.report.verdict import load_clause, verdict_text
from bench.results import store
from bench.results.models import Offered, Result
from bench.run.watch import Extent
from tests.conftest import Bench
from tests.logs.test_compare import compared, tail
from tests.report.test_export import several
from tests.report.test_phases import HELD
from tests.report.test_table import FAILED, NODES, OBSERVED, OK, TAILED, result

SLOW = Offered(
    events_per_second=0.1,
    achieved_per_second=0.09,
    saturated=True,
    service_ms=None,
    lateness_ms=None,
    generator_bound=False,
    largest_backlog=0,
    most_behind_seconds=0,
)

COLOUR = re.compile(r"\033\[[0-9;]*m")
OTHER_CONTROLS = re.compile(r"\033\[[0-9;?]*[A-Za-ln-z]")


def trials(count: int, failed: int = 0, **spec: object) -> Result:
    """A made-up result of several trials, whose rates differ a little; the first ones failed."""
    good, bad = result().trials[0], result(verdict=FAILED).trials[0]
    made = [
        good.model_copy(update={"append": good.append.model_copy(update={"events_per_second": 2500.0 + number % 7})})
        for number in range(count - failed)
    ]
    of = result()
    return of.model_copy(update={"trials": [*[bad] * failed, *made], "spec": {**of.spec, "trials": count, **spec}})


def test_a_slow_load_is_printed_with_digits_that_say_something() -> None:
    assert {"0.1/s", "0.09/s:"} <= {*load_clause(SLOW).replace(",", "").split()}
    of_append = result().trials[0].append.model_copy(update={"events_per_second": 0.1, "offered": SLOW})
    slow = result().trials[0].model_copy(update={"append": of_append})
    lines = terminal.summary(result().model_copy(update={"trials": [slow]})).splitlines()
    assert any("0.1/s" in text for text in lines if text.startswith("append"))


@pytest.mark.parametrize("columns", [40, 80, 100])
@pytest.mark.parametrize(
    "which", [result(), result(verdict=TAILED), result(phases={"append": OBSERVED}), trials(30), trials(6, 2)]
)
def test_all_that_is_said_of_a_run_fits_the_screen_in_whole_words(which: Result, columns: int) -> None:
    said = terminal.summary(which)
    shown = screen.fit("\n".join(" ".join(part.split()) for part in said.splitlines()), columns)
    assert all(len(each) <= columns for each in shown.splitlines())
    assert shown.split() == said.split()


def limits_of_one() -> Limits:
    of = result()
    contest = Pairing(
        name="read 1,000",
        ours="consumer",
        theirs="pgbench, its rows thrown away",
        unit="events/s",
        target=1.0,
        pairs=[(3e6, 2e6)],
    )
    return Limits(
        run_id=of.run_id, started_at=of.started_at, rounds=1, events=1000, grown=0, environment=of.environment,
        contests=[contest], first_event_seconds=[1.5], first_event_target=2,
    )  # fmt: skip


TABLES: dict[str, Callable[[Form], str]] = {
    "compare-logs": lambda form: logs_report.whole(compared(400, [tail({}, ok=True)] * 2), form),
    "compare-logs --short": lambda form: logs_report.short([compared(400, [tail({}, ok=True)] * 2)], form),
    "limits": lambda form: overhead_report.whole(limits_of_one(), form),
    "logs": logs_report.listing,
    "nodes": lambda form: runs_report.nodes(result(nodes=NODES).trials[0], form),
    "phases": lambda form: phases_report.table([HELD, HELD], form),
}


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("which", TABLES)
def test_tables_fit_the_screen(which: str, columns: int) -> None:
    shown = tabular.fitted(TABLES[which], columns)
    assert all(len(each) <= columns for each in shown.splitlines()), shown
    # Every value is there, in a table or in a block for each row.
    cells = {cell.strip(" *`") for line in TABLES[which](tabular.markdown).splitlines() for cell in line.split("|")[1:]}
    words = [word for cell in cells if not cell.startswith("---") for word in cell.split()]
    assert words
    assert {screen.plain(word) for word in words} <= {*shown.split()}


def test_a_gate_on_a_terminal_fits_it(bench: Bench) -> None:
    (bench.folder / "result.json").write_text(store.json_text(several(6)))
    for columns in (40, 80):
        code, printed = on_a_terminal(bench, columns, "compare", "result.json", "result.json")
        assert code == 0, printed
        told = COLOUR.sub("", printed).splitlines()
        assert all(len(each) <= columns for each in told), told
    assert "| metric" in bench("compare", "result.json", "result.json").stdout


def test_what_is_here_on_a_terminal_fits_it(bench: Bench) -> None:
    code, printed = on_a_terminal(bench, 40, "doctor", DOCKER_HOST="unix:///nowhere")
    assert code == 0, printed
    lines = printed.splitlines()
    assert all(len(each) <= 40 or "/" in each for each in lines), lines
    assert {"sequencer,", "another"} <= {*printed.split()}


def test_lines_hang_where_they_are_marked_and_by_little_on_a_narrow_screen() -> None:
    phase = f"append         1.0 s  {screen.HANG}2,500/s  batch took long and longer"
    assert screen.fit(phase, 80) == "append         1.0 s  2,500/s  batch took long and longer"
    assert screen.fit(phase, 45).splitlines()[1].startswith("    ")
    assert screen.fit(f"{'x' * 10:<22}{screen.HANG}{'word ' * 12}", 60).splitlines()[1].startswith(" " * 22)
    assert screen.fit(f"one {screen.TIED.join('ab')}", 5) == "one\n  a b"


def test_thirty_trials_are_few_lines_with_what_they_come_to() -> None:
    text = terminal.summary(trials(30))
    assert len(text.splitlines()) < 12
    assert "the median of 30 trials" in text
    assert "95 % interval" in text
    assert "range" in text
    assert text.count("verdict: ok") == 2


def test_trials_that_failed_come_first_and_in_full_while_they_are_few() -> None:
    text = terminal.summary(trials(6, 2))
    assert text.lstrip().startswith("trial 1 of 6\nverdict: FAILED. Of 2,500")
    assert text.count("1,234 skipped") == 2
    assert "median" not in text
    assert "verdict: ok in 4 of 6 trials" in text
    assert terminal.summary(trials(30, 30)).count("verdict: FAILED") == terminal.FULL_VERDICTS
    assert len(terminal.summary(trials(30, 30)).splitlines()) < 80


def test_a_warm_up_trial_is_called_that_and_counts_for_nothing() -> None:
    of = trials(2, 1)
    warm = of.trials[0].model_copy(update={"warm_up": True})
    named = of.model_copy(update={"trials": [warm, of.trials[1]], "spec": {**of.spec, "trials": 1}})
    assert terminal.trial_names(named) == ["warm-up trial", "trial 1 of 1"]
    assert "verdict: ok in 1 of 1 trial." in terminal.summary(named)


def test_few_values_have_a_range_and_no_interval() -> None:
    for count in range(2, stats.SMALLEST_SAMPLE):
        assert "interval" not in terminal.summary(trials(count))
    assert "interval" in terminal.summary(trials(stats.SMALLEST_SAMPLE))


def test_what_is_unlike_the_others_is_named() -> None:
    assert stats.outliers([10, 11, 10.5, 10.2, 10.8, 3]) == [5]
    assert stats.outliers([10, 11, 10.5, 10.2, 3]) == []
    assert stats.outliers([10.0] * 6) == []
    of = trials(7)
    slow = of.trials[3].model_copy(
        update={"append": of.trials[3].append.model_copy(update={"events_per_second": 100.0})}
    )
    with_slow = of.model_copy(update={"trials": [*of.trials[:3], slow, *of.trials[4:]]})
    assert "unlike the others: trial 4 (100)" in terminal.summary(with_slow)


def test_markdown_for_others_says_a_verdict_once() -> None:
    assert export.markdown(trials(30)).count("verdict: ok") == 1
    assert "Of 2 trials:" in export.markdown(trials(6, 2))


def test_a_run_that_ended_early_is_reported_as_that_in_tables_and_exports() -> None:
    of = trials(3)
    of = of.model_copy(update={"spec": {**of.spec, "trials": 12}})
    for text in (terminal.summary(of), runs_report.published([of]), export.go(of), export.bigger_is_better(of)):
        assert "3 of 12 trials" in text
    assert 'errors="1"' in export.junit(of)
    assert "3 of 12 trials" not in terminal.summary(of.model_copy(update={"spec": {**of.spec, "trials": 3}}))


def test_several_readers_have_one_name_each() -> None:
    of = result()
    reads = [read.model_copy(update={"number": number}) for number, read in enumerate(of.trials[0].reads)]
    several = of.trials[0].model_copy(update={"reads": reads})
    assert reads[0].reading.reader in terminal.trial_line("trial 1", several)
    together = of.trials[0].model_copy(update={"reads": [reads[0].model_copy(update={"number": None, "group": True})]})
    assert reads[0].reading.track.key in terminal.trial_line("trial 1", together)


def test_the_heading_says_what_was_measured() -> None:
    of = result()
    text = runs_report.heading(of.spec, of.environment, "python -m bench run --set fsync=off")
    for words in ("PostgreSQL 18.6", "place local", "2 cores, 8 GiB", "log bigserial", "append by copy", "mode drain"):
        assert words in text
    assert "settings that differ from the default: fsync=off" in text
    assert "--set fsync=off" in text
    padded = runs_report.heading({**of.spec, "payload_bytes": 500}, of.environment, "")
    assert "padded to 500 bytes," in padded
    mixed = {**of.spec, "payload_bytes": "200:80%,4000:20%", "payload_entropy": 3}
    text = runs_report.heading(mixed, of.environment, "")
    assert "200 bytes (80 %) or 4,000 bytes (20 %)" in text
    assert "3 random bits" in text
    from_file = {**of.spec, "payload_file": "orders.jsonl"}
    assert "payloads from orders.jsonl" in runs_report.heading(from_file, of.environment, "")


def test_a_rate_that_is_not_durable_is_marked() -> None:
    of = result()
    assert "5000! |" in runs_report.terminal(of)
    assert "! not durable: fsync=off" in runs_report.terminal(of)
    safe = of.model_copy(update={"environment": of.environment.model_copy(update={"settings": {}})})
    assert "!" not in runs_report.terminal(safe)


def test_what_a_log_may_do_is_not_counted_among_its_faults() -> None:
    text = " ".join(verdict_text(result(verdict=TAILED).trials[0]).split())
    assert "13 skipped, 2 withheld, consumer-10-1: a read" in text
    assert "besides 1 reordered, which the log permits" in text


def test_what_stopped_several_members_of_a_group_is_said_once() -> None:
    stopped = ["group-10: a read did not come back and was cancelled"] * 3
    verdict = OK.__class__(ok=False, expected_events=9, expected_checksum=36, stopped=stopped)
    text = " ".join(verdict_text(result(verdict=verdict).trials[0]).split())
    assert text.count("group-10") == 1
    assert "was cancelled (3 times)" in text


@pytest.mark.parametrize("columns", [40, 79, 99])
def test_bars_fit_and_are_equally_long(columns: int) -> None:
    now = time.perf_counter()
    appending = Track("append", 10, 10_000_000, so_far=5_000_000, done=3, began=now - 10, changed=now)
    reading = Track("read 10000", 1, 10_000_000, so_far=999, began=now - 10, changed=now)
    shown = [line(track, now, columns) for track in (appending, reading)]
    assert all(len(each) <= columns for each in shown)
    assert "500,000/s" in shown[0]
    assert len({len(found[0]) for each in shown if (found := re.search(r"[#.]{6,}", each))}) == 1


def test_a_run_by_time_shows_its_time_and_readers_show_how_far_they_are_of_what_is_appended() -> None:
    phase = _Tracks({"append": Extent(2, None, 1, 60.0), "read 10": Extent(2, None, 2)}, 10)
    for track in phase.all.values():
        track.update(0, 0)
    phase.update("append", 700, 0)
    phase.update("read 10", 350, 0)
    append, reader = phase.all.values()
    now = (append.began or 0) + 15
    assert append.events is None
    assert reader.events == 1400
    assert [append.share(now), reader.share(now)] == pytest.approx([0.25, 0.25])
    shown = line(append, now, 99)
    assert "15 of 60 s" in shown
    assert " 700 " in shown
    assert "350/1,400" in line(reader, now, 99)
    phase.update("append", 800, 2)
    assert append.over
    assert [append.share(now), append.so_far, reader.events] == [1, 800, 1600]
    assert "of 60 s" not in line(append, now, 99)


@pytest.mark.parametrize("columns", [40, 79])
def test_a_reader_that_gets_nothing_new_says_for_how_long(columns: int) -> None:
    now = time.perf_counter()
    reading = Track("read 1000", 1, 100, idle_seconds=10, so_far=90, began=now - 10, changed=now - 4)
    assert "nothing new for 4 of 10 s" in line(reading, now, columns)


def on_a_terminal(bench: Bench, columns: int, *words: str, **variables: str) -> tuple[int, str]:
    """Run the program on a terminal of its own; returns its exit code and what it printed."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        command = bench.command(*words)
        os.chdir(bench.folder)
        environment = {key: value for key, value in bench.environment().items() if key not in {"COLUMNS", "NO_COLOR"}}
        os.execve(command[0], command, {**environment, "TERM": "xterm", **variables})
    printed = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the program has ended
            break
        if not part:
            break
        printed += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed.decode().replace("\r\n", "\n")


SMALL = ("run", "--place", "local", "--scale", "2", "--insert-batch", "100", "--limit", "300", "--set", "fsync=off")


@pytest.mark.parametrize("columns", [40, 80])
def test_a_run_on_a_terminal_fits_it(bench: Bench, columns: int) -> None:
    code, printed = on_a_terminal(bench, columns, *SMALL)
    assert code == 0, printed
    plain = OTHER_CONTROLS.sub("", COLOUR.sub("", printed))
    # The last line names a file. What the display draws anew begins with a return.
    told = [part for each in plain.splitlines() for part in each.split("\r") if not each.startswith("result: ")]
    assert all(len(part) <= columns or "://" in part or "/" in part.split()[-1] for part in told), told
    assert "starting PostgreSQL" in plain
    assert "append" in plain
    assert "\033[32mok" in printed
    assert "| scale" not in plain
    assert re.search(r"Throughput +\d+!" if columns == 40 else r"Throughput( verdict)?\n", plain)


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_may_have_no_colours(bench: Bench, variables: dict[str, str]) -> None:
    code, printed = on_a_terminal(bench, 40, *SMALL, **variables)
    assert code == 0, printed
    assert not COLOUR.search(printed)
    assert "starting PostgreSQL" in printed
    if variables.get("TERM") == "dumb":
        assert "\033" not in printed
        assert all(len(each) <= 40 or "/" in each for each in printed.splitlines()), printed


def test_a_pipe_gets_the_heading_and_the_same_table_always(bench: Bench, address: str) -> None:
    on_a_server = (*SMALL[:-2], "--dsn", address)
    ran = bench(*on_a_server)
    assert ran.returncode == 0, ran.stderr
    heading, written, marked = ran.stdout.strip().split("\n\n")[:3]
    assert heading.startswith("PostgreSQL ")
    assert "fsync=off" in heading
    quiet = bench(*on_a_server, "--quiet")
    assert quiet.stderr == ""
    assert [line[:1] for line in quiet.stdout.splitlines()] == ["|", "|", "|", "", "!"]
    columns = [name.strip() for name in written.splitlines()[0].strip("|").split("|")]
    assert columns == [*runs_report.SEED, "verdict"]
    assert marked == "! not durable: fsync=off"


@pytest.mark.parametrize("said", [terminal.summary, runs_report.terminal])
def test_what_is_not_for_a_terminal_has_no_colours(said: Callable[[Result], str]) -> None:
    assert screen.coloured(said(result(verdict=FAILED))) == said(result(verdict=FAILED))
