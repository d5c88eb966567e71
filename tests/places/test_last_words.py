"""What the log of a Postgres says of its end."""

from bench.places.last_words import crashed, end_of_log

SET_UP = """LOG:  received fast shutdown request
PostgreSQL init process complete; ready for start up.
"""
CRASH = """LOG:  client backend (PID 7) was terminated by signal 9: Killed
DETAIL:  Failed process was running: SELECT 1
"""
SESSIONS = """FATAL:  terminating connection because of crash of another server process
FATAL:  the database system is in recovery mode
"""


def test_the_lines_that_say_why_are_shown_and_not_what_followed() -> None:
    log = f"{SET_UP}LOG:  database system is ready to accept connections\n{CRASH}{SESSIONS}"
    assert crashed(log)
    assert end_of_log(log) == f"the last lines of its log:\n{CRASH}".strip()


def test_where_no_line_says_why_the_last_ones_are_shown() -> None:
    log = f"{SET_UP}LOG:  one\nLOG:  two\nLOG:  three\n{SESSIONS}"
    assert not crashed(log)
    assert end_of_log(log) == f"the last lines of its log:\nLOG:  three\n{SESSIONS}".strip()
    assert end_of_log("\n") == "its log is empty"
