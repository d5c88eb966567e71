"""How far the tracks of a phase are, over time."""

from collections.abc import Mapping, Sequence

from bench.results.series import Sample
from bench.results.tracks import Track
from bench.run.outcome import Outcome
from bench.run.watch import Update

SAMPLE_SECONDS = 0.5
"""Progress is stored this often, however many workers report theirs, and less often in a long phase."""
MOST_SAMPLES = 500
"""Samples of progress that are stored of a track; of more, every second one is dropped."""


class TrackProgress:
    """How far each track is: shown whenever a record came, sampled for the result, and left alone once it is done."""

    def __init__(self, tracks: Mapping[Track, Sequence[Outcome]], update: Update) -> None:
        self._going = dict(tracks)
        self._update = update
        self._seconds = dict.fromkeys(tracks, SAMPLE_SECONDS)
        """Distance of the samples of each track."""
        self.series: dict[Track, list[Sample]] = {track: [] for track in tracks}
        """As in `TrackOutcome`."""
        for track in tracks:
            update(track.key, 0, 0)

    def note(self, seconds: float) -> None:
        """Note how far the tracks are, this many seconds after the barrier was lifted."""
        for track, workers in list(self._going.items()):
            events, done = sum(worker.events for worker in workers), sum(worker.done for worker in workers)
            samples = self.series[track]
            if done == len(workers):
                del self._going[track]
            if track not in self._going or not samples or seconds - samples[-1].seconds >= self._seconds[track]:
                if len(samples) >= MOST_SAMPLES:
                    del samples[1::2]
                    self._seconds[track] *= 2
                samples.append(Sample(seconds=seconds, events=events))
            self._update(track.key, events, done)
