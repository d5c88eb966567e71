"""Where the project's own files are: the one place that knows checkout from wheel."""

from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent
"""The folder that holds the packages `bench`, `producers` and `consumer`."""

_INSTALLED = PACKAGES / "bench" / "sql"
_HOME = _INSTALLED.parent if _INSTALLED.is_dir() else PACKAGES

SQL = _HOME / "sql"
"""The logs that ship, a folder each."""

COMPOSE = _HOME / "compose"
"""Dockerfiles and what goes with them."""
