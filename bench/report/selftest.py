"""The table of `bench selftest`, line by line as its checks are made."""

from collections.abc import Sequence

from bench.kinds import KINDS
from bench.selftest.checks import Check

HEADING = f"{'planted':<12} {'where':<34} {'events':>9}   found"


def line(check: Check) -> str:
    """One check: what was planted, what was found, and WRONG if they do not match."""
    counts = {kind: getattr(check.verdict, kind) for kind in KINDS if getattr(check.verdict, kind)}
    found = ", ".join(f"{number:,} {kind}" for kind, number in counts.items()) or "nothing"
    events = f"{check.events:,}" if check.events else ""
    return f"{check.planted:<12} {check.place:<34} {events:>9}   {found}{'' if check.ok else '   WRONG'}"


def outcome(checks: Sequence[Check]) -> str:
    """How many checks passed."""
    passed = sum(check.ok for check in checks)
    warning = "" if passed == len(checks) else ": the checker cannot be trusted"
    return f"{passed} of {len(checks)} checks passed{warning}"
