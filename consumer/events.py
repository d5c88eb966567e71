"""The events that payloads hold, and whether they are as they were appended."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from bench.job import Payloads
from bench.shapes import Shapes, place
from consumer.templates import ShapesOf

_UNREADABLE = (msgspec.MsgspecError, RecursionError)
"""Errors for a payload that is no event; RecursionError for arrays nested a thousand deep."""


class Event(msgspec.Struct, gc=False):
    """The keys of a payload that the ledger needs."""

    producer: int
    seq: int
    value: int


class PaddedEvent(Event, gc=False):
    """The keys of a padded payload."""

    pad: str = ""


class ObjectEvent(Event):
    """An event that has an object of a file."""

    keys: dict[str, Any]
    """The keys of its payload, its numbers included."""


class Events:
    """The events of payloads, with what each of them must hold."""

    def __init__(self, payloads: Payloads) -> None:
        self._shapes = Shapes(payloads)
        self.shapes_of = _shapes_of(self._shapes) if len(self._shapes.all) > 1 else None
        """Returns the number of the shape that each event's payload must have; None when there is one shape only."""
        self._objects = [
            msgspec.json.decode(b"{%b}" % shape.keys[1:]) if self._shapes.from_file else {}
            for shape in self._shapes.all
        ]
        event = PaddedEvent if self._shapes.all[0].size else Event
        self._parse_event = msgspec.json.Decoder(event).decode
        self._parse_events = msgspec.json.Decoder(list[event]).decode  # type: ignore[valid-type]

    def parse(self, payloads: Sequence[bytes]) -> Sequence[Event | None]:
        """Parse payloads; None for each that is no event."""
        if not self._shapes.from_file:
            with suppress(*_UNREADABLE):
                events = self._parse_events(b"[%b]" % b",".join(payloads))
                if len(events) == len(payloads):  # a text that is no JSON may become JSON together with its neighbours
                    return events
        return [self.parse_one(payload) for payload in payloads]

    def parse_one(self, payload: bytes) -> Event | None:
        """Parse a payload; None when it is no event."""
        try:
            event = self._parse_event(payload)
            if not self._shapes.from_file:
                return event
            return ObjectEvent(
                event.producer, event.seq, event.value, msgspec.json.decode(payload, type=dict[str, Any])
            )
        except _UNREADABLE:
            return None

    def is_healthy(self, payload: bytes) -> bool:
        """Whether a payload is an event as it was appended."""
        event = self.parse_one(payload)
        return event is not None and self.is_faultless(event)

    def is_faultless(self, event: Event) -> bool:
        """Whether an event's value is its seq, and its padding or its object is complete."""
        if event.value != event.seq:
            return False
        number = self._shapes.period[place(event.producer, event.seq)]
        if isinstance(event, PaddedEvent):
            shape = self._shapes.all[number]
            bare = len(f'{{"producer":{event.producer},"seq":{event.seq},"value":{event.value},"pad":""}}')
            return event.pad == shape.padding[: max(0, shape.size - bare)].decode()
        if isinstance(event, ObjectEvent):
            numbers = {"producer": event.producer, "seq": event.seq, "value": event.value}
            return bool(event.keys == {**self._objects[number], **numbers})
        return True


def _shapes_of(shapes: Shapes) -> ShapesOf:
    period = np.array(shapes.period, np.int64)
    return lambda producers, seqs: period[place(producers, seqs)]
