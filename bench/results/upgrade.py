"""Turns results of earlier schemas into results of the present one, as dicts.

Pure. Parts of a record that do not have the shape of its schema are left as they are, for the models to refuse.
"""

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]


def upgraded(record: object) -> object:
    """Turn a record of bench.result/1 into one of bench.result/2; return all others as they are."""
    if isinstance(record, dict) and record.get("schema") == "bench.result/1":
        return _changed(record, schema=lambda _: "bench.result/2", trials=_each(_trial))
    return record


def _trial(trial: Record) -> Record:
    return _changed(
        trial,
        reads=_each(_read),
        verdict=_record(lambda verdict: _changed(verdict, examples=_each(_fault))),
        telemetry=_record(lambda telemetry: _changed(telemetry, phases=_record(_observed_phases))),
    )


def _read(read: Record) -> Record:
    """The reader's name said who read: consumer-1000, consumer-1000-0 (the first of several), group-1000."""
    reader = str(read.get("reader", "consumer"))
    kind, _, number = reader.replace(f"-{read.get('read_batch')}", "", 1).partition("-")
    return {**read, "reader": reader, "group": kind == "group", "number": int(number) if number.isdecimal() else None}


def _fault(fault: Record) -> Record:
    """A jump over an event was called passing it."""
    names = {"passed_at": "jumped_at", "passed_to": "jumped_to"}
    return {names.get(name, name): value for name, value in fault.items()}


def _observed_phases(phases: Record) -> Record:
    """The bottleneck was a sentence."""
    return {
        key: {**observed, "bottleneck": None, "bottleneck_sentence": observed.get("bottleneck")}
        if isinstance(observed, dict)
        else observed
        for key, observed in phases.items()
    }


def _changed(record: Record, **changes: Callable[[Any], Any]) -> Record:
    """A record whose values of these keys are changed, as far as it has them."""
    return {**record, **{key: change(record[key]) for key, change in changes.items() if key in record}}


def _record(change: Callable[[Record], Record]) -> Callable[[Any], Any]:
    return lambda value: change(value) if isinstance(value, dict) else value


def _each(change: Callable[[Record], Record]) -> Callable[[Any], Any]:
    return lambda value: list(map(_record(change), value)) if isinstance(value, list) else value
