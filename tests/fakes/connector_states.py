"""States of a connector for tests of single decisions, made by its own transitions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from buildkite_connector.connector import decisions, transitions
from buildkite_connector.connector.c1_side import looked
from buildkite_connector.connector.state import ConnectorState, DesiredState, SnapshotRequest, claimed_identity
from buildkite_connector.connector.transitions import CheckResult, SyncResult
from buildkite_connector.model.directory import Counts, Organization, OrganizationSlug, SyncScope, TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.status import (
    C1Record,
    C1State,
    C1SyncState,
    ConnectorStatus,
    SnapshotFile,
    SyncRecord,
)
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.sync.preflight import Preflight
from buildkite_connector.timing.clock import Instant
from fakes.c1_rest import C1_SPEC
from fakes.connector_setup import SecretCredentials

START = Instant(datetime(2026, 3, 2, 9, 0, tzinfo=UTC), 100.0)
CREDENTIALS = Credentials("client", "secret", "token")
PREFLIGHT = Preflight(TokenFacts("uuid", frozenset()), Organization("0f7d", OrganizationSlug("acme-inc"), "Acme Inc"))
NEVER = 1e9
SHARE = 0.5
"""No surprise: the middle of each range."""
COUNTS = Counts(100, 10, 300)
DOWN = Failure(Reason.BUILDKITE_UNAVAILABLE, "Buildkite answers 503.")
REJECTED = Failure(Reason.TOKEN_REJECTED, "Buildkite rejected the token.", remedy=Remedy.CREDENTIALS)


def after(seconds: float, start: Instant = START) -> Instant:
    return Instant(start.wall + timedelta(seconds=seconds), start.monotonic + seconds)


def desired(generation: int = 1, **changes: object) -> DesiredState:
    spec = replace(ConnectorSpec(host_id="default.acme"), **changes)  # type: ignore[arg-type]  # checked by the dataclass
    return DesiredState(generation, spec, SecretCredentials())


def new(**changes: object) -> ConnectorState:
    """A connector that nothing is known of, at START."""
    return transitions.begin(desired(1, **changes), None, START)


def restored(status: ConnectorStatus, now: Instant, **changes: object) -> ConnectorState:
    """The connector of the process after the one that wrote the status."""
    return transitions.begin(desired(1, **changes), status, now)


def checked(state: ConnectorState, now: Instant = START, failure: Failure | None = None) -> ConnectorState:
    """After a forced check of the desired state."""
    state = transitions.forced_check_begun(state, now)
    result = CheckResult(
        state.desired.generation,
        state.desired.sync_request,
        CREDENTIALS,
        PREFLIGHT if failure is None else None,
        failure=failure,
        forced=True,
        asked_buildkite=True,
    )
    return transitions.check_finished(state, result, now, SHARE)


def greeted(state: ConnectorState, now: Instant = START) -> ConnectorState:
    """With a session that C1 has answered."""
    identity = claimed_identity(state)
    assert identity is not None
    return transitions.c1_greeted(transitions.c1_opened(state, identity, now))


def running(state: ConnectorState, now: Instant, sync_id: str = "sync1") -> ConnectorState:
    """With a sync that has a slot."""
    return transitions.sync_admitted(state, SyncID(sync_id), now)


def synced(
    state: ConnectorState, now: Instant, sync_id: str = "sync1", counts: Counts = COUNTS, seconds: float = 5.0
) -> ConnectorState:
    """After a sync that began now and took so many seconds."""
    state = running(state, now, sync_id)
    assert state.sync is not None
    scope = SyncScope(state.desired.spec.kinds)
    staged = StagedSnapshot(SyncID(sync_id), Path("/nowhere") / sync_id, f"sha-{sync_id}", 1000, counts, scope)
    end = after(seconds, now)
    record = SyncRecord(
        SyncID(sync_id),
        state.sync.trigger,
        now.wall,
        end.wall,
        counts,
        3,
        0.0,
        SnapshotFile(staged.sha256, staged.size),
    )
    return transitions.sync_succeeded(state, state.sync, SyncResult(record, staged), end, SHARE)


def failed(state: ConnectorState, now: Instant, failure: Failure = DOWN, sync_id: str = "sync9") -> ConnectorState:
    """After a sync that failed at once."""
    state = running(state, now, sync_id)
    assert state.sync is not None
    return transitions.sync_failed(state, state.sync, failure, now, SHARE)


def ready(**changes: object) -> ConnectorState:
    """Checked, greeted, with the snapshot of `sync1`, which began at START and ended 5 s later."""
    return synced(greeted(checked(new(**changes))), START)


def asked(state: ConnectorState, now: Instant, scope: SyncScope | None = None, task: str = "task1") -> ConnectorState:
    """With a task of C1 that waits for a snapshot."""
    request = SnapshotRequest(TaskID(task), scope or SyncScope(), now.monotonic)
    return replace(state, requests=(*state.requests, request))


def due(state: ConnectorState, now: Instant, *running: str) -> list[object]:
    """What a connector, of which the tasks `running` run already, begins and ends now, as `Connector` does it.

    "check"; "close C1", or the identity of the session that it opens; an answer to each task of C1; "sync", or why it
    cancels the one under way.
    """
    found: list[object] = []
    if "check" not in running and decisions.check_due(state, now):
        found.append("check")
    if decisions.session_over(state):
        found.append("close C1")
    found.append(decisions.session_due(state, now))
    found += [decisions.answer(state, each, now) for each in state.requests]
    if state.sync is not None or "sync" in running:
        found.append(decisions.why_cancel(state, now))
    elif decisions.sync_due(state, now) is not None:
        found.append("sync")
    return [each for each in found if each is not None]


# A connector that C1's REST API is asked for


NOW = after(5.0)
"""When the first sync has just ended."""


def in_c1(**spec: object) -> ConnectorState:
    """Ready, with a snapshot that C1 does not have; C1 has shown the connector, which is well."""
    state = ready(**({"c1": C1_SPEC} | spec))
    return looked(state, 1, C1State(C1SyncState.DONE), NOW, SHARE)


def record_of(state: ConnectorState) -> C1Record:
    assert state.records.c1 is not None
    return state.records.c1


def with_record(state: ConnectorState, **changes: object) -> ConnectorState:
    record = replace(record_of(state), **changes)  # type: ignore[arg-type]  # checked by the dataclass
    return replace(state, records=replace(state.records, c1=record))
