"""One connector's whole state: frozen values, changed only by `transitions`, read by `decisions` and `conditions`.

Times within the process are monotonic seconds; times in the status are wall times in UTC.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto

from buildkite_connector.connector.ports import C1AccessSource, CredentialsSource, OwnSecret
from buildkite_connector.model.directory import SyncScope, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.status import ConnectorStatus, Trigger
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.sync.preflight import Preflight
from buildkite_connector.timing.clock import Instant

LATE_SECRET_SECONDS = 180.0
"""How long after a resource was made or edited a missing Secret counts as on its way."""
UNREAD_SECONDS = 300.0
"""How long a Secret that was read before may be out of reach before the status says so; syncs go on."""
HOLD_SECONDS = 45.0
"""How long the status may keep saying what was true before while a check or C1's first answer is awaited."""
_LATE = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING})
OF_A_PORTAL = frozenset(
    {Reason.PORTAL_REJECTED, Reason.PORTAL_NOT_FOUND, Reason.PORTAL_DOCUMENT_INVALID, Reason.PORTAL_QUERY_FAILED}
)
"""Failures that say nothing of the tokens for the REST API."""


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What the resource asks for. `spec_error` is set when its spec is invalid; `spec` then holds defaults.

    `sync_request` and `accept_shrink` are the values of the annotations of these names. `c1_access` is set with
    `spec.c1`, `own_secret` with `spec.c1.create`. `uid` is the resource's: it marks what is created in C1 for it.
    """

    generation: int
    spec: ConnectorSpec
    credentials: CredentialsSource = field(compare=False, repr=False)
    sync_request: str | None = None
    accept_shrink: str | None = None
    spec_error: Failure | None = None
    c1_access: C1AccessSource | None = field(default=None, compare=False, repr=False)
    own_secret: OwnSecret | None = field(default=None, compare=False, repr=False)
    uid: str = ""

    @property
    def scope(self) -> SyncScope:
        """What every sync of the connector covers."""
        return SyncScope(self.spec.kinds)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a check or a sync works with. `credentials` is None where only a former process knew them."""

    generation: int
    credentials: Credentials | None

    def same(self, other: "Inputs") -> bool:
        known = None not in (self.credentials, other.credentials)
        return self.generation == other.generation and (not known or self.credentials == other.credentials)


@dataclass(frozen=True, slots=True)
class Check:
    """What is known of the credentials. `failure` blocks syncs. Times are monotonic seconds.

    `generation` and `sync_request` are those of the last check; the generation is -1 before the first. `write_failure`
    is why memberships cannot be changed while provisioning is enabled; it does not block syncs.
    `read_at` is when the Secret was last read, `read_wait` the seconds that the API server asked to wait since.
    A forced check asks Buildkite although the Secret is the same: it is due at `forced_due`, runs since `asking_since`,
    and ran last at `requested_at` because the annotation asked for it.
    `unread` is why the Secret of a connector that works could not be read since `unread_since`.
    """

    generation: int = -1
    sync_request: str | None = None
    credentials: Credentials | None = None
    preflight: Preflight | None = None
    missing_scopes: tuple[str, ...] = ()
    failure: Failure | None = None
    failures: int = 0
    read_at: float = float("-inf")
    read_wait: float = 0.0
    forced_due: float = 0.0
    asking_since: float | None = None
    write_failure: Failure | None = None
    requested_at: float = float("-inf")
    unread: Failure | None = None
    unread_since: float = 0.0


class C1Phase(Enum):
    """CLOSED: no session. OPEN: the session runs. CLOSING: its tasks go back to C1."""

    CLOSED = auto()
    OPEN = auto()
    CLOSING = auto()


@dataclass(frozen=True, slots=True)
class C1Identity:
    """The client and host of a session, and whether it offers provisioning. Another identity needs another session."""

    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    host_id: str = ""
    provisions: bool = False

    @property
    def name(self) -> tuple[str, str]:
        """What C1 identifies a connector by."""
        return self.client_id, self.host_id


@dataclass(frozen=True, slots=True)
class SessionState:
    """The session with C1. `failure` is None while C1 answers; `ended`: C1 refused the client or the host.

    `settled`: the answer to this session's first Hello is known, good (`greeted`) or bad. Until then a session that
    was opened again keeps the failure of the one before it. `reopen_at` is when an ended session may be opened again
    with the same identity.
    """

    phase: C1Phase = C1Phase.CLOSED
    identity: C1Identity | None = None
    phase_since: float = 0.0
    settled: bool = False
    greeted: bool = False
    failure: Failure | None = None
    ended: bool = False
    reopen_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Watch:
    """C1 is looked at more often since `since`, until it has ended a sync that goes on after `after`.

    `before`: when C1 had ended the sync before that one; None: not known.
    """

    since: float
    after: datetime
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A call to C1's REST API failed `times` in a row since `since`. `shown`: why; None while it may soon pass."""

    since: float
    times: int
    shown: Failure | None


@dataclass(frozen=True, slots=True)
class C1Side:
    """What this process knows of C1's REST API; what C1 shows is in the status (`c1_side` has its rules).

    `look_at` is when the next look is due, and `blocked_until` until when C1 wants to be left alone. `looked_for`: the
    snapshot that C1 was to take at the last look. `no_read` and `no_force`: C1 did not show the connector, or refused
    to sync, when it was last asked; for the snapshot `refused_for` it is asked to sync again at `force_at`.
    `forced_again`: the last snapshot for which C1 is made to sync twice, as it failed before it took it.
    """

    look_at: float = float("-inf")
    blocked_until: float = float("-inf")
    looked_for: SyncID | None = None
    watch: Watch | None = None
    no_read: Trouble | None = None
    no_force: Trouble | None = None
    refused_for: SyncID | None = None
    force_at: float = float("-inf")
    forced_again: SyncID | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """The last run of the connector's creation in C1 (`rotation` has its rules). Times are monotonic seconds.

    `generation` and `sync_request` are those that it ran for; the generation is -1 before the first. `failure` is why
    it did not do all, `failures` how many runs in a row failed. C1 said not before `blocked_until`.
    """

    generation: int = -1
    sync_request: str | None = None
    failure: Failure | None = None
    failures: int = 0
    due_at: float = float("-inf")
    blocked_until: float = float("-inf")


@dataclass(frozen=True, slots=True)
class SyncRun:
    """The sync under way, from the moment at which it has a slot: what it works with."""

    id: SyncID
    trigger: Trigger
    generation: int
    credentials: Credentials
    spec: ConnectorSpec
    preflight: Preflight
    started: Instant
    only_for_tasks: bool = False

    @property
    def inputs(self) -> Inputs:
        return Inputs(self.generation, self.credentials)


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """A task of C1 that waits for a snapshot of `scope`, asked for at `asked_at` (monotonic seconds)."""

    task: TaskID
    scope: SyncScope
    asked_at: float


@dataclass(frozen=True, slots=True)
class TeamChanges:
    """Which teams were changed through this connector, and up to where the staged snapshot shows it.

    `number` counts the writes that ended: each may have taken effect at any moment since it was sent.

    `teams` has the newest number of each team that was changed since the sync under way began; `writing` is how many
    writes are under way. `covered`: the number up to which the staged snapshot shows all changes.
    """

    number: int = 0
    teams: tuple[tuple[TeamID, int], ...] = ()
    writing: int = 0
    covered: int = 0

    @property
    def sent(self) -> bool:
        """Whether this process has sent a write."""
        return self.writing > 0 or self.number > 0

    @property
    def contradict(self) -> bool:
        """Whether the staged snapshot may differ from what was changed since it was taken."""
        return self.writing > 0 or self.number > self.covered

    def since(self, number: int) -> frozenset[TeamID]:
        """The teams that were changed after this number."""
        return frozenset(team for team, changed in self.teams if changed > number)

    def begun(self) -> "TeamChanges":
        """A write is about to be sent."""
        return replace(self, writing=self.writing + 1)

    def ended(self, team: TeamID) -> "TeamChanges":
        """It was answered, or may have taken effect."""
        number = self.number + 1
        others = tuple(each for each in self.teams if each[0] != team)
        return replace(self, number=number, teams=(*others, (team, number)), writing=self.writing - 1)

    def forgotten(self) -> "TeamChanges":
        """A sync begins: it reads each team later than all that was changed before."""
        return replace(self, teams=())


@dataclass(frozen=True, slots=True)
class ConnectorState:
    """`records` is the status as it was last derived; the rest is known to this process only.

    `desired_since`: when this generation was first seen, -inf for one that a former process saw.
    `collected_for`: the inputs of the newest snapshot, `collected_at` when its sync began, -inf for one of a former
    process. `staged` is always of the whole scope that its sync had; when another value takes its place, the connector
    removes the file. `sync_blocked_until`: Buildkite said not before.
    `requested_at`: when the last sync began that was requested by annotation, in monotonic seconds.
    `changes`: of memberships, made through this connector.
    `host_id_holder`: what to call another connector that holds the same client and host ID at C1; None: there is none.
    """

    desired: DesiredState
    desired_since: float
    records: ConnectorStatus
    check: Check = field(default_factory=Check)
    c1: SessionState = field(default_factory=SessionState)
    sync: SyncRun | None = None
    collected_for: Inputs | None = None
    collected_at: float = float("-inf")
    staged: StagedSnapshot | None = None
    requests: tuple[SnapshotRequest, ...] = ()
    sync_failure: Failure | None = None
    delivery_failure: Failure | None = None
    sync_blocked_until: float = 0.0
    requested_at: float = float("-inf")
    host_id_holder: str | None = None
    changes: TeamChanges = field(default_factory=TeamChanges)
    c1_side: C1Side = field(default_factory=C1Side)
    creation: Creation = field(default_factory=Creation)

    @property
    def inputs(self) -> Inputs:
        """The inputs of a sync that starts now."""
        return Inputs(self.desired.generation, self.check.credentials)

    @property
    def outdated(self) -> bool:
        """Whether the resource or its Secret changed since the newest snapshot was taken."""
        return self.collected_for is None or not self.collected_for.same(self.inputs)

    @property
    def checked(self) -> bool:
        """Whether the desired state was checked and can work."""
        check = self.check
        return check.failure is None and check.preflight is not None and check.generation == self.desired.generation

    @property
    def setup_failure(self) -> Failure | None:
        """The failure of the check; without a connector in C1, why its creation failed."""
        failure = self.check.failure
        if failure is not None and failure.reason is Reason.C1_NOT_CREATED:
            return self.creation.failure or failure
        return failure

    @property
    def is_being_created(self) -> bool:
        """Whether the connector in C1 is on its way, as far as is known."""
        failure = self.setup_failure
        return failure is not None and failure.reason is Reason.C1_NOT_CREATED and self.creation.failure is None

    @property
    def blocked_by(self) -> Failure | None:
        """The failure that blocks syncs, if any."""
        return self.setup_failure or self.blocked_at_c1

    @property
    def blocked_at_c1(self) -> Failure | None:
        """Why the connector must not go on at C1, or cannot."""
        if self.host_id_holder is not None:
            return host_id_taken(self.host_id_holder, self.desired.spec.host_id)
        final = self.c1.failure is not None and self.c1.failure.remedy is not Remedy.RETRY
        return self.c1.failure if final else None

    @property
    def lacks_only_its_portal(self) -> bool:
        """Whether all that the check found wrong, or a sync since, is the portal."""
        check = self.check
        failed = check.failure is not None and check.failure.reason in OF_A_PORTAL
        return failed and check.preflight is not None and check.generation == self.desired.generation

    @property
    def check_requested(self) -> bool:
        """Whether the annotation asks a blocked connector to check again."""
        return self.blocked_by is not None and self.check.sync_request != self.desired.sync_request

    @property
    def sync_requested(self) -> bool:
        """Whether an annotation asks for a sync that has not begun."""
        return self.desired.sync_request not in (None, self.records.last_handled_sync_request)

    @property
    def undelivered(self) -> bool:
        """Whether the newest snapshot has not gone out yet."""
        last, delivery = self.records.last_sync, self.records.last_delivery
        return last is not None and (delivery is None or delivery.sync_id != last.id)

    @property
    def can_sync(self) -> bool:
        """Whether a sync could start now; C1 out of reach is no reason not to."""
        return not self.desired.spec.suspend and self.checked and self.blocked_by is None and self.c1.settled

    def secret_is_late(self, now: Instant) -> bool:
        """Whether a missing Secret may still be on its way, as when another operator makes it."""
        failure = self.check.failure
        return failure is not None and failure.reason in _LATE and now.monotonic < self.secret_late_until

    def stale_credentials(self, now: Instant) -> Failure | None:
        """Why the credentials in use may be old, once their Secret could not be read for UNREAD_SECONDS."""
        if self.check.unread is None or self.desired.spec.suspend or now.monotonic < self.unread_shown_at:
            return None
        return self.check.unread

    @property
    def unread_shown_at(self) -> float:
        return self.check.unread_since + UNREAD_SECONDS

    @property
    def secret_late_until(self) -> float:
        return self.desired_since + LATE_SECRET_SECONDS

    @property
    def status_held_until(self) -> float:
        """Until when the written status stays as it is, -inf for not at all.

        `Ready` does not become Unknown while an edit, or at a restart everything, is checked again.
        """
        check, c1 = self.check, self.c1
        if self.desired.spec.suspend or not self.records.conditions:
            return float("-inf")
        if check.asking_since is not None:
            return check.asking_since + HOLD_SECONDS
        if check.failure is None and c1.phase is C1Phase.OPEN and not c1.settled:
            return c1.phase_since + HOLD_SECONDS
        return float("-inf")


def host_id_taken(holder: str, host_id: str) -> Failure:
    """C1 would take two connectors for one. `holder` is what to call the other (`environment.HostIDs.holder`)."""
    return Failure(
        Reason.HOST_ID_TAKEN,
        f"{holder} uses the same C1 client ID and host ID {host_id!r}, and C1 treats the two as one. This connector"
        " does not contact C1 and does not sync: set another spec.delivery.hostID or client, or delete one of the two.",
        remedy=Remedy.EDIT,
    )


def for_task(blocked_by: Failure) -> Failure:
    """The failure that a task is answered with.

    A task that came before the host ID was found taken was meant for the other connector: C1 may hand it out again.
    """
    if blocked_by.reason is not Reason.HOST_ID_TAKEN:
        return blocked_by
    return Failure(blocked_by.reason, blocked_by.message, remedy=Remedy.RETRY)


def blocked_writing(state: ConnectorState) -> Failure | None:
    """Why no membership can be changed now although provisioning is enabled, or None.

    While the spec is invalid, that is not known either: C1 may ask again once it is corrected. A change needs no
    portal.
    """
    if state.desired.spec_error is not None:
        return Failure(state.desired.spec_error.reason, f"No membership is changed: {state.desired.spec_error.message}")
    if state.desired.spec.suspend:
        return Failure(Reason.SUSPENDED, "spec.suspend is true: nothing is changed until it is false.")
    blocked = state.blocked_at_c1 if state.lacks_only_its_portal else state.blocked_by
    if blocked is not None:
        return for_task(blocked)
    if state.check.write_failure is not None:
        return state.check.write_failure
    if not (state.checked or state.lacks_only_its_portal) or state.check.credentials is None:
        return Failure(
            Reason.PENDING,
            "The credentials are being checked; the change can be made afterwards.",
            remedy=Remedy.RETRY,
            retry_after=10.0,
        )
    return None


def claimed_identity(state: ConnectorState) -> C1Identity | None:
    """The C1 identity that the connector wants; None while suspended, invalid or without credentials."""
    credentials, desired = state.check.credentials, state.desired
    if desired.spec.suspend or desired.spec_error is not None or credentials is None:
        return None
    spec = desired.spec
    return C1Identity(credentials.client_id, credentials.client_secret, spec.host_id, spec.provisioning.enabled)


def accepted_by_c1(state: ConnectorState) -> bool | None:
    """Whether C1 accepts the claimed identity; None until this session's first Hello is answered."""
    c1, claimed = state.c1, claimed_identity(state)
    if claimed is None or c1.identity is None or c1.identity.name != claimed.name:
        return None
    if c1.ended:
        return False
    return True if c1.greeted else None
