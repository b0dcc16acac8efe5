"""The exceptions whose message is shown to the user without a traceback, each with its exit code."""


class FerError(Exception):
    """A mistake the user can mend: bad input, a refused configuration, a missing file.

    The message says what was wrong, where, and what to do. `__main__` prints it alone and exits with `exit_code`.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        # A loader process re-raises with its traceback as the message; the last part is what was said.
        marker = f"{type(self).__name__}: "
        in_worker = message.startswith("Caught ") and marker in message
        super().__init__(message.rpartition(marker)[2].strip() if in_worker else message)


class AuditFailedError(FerError):
    """An audit was done, and found what it was asked to fail on."""

    exit_code = 3


class CheckFailedError(FerError):
    """A recipe was checked, and something it needs to train failed."""

    exit_code = 3


class GateFailedError(FerError):
    """A candidate was judged, and breaks a limit it was given."""

    exit_code = 3


class NoRowsError(FerError):
    """A split that was asked for has no rows."""


class FinishedRunError(FerError):
    """A run that was asked to go on has nothing left to do."""


class RunLockedError(FerError):
    """Another process holds the run directory."""

    exit_code = 4


class TrainingError(FerError):
    """Training started and could not go on: non-finite loss, lost lock, failed parity check."""

    exit_code = 5
