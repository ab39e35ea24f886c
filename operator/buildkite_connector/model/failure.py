"""Failures: one closed list of reasons, a message for people and the kind of remedy.

Adapters translate foreign errors into a `Failure` once; connectors decide by its `remedy`, the status shows its
`reason` and `message`. A message names what was expected, what came and what to do next, and never holds a secret.

The reasons are part of the interface, as people's alerts match on them. Each has a text in two paragraphs: the
situation, and what to do. tools/reasons.py makes docs/reasons.md of them, with the comments as headings.
"""

from enum import Enum, StrEnum, auto


class Reason(StrEnum):
    """The reason of a condition, or of a sync, task or command that failed."""

    # Healthy or in progress
    READY = "Ready"
    """The credentials work, the last sync succeeded, the operator can reach C1, and no snapshot is held.

    No action is needed."""
    SUSPENDED = "Suspended"
    """`spec.suspend` is true: the connector does not sync and does not contact C1. The data in C1 stays as it is.

    Set `spec.suspend` to false to resume."""
    PENDING = "Pending"
    """The credentials are being checked, or the first sync has not started yet.

    Wait. It takes seconds; when many connectors start at the same time, it takes minutes. If Buildkite or C1 does not
    answer, another reason reports it after 10 seconds."""
    SYNCING = "Syncing"
    """The first sync of the resource, or of a change to it, is in progress.

    Wait. Buildkite's rate limit determines how long the sync of a large organization takes: see
    `spec.sync.quotaPercent`."""
    VALID = "Valid"
    """Buildkite accepts the API token, or issues tokens by token exchange, and C1 accepts the client.

    No action is needed."""
    SYNC_SUCCEEDED = "SyncSucceeded"
    """The last sync succeeded. The message shows its counts, and names a type in `spec.sync.resourceTypes` that has no
    grants because another type is not listed.

    No action is needed."""
    DELIVERED = "Delivered"
    """C1 accepted the newest snapshot.

    No action is needed."""
    AWAITING_TASK = "AwaitingTask"
    """The newest snapshot is staged until C1 hands out its next sync task. This is normal, and `Ready` stays `True`.

    Wait. If the reason stays for more than a day, check whether the connector is paused in C1."""
    AWAITING_SYNC = "AwaitingSync"
    """No sync has finished yet.

    Check `Ready` for the reason."""
    RETRYING = "Retrying"
    """The reason of `Reconciling` while the operator retries an operation that failed.

    Wait. `Ready` shows the failure itself."""
    # Healthy, with a warning
    SHRUNK = "Shrunk"
    """The staged snapshot lost 25 % or more of the accounts, teams, memberships or anything else that it counts. It is
    still delivered.

    Compare the two counts in the message. C1 pauses a connector that loses about half. If the new count is wrong, check
    the token's access in Buildkite. `spec.delivery.shrinkGuard.maxDropPercent` sets the drop from which a snapshot is
    held."""
    TOKEN_EXPIRES = "TokenExpires"  # noqa: S105
    """The Buildkite API token expires within 14 days.

    Create a new token with the same scopes and put it into the Secret. The operator uses it without a restart."""
    TOKEN_SEES_LESS = "TokenSeesLess"  # noqa: S105
    """The Buildkite API token works, but sees less than an administrator's token, or less than it did before. Either
    its owner is not an administrator of the organization, or most of the secret teams that it saw before are no longer
    listed. C1 treats missing teams as deleted.

    Make the token's owner an administrator of the organization, or put an administrator's token into the Secret. With
    token exchange, make the subject an administrator, or choose an administrator as the subject."""
    PROTECTED_TEAM_UNKNOWN = "ProtectedTeamUnknown"
    """A slug in `spec.provisioning.protectedTeams` does not belong to any team: it is mistyped, or the team was
    renamed. A team that the operator has seen under the slug stays protected under its new one; a mistyped slug
    protects nothing.

    Correct the slug that the message names."""
    # Held back on purpose
    SHRINK_HELD = "ShrinkHeld"
    """The snapshot lost more than `spec.delivery.shrinkGuard.maxDropPercent` of what was last delivered. C1 would treat
    anything missing as deleted, so the operator does not deliver it.

    Compare the two counts in the message. If they are right, annotate the resource as the message says
    (`connectors.c1.ai/accept-shrink`). If they are wrong, fix the token's access in Buildkite."""
    # The Secret
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    """The namespace does not have the Secret that `spec.credentialsSecretRef.name` names, or, in `C1Synced`, the one of
    `spec.c1.auth.secretRef.name`. For 3 minutes after you create or edit the resource, the operator waits for the
    first of them (`Reconciling`); then the resource is `Stalled`.

    Create the Secret, or fix the tool that creates it (External Secrets, Sealed Secrets). The operator looks for it
    every 10 seconds, and for the one of `spec.c1` at least every 5 minutes."""
    SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105
    """The operator does not have permission to read Secrets in the namespace, or to write the Secret of
    `spec.c1.create`. A working connector continues for 5 minutes.

    Grant its service account `get` on Secrets in the namespace. The chart does this for each of `watchNamespaces`. For
    `spec.c1.create`, set the chart's value `c1.create.enabled`."""
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    """The Secret does not have one of the keys. The message names the key, and the known keys that the Secret does
    have.

    Add the key, or set your key's name in the field that the message names."""
    SECRET_KEY_EMPTY = "SecretKeyEmpty"  # noqa: S105
    """A key of the Secret has an empty value.

    Set the value."""
    SECRET_KEY_INVALID = "SecretKeyInvalid"  # noqa: S105
    """A value in the Secret cannot be used, for example because it is not text.

    Copy the complete value again, without line breaks. Only a private key has line breaks."""
    CLIENT_ID_INVALID = "ClientIDInvalid"
    """The client ID does not have the form `NAME@HOST/REST`, or the operator is not allowed to connect to its host.
    Messages never quote it.

    Copy the complete client ID from C1 again. If the host is right, ask the operator's administrator to allow it in
    `BUILDKITE_CONNECTOR_C1_HOSTS`."""
    CLIENT_SECRET_INVALID = "ClientSecretInvalid"  # noqa: S105
    """The client secret cannot be read: it is truncated, or is another kind of value.

    Copy the complete client secret from C1 again, or create new credentials there."""
    # The resource
    SPEC_INVALID = "SpecInvalid"
    """A field or setting cannot be used, or a task asks for data that the connector is not set to sync.

    Edit the field that the message names."""
    HOST_ID_TAKEN = "HostIDTaken"
    """Another resource has the same client ID and host ID, and C1 treats the two as one. The message names the other
    resource if it is in the same namespace. Among those whose client C1 accepts, only the oldest contacts C1.

    Give this resource another `spec.delivery.hostID` or another client, or delete either resource."""
    CRON_INVALID = "CronInvalid"
    """`spec.schedule.cron` cannot be used, or fires more often than every 5 minutes.

    Edit it: it has five fields, as in `0 3 * * *`."""
    TIME_ZONE_INVALID = "TimeZoneInvalid"
    """`spec.schedule.timeZone` is not a time zone.

    Set it to an IANA name, such as `Europe/Berlin`."""
    TOKEN_INVALID = "TokenInvalid"  # noqa: S105
    """The value cannot be a Buildkite API token: it contains quotation marks or blanks, is base64-encoded twice, or is
    a line of an env file, an agent token or another credential. The message says which.

    Correct the value. The token itself may be valid."""
    # The clock
    CLOCK_WRONG = "ClockWrong"
    """The operator's clock is wrong by more than a minute, and C1 or Buildkite refused the credentials. They may still
    be valid: a wrong clock makes valid credentials look expired.

    Synchronize the node's clock by NTP. The operator retries; if the credentials are wrong too, the next reason reports
    it."""
    # Buildkite
    TOKEN_REJECTED = "TokenRejected"  # noqa: S105
    """Buildkite does not accept the API token: it was revoked, has expired or is mistyped. Buildkite's tokens expire
    after seven days unless you choose another expiry when you create them. With token exchange, Buildkite rejected a
    token that it had just issued.

    Create a new token and replace this one. With token exchange, check from which IP addresses the app's tokens can be
    used."""
    TOKEN_EXCHANGE_REJECTED = "TokenExchangeRejected"  # noqa: S105
    """Buildkite refuses the token exchange. The app was deleted, does not have the public key or does not allow the
    operator's IP address, or the subject is not an active member of the organization. The message has Buildkite's
    error.

    Do what the message says. The operator keeps trying, so after a change in Buildkite you do not have to edit anything
    here."""
    PORTAL_REJECTED = "PortalRejected"
    """Buildkite does not accept the portal's token, or the portal does not allow the operator's IP
    address.

    Check the portal's token in the Secret, and the portal's allowed IP addresses in Buildkite."""
    PORTAL_NOT_FOUND = "PortalNotFound"
    """The organization has no portal with the slug in `spec.portal.slug`.

    Correct the slug, or remove `spec.portal`. Without a portal, accounts have no last login in C1: read about C1's
    automations in [Buildkite credentials](buildkite-credentials.md) first."""
    PORTAL_DOCUMENT_INVALID = "PortalDocumentInvalid"
    """The GraphQL document that the portal stores is not the one that this version of the connector needs.

    Print the document with `buildkite-connector portal` and have an administrator of the organization store it in the
    portal. If the message names `machineUser`, add `--without-machine-users`. The operator keeps trying, so you do not
    have to edit anything here."""
    PORTAL_QUERY_FAILED = "PortalQueryFailed"
    """Buildkite answers an operation of the portal's document with an error. The message has the error.

    The operator tries again. If the error persists, store the document that `buildkite-connector portal` prints in the
    portal, or contact Buildkite's support."""
    TOKEN_SCOPE_MISSING = "TokenScopeMissing"  # noqa: S105
    """The API token lacks a scope that `spec.sync.resourceTypes` or `spec.provisioning` requires, or the token exchange
    app does not grant it. The message and `status.token.missingScopes` name it.

    Add the scope to the token, or to the app's grantable scopes, in Buildkite."""
    ACCESS_DENIED = "AccessDenied"
    """Buildkite recognizes the token but denies access.

    Check the token's allowed IP addresses and its Organization Access. With token exchange, check from which IP
    addresses the app's tokens can be used, and what the subject can access."""
    ORGANIZATION_NOT_FOUND = "OrganizationNotFound"
    """Buildkite accepts the API token, but the token cannot access the organization. The message does not quote a slug
    from the Secret; it names the slug's key instead.

    Set `spec.organization` to one of the slugs that the message lists. If the organization was removed from the token,
    create a new token with access to it: Buildkite cannot add it back."""
    ORGANIZATION_AMBIGUOUS = "OrganizationAmbiguous"
    """The API token can access several organizations, and neither the resource nor the Secret names one.

    Set `spec.organization` to one of the slugs that the message lists."""
    BUILDKITE_RATE_LIMITED = "BuildkiteRateLimited"
    """This connector and other clients have used up Buildkite's rate limit.

    Wait. The operator retries when Buildkite allows it. If the reason stays, find what else uses the organization's
    quota, or sync less often."""
    BUILDKITE_UNREACHABLE = "BuildkiteUnreachable"
    """The operator cannot connect to Buildkite.

    Wait. The operator retries after 30 seconds to 15 minutes. If the reason stays, check the network, DNS, the proxy
    and the certificates (`buildkite-connector check`)."""
    BUILDKITE_UNAVAILABLE = "BuildkiteUnavailable"
    """Buildkite responds with a server error (5xx), or its response is cut off.

    Wait. The operator retries. If the reason stays, check Buildkite's status page."""
    BUILDKITE_RESPONSE_INVALID = "BuildkiteResponseInvalid"
    """A response does not match Buildkite's documentation.

    Check for a proxy that changes responses, and check `BUILDKITE_API_URL`. If both are right, upgrade the operator."""
    BUILDKITE_LINK_REFUSED = "BuildkiteLinkRefused"
    """A response points to another host. The operator does not send the token there.

    Check for a proxy that rewrites links."""
    ROSTER_UNSTABLE = "RosterUnstable"
    """A list changed each time the operator read it: people and teams change too fast, or a proxy changes Buildkite's
    responses.

    Wait. The next sync tries again. If the reason stays, check for a proxy that caches responses or removes `Link`
    headers."""
    LIST_INCOMPLETE = "ListIncomplete"
    """Buildkite's lists contradict one another: a member of a team is missing from the list of the organization's
    members, or a listed team cannot be found. C1 would treat anything missing as deleted, so the operator does not
    deliver a snapshot. With `spec.portal`, the portal can also lack accounts that the REST API lists.

    Wait. The next sync tries again. If the reason stays, check for a proxy that caches or changes responses, and check
    whether the token can see the team that the message names."""
    # Granting and revoking
    GRANTED = "Granted"
    """An event: on C1's request, the operator added a person to a Buildkite team.

    No action is needed."""
    ROLE_CHANGED = "RoleChanged"
    """An event: on C1's request, the operator changed a person's role in a Buildkite team.

    No action is needed."""
    REVOKED = "Revoked"
    """An event: on C1's request, the operator removed a person from a Buildkite team.

    No action is needed."""
    PROVISIONING_OFF = "ProvisioningOff"
    """C1 asked for a membership change, but the connector is read-only.

    Enable `spec.provisioning`, or withdraw the request in C1."""
    CHANGE_NOT_ALLOWED = "ChangeNotAllowed"
    """C1 asked for a change that `spec.provisioning` does not allow: the role is not listed, or the team is protected.
    C1 cancels the request.

    No action is needed. To allow such changes, edit `spec.provisioning`."""
    CHANGE_REFUSED = "ChangeRefused"
    """Buildkite refused a membership change.

    Check the team in Buildkite, and check that the person is in the organization."""
    CHANGE_TIMEOUT = "ChangeTimeout"
    """A membership change took too long, usually because of Buildkite's rate limit. C1 asks again.

    Wait. If the reason stays, find what else uses the quota of the token that makes changes."""
    TEAM_NOT_FOUND = "TeamNotFound"
    """C1 asked for a membership of a team that no longer exists in Buildkite.

    No action is needed: the next sync removes the team from C1."""
    # C1
    C1_CLIENT_REJECTED = "C1ClientRejected"
    """C1 does not accept the client: it was revoked, or belongs to another tenant.

    Create new credentials in C1 and put them into the Secret. With `spec.c1.create`, delete the operator's Secret
    (`secretName`): the operator creates new credentials."""
    C1_UNREACHABLE = "C1Unreachable"
    """The operator cannot connect to C1. Syncs continue, and the snapshot stays staged.

    Wait. If the reason stays, check the network, DNS, the proxy and the certificates (`buildkite-connector check`)."""
    C1_UNAVAILABLE = "C1Unavailable"
    """C1 answers that it is unavailable. Syncs continue, and the snapshot stays staged.

    Wait. If the reason stays, check C1's status page."""
    C1_REQUEST_REJECTED = "C1RequestRejected"
    """C1 rejects a request of the operator as invalid.

    If the reason stays, upgrade the operator, or report the problem with the log."""
    C1_SYNCED = "C1Synced"
    """C1's last sync of the connector succeeded.

    No action is needed."""
    C1_SYNCING = "C1Syncing"
    """C1 syncs the connector: it waits for a snapshot or works on one.

    Wait. If the reason stays, look at the connector's page in C1."""
    C1_AWAITING_SYNC = "C1AwaitingSync"
    """C1 has not synced the connector yet, or the operator has not read its state yet.

    Wait. C1 syncs every hour with access requests on, otherwise every 24 hours."""
    C1_SYNC_FAILED = "C1SyncFailed"
    """C1's last sync of the connector failed. The message repeats C1's error.

    Fix what the error names. If it is C1's own, sync again, or ask C1's support."""
    C1_PAUSED = "C1Paused"
    """The connector is paused in C1: C1 does not sync, and hands out no grants or revokes. C1 itself pauses a
    connector that lost about half of its data, or that failed three times in a row.

    Find out why on the connector's page in C1. After a drop in data, check the counts in `status.lastSync` and select
    **Confirm changes**; otherwise resume the connector there."""
    C1_ACCESS_DENIED = "C1AccessDenied"
    """The client of C1's REST API lacks a role for a request (403). The message names the request and the role that is
    probably missing.

    Give the client's user or service principal that role in C1. Syncs continue meanwhile."""
    C1_NOT_FOUND = "C1NotFound"
    """C1 does not have the app or the connector (404). The message says which, if C1's answers show it.

    Correct `spec.c1.appID` or `spec.c1.connectorID`: both are on the connector's page in C1."""
    C1_CONFLICT = "C1Conflict"
    """C1's REST API refuses a request because of the connector's current state (409).

    Wait. The operator asks again later."""
    WORKLOAD_IDENTITY_REJECTED = "WorkloadIdentityRejected"
    """C1 does not accept the operator's service-account token, or the token's file cannot be used.

    Check the trust in C1: its issuer, the token's audience (your tenant's domain) and its condition. The message says
    what the operator can see of the token."""
    C1_NOT_CREATED = "C1NotCreated"
    """The operator is creating the connector in C1 (`spec.c1.create`), or could not create it. The message of
    `CredentialsValid` says how far it got.

    Wait, or fix what that message names."""
    SECRET_NOT_OWN = "SecretNotOwn"  # noqa: S105
    """The Secret `spec.c1.create.secretName` exists already, and the operator did not create it. Or the Secret names a
    connector, and C1 does not show that the operator created that for this resource. The operator changes neither.

    Choose another `secretName`, or delete the Secret if nothing uses it. To go on with the connector that the Secret
    names, set `spec.c1.appID` and `spec.c1.connectorID` in place of `create`."""
    UPLOAD_FAILED = "UploadFailed"
    """An upload to C1 ended before it was complete.

    Wait. C1 hands the task out again. If the reason stays, check for a proxy that ends long streams."""
    TASK_CANCELLED = "TaskCancelled"
    """C1 withdrew a task while the operator worked on it.

    No action is needed: the snapshot stays staged for the next task."""
    # The Kubernetes API
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable"
    """The operator cannot reach the Kubernetes API server. After 5 minutes without the Secret, `Ready` is `False`;
    syncs continue.

    Wait. If the reason stays, check the API server and the network policies."""
    KUBERNETES_REFUSED = "KubernetesRefused"
    """The API server refuses a request of the operator: to read the Secret or to write a status. If it is
    an event, the CRD is older than the operator.

    Check the operator's permissions, and apply the `crds/` of its version."""
    # The operator itself
    SYNC_TIMEOUT = "SyncTimeout"
    """A sync took longer than `spec.sync.timeout`.

    Increase `spec.sync.timeout`. If the sync waited for Buildkite's rate limit, increase `spec.sync.quotaPercent`
    instead."""
    SNAPSHOT_INVALID = "SnapshotInvalid"
    """A snapshot's file is damaged, or the snapshot exceeds a limit of the format.

    Check the operator's disk. If it is healthy, report the problem with the log."""
    STORAGE_FAILED = "StorageFailed"
    """The operator cannot write or read a snapshot.

    Check the operator's data directory: free space, permissions and the disk."""
    INTERNAL_ERROR = "InternalError"
    """An error in the operator itself. Its log has the details.

    Report the problem with the log. The operator retries."""


class Remedy(Enum):
    """What fixes a failure: a retry, new credentials, or an edit of the resource."""

    RETRY = auto()
    CREDENTIALS = auto()
    EDIT = auto()


class Failure(Exception):  # noqa: N818
    """An error with a reason, a message for people and its remedy: RETRY, unless another is given.

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
