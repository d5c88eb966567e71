"""What a person sees of a run while it lasts, all of it on stderr: one display on a terminal, a line now and then on a
pipe, and what is said meanwhile above the one or between the others.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.quota import processors
from bench.report import screen
from bench.results.tracks import APPEND
from bench.run import environment
from bench.run.place import ChosenPlace
from bench.run.watch import Extent, Unwatched, Update, Watch
from bench.text import plural

SECONDS_A_LINE = 5.0
REFRESHES_A_SECOND = 5
IDLE_SECONDS = 2.0
"""Without progress for so long, it is said that nothing comes."""
NAME_WIDTH = 10
WIDE = 72
SPINNER = "|/-\\"

_console = Console(stderr=True, highlight=False, markup=False)


def news(chosen: ChosenPlace, *, quiet: bool = False) -> Callable[[str], None]:
    """Say on stderr which place was taken, and whether others keep the machine busy; returns what says there what is
    done next.
    """
    said = listen(quiet=quiet)
    said.info("place: %s, because %s", chosen.name, chosen.why)
    if chosen.instead_of:
        said.warning("%s", chosen.instead_of)
    busy = None if quiet else environment.busy_cores()
    if busy is not None:
        said.info("This machine is busy: other programs use %.1f of its %s. Numbers will be worse than they could be.",
                  busy, plural(processors(), "core"))  # fmt: skip
    return said.info


def listen(*, quiet: bool = False) -> logging.Logger:
    """Have on stderr what is done: all of it, or only what is a warning. Returns where more can be said."""
    handler = _AboveTheDisplay() if screen.is_terminal(sys.stderr) else _Plainly()
    logging.basicConfig(format="%(message)s", handlers=[handler])
    said = logging.getLogger("bench")
    said.setLevel(logging.WARNING if quiet else logging.INFO)
    return said


class _AboveTheDisplay(logging.Handler):
    """Prints what is said above the live display, broken between words."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        words = screen.fit(self.format(record), min(_console.width, screen.WIDEST))
        _console.print(Text.from_ansi(screen.coloured(words, sys.stderr)), soft_wrap=True)


class _Plainly(logging.Handler):
    """Prints what is said, as wide as standard error is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        _print(self.format(record))


def watch(*, quiet: bool, brief: bool = False) -> Watch:
    """How progress is shown on stderr: as a live display, as a line now and then on a pipe, or not at all.

    With `brief` nothing stays of a phase that is over, and on a pipe only what lasts is shown: for many trials.
    """
    if quiet:
        return Unwatched()
    return _Display(brief=brief) if screen.is_terminal(sys.stderr) else _Lines(brief=brief)


@dataclass
class Track:
    """How far the workers of one track are. Times are those of time.perf_counter."""

    name: str
    workers: int
    events: int
    idle_seconds: float | None = None
    """Readers are made to stop after so long without an event; None while it does not count, or for producers."""
    so_far: int = 0
    done: int = 0
    began: float | None = None
    changed: float | None = None
    """When the last event came."""
    since: float = field(default_factory=time.perf_counter)

    @property
    def who(self) -> str:
        """Its workers."""
        return plural(self.workers, "producer" if self.name == APPEND.key else "consumer")

    @property
    def over(self) -> bool:
        """Whether all of its workers are done."""
        return self.done == self.workers

    def update(self, so_far: int, done: int) -> None:
        """Note how far it is."""
        now = time.perf_counter()
        self.began = self.began or now
        if so_far != self.so_far or self.changed is None:
            self.changed = now
        self.so_far, self.done = so_far, done

    def rate(self) -> float:
        """Events/s since the gate opened, up to the last event that came."""
        if self.began is None or self.changed is None or self.changed <= self.began:
            return 0
        return self.so_far / (self.changed - self.began)

    def idle(self, now: float) -> str:
        """That nothing new comes; empty as long as something does."""
        if self.changed is None or self.over or now - self.changed < IDLE_SECONDS:
            return ""
        limit = f" of {self.idle_seconds:g}" if self.idle_seconds is not None else ""
        return f"nothing new for {now - self.changed:.0f}{limit} s"


class _Tracks:
    """The tracks of a phase. What readers can still get is known when the producers are done."""

    def __init__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> None:
        self.all = {name: Track(name, workers, events) for name, (workers, events) in tracks.items()}
        self._idle_seconds = idle_seconds
        self._count_idle_time()

    def update(self, name: str, so_far: int, done: int) -> None:
        """Note how far one is."""
        track = self.all[name]
        track.update(so_far, done)
        if name == APPEND.key and track.over and track.events:
            # Of rolled back events no reader will be given any, so that its bar would never be full.
            for each in self.all.values():
                each.events = round(each.events * so_far / track.events) if each is not track else each.events
            track.events = so_far
        self._count_idle_time()

    def _count_idle_time(self) -> None:
        appending = any(name == APPEND.key and not track.over for name, track in self.all.items())
        for name, track in self.all.items():
            track.idle_seconds = None if appending or name == APPEND.key else self._idle_seconds


def line(track: Track, now: float, columns: int) -> str:
    """A track as one line of a display, at most this many columns wide; bars of all tracks are as long."""
    share = 1.0 if track.over else min(track.so_far / track.events, 1.0) if track.events else 0.0
    bar_width = 10 if columns >= WIDE else 6
    full = int(share * bar_width)
    bar = f"{'#' * full:.<{bar_width}}"
    idle = track.idle(now)
    seconds = f"{now - (track.began or track.since):.0f} s"
    if track.began is None:
        parts = [bar, f"starting {track.who}", seconds]
    elif columns < WIDE:
        parts = [idle] if idle else [bar, f"{share:>4.0%}", f"{track.rate():>9,.0f}/s", seconds]
    else:
        count = f"{track.so_far:>{len(f'{track.events:,}')},}/{track.events:,}"
        done = f"{track.done} of {track.who} done"
        parts = [bar, count, idle or f"{track.rate():>9,.0f}/s", seconds, done]
    shown = f"{track.name:<{NAME_WIDTH}}"
    for part in parts:
        if len(shown) + 1 + len(part) > columns:
            break
        shown += f" {part}"
    return shown[:columns]


class _Display:
    """A live display on a terminal."""

    def __init__(self, *, brief: bool) -> None:
        self._brief = brief

    @contextmanager
    def __call__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> Iterator[Update]:
        """Show a bar for each track."""
        known = _Tracks(tracks, idle_seconds)

        def shown() -> Text:
            now = time.perf_counter()
            columns = min(_console.width - 1, screen.WIDEST)
            return Text("\n".join(line(track, now, columns) for track in known.all.values()))

        with self._live(shown, transient=self._brief):
            yield known.update

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show that something lasts."""
        began = time.perf_counter()

        def shown() -> Text:
            seconds = time.perf_counter() - began
            spinner = SPINNER[int(seconds * REFRESHES_A_SECOND) % len(SPINNER)]
            return Text(f"{spinner} {name} {seconds:.0f} s")

        with self._live(shown, transient=True):
            yield

    def _live(self, shown: Callable[[], Text], *, transient: bool) -> Live:
        return Live(get_renderable=shown, console=_console, refresh_per_second=REFRESHES_A_SECOND, transient=transient)


class _Lines:
    """A line when something begins, and one every few seconds while it lasts."""

    def __init__(self, *, brief: bool) -> None:
        self._brief = brief

    @contextmanager
    def __call__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> Iterator[Update]:
        """Say how far the tracks are."""
        known = _Tracks(tracks, idle_seconds)
        said: dict[str, tuple[float, int]] = {}
        for track in known.all.values():
            self._begin(f"{track.name}: starting {track.who}")

        def update(name: str, so_far: int, done: int) -> None:
            known.update(name, so_far, done)
            track, now = known.all[name], time.perf_counter()
            if name not in said:
                said[name] = now, 0
                self._begin(f"{name}: {track.who} started")
            elif now - said[name][0] >= SECONDS_A_LINE or (track.over and said[name][1] < done and not self._brief):
                said[name] = now, done
                idle = track.idle(now)
                _print(
                    f"{name}: {track.so_far:,} of {track.events:,} events, {track.rate():,.0f} events/s, "
                    f"{track.done} of {track.who} done{f', {idle}' if idle else ''}"
                )

        yield update

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say that something lasts."""
        began = time.perf_counter()
        self._begin(name)
        over = threading.Event()

        def remind() -> None:
            while not over.wait(SECONDS_A_LINE):
                _print(f"{name}: {time.perf_counter() - began:.0f} s")

        reminder = threading.Thread(target=remind, daemon=True)
        reminder.start()
        try:
            yield
        finally:
            over.set()
            reminder.join()

    def _begin(self, words: str) -> None:
        if not self._brief:
            _print(words)


def _print(words: str) -> None:
    print(screen.shown(words, sys.stderr), file=sys.stderr, flush=True)
