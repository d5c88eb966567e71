"""Watches the free disk while producers append for a time: how much they will append cannot be estimated before."""

import time
from collections.abc import Callable

from bench.run.disk import RESERVE_BYTES

LOOK_SECONDS = 2.0


class DiskWatch:
    """Decides whether producers must end because the disk is nearly full."""

    def __init__(self, free_bytes: Callable[[], int | None]) -> None:
        """`free_bytes` returns the free disk where the log is; None where that cannot be seen from here."""
        self._free_bytes = free_bytes
        self._began_pc = self._due_pc = time.perf_counter()
        self.note = ""
        """A clause for the result; empty unless the disk was nearly full."""

    def is_nearly_full(self) -> bool:
        """Whether less than `RESERVE_BYTES` were free at a look; the disk is looked at every two seconds."""
        now_pc = time.perf_counter()
        if not self.note and now_pc >= self._due_pc:
            self._due_pc = now_pc + LOOK_SECONDS
            free = self._free_bytes()
            if free is not None and free < RESERVE_BYTES:
                self.note = (
                    f"producers were ended after {now_pc - self._began_pc:.0f} s, before --duration was over, because "
                    f"only {free / 2**30:.1f} GiB of disk were free"
                )
        return bool(self.note)
