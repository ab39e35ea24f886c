"""Failures: one closed list of reasons, a message for people and the kind of remedy.

Adapters translate foreign errors into a `Failure` once; connectors decide by its `remedy`, the status shows its
`reason` and `message`. A message names what was expected, what came and what to do next, and never holds a secret.

The reasons are part of the interface, as people's alerts match on them. Each has a text in two paragraphs: the
situation, and what to do. tools/reasons.py makes docs/reasons.md of them, with the comments as headings.
"""

from enum import Enum, StrEnum, auto


class Reason(StrEnum):
    """The reason of a condition, or of a sync, task or command that failed."""

    # Well, or under way
    READY = "Ready"
    """The credentials work, the last sync succeeded, C1 can be reached and nothing is held back.

    Nothing."""
    SUSPENDED = "Suspended"
    """`spec.suspend` is true: no syncs and no contact with C1. What C1 has stays as it is.

    Set it to false to go on."""
    PENDING = "Pending"
    """A check of the credentials or a first sync is to come.

    Nothing; it takes seconds, in a start of many connectors minutes. Where Buildkite or C1 does not answer, another
    reason says so after ten seconds."""
    SYNCING = "Syncing"
    """The first sync of the resource or of a change is under way.

    Nothing. A large organization's sync is bound by Buildkite's rate limit: see `spec.sync.quotaPercent`."""
    VALID = "Valid"
    """Buildkite accepts the API token and C1 the client.

    Nothing."""
    SYNC_SUCCEEDED = "SyncSucceeded"
    """The last sync succeeded; the message has its counts.

    Nothing."""
    DELIVERED = "Delivered"
    """C1 took the newest snapshot.

    Nothing."""
    AWAITING_TASK = "AwaitingTask"
    """The newest snapshot waits until C1 hands out its next sync task. This is well, and `Ready` stays True.

    Nothing. If it stays for more than a day, look whether the connector is paused in C1."""
    AWAITING_SYNC = "AwaitingSync"
    """No sync has finished yet.

    Look at `Ready` for what it waits for."""
    RETRYING = "Retrying"
    """The reason of `Reconciling` while something fails that may pass by itself.

    Nothing at first; `Ready` has the failure itself."""
    # Well, and somebody should look
    SHRUNK = "Shrunk"
    """The staged snapshot lost a quarter or more of the accounts, teams or memberships, and still goes out.

    Look at both counts in the message. C1 pauses a connector that loses about half. If it is wrong, look at the token's
    access in Buildkite; `spec.delivery.shrinkGuard.maxDropPercent` decides what is held."""
    TOKEN_EXPIRES = "TokenExpires"  # noqa: S105
    """The Buildkite API token expires within 14 days.

    Make a new one with the same scopes and put it into the Secret; it is taken up without a restart."""
    TOKEN_SEES_LESS = "TokenSeesLess"  # noqa: S105
    """The Buildkite API token works and sees less than an administrator's, or less than it did before: its owner is no
    administrator of the organization, or most of the secret teams that it saw before are not listed any more. C1 takes
    the teams that are missing for gone.

    Make the token's owner an administrator of the organization, or put a token of an administrator into the Secret."""
    PROTECTED_TEAM_UNKNOWN = "ProtectedTeamUnknown"
    """A slug in `spec.provisioning.protectedTeams` is no team's: it is mistyped, or the team was renamed. A team that
    was seen under the slug stays protected under its new one; a mistyped slug protects nothing.

    Correct the slug that the message names."""
    # Held back on purpose
    SHRINK_HELD = "ShrinkHeld"
    """The snapshot lost more than `spec.delivery.shrinkGuard.maxDropPercent` of what was last delivered. C1 would read
    what is missing as gone, so it does not go out.

    Look at both counts in the message. If they are right, annotate the resource as the message says
    (`connectors.c1.ai/accept-shrink`); if not, mend the token's access in Buildkite."""
    # The Secret
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    """The namespace has no Secret of the name in `spec.credentialsSecretRef.name`. For 3 minutes after a resource is
    made or edited it may still be on its way (`Reconciling`), then it is `Stalled`.

    Create it, or mend what should (External Secrets, Sealed Secrets); it is read again every 10 seconds."""
    SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105
    """The operator may not read Secrets in that namespace. A connector that works goes on for 5 minutes.

    Give its service account `get` on Secrets there: the chart does for each of `watchNamespaces`."""
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    """The Secret has not got one of the keys; the message names it, and the known ones that are there.

    Add the key, or name yours in `spec.credentialsSecretRef.keys`."""
    SECRET_KEY_EMPTY = "SecretKeyEmpty"  # noqa: S105
    """A key of the Secret has an empty value.

    Put the value in."""
    SECRET_KEY_INVALID = "SecretKeyInvalid"  # noqa: S105
    """A value of the Secret cannot be what it should, for example because it is no text.

    Copy the value again, whole and without line breaks."""
    CLIENT_ID_INVALID = "ClientIDInvalid"
    """The client ID has not got the form `NAME@HOST/REST`, or its host is not one that the operator may go to.
    No message quotes it.

    Copy it from C1 again, whole; or whoever runs the operator allows the host in `BUILDKITE_CONNECTOR_C1_HOSTS`."""
    CLIENT_SECRET_INVALID = "ClientSecretInvalid"  # noqa: S105
    """The client secret cannot be read: it was cut short, or is something else.

    Copy it from C1 again, whole; or create new credentials there."""
    # The resource
    SPEC_INVALID = "SpecInvalid"
    """A field or a setting cannot be used, or a task asks for what the connector is not set to sync.

    Edit the field that the message names."""
    HOST_ID_TAKEN = "HostIDTaken"
    """Another resource has the same client ID and host ID, and C1 takes the two for one. The message names it when it
    is in the same namespace. Of those whose client C1 accepts the oldest works; a younger one stays away from C1.

    Give this one another `spec.delivery.hostID` or client, or delete one of them."""
    CRON_INVALID = "CronInvalid"
    """`spec.schedule.cron` cannot be used, or would fire more often than every 5 minutes.

    Edit it: five fields, as in `0 3 * * *`."""
    TIME_ZONE_INVALID = "TimeZoneInvalid"
    """`spec.schedule.timeZone` is no time zone.

    Edit it: an IANA name, such as `Europe/Berlin`."""
    TOKEN_INVALID = "TokenInvalid"  # noqa: S105
    """The API token cannot be one: it has quotation marks or blanks in it, is base64-encoded twice, is a line of an env
    file, an agent token or another credential. The message says which.

    Correct the value. The token itself may be good."""
    # The clock
    CLOCK_WRONG = "ClockWrong"
    """The operator's clock is wrong by more than a minute, and C1 or Buildkite refused the credentials. The credentials
    may be right: a wrong clock makes good ones look expired.

    Set the node's clock by NTP. The request is repeated; if the credentials are wrong as well, the next reason says
    so."""
    # Buildkite
    TOKEN_REJECTED = "TokenRejected"  # noqa: S105
    """Buildkite does not accept the API token: it was revoked, has expired or is mistyped. Buildkite's tokens expire
    after seven days unless another expiry was chosen when the token was created.

    Create a new token and replace this one."""
    TOKEN_SCOPE_MISSING = "TokenScopeMissing"  # noqa: S105
    """The API token lacks a scope; the message and `status.token.missingScopes` name it.

    Add the scope to the token in Buildkite."""
    ACCESS_DENIED = "AccessDenied"
    """Buildkite refuses this token access although it knows it.

    Look at the token's allowed IP addresses and its Organization Access."""
    ORGANIZATION_NOT_FOUND = "OrganizationNotFound"
    """Buildkite accepts the API token, but the token cannot access the organization. A slug from the Secret is not
    quoted; the message names its key.

    Set `spec.organization` to one of the slugs that the message lists. If the organization was removed from the token,
    create a new token with access to it: Buildkite cannot add it back."""
    ORGANIZATION_AMBIGUOUS = "OrganizationAmbiguous"
    """The API token can access several organizations and none is named.

    Set `spec.organization` to one of the slugs that the message lists."""
    BUILDKITE_RATE_LIMITED = "BuildkiteRateLimited"
    """Buildkite's rate limit is used up, by this connector and by others.

    Nothing at first: it is tried again when Buildkite says. If it stays, find who else uses the organization's quota,
    or sync less often."""
    BUILDKITE_UNREACHABLE = "BuildkiteUnreachable"
    """No connection to Buildkite comes about.

    Nothing at first: it is tried again after 30 seconds to 15 minutes. If it stays, look at the network, DNS, the proxy
    and the certificates (`buildkite-connector check`)."""
    BUILDKITE_UNAVAILABLE = "BuildkiteUnavailable"
    """Buildkite answers that it cannot answer now (5xx), or breaks off.

    Nothing at first: it is tried again. If it stays, look at Buildkite's status page."""
    BUILDKITE_RESPONSE_INVALID = "BuildkiteResponseInvalid"
    """An answer is not what Buildkite documents.

    Look for a proxy in between and at `BUILDKITE_API_URL`; else update the operator."""
    BUILDKITE_LINK_REFUSED = "BuildkiteLinkRefused"
    """An answer points to another host, where the token does not go.

    Look for a proxy in between that rewrites links."""
    ROSTER_UNSTABLE = "RosterUnstable"
    """A list changed while it was read, each time that it was read: people and teams move too fast, or something
    between here and Buildkite changes its answers.

    Nothing at first: the next sync tries again. If it stays, look for a proxy in between that caches answers or cuts
    `Link` headers."""
    LIST_INCOMPLETE = "ListIncomplete"
    """Buildkite's lists contradict one another: somebody who is in a team is missing from the list of members, or a
    team that is listed cannot be found. C1 would take what is missing for gone, so nothing is delivered.

    Nothing at first: the next sync tries again. If it stays, look for a proxy in between that caches or changes
    answers, and whether the token's owner may see the team that the message names."""
    # Granting and revoking
    GRANTED = "Granted"
    """An event: C1 asked for it, and a person was added to a team of Buildkite.

    Nothing."""
    ROLE_CHANGED = "RoleChanged"
    """An event: C1 asked for it, and a person has another role in a team of Buildkite.

    Nothing."""
    REVOKED = "Revoked"
    """An event: C1 asked for it, and a person was removed from a team of Buildkite.

    Nothing."""
    PROVISIONING_OFF = "ProvisioningOff"
    """C1 asked for a change of a membership, and the connector only reads.

    Enable `spec.provisioning`, or take the request back in C1."""
    CHANGE_NOT_ALLOWED = "ChangeNotAllowed"
    """C1 asked for what `spec.provisioning` does not allow: a role, or a protected team. It cancels the request.

    Nothing, or change `spec.provisioning`."""
    CHANGE_REFUSED = "ChangeRefused"
    """Buildkite does not take a change of a membership.

    Look at the team in Buildkite, and whether the person is in the organization."""
    CHANGE_TIMEOUT = "ChangeTimeout"
    """A change of a membership took too long, most often for Buildkite's rate limit. C1 asks again.

    If it stays, look at who else uses the quota of the token that writes."""
    TEAM_NOT_FOUND = "TeamNotFound"
    """C1 asked for a membership of a team that Buildkite does not have any more.

    Nothing: the next sync takes the team out of C1."""
    # C1
    C1_CLIENT_REJECTED = "C1ClientRejected"
    """C1 does not accept the client: it was revoked, or belongs to another tenant.

    Create new credentials in C1 and put them into the Secret."""
    C1_UNREACHABLE = "C1Unreachable"
    """No connection to C1 comes about. Syncs go on, the snapshot waits.

    Nothing at first. If it stays, look at the network, DNS, the proxy and the certificates
    (`buildkite-connector check`)."""
    C1_UNAVAILABLE = "C1Unavailable"
    """C1 answers that it cannot answer now. Syncs go on, the snapshot waits.

    Nothing at first. If it stays, look at C1's status page."""
    C1_REQUEST_REJECTED = "C1RequestRejected"
    """C1 does not take a call as it was made.

    If it stays, update the operator, or report it with the log."""
    UPLOAD_FAILED = "UploadFailed"
    """An upload to C1 ended before C1 had it all.

    Nothing at first: C1 hands the task out again. If it stays, look at proxies that end long streams."""
    TASK_CANCELLED = "TaskCancelled"
    """C1 withdrew a task while it was worked on.

    Nothing: the snapshot waits for the next task."""
    # The Kubernetes API
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable"
    """The API server cannot be reached now. After 5 minutes without the Secret `Ready` is `False`; syncs go on.

    Nothing at first. If it stays, look at the API server and at network policies."""
    KUBERNETES_REFUSED = "KubernetesRefused"
    """The API server refuses what the operator asks: to read the Secret, or to write a status. As an event: the CRD is
    older than the operator.

    Look at the operator's permissions, and apply the `crds/` of its version."""
    # The operator itself
    SYNC_TIMEOUT = "SyncTimeout"
    """A sync took longer than `spec.sync.timeout`.

    Raise it, or `spec.sync.quotaPercent` when Buildkite's rate limit is what it waited for."""
    SNAPSHOT_INVALID = "SnapshotInvalid"
    """A snapshot's file is not what was written, or a limit of the format is passed.

    Look at the operator's disk; if that is well, report it with the log."""
    STORAGE_FAILED = "StorageFailed"
    """A snapshot cannot be written or read.

    Look at the operator's data directory: space, rights, the disk."""
    INTERNAL_ERROR = "InternalError"
    """An error in the operator itself; its log has the details.

    Report it with the log, please. It is tried again."""


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
