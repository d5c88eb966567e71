"""Showing events to a consumer's ledger, without a database."""

from collections.abc import Sequence

from consumer.ledger import Ledger
from consumer.rows import Page, row

Row = tuple[int, int, bytes]
"""etag, ctime, payload."""


def page(rows: Sequence[Row], *more: bytes | None) -> Page:
    """Rows as the server would send them, each with further columns after the payload."""
    sent = [
        row([etag.to_bytes(8, "big", signed=True), ctime.to_bytes(8, "big", signed=True), payload, *more])
        for etag, ctime, payload in rows
    ]
    return Page(b"".join(sent), len(rows))


def see(ledger: Ledger, rows: Sequence[Row], at: float = 0) -> None:
    """Let a ledger take rows as one page and look at them."""
    ledger.take(page(rows))
    for _ in ledger.look(at):
        pass
