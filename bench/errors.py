"""The errors, each with its exit code; the message is the sentence that the user reads."""


class BenchError(Exception):
    """A run that cannot go on. The message says what failed, why, and what to do."""

    exit_code = 3


class UsageError(BenchError):
    """A flag, a file or a log that cannot be used as it is."""

    exit_code = 2


class SettingRefusedError(UsageError):
    """Postgres starts without its settings, but not with them. The code that knows where the settings were given adds
    the source of the setting."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Postgres says: {reason}")
        self.reason = reason
        """Postgres's own message, which may name the setting."""


class InfrastructureError(BenchError):
    """Something that the harness needs is missing or broke: Docker, Postgres, disk, a worker."""

    exit_code = 3


class NotStartedError(InfrastructureError):
    """A Postgres of ours ended while it was being started."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Postgres did not start: {reason}")
        self.reason = reason
        """The last lines that it printed."""


class NoComparisonError(BenchError):
    """Two results that cannot be compared, or a result that does not exist."""

    exit_code = 5
