"""The record of a search for the highest offered load that meets objectives (`--rate find`)."""

from pydantic import Field

from bench.results.base import StoredModel


class Figure(StoredModel):
    """A figure that an objective bounds."""

    objective: str
    """Like end_to_end p99 < 50ms."""
    value: float
    """Milliseconds, events per second, or a number of events, by the metric of the objective."""
    met: bool
    """Whether the figure meets the objective."""


class Window(StoredModel):
    """A trial of a search: a load that was offered for some time to a new log."""

    events_per_second: float
    """Offered."""
    seconds: float
    """The time for which the load was offered."""
    confirms: bool = False
    """Whether it lasted as long as the result of the search has to hold."""
    achieved_per_second: float
    """As in `Offered`."""
    achieved_share: float
    """Of the offered events per second, those that were answered, rolled-back events included."""
    saturated: bool
    """As in `Offered`."""
    below_best: bool
    """Whether fewer events per second were answered than in a window with a lower load that held."""
    figures: list[Figure]
    """One per objective."""
    generator_bound: bool
    """Whether the producers, and not PostgreSQL, added to the latencies or set the pace: as in `Offered`, or as
    `client_bound` in `Append`."""
    held: bool
    """Whether the load was achieved and every objective met: neither `saturated` nor `below_best`, and all `figures`
    met."""


class Search(StoredModel):
    """The windows of a search in their order, and its answer. A load fails when two windows in a row fail."""

    objectives: list[str]
    windows: list[Window] = Field(default=[])
    events_per_second: float | None = None
    """The highest load that holds; None when none does, and before the search is over."""
    over: bool = False
    """False when the search ended before it had an answer: interrupted, by an error, or by a failed verdict."""

    @property
    def confirmation(self) -> Window | None:
        """The last window that confirmed the load that was found."""
        confirmed = [
            window
            for window in self.windows
            if window.confirms and window.held and window.events_per_second == self.events_per_second
        ]
        return confirmed[-1] if confirmed else None

    @property
    def failed(self) -> Window | None:
        """The last window with the lowest load above the answer that did not hold."""
        least = self.events_per_second or 0.0
        failed = [window for window in self.windows if not window.held and window.events_per_second > least]
        return min(reversed(failed), key=lambda window: window.events_per_second, default=None)
