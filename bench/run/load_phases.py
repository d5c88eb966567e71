"""What was measured in each phase of an offered load.

A batch counts in the phase in which it was due, and an event in the phase in which it was logged, whenever their answer
or delivery came: whatever made them late began there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from bench import phases
from bench.phases import Span
from bench.results.models import Latency, LoadPhase
from bench.results.series import Unseen
from bench.run.outcome import Outcome, Reader, TrackOutcome
from bench.spec import Spec


def load_phases(
    spec: Spec,
    appended: TrackOutcome,
    readers: Sequence[Reader],
    unseen: Mapping[str, Sequence[Unseen]],
    *,
    ok: bool,
) -> list[LoadPhase]:
    """The phases of a spec with their figures; without rates unless the trial is `ok`. `unseen` has the samples of each
    reader.
    """
    producers = appended.reported
    if not spec.phase or not producers:
        return []
    members = [member for reader in readers for member in reader.members]
    have_delays = not any(member.report.impossible_ctimes for member in members)
    spans = phases.spans(spec.phase)
    answered_seconds = [each.report.offered.ended_seconds for each in producers if each.report.offered]
    appending, reading = _lasting(spans, answered_seconds), _lasting(spans, _last_deliveries(producers, members))
    measured = []
    for number, (phase, span) in enumerate(zip(spec.phase, spans, strict=True)):
        is_last = number == len(spans) - 1
        samples = [each for of_reader in unseen.values() for each in _within(of_reader, span, is_last=is_last)]
        was_held = appended.held.get(number)
        measured.append(
            LoadPhase(
                name=phases.name(phase, number + 1),
                begin_seconds=span.begin,
                end_seconds=span.end,
                open_transaction=phase.open_transaction,
                held_seconds=(was_held.opened_seconds, was_held.ended_seconds) if was_held else None,
                read=phase.read,
                offered_per_second=phase.rate,
                achieved_per_second=_done(producers, number) / appending[number] if ok else None,
                delivered_per_second=_done(members, number) / len(readers) / reading[number] if ok else None,
                append_ms=_latency(producers, number),
                end_to_end_ms=_latency(members, number) if have_delays else None,
                largest_unseen=max((each.events for each in samples), default=None),
                largest_lag_seconds=max((each.lag_seconds for each in samples), default=None),
            )
        )
    return measured


def never_held(spec: Spec, appended: TrackOutcome) -> list[str]:
    """Notes about phases in which no transaction was open though one was asked for."""
    return [
        f"no transaction was open in {phases.name(phase, number + 1)}: it was over before one could be opened"
        for number, phase in enumerate(spec.phase)
        if phase.open_transaction and number not in appended.held
    ]


def _within(samples: Iterable[Unseen], span: Span, *, is_last: bool) -> list[Unseen]:
    """The samples of a phase, each of which is about the time since the sample before."""
    return [each for each in samples if span.begin < each.seconds and (is_last or each.seconds <= span.end)]


def _lasting(spans: Sequence[Span], ended_seconds: Sequence[float]) -> list[float]:
    """The seconds that each phase lasts; the last one, until the last of these times since the start."""
    *earlier, last = spans
    return [*(span.end - span.begin for span in earlier), max(last.end, *ended_seconds) - last.begin]


def _last_deliveries(producers: Sequence[Outcome], members: Sequence[Outcome]) -> list[float]:
    """When each reader's last event was delivered, in seconds after the start of the schedule."""
    started_at = min(each.report.started_at for each in producers)
    return [each.report.started_at + each.report.seconds - started_at for each in members]


def _done(workers: Sequence[Outcome], number: int) -> int:
    return sum(step.done for worker in workers for step in worker.steps if step.step == number)


def _latency(workers: Sequence[Outcome], number: int) -> Latency | None:
    buckets: Counter[int] = Counter()
    for step in (step for worker in workers for step in worker.steps if step.step == number):
        for place, latencies in step.buckets:
            buckets[place] += latencies
    return Latency.from_buckets(buckets)
