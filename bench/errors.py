"""What can go wrong, each with its exit code; the message is the sentence that the user reads."""


class BenchError(Exception):
    """A run that cannot go on. The message says what is wrong and what to do."""

    exit_code = 3


class BadInputError(BenchError):
    """A flag, a file or a log that cannot be used as it is."""

    exit_code = 2


class OutsideError(BenchError):
    """Something that the harness needs is missing or broke: Docker, Postgres, disk, a worker."""

    exit_code = 3


class NotComparableError(BenchError):
    """Two results that say nothing about each other, or one that is not there."""

    exit_code = 5
