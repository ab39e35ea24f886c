"""Failures: one closed list of reasons, a message for people and the kind of remedy.

Adapters translate foreign errors into a `Failure` once; connectors decide by its `remedy`, the status shows its
`reason` and `message`. A message names what was expected, what came and what to do next, and never holds a secret.
"""

from enum import Enum, auto

from buildkite_connector.model.reason import Reason

__all__ = ("Failure", "Reason", "Remedy", "internal_error")


class Remedy(Enum):
    """What fixes a failure: a retry, new credentials, or an edit of the resource."""

    RETRY = auto()
    CREDENTIALS = auto()
    EDIT = auto()


class Failure(Exception):  # noqa: N818
    """An error with a reason, a message for people and its remedy.

    `retry_after`: the server's lower bound, in seconds, for a retry.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        remedy: Remedy = Remedy.RETRY,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy
        self.retry_after = retry_after

    def without_traceback(self) -> "Failure":
        """A copy without traceback and cause, so that a stored failure keeps no stack frames alive."""
        return Failure(self.reason, self.message, remedy=self.remedy, retry_after=self.retry_after)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason.value}: {self.message})"


def internal_error(error: Exception) -> Failure:
    """A failure for an unexpected exception. Its text is not repeated, as it may hold a secret."""
    return Failure(
        Reason.INTERNAL_ERROR,
        f"Internal error ({type(error).__name__}). Please report it, with the log if there is one.",
    )
