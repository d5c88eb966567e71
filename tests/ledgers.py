"""Showing events to a consumer's ledger, without a database."""

from collections.abc import Sequence

from consumer.ledger import Ledger, Page

Row = tuple[int, int, bytes]
"""etag, ctime, payload."""


def see(ledger: Ledger, rows: Sequence[Row], at: float = 0) -> None:
    """Let a ledger take rows as one page and look at them."""
    ledger.take(
        Page(
            [etag.to_bytes(8, "big", signed=True) for etag, _, _ in rows],
            [ctime.to_bytes(8, "big", signed=True) for _, ctime, _ in rows],
            [payload for _, _, payload in rows],
        )
    )
    for _ in ledger.look(at):
        pass
