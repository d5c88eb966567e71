"""Pages with generated parts."""

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.report import markers

BEGIN, END = "<!-- bench table: begin -->\n", "<!-- bench table: end -->"


def test_a_page_is_rewritten_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f"before\n{BEGIN}old\n{END}\nbetween\n{BEGIN.replace('table', 'logs')}{END.replace('table', 'logs')}\n"
    )
    sections = {"table": "| new |", "logs": r"\1 stays as it is", "unused": "x"}
    assert markers.rewrite(page, sections) is True
    assert page.read_text() == (
        f"before\n{BEGIN}\n| new |\n\n{END}\nbetween\n"
        f"{BEGIN.replace('table', 'logs')}\n\\1 stays as it is\n\n{END.replace('table', 'logs')}\n"
    )
    assert markers.rewrite(page, sections) is False


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no markers", "<!-- bench table: begin -->"),
        (BEGIN, "<!-- bench table: begin -->"),
        (BEGIN + END.replace("table", "logs"), "<!-- bench table: begin -->"),
        (BEGIN.replace("table", "logs") + END.replace("table", "logs"), "`bench logs`"),
    ],
)
def test_a_page_that_cannot_be_filled_is_refused_and_left_alone(tmp_path: Path, text: str, says: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UsageError, match=says):
        markers.rewrite(page, {"table": "x"})
    assert page.read_text() == text


def test_a_directory_in_place_of_a_page_is_refused_with_the_flag_for_directories(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"directory; .*--from"):
        markers.read(tmp_path)
