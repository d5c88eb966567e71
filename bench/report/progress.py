"""Progress of a run on stderr: a live display on a terminal, a line every few seconds on a pipe."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.report import screen
from bench.results.tracks import APPEND
from bench.run.watch import Extent, Unwatched, Update, Watch
from bench.text import plural

SECONDS_PER_LINE = 5.0
REFRESHES_PER_SECOND = 5
IDLE_SECONDS = 2.0
"""A track without a new event for longer than this is shown as idle."""
NAME_WIDTH = 10
WIDE = 72
SPINNER = "|/-\\"

CONSOLE = Console(stderr=True, highlight=False, markup=False)


def watch(*, quiet: bool, brief: bool = False) -> Watch:
    """How progress is shown on stderr: as a live display, as lines on a pipe, or not at all if `quiet`.

    With `brief`, for many trials, the display of a phase is removed at its end, and a pipe gets lines only of phases
    and steps that last longer than `SECONDS_PER_LINE`.
    """
    if quiet:
        return Unwatched()
    return _Display(brief=brief) if screen.is_terminal(sys.stderr) else _Lines(brief=brief)


@dataclass
class Track:
    """Progress of the workers of one track. Times are those of time.perf_counter."""

    name: str
    workers: int
    events: int | None
    """Events of all workers together; None while that is not known, because producers append for `seconds`."""
    idle_seconds: float | None = None
    """Readers are stopped after this time without an event; None for producers, and while producers still append."""
    so_far: int = 0
    done: int = 0
    began: float | None = None
    changed: float | None = None
    """When the last event came."""
    created: float = field(default_factory=time.perf_counter)
    times: int = 1
    """How many times each event is appended or read."""
    seconds: float | None = None
    """As in `Extent`."""

    @property
    def workers_text(self) -> str:
        """The number and kind of the workers."""
        return plural(self.workers, "producer" if self.name == APPEND.key else "consumer")

    @property
    def over(self) -> bool:
        """Whether all workers are done."""
        return self.done == self.workers

    def update(self, so_far: int, done: int) -> None:
        """Note the events so far, and the workers that are done."""
        now = time.perf_counter()
        self.began = self.began or now
        if so_far != self.so_far or self.changed is None:
            self.changed = now
        self.so_far, self.done = so_far, done

    def share(self, now: float) -> float:
        """The share that is done: of the events, or of the time."""
        if self.over:
            return 1.0
        if self.seconds is not None:
            return min((now - self.began) / self.seconds, 1.0) if self.began else 0.0
        return min(self.so_far / self.events, 1.0) if self.events else 0.0

    def rate(self) -> float:
        """Events/s from the workers' start to the last event."""
        if self.began is None or self.changed is None or self.changed <= self.began:
            return 0
        return self.so_far / (self.changed - self.began)

    def idle(self, now: float) -> str:
        """For how long no event has come; empty while events come."""
        if self.changed is None or self.over or now - self.changed < IDLE_SECONDS:
            return ""
        limit = f" of {self.idle_seconds:g}" if self.idle_seconds is not None else ""
        return f"nothing new for {now - self.changed:.0f}{limit} s"


class _Tracks:
    """The tracks of a phase. The number of events that readers can get is known when the producers are done; while
    producers append for a time, it is what they have appended so far."""

    def __init__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> None:
        self.all = {
            name: Track(name, workers, events, times=times, seconds=seconds)
            for name, (workers, events, times, seconds) in tracks.items()
        }
        self._idle_seconds = idle_seconds
        self._count_idle_time()

    def update(self, name: str, so_far: int, done: int) -> None:
        """Note the progress of one track."""
        track = self.all[name]
        track.update(so_far, done)
        if name == APPEND.key and (track.over or track.seconds is not None):
            # Readers never get rolled-back events: their bars would never be full.
            for each in self.all.values():
                if each is not track or track.over:
                    each.events = so_far * each.times
        self._count_idle_time()

    def _count_idle_time(self) -> None:
        appending = any(name == APPEND.key and not track.over for name, track in self.all.items())
        for name, track in self.all.items():
            track.idle_seconds = None if appending or name == APPEND.key else self._idle_seconds


def line(track: Track, now: float, columns: int) -> str:
    """One track as a line of at most `columns` columns. The bars of all tracks are equally long."""
    share = track.share(now)
    bar_width = 10 if columns >= WIDE else 6
    full = int(share * bar_width)
    bar = f"{'#' * full:.<{bar_width}}"
    idle = track.idle(now)
    of = "" if track.seconds is None or track.over or track.began is None else f" of {track.seconds:g}"
    seconds = f"{now - (track.began or track.created):.0f}{of} s"
    if track.began is None:
        parts = [bar, f"starting {track.workers_text}", seconds]
    elif columns < WIDE:
        parts = [idle] if idle else [bar, f"{share:>4.0%}", f"{track.rate():>9,.0f}/s", seconds]
    else:
        events = f"{track.events:,}" if track.events is not None else ""
        count = f"{track.so_far:>{len(events)},}/{events}" if events else f"{track.so_far:,}"
        done = f"{track.done} of {track.workers_text} done"
        parts = [bar, count, idle or f"{track.rate():>9,.0f}/s", seconds, done]
    shown = f"{track.name:<{NAME_WIDTH}}"
    for part in parts:
        if len(shown) + 1 + len(part) > columns:
            break
        shown += f" {part}"
    return shown[:columns]


@dataclass(frozen=True)
class _Display:
    """A live display on a terminal."""

    brief: bool

    @contextmanager
    def __call__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> Iterator[Update]:
        """Show a bar for each track."""
        phase = _Tracks(tracks, idle_seconds)

        def shown() -> Text:
            now = time.perf_counter()
            columns = min(CONSOLE.width - 1, screen.WIDEST)
            return Text("\n".join(line(track, now, columns) for track in phase.all.values()))

        with self._live(shown, transient=self.brief):
            yield phase.update

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step and its seconds."""
        began = time.perf_counter()

        def shown() -> Text:
            seconds = time.perf_counter() - began
            spinner = SPINNER[int(seconds * REFRESHES_PER_SECOND) % len(SPINNER)]
            return Text(f"{spinner} {name} {seconds:.0f} s")

        with self._live(shown, transient=True):
            yield

    def _live(self, shown: Callable[[], Text], *, transient: bool) -> Live:
        return Live(get_renderable=shown, console=CONSOLE, refresh_per_second=REFRESHES_PER_SECOND, transient=transient)


@dataclass(frozen=True)
class _Lines:
    """A line when something begins, and one every few seconds while it lasts."""

    brief: bool

    @contextmanager
    def __call__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> Iterator[Update]:
        """Print a line per track every few seconds."""
        phase = _Tracks(tracks, idle_seconds)
        printed: dict[str, tuple[float, int]] = {}
        for track in phase.all.values():
            self._begin(f"{track.name}: starting {track.workers_text}")

        def update(name: str, so_far: int, done: int) -> None:
            phase.update(name, so_far, done)
            track, now = phase.all[name], time.perf_counter()
            if name not in printed:
                printed[name] = now, 0
                self._begin(f"{name}: {track.workers_text} started")
            elif now - printed[name][0] >= SECONDS_PER_LINE or (
                track.over and printed[name][1] < done and not self.brief
            ):
                printed[name] = now, done
                idle = track.idle(now)
                of = "" if track.events is None else f" of {track.events:,}"
                _print(
                    f"{name}: {track.so_far:,}{of} events, {track.rate():,.0f} events/s, "
                    f"{track.done} of {track.workers_text} done{f', {idle}' if idle else ''}"
                )

        yield update

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the step, then its seconds every few seconds."""
        began = time.perf_counter()
        self._begin(name)
        over = threading.Event()

        def remind() -> None:
            while not over.wait(SECONDS_PER_LINE):
                _print(f"{name}: {time.perf_counter() - began:.0f} s")

        reminder = threading.Thread(target=remind, daemon=True)
        reminder.start()
        try:
            yield
        finally:
            over.set()
            reminder.join()

    def _begin(self, text: str) -> None:
        if not self.brief:
            _print(text)


def _print(text: str) -> None:
    print(screen.shown(text, sys.stderr), file=sys.stderr, flush=True)
