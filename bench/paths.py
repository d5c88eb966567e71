"""The project's own files: the only module that distinguishes a checkout from a wheel."""

from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent
"""The folder that holds the packages `bench`, `producers` and `consumer`."""

_INSTALLED = PACKAGES / "bench" / "sql"
_HOME = _INSTALLED.parent if _INSTALLED.is_dir() else PACKAGES

SQL = _HOME / "sql"
"""The logs that ship, one folder each."""

COMPOSE = _HOME / "compose"
"""Dockerfiles, and the files that belong to them."""
