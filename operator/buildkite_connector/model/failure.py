"""What can go wrong, as one closed list, and whether trying again can help.

Adapters translate foreign errors into a `Failure` once; sessions decide by its `remedy`, the status
shows its `reason` and `message`. A message says what was expected, what came and what to do next, and
never holds a secret.
"""

from enum import Enum, StrEnum, auto


class Remedy(Enum):
    """What can mend a failure: time, new credentials, or an edit of the resource."""

    RETRY = auto()
    CREDENTIALS = auto()
    EDIT = auto()


class Reason(StrEnum):
    """Condition reasons; part of the interface, as people's alerts match on them."""

    # healthy and in progress
    READY = "Ready"
    SUSPENDED = "Suspended"
    PENDING = "Pending"
    SYNCING = "Syncing"
    VALID = "Valid"
    SYNC_SUCCEEDED = "SyncSucceeded"
    DELIVERED = "Delivered"
    AWAITING_TASK = "AwaitingTask"
    AWAITING_SYNC = "AwaitingSync"
    RETRYING = "Retrying"
    # well, and somebody should look
    SHRUNK = "Shrunk"
    TOKEN_EXPIRES = "TokenExpires"  # noqa: S105
    # held back on purpose
    SHRINK_HELD = "ShrinkHeld"
    # the Secret
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    SECRET_KEY_EMPTY = "SecretKeyEmpty"  # noqa: S105
    SECRET_KEY_INVALID = "SecretKeyInvalid"  # noqa: S105
    CLIENT_ID_INVALID = "ClientIDInvalid"
    CLIENT_SECRET_INVALID = "ClientSecretInvalid"  # noqa: S105
    # the resource
    SPEC_INVALID = "SpecInvalid"
    HOST_ID_TAKEN = "HostIDTaken"
    CRON_INVALID = "CronInvalid"
    TIME_ZONE_INVALID = "TimeZoneInvalid"
    # Buildkite
    TOKEN_REJECTED = "TokenRejected"  # noqa: S105
    TOKEN_SCOPE_MISSING = "TokenScopeMissing"  # noqa: S105
    ACCESS_DENIED = "AccessDenied"
    ORGANIZATION_NOT_FOUND = "OrganizationNotFound"
    ORGANIZATION_AMBIGUOUS = "OrganizationAmbiguous"
    BUILDKITE_RATE_LIMITED = "BuildkiteRateLimited"
    BUILDKITE_UNREACHABLE = "BuildkiteUnreachable"
    BUILDKITE_UNAVAILABLE = "BuildkiteUnavailable"
    BUILDKITE_RESPONSE_INVALID = "BuildkiteResponseInvalid"
    BUILDKITE_LINK_REFUSED = "BuildkiteLinkRefused"
    ROSTER_UNSTABLE = "RosterUnstable"
    # C1
    C1_CLIENT_REJECTED = "C1ClientRejected"
    C1_UNREACHABLE = "C1Unreachable"
    C1_UNAVAILABLE = "C1Unavailable"
    C1_REQUEST_REJECTED = "C1RequestRejected"
    UPLOAD_FAILED = "UploadFailed"
    TASK_CANCELLED = "TaskCancelled"
    # the Kubernetes API: it cannot be reached now, or says no
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable"
    KUBERNETES_REFUSED = "KubernetesRefused"
    # ours
    SYNC_TIMEOUT = "SyncTimeout"
    SNAPSHOT_INVALID = "SnapshotInvalid"
    STORAGE_FAILED = "StorageFailed"
    INTERNAL_ERROR = "InternalError"


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
        f"An error in the operator itself ({type(error).__name__}); its log has the details. Please report it.",
    )
