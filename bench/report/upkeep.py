"""The lines of `bench doctor`."""

from bench.doctor import Finding
from bench.report.screen import HANG


def finding(found: Finding) -> str:
    """One finding as a line."""
    return f"{found.state:<8} {found.about:<16} {HANG}{found.text}"
