"""Values that flags and files give as texts: times, ranges, loads, sizes, conditions on nodes, connection strings."""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field

from bench.objectives import parse_objective

LONGEST_SECONDS = 10.0**7
"""About four months; longer time limits are refused."""
LONGEST_TRANSACTION_MS = 60_000
MOST_PER_SECOND = 10**9
"""Larger offered loads are refused."""
FIND = "find"
"""Instead of a rate: the highest one is to be found."""
LONGEST_PAUSE_MS = 100
"""A call pauses several times, and readers whose calls take seconds are given up in the end."""
SMALLEST_MEMORY_BYTES = 6 * 2**20
"""Docker refuses smaller limits."""
SMALLEST_PAYLOAD_BYTES = 80
"""Enough for any producer, seq and value, and for the key that pads."""
LARGEST_PAYLOAD_BYTES = 16 * 2**20
MOST_PAYLOAD_SIZES = 20
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
_UNIT_DIGITS = {"": 0, "k": 3, "m": 6, "g": 9}
_SHARES_ROUNDING = 0.001
"""Shares like 33.333 % three times make 100 %."""
_UNIT_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_range(value: object, longest_ms: float = LONGEST_TRANSACTION_MS) -> tuple[float, float]:
    """Read a range of milliseconds from a text like 0..20 or 0..20ms, a number, or a pair of numbers.

    Raises:
        ValueError: the value is not a range, or one that goes down, below 0 or beyond `longest_ms`.
    """
    text = str(value).strip().removesuffix("ms")
    pair: Sequence[object] = value if isinstance(value, list | tuple) else text.split("..")
    try:
        low, high = (float(str(end)) for end in (pair if len(pair) > 1 else [*pair, *pair]))
    except ValueError as error:
        raise ValueError("give a range of milliseconds, like 0..20") from error
    if not 0 <= low <= high <= longest_ms:
        raise ValueError(f"give a range that goes up, in milliseconds, within 0..{longest_ms}")
    return low, high


def parse_time(value: object) -> object:
    """Read a time like 90s, 10m or 2h as seconds; values that are no text are returned as they are.

    Raises:
        ValueError: the text is not a time.
    """
    if not isinstance(value, str):
        return value
    time = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)?", value)
    if not time:
        raise ValueError("give a time like 90s, 10m or 2h")
    return float(time[1]) * _UNIT_SECONDS[time[2] or "s"]


def parse_count(value: object) -> object:
    """Read a count like 250, 100k, 1.5M or 1G as a whole number; values that are no text are returned as they are.

    Raises:
        ValueError: the text is not a count.
    """
    if not isinstance(value, str):
        return value
    count = re.fullmatch(r"([0-9]+)(?:\.([0-9]+))?([kmg]?)", value.strip(), re.ASCII | re.IGNORECASE)
    digits = _UNIT_DIGITS[count[3].lower()] if count else 0
    fraction = (count[2] or "").rstrip("0") if count else ""
    if not count or len(fraction) > digits:
        raise ValueError("give a whole number, like 250, 100k or 1.5M")
    return int(count[1] + fraction.ljust(digits, "0"))


def parse_retention(value: object) -> str | None:
    """Check a time like 30s, 5m or 2h, or a number of events like 5000, 100k or 1M, and return it as a text.

    Raises:
        ValueError: the value is neither.
    """
    if value is None:
        return None
    text = str(value)
    retained(text)
    return text


class Retained(NamedTuple):
    """The events that a log keeps behind its readers: those of a time, or a number of them; the other one is None."""

    seconds: float | None
    events: int | None


def retained(text: str) -> Retained:
    """Read what `parse_retention` returns.

    Raises:
        ValueError: as there.
    """
    problem = "give a time like 30s, 5m or 2h, or a number of events like 5000, 100k or 1M"
    if re.fullmatch(r"[0-9.]+[smh]", text):
        try:
            seconds = float(str(parse_time(text)))
        except ValueError as error:
            raise ValueError(problem) from error
        if not 0 < seconds <= LONGEST_SECONDS:
            raise ValueError(problem)
        return Retained(seconds, None)
    try:
        events = int(str(parse_count(text)))
    except ValueError as error:
        raise ValueError(problem) from error
    if events < 1:
        raise ValueError(problem)
    return Retained(None, events)


def parse_wait(value: object) -> tuple[float, float] | None:
    """Read a time like 1ms or 0.5s, or a range of milliseconds as `parse_range` does; None stands for no value.

    Raises:
        ValueError: as `parse_range` does.
    """
    if value is None:
        return None
    seconds = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", value.strip()) if isinstance(value, str) else None
    try:
        return parse_range(float(seconds[1]) * 1000 if seconds else value)
    except ValueError as error:
        longest = f"within {LONGEST_TRANSACTION_MS // 1000} s"
        raise ValueError(f"give a time like 1ms or 0.5s, or a range that goes up like 0..20ms, {longest}") from error


def parse_whole_seconds(value: object) -> object:
    """Read a time as `parse_time` does, in whole seconds; values that are no time are returned as they are.

    Raises:
        ValueError: the text is not a time, or the time has a part of a second.
    """
    seconds = parse_time(value)
    if isinstance(seconds, float) and seconds != round(seconds):
        raise ValueError("give whole seconds, like 10s or 2m: latencies are stored per second")
    return seconds


def steps_of(rate: str) -> list[tuple[float, float | None]]:
    """The steps of an offered load: events per second, and the seconds for which that lasts, None without an end.

    Raises:
        ValueError: the text is not a rate or steps.
    """
    steps: list[tuple[float, float | None]] = []
    for text in rate.split(","):
        number, colon, time = text.partition(":")
        events = float(number) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) else -1.0
        seconds = parse_time(time) if colon else None
        if not 0 <= events <= MOST_PER_SECOND or (colon and not 0 < float(str(seconds)) <= LONGEST_SECONDS):
            raise ValueError("give events per second like 5000, or steps like 1000:60s,5000:30s")
        steps.append((events, None if seconds is None else float(str(seconds))))
    if any(seconds is None for _, seconds in steps[:-1]):
        raise ValueError("every step but the last one needs a time, like 1000:60s,5000")
    if steps[-1][0] == 0:
        raise ValueError("the rate must be above 0" if len(steps) == 1 else "the last rate must be above 0")
    return steps


def offered_events(rate: str, duration: float | None) -> float | None:
    """The events that a rate offers in its own time or in `duration` seconds; None when neither says how long it
    lasts."""
    *earlier, (last, seconds) = steps_of(rate)
    lasts = duration if seconds is None else seconds
    if lasts is None:
        return None
    return sum(each * (seconds or 0) for each, seconds in earlier) + last * lasts


def checked_rate(value: object) -> object:
    """Check a rate and return it as a text; values of other types are returned as they are.

    Raises:
        ValueError: as `steps_of` does.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    steps_of(str(value))
    return str(value)


def payload_sizes_of(text: str) -> list[tuple[int, float]]:
    """The sizes of payloads in bytes, each with its share in percent, from a text like 200 or 200:80%,4000:20%.

    Raises:
        ValueError: the text gives no sizes, or shares that do not add up to 100 %.
    """
    sizes: dict[int, float] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)(?:\s*:\s*([0-9]+(?:\.[0-9]+)?)\s*%)?\s*", part, re.ASCII)
        if not match or ("," in text and not match[2]):
            raise ValueError("give a number of bytes like 200, or sizes with their shares like 200:80%,4000:20%")
        size, share = int(match[1]), float(match[2] or 100)
        if size > LARGEST_PAYLOAD_BYTES:
            raise ValueError(f"must be at most {LARGEST_PAYLOAD_BYTES}")
        if size < SMALLEST_PAYLOAD_BYTES and ("," in text or size):
            raise ValueError(f"must be {'' if ',' in text else '0 or '}at least {SMALLEST_PAYLOAD_BYTES}")
        if size in sizes:
            raise ValueError("give each size once")
        sizes[size] = share
    if len(sizes) > MOST_PAYLOAD_SIZES:
        raise ValueError(f"give at most {MOST_PAYLOAD_SIZES} sizes")
    if abs(sum(sizes.values()) - 100) > _SHARES_ROUNDING:
        raise ValueError(f"the shares add up to {sum(sizes.values()):g} %, not to 100 %")
    if 0 in sizes.values():
        raise ValueError("a share must be above 0 %")
    return list(sizes.items())


def checked_payload_bytes(value: object) -> int | str:
    """Check sizes of payloads; returns one size as a number, several as a text.

    Raises:
        ValueError: as `payload_sizes_of` does.
    """
    sizes = payload_sizes_of(str(value))
    return sizes[0][0] if len(sizes) == 1 else str(value).replace(" ", "")


def checked_rate_or_find(value: object) -> object:
    """As `checked_rate`; `FIND` is allowed too."""
    return value if value == FIND else checked_rate(value)


def checked_objective(text: str) -> str:
    """Check an objective and return it in the form in which it is stored.

    Raises:
        ValueError: as `parse_objective` does.
    """
    return parse_objective(text).text


def parse_pause(value: object) -> tuple[float, float] | None:
    """Read a range of milliseconds as `parse_range` does; None stands for no pauses.

    Raises:
        ValueError: as `parse_range` does, beyond `LONGEST_PAUSE_MS`, or the range does not reach above 0.
    """
    if value is None:
        return None
    low, high = parse_range(value, LONGEST_PAUSE_MS)
    if not high:
        raise ValueError("the range must reach above 0, like 0..5ms; leave the flag out to run without pauses")
    return low, high


def range_text(range_ms: Sequence[float]) -> str:
    """A range of milliseconds as `parse_range` reads it, without the unit."""
    low, high = range_ms
    return f"{low:.15g}..{high:.15g}"


def wait_text(wait_ms: Sequence[float]) -> str:
    """A wait in milliseconds as `parse_wait` reads it: a time, or a range."""
    low, high = wait_ms
    return f"{low:.15g}ms" if low == high else f"{range_text(wait_ms)}ms"


def _checked_memory(text: str) -> str:
    size = re.fullmatch(r"([0-9]+)([kmg]?)", text, re.ASCII)
    if not size:
        raise ValueError("give a size like 512m or 4g")
    if int(size[1]) * _UNIT_BYTES[size[2]] < SMALLEST_MEMORY_BYTES:
        raise ValueError("must be at least 6m, Docker's minimum")
    return text


def _checked_constraint(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+\s*(==|!=)\s*\S+", text):
        raise ValueError("give an expression like node.labels.disk==ssd")
    return text


def _checked_dsn(text: str) -> str:
    try:
        conninfo_to_dict(text)
    except ProgrammingError as error:
        raise ValueError("not a connection string or URL that libpq understands") from error
    return text


Memory = Annotated[str, AfterValidator(_checked_memory)]
"""A number of bytes as Docker takes it, like 512m."""
Constraint = Annotated[str, AfterValidator(_checked_constraint)]
"""A condition on a swarm's nodes, like node.labels.disk==ssd."""
ObjectiveText = Annotated[str, AfterValidator(checked_objective)]
"""An objective, like end_to_end p99 < 50ms."""
Dsn = Annotated[str, Field(min_length=1), AfterValidator(_checked_dsn)]
"""A connection string or URL of libpq, which may hold a password."""
