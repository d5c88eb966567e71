"""Estimates the disk that a run needs, from how PostgreSQL lays out rows, TOAST chunks and their WAL."""

from bench.run.payloads import sizes_of
from bench.spec import Spec

_PAGE_BYTES, _PAGE_SPACE = 8192, 8192 - 24
"""A page, and the part of it that rows can take."""

_POINTER_BYTES = 4

_ROW_BYTES = 24 + 8 + 8
"""A tuple's header, its etag and its ctime."""

_INDEX_BYTES = 23
"""An 8-byte key with its header and line pointer, pages 90 % full."""

_TOASTED_ROW = 2032
"""Largest row that is stored whole (TOAST_TUPLE_THRESHOLD): a larger one points to chunks that hold its payload."""

_TOAST_POINTER_BYTES = 18

_CHUNK_BYTES = 1996

_CHUNK_HEAD_BYTES = 24 + 4 + 4 + 4
"""A tuple's header, the number of the value and of the chunk, and the chunk's own header."""

_CHUNK_INDEX_BYTES = 20

_ROW_WAL_BYTES = 150
"""WAL of a row and its index entry, beyond the payload: measured on PostgreSQL 18, as the next one."""

_CHUNK_WAL_BYTES = 143

_NATURAL_PAYLOAD_BYTES = 50

_ENOUGH_ROWS = 1000
"""Rows that are laid on pages to find the average."""

_BASE_BYTES = 512 * 2**20
"""A new cluster, its first WAL segments, sorts of the audit."""

RESERVE_BYTES = 2**30
"""Free disk below which producers that append for a time are ended: they may write half of it until they all are."""

_WAL_BYTES = 2**30
"""The default of max_wal_size; a checkpoint starts before, but a log that grows fast overshoots it by half."""


def disk_bytes(spec: Spec) -> int:
    """Estimate the bytes of disk that a run needs: table, index, WAL and the cluster itself. Of a run whose producers
    append for a time, the events are not known: what it needs for the preloaded and for the first ones."""
    shares = [(*event_bytes(size), share / 100) for size, share in sizes_of(spec)]
    stored_bytes = sum(stored * share for stored, _, share in shares)
    wal_bytes = sum(wal * share for _, wal, share in shares)
    events = spec.preloaded + (spec.events or 0)
    needed = round(_BASE_BYTES + events * stored_bytes + min(events * wal_bytes, _WAL_BYTES * 3 // 2))
    return needed + RESERVE_BYTES if spec.events is None else needed


def event_bytes(payload_bytes: int) -> tuple[float, float]:
    """Estimate the bytes of an event of the log bigserial in table and indexes, and those of its WAL.

    Payloads are taken not to compress.
    """
    payload = payload_bytes or _NATURAL_PAYLOAD_BYTES
    row = _aligned(_ROW_BYTES + payload + 4)
    if row <= _TOASTED_ROW:
        return _on_pages([row]) + _INDEX_BYTES, payload + _ROW_WAL_BYTES
    whole, rest = divmod(payload, _CHUNK_BYTES)
    chunks = [_CHUNK_BYTES] * whole + [rest] * (rest > 0)
    stored = _on_pages([_aligned(_ROW_BYTES + _TOAST_POINTER_BYTES)])
    stored += _on_pages([_aligned(_CHUNK_HEAD_BYTES + chunk) for chunk in chunks])
    return (
        stored + _INDEX_BYTES + len(chunks) * _CHUNK_INDEX_BYTES,
        payload + _ROW_WAL_BYTES + _TOAST_POINTER_BYTES + len(chunks) * _CHUNK_WAL_BYTES,
    )


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _on_pages(rows: list[int]) -> float:
    """Return the bytes of pages that these rows take, on average, when they are stored again and again.

    A row that does not fit into the last page goes into an earlier page with enough space, which the free space map
    finds, or begins a new page.
    """
    times = -(-_ENOUGH_ROWS // len(rows))
    smallest = min(rows) + _POINTER_BYTES
    pages = left = 0
    holes: list[int] = []
    for row in rows * times:
        needed = row + _POINTER_BYTES
        if needed > left:
            if left >= smallest:
                holes.append(left)
            hole = next((hole for hole in holes if hole >= needed), None)
            if hole is None:
                pages, left = pages + 1, _PAGE_SPACE
            else:
                holes.remove(hole)
                left = hole
        left -= needed
    return pages * _PAGE_BYTES / times
