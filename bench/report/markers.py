"""Rewrites what is generated in a page, between markers. Knows no tables."""

import re
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UsageError
from bench.output import write

_SECTION = re.compile(r"(<!-- bench (?P<name>[a-z ]+): begin -->\n).*?(<!-- bench (?P=name): end -->)", re.DOTALL)


def rewrite(file: Path, sections: Mapping[str, str]) -> bool:
    """Put each section of this page between its markers, like `<!-- bench NAME: begin -->`; True when that changed it.

    Raises:
        UsageError: the file cannot be read, has no markers, or has those of a section that is not there.
        InfrastructureError: it cannot be written; it is as it was then.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    if not _SECTION.search(text):
        raise UsageError(f"{file}: a table belongs between <!-- bench table: begin --> and <!-- bench table: end -->")

    def filled(section: re.Match[str]) -> str:
        if section["name"] not in sections:
            raise UsageError(f"{file}: there is nothing to put between its markers `bench {section['name']}`")
        return f"{section[1]}\n{sections[section['name']]}\n\n{section[3]}"

    changed = _SECTION.sub(filled, text)
    if changed != text:
        write(file, changed)
    return changed != text
