"""Replaces the generated sections of a page, between markers."""

import re
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UsageError
from bench.output import write

_SECTION = re.compile(r"(<!-- bench (?P<name>[a-z ]+): begin -->\n).*?(<!-- bench (?P=name): end -->)", re.DOTALL)


def read(file: Path) -> str:
    """Read a page that has markers, like `<!-- bench NAME: begin -->`.

    Raises:
        UsageError: the file cannot be read, or has no markers.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except IsADirectoryError as error:
        raise UsageError(
            f"{file}: this is a directory; give a page with markers, and the directory of the results with --from"
        ) from error
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    if not _SECTION.search(text):
        raise UsageError(
            f"{file}: no markers; put <!-- bench table: begin --> and <!-- bench table: end --> where the table belongs"
        )
    return text


def rewrite(file: Path, sections: Mapping[str, str]) -> bool:
    """Put each section between its markers in the page; returns whether the page changed.

    Raises:
        UsageError: the file cannot be read, has no markers, or has markers of a section that is not in `sections`.
        InfrastructureError: the file cannot be written; it is unchanged.
    """
    text = read(file)

    def filled(section: re.Match[str]) -> str:
        if section["name"] not in sections:
            raise UsageError(
                f"{file}: no stored record fills the markers `bench {section['name']}`; store one or remove them"
            )
        return f"{section[1]}\n{sections[section['name']]}\n\n{section[3]}"

    changed = _SECTION.sub(filled, text)
    if changed != text:
        write(file, changed)
    return changed != text
