"""Puts a search for the highest offered load into words: a line per window, a table, a sentence."""

from bench.objectives import parse_objective
from bench.report.tabular import Form
from bench.results.search import Figure, Search, Window
from bench.text import number


def line(place: int, window: Window) -> str:
    """A window in one line: what was offered, whether it held, and the figures."""
    name = "confirmation, window" if window.confirms else "window"
    outcome = "held" if window.held else "did not hold"
    clauses = [
        f"achieved {number(window.achieved_per_second)}/s",
        *(_bounded(figure) for figure in window.figures),
        *_not_achieved(window),
        *(["generator-bound"] if window.generator_bound else []),
    ]
    return f"{name} {place}: {_load(window)} for {_time(window)}: {outcome}; {', '.join(clauses)}"


def table(search: Search, form: Form) -> str:
    """A row per window; there is at least one."""
    rows = [
        {
            "window": f"{place}",
            "offered/s": number(window.events_per_second),
            "seconds": f"{window.seconds:.3g}",
            "achieved/s": number(window.achieved_per_second),
            **{_bounds(figure): _value(figure) for figure in window.figures},
            "held": _held(window),
        }
        for place, window in enumerate(search.windows, 1)
    ]
    return form(rows, [name for name in rows[0] if name != "held"])


def sentence(search: Search) -> str:
    """The answer of a search that is over, without its full stop."""
    confirmed, failed = search.confirmation, search.failed
    if confirmed is None:
        least = f": at {_load(failed)} for {_time(failed)}, the lowest one tried, {_misses(failed)}" if failed else ""
        return f"no rate holds{least}"
    met = ", ".join(map(_bounded, confirmed.figures))
    text = f"highest rate that holds: {number(confirmed.events_per_second)} events/s for {_time(confirmed)} ({met})"
    if failed:
        text += f", at {_load(failed)}: {_misses(failed)}"
    if confirmed.generator_bound or (failed and failed.generator_bound):
        text += "; generator-bound: producers were late or busy themselves, and PostgreSQL may hold more"
    return text


def _held(window: Window) -> str:
    if window.held:
        return "yes, confirmed" if window.confirms else "yes"
    missed = [parse_objective(figure.objective).name for figure in window.figures if not figure.met]
    return f"no: {', '.join([*missed, *_not_achieved(window)])}"


def _misses(window: Window) -> str:
    """The figures that missed their objectives, and the other reasons why a load did not hold."""
    missed = [_bounded(figure) for figure in window.figures if not figure.met]
    achieved = f"({number(window.achieved_per_second)}/s achieved)"
    return ", ".join([*missed, *(f"{reason} {achieved}" for reason in _not_achieved(window))])


def _not_achieved(window: Window) -> list[str]:
    if window.saturated:
        return ["saturated"]
    return ["less than at a lower rate"] if window.below_best else []


def _load(window: Window) -> str:
    return f"{number(window.events_per_second)}/s"


def _time(window: Window) -> str:
    return f"{window.seconds:.3g} s"


def _value(figure: Figure) -> str:
    return parse_objective(figure.objective).shown(figure.value)


def _bounds(figure: Figure) -> str:
    """A figure's name and its bound: end_to_end p99 < 50 ms."""
    objective = parse_objective(figure.objective)
    return f"{objective.name} {objective.shown_bound}"


def _bounded(figure: Figure) -> str:
    """A figure with its value and its bound: end_to_end p99 31 ms < 50 ms, end_to_end p99 88 ms (not < 50 ms)."""
    objective = parse_objective(figure.objective)
    bound = objective.shown_bound if figure.met else f"(not {objective.shown_bound})"
    return f"{objective.name} {_value(figure)} {bound}"
