"""The place of a log's own error in its functions."""

import pytest

from bench.judge.stranded import line_in_function


@pytest.mark.parametrize(
    ("context", "found"),
    [
        ("PL/pgSQL function log_event(json) line 7 at SQL statement", ("log_event(json)", 7)),
        (
            'función PL/pgSQL bench.log_event(json,"x y"[]) en la línea 12 en RAISE',
            ('bench.log_event(json,"x y"[])', 12),
        ),
        ('SQL statement "INSERT INTO events_log"', None),
    ],
)
def test_a_line_of_a_function_is_found_in_any_language(context: str, found: tuple[str, int] | None) -> None:
    assert line_in_function(context) == found
