"""What can go wrong, as one closed list, and whether trying again can help.

Adapters translate foreign errors into a `Failure` once; connectors decide by its `remedy`, the status
shows its `reason` and `message`. A message says what was expected, what came and what to do next, and
never holds a secret.
"""

from enum import Enum, auto

from buildkite_connector.model.reason import Reason

__all__ = ("Failure", "Reason", "Remedy", "internal_error")


class Remedy(Enum):
    """What can mend a failure: time, new credentials, or an edit of the resource."""

    RETRY = auto()
    CREDENTIALS = auto()
    EDIT = auto()


class Failure(Exception):  # noqa: N818
    """An error with a reason, a sentence for a person, and what can mend it.

    `retry_after`: seconds before which trying again is pointless, where the other side said so.
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
        """The same without its history: what is kept for long must not keep the frames that it went through."""
        return Failure(self.reason, self.message, remedy=self.remedy, retry_after=self.retry_after)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason.value}: {self.message})"


def internal_error(error: Exception) -> Failure:
    """An error of this program itself. Its own text is not repeated: it may hold anything."""
    return Failure(
        Reason.INTERNAL_ERROR,
        f"Internal error ({type(error).__name__}). Please report it, with the log if there is one.",
    )
