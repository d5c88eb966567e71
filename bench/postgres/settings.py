"""Compares values of PostgreSQL settings by meaning: `on` is `true`, 33MB is 33792kB, 1s is 1000ms. Pure.

Source: PostgreSQL's manual, "Parameter Names and Values", and guc.c (parse_bool, parse_int, parse_real).
"""

import math
import re

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_OLD_WORDS = {"archive": "replica", "hot_standby": "replica", "debug": "debug2"}
"""Old words that some enums accept, and the words that they show for them."""

_BYTES = {"B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_MICROSECONDS = {"us": 1, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6, "d": 86_400e6}
_UNITS = _BYTES | _MICROSECONDS
_QUANTITY = re.compile(r"\s*([+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))\s*([A-Za-z]*)\s*")
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",]*?))\s*(?:,|$)')

_SHOWN_DIGITS = 1e-5
"""pg_settings shows real numbers with six digits."""


def alike(wanted: str, has: str, kind: str, unit: str | None) -> bool:
    """Whether two texts mean the same value of a setting.

    `has` is as pg_settings shows it: in `unit` (like kB, 8kB or ms) where the text has no unit of its own. `kind` is
    pg_settings' vartype.
    """
    if wanted == has:
        return True
    match kind:
        case "bool":
            return _truth(wanted) is not None and _truth(wanted) == _truth(has)
        case "integer" | "real":
            return _same_quantity(wanted, has, kind, unit)
        case "enum":
            return _word(wanted) == _word(has)
    return _elements(wanted) == _elements(has)


def _truth(text: str) -> bool | None:
    """Parse a Boolean value; any prefix that fits one value only will do. None for any other text."""
    start = text.strip().lower()
    values = {value for word, value in _BOOLEANS.items() if start and word.startswith(start)}
    return values.pop() if len(values) == 1 else None


def _word(text: str) -> str:
    """The present word for an enum's value; enums that have the words `on` and `off` accept Boolean values for them."""
    word = text.strip().lower()
    if word in _BOOLEANS:
        return "on" if _BOOLEANS[word] else "off"
    return _OLD_WORDS.get(word, word)


def _same_quantity(wanted: str, has: str, kind: str, unit: str | None) -> bool:
    asked, shown = _quantity(wanted, unit), _quantity(has, unit)
    if asked is None or shown is None:
        return False
    if kind == "real":
        return math.isclose(asked, shown, rel_tol=_SHOWN_DIGITS)
    # PostgreSQL rounds once to the next smaller unit, and once to a whole number.
    return abs(asked - shown) <= (_next_smaller_unit(wanted) / _base(unit) + 1) / 2


def _quantity(text: str, unit: str | None) -> float | None:
    """A number in the base unit of a setting; None for a text that is no number or has a unit of another dimension."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    number, own = match.groups()
    value = float(int(number, 16)) if "x" in number.lower() else _octal_or_decimal(number)
    if not own:
        return value
    dimension = next((units for units in (_BYTES, _MICROSECONDS) if own in units), None)
    if dimension is None or unit is None or unit.lstrip("0123456789") not in dimension:
        return None
    return value * _UNITS[own] / _base(unit)


def _octal_or_decimal(number: str) -> float:
    """A number as C's strtol reads it: one that begins with 0 is octal."""
    return float(int(number, 8)) if re.fullmatch(r"0[0-7]+", number) else float(number)


def _next_smaller_unit(text: str) -> float:
    """The unit that a fraction is rounded to, in bytes or microseconds: 30.1GB are 30822MB. 0 where there is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None or "." not in match[1] or not match[2]:
        return 0
    units = _BYTES if match[2] in _BYTES else _MICROSECONDS
    return max((size for size in units.values() if size < units[match[2]]), default=0)


def _base(unit: str | None) -> float:
    """Bytes or microseconds of a setting's unit, like 8kB; 1 where it has none."""
    match = re.fullmatch(r"(\d*)([A-Za-z]+)", unit or "")
    return int(match[1] or 1) * _UNITS[match[2]] if match else 1


def _elements(text: str) -> list[str]:
    """A list's elements, without blanks around commas and without quotes."""
    elements = []
    place = 0
    while place <= len(text):
        element = _ELEMENT.match(text, place)
        if element is None:
            return [text]
        elements.append(element[2] if element[1] is None else element[1].replace('""', '"'))
        if element.end() == len(text) and not text[place : element.end()].endswith(","):
            break
        place = element.end()
    return elements
