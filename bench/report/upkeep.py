"""What was found on a machine, in the words that people read."""

from bench.doctor import Finding
from bench.report.screen import HANG


def finding(found: Finding) -> str:
    """One thing that was looked at, as a line whose text hangs."""
    return f"{found.state:<8} {found.about:<16} {HANG}{found.text}"
