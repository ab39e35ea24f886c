"""Derives the conditions and the phase from a connector's state. Pure.

Condition semantics follow the Kubernetes API conventions and kstatus.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from buildkite_connector.connector.c1_side import FALSE, TRUE, UNKNOWN, Verdict, c1_synced
from buildkite_connector.connector.rotation import rotation_failure
from buildkite_connector.connector.shrink_guard import held, shrunk
from buildkite_connector.connector.sight import sees_less, unprotected
from buildkite_connector.connector.state import ConnectorState, blocked_writing, host_id_taken
from buildkite_connector.model.directory import without_grants
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import Condition, ConditionStatus, ConditionType, ConnectorStatus, Phase, Trigger
from buildkite_connector.model.words import API_TOKEN, EXCHANGED
from buildkite_connector.sync.portal import THROUGH_A_PORTAL
from buildkite_connector.timing.clock import Instant

CHANGE_WAITS = "The resource or its Secret changed; a sync is pending."
CHANGE_SYNCS = "Syncing after a change of the resource or its Secret."
CHECKING = "Checking the credentials with Buildkite and C1."
TOKEN_ACCEPTED = "Buildkite accepts the API token."  # noqa: S105
TOKEN_EXCHANGED = "Buildkite issues tokens by token exchange."  # noqa: S105
EXCHANGE_UNUSED = "The Secret also has a token exchange app, which is not used: remove the API token to use it."
_TOKEN_IS_GOOD = frozenset({Reason.ORGANIZATION_NOT_FOUND, Reason.ORGANIZATION_AMBIGUOUS, Reason.PORTAL_NOT_FOUND})

WARNED_DAYS = 14
_DAY = timedelta(days=1)


def derive_status(state: ConnectorState, now: Instant) -> ConnectorStatus:
    """The records of this state with its phase and conditions.

    A condition keeps its transition time while its status is the same.
    """
    records, preflight = state.records, state.check.preflight
    token, organization = replace(records.token, missing_scopes=state.check.missing_scopes), records.organization
    if preflight is not None:
        token, organization = replace(token, expires_at=preflight.token.expires_at), preflight.organization
    view, generation = _View(state, now), state.desired.generation
    since = {(each.type, each.status): each.last_transition_time for each in records.conditions}
    conditions = tuple(
        Condition(kind, *verdict, generation, last_transition_time=since.get((kind, verdict[0]), now.wall))
        for kind, verdict in view.conditions()
    )
    return replace(
        records,
        observed_generation=generation,
        phase=view.phase(),
        conditions=conditions,
        organization=organization,
        token=token,
    )


class _View:
    """One state at one moment, as people and machines are to see it."""

    def __init__(self, state: ConnectorState, now: Instant) -> None:
        self.state, self.now = state, now
        desired, staged = state.desired, state.staged
        self.syncing = state.sync is not None
        self.progress = self._progress()
        self.held = self.shrunk = None
        if staged is not None:
            self.held = held(state.records, staged, desired.spec.max_drop_percent, desired.accept_shrink)
            self.shrunk = shrunk(state.records, staged, desired.accept_shrink)
        self.setup_failure = state.setup_failure
        if self.setup_failure is None and state.host_id_holder is not None:
            self.setup_failure = host_id_taken(state.host_id_holder, desired.spec.host_id)
        self.stale = state.stale_credentials(now)
        self.blocking = (  # the one to report first: without credentials nothing else matters
            self.setup_failure or state.sync_failure or state.c1.failure or state.delivery_failure or self.stale
        )
        self.creating = state.is_being_created
        self.late = state.secret_is_late(now) or self.creating
        self.stalled = self.blocking is not None and self.blocking.remedy is not Remedy.RETRY and not self.late
        self.credentials, self.synced = self._credentials(), self._synced()
        self.ready = self._ready()

    def conditions(self) -> Iterator[tuple[ConditionType, Verdict]]:
        """Ready comes first; Reconciling and Stalled are there only while true."""
        desired = self.state.desired
        yield ConditionType.READY, self.ready
        yield ConditionType.CREDENTIALS_VALID, self.credentials
        yield ConditionType.SYNCED, self.synced
        yield ConditionType.DELIVERED, self._delivered()
        if desired.spec.provisioning.enabled and desired.spec_error is None:
            yield ConditionType.PROVISIONING_READY, self._provisioning_ready()
        if desired.spec.suspend:
            return
        if desired.spec.c1 is not None and desired.spec_error is None:
            yield ConditionType.C1_SYNCED, c1_synced(self.state, self.now)
        if self.blocking is not None and self.stalled:
            yield ConditionType.STALLED, (TRUE, self.blocking.reason, self.blocking.message)
        elif self.held is not None:
            yield ConditionType.STALLED, (TRUE, Reason.SHRINK_HELD, self.held)
        elif self.blocking is not None and not self.creating:
            yield ConditionType.RECONCILING, (TRUE, Reason.RETRYING, self.blocking.message)
        elif self.ready[0] is not TRUE or self.progress:
            reason = Reason.SYNCING if self.syncing else Reason.PENDING
            yield ConditionType.RECONCILING, (TRUE, reason, self.progress or self.ready[2])

    def phase(self) -> Phase:
        if self.state.desired.spec.suspend:
            return Phase.SUSPENDED
        if self.syncing:
            return Phase.SYNCING
        if self.ready[0] is TRUE:
            return Phase.CONNECTED
        if self.ready[0] is UNKNOWN or self.late:
            return Phase.PENDING
        return Phase.ERROR if self.stalled or self.state.records.last_sync is None else Phase.DEGRADED

    def _progress(self) -> str | None:
        """The sentence on what goes on towards Ready, None when nothing does."""
        state = self.state
        if self.syncing and state.sync is not None and state.sync.trigger is Trigger.CHANGE:
            return CHANGE_SYNCS
        if not state.outdated:
            return None
        return CHECKING if not state.checked and state.check.failure is None else CHANGE_WAITS

    def _credentials(self) -> Verdict:
        c1, preflight = self.state.c1, self.state.check.preflight
        failure = self.setup_failure
        for other in (c1.failure, self.state.sync_failure):
            if failure is None and other is not None and other.remedy is Remedy.CREDENTIALS:
                failure = other
        if failure is not None and failure.reason in _TOKEN_IS_GOOD:
            accepted = TOKEN_EXCHANGED if self._exchanges else TOKEN_ACCEPTED
            return UNKNOWN, failure.reason, f"{accepted} {failure.message}"
        failure = failure or self.stale
        if failure is not None:
            return _verdict(FALSE if self._lacks_credentials(failure) else UNKNOWN, failure)
        if not c1.greeted and c1.failure is not None:
            return _verdict(UNKNOWN, c1.failure)
        if preflight is None or not c1.greeted:
            return UNKNOWN, Reason.PENDING, "The credentials have not been checked yet."
        expires = expires_soon(preflight.token.expires_at, self.now.wall)
        less = sees_less(self.state.records.token.access, EXCHANGED if self._exchanges else API_TOKEN)
        warnings = [(Reason.TOKEN_EXPIRES, expires), (Reason.TOKEN_SEES_LESS, less)]
        if (failure := rotation_failure(self.state)) is not None:
            warnings.append((failure.reason, failure.message))
        given = [(reason, sentence) for reason, sentence in warnings if sentence is not None]
        reason = given[0][0] if given else Reason.VALID
        told = [sentence for _, sentence in given] or [self._accepted()]
        if self._exchange_unused:
            told.append(EXCHANGE_UNUSED)
        return TRUE, reason, " ".join(told)

    def _lacks_credentials(self, failure: Failure) -> bool:
        """Whether there are no credentials that work until somebody changes something."""
        if failure is self.state.creation.failure or failure.reason is Reason.SECRET_NOT_OWN:
            return failure.remedy is not Remedy.RETRY
        return failure.remedy is Remedy.CREDENTIALS

    @property
    def _exchanges(self) -> bool:
        credentials = self.state.check.credentials
        return credentials is not None and credentials.exchanges

    @property
    def _exchange_unused(self) -> bool:
        credentials = self.state.check.credentials
        return credentials is not None and credentials.token_exchange is not None and not credentials.exchanges

    def _accepted(self) -> str:
        spec = self.state.desired.spec
        portal = bool(spec.portal) and not spec.kinds.isdisjoint(THROUGH_A_PORTAL)
        if self._exchanges:
            accepted = "Buildkite issues tokens by token exchange and accepts the portal's token."
            return f"{accepted if portal else TOKEN_EXCHANGED} C1 accepts the client."
        if portal:
            return "Buildkite accepts the API token and the portal's token, and C1 accepts the client."
        return "Buildkite accepts the API token and C1 accepts the client."

    def _synced(self) -> Verdict:
        last = self.state.records.last_sync
        if self.state.sync_failure is not None:
            return _verdict(FALSE, self.state.sync_failure)
        if last is None:
            return UNKNOWN, Reason.AWAITING_SYNC, "No sync has finished yet."
        counted = f"{last.counts} in snapshot {last.id}."
        if lacking := without_grants(self.state.desired.spec.kinds):
            counted += f" Check spec.sync.resourceTypes: {lacking}."
        return TRUE, Reason.SYNC_SUCCEEDED, counted

    def _delivered(self) -> Verdict:
        records = self.state.records
        if self.held is not None:
            return FALSE, Reason.SHRINK_HELD, self.held
        failure = self.state.delivery_failure or self.state.c1.failure
        if failure is not None:
            return _verdict(FALSE, failure)
        if records.last_sync is not None and self.state.undelivered:
            waits = f"C1 does not have snapshot {records.last_sync.id} yet: the newest one is delivered when C1 asks."
            if self.shrunk is not None:
                return FALSE, Reason.SHRUNK, f"{self.shrunk} {waits}"
            return FALSE, Reason.AWAITING_TASK, waits
        if records.last_delivery is None:
            return FALSE, Reason.AWAITING_SYNC, "There is no snapshot to deliver yet."
        last = records.last_delivery
        return TRUE, Reason.DELIVERED, f"C1 accepted snapshot {last.sync_id} under task {last.task_id}."

    def _provisioning_ready(self) -> Verdict:
        failure = blocked_writing(self.state)
        if failure is not None:
            waits = failure.reason is Reason.PENDING or self.creating
            return _verdict(UNKNOWN if waits else FALSE, failure)
        works, unknown = "Grants and revokes from C1 are applied.", unprotected(self.state)
        if unknown is not None:
            return TRUE, Reason.PROTECTED_TEAM_UNKNOWN, f"{works} {unknown}"
        return TRUE, Reason.READY, works

    def _ready(self) -> Verdict:
        if self.state.desired.spec.suspend:
            return FALSE, Reason.SUSPENDED, "spec.suspend is true: no syncs and no contact with C1 until it is false."
        if self.blocking is not None:
            return _verdict(UNKNOWN if self.creating else FALSE, self.blocking)
        if self.held is not None:
            return FALSE, Reason.SHRINK_HELD, self.held
        if self.synced[0] is self.credentials[0] is TRUE:
            return TRUE, Reason.READY, self.synced[2]
        if self.syncing:
            return UNKNOWN, Reason.SYNCING, "The first sync is in progress."
        return UNKNOWN, Reason.PENDING, self.progress or self.synced[2]


def _verdict(status: ConditionStatus, failure: Failure) -> Verdict:
    return status, failure.reason, failure.message


# A token that expires soon. The sentence names whole days: it changes once a day, and the status and one event with it.


def expires_soon(end: datetime | None, now: datetime) -> str | None:
    """The warning from `WARNED_DAYS` before `end` on (UTC; None: never), else None."""
    if end is None or end - now > WARNED_DAYS * _DAY:
        return None
    days = max(math.ceil((end - now) / _DAY), 0)
    when = f"in {days} days" if days > 1 else "within a day" if days else "now"
    return (
        f"The Buildkite API token expires {when} ({end:%Y-%m-%dT%H:%M:%SZ}). Create a new one with the same scopes"
        " and replace it before then."
    )


def sentence_changes(end: datetime | None, now: datetime) -> datetime | None:
    """When `expires_soon` next returns another sentence; None: never."""
    if end is None or end <= now:
        return None
    days = min(math.ceil((end - now) / _DAY) - 1, WARNED_DAYS)
    return end - days * _DAY
