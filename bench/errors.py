"""What can go wrong, each with its exit code; the message is the sentence that the user reads."""


class BenchError(Exception):
    """A run that cannot go on. The message says what is wrong and what to do."""

    exit_code = 3


class UsageError(BenchError):
    """A flag, a file or a log that cannot be used as it is."""

    exit_code = 2


class SettingRefusedError(UsageError):
    """Postgres starts without its settings and not with them. Who knows where they were given says so."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Postgres says: {reason}")
        self.reason = reason
        """What Postgres says, in which the setting may be named."""


class InfrastructureError(BenchError):
    """Something that the harness needs is missing or broke: Docker, Postgres, disk, a worker."""

    exit_code = 3


class NotStartedError(InfrastructureError):
    """A Postgres of ours ended while it was being started."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Postgres did not start: {reason}")
        self.reason = reason
        """What it printed last."""


class NoComparisonError(BenchError):
    """Two results that say nothing about each other, or one that is not there."""

    exit_code = 5
