"""When the connector in C1 is created and its credentials are replaced, and when the session takes the new ones. Pure.

`creation` carries it out: one run does all that is missing. A run looks at the Secret only, where nothing is.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from buildkite_connector.connector.state import (
    C1Phase,
    ConnectorState,
    Creation,
    DesiredState,
    claimed_identity,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import C1Record
from buildkite_connector.timing.clock import LONGEST_PUT_OFF, Backoff, Instant

RUNS_APART = 5.0
"""Seconds between two runs that succeed."""
AFTER_FAILURE = Backoff(first=30.0, cap=900.0)
"""Before the next run where waiting may help."""
AFTER_REFUSAL_SECONDS = 300.0
"""Before the next run where somebody must change something, although nothing changed here."""
CHANGEOVER_SECONDS = 5.0
"""How often to look whether the session serves no task, and can take the new credentials."""
LEAST_LEFT = timedelta(days=14)
"""A credential is replaced when so much of its life is left, or a third of it: whichever comes first."""
SHOWN_AFTER_FAILURES = 5
"""From so many failures on the status shows one that may pass, while the connector still works."""


# Decisions


def creation_due(state: ConnectorState, now: Instant) -> bool:
    """Whether to run now. An edit, or the annotation after a failure, does not wait for our own backoff."""
    desired, creation = state.desired, state.creation
    if not _creates(desired) or now.monotonic < creation.blocked_until:
        return False
    if creation.generation != desired.generation:
        return True
    if creation.failure is not None and creation.sync_request != desired.sync_request:
        return True
    return now.monotonic >= creation.due_at and (creation.failure is not None or _has_work(state, now))


def creation_times(state: ConnectorState, now: Instant) -> Iterator[float]:
    """When a run may be due although nothing happens, in monotonic seconds.

    Whether credentials are to be replaced is looked at as often as the Secrets are read again.
    """
    if not _creates(state.desired):
        return
    yield state.creation.due_at
    yield state.creation.blocked_until
    if changes_over(state):
        yield now.monotonic + CHANGEOVER_SECONDS


def changes_over(state: ConnectorState) -> bool:
    """Whether the session still has credentials that were replaced, and are valid until the new ones are in use.

    It takes the new ones once it serves no task.
    """
    c1, wanted = state.c1, claimed_identity(state)
    if not _creates(state.desired) or c1.phase is not C1Phase.OPEN or c1.ended or c1.identity is None or wanted is None:
        return False
    same = replace(c1.identity, client_id=wanted.client_id, client_secret=wanted.client_secret) == wanted
    return same and c1.identity != wanted


def client_in_use(state: ConnectorState) -> str:
    """The client ID that C1 greets the session with; "" while there is none."""
    c1 = state.c1
    return c1.identity.client_id if c1.phase is C1Phase.OPEN and c1.greeted and c1.identity is not None else ""


def rotation_failure(state: ConnectorState) -> Failure | None:
    """Why the credentials of a connector that works could not be replaced, once that does not pass by itself."""
    creation = state.creation
    passes = creation.failure is None or creation.failure.remedy is Remedy.RETRY
    return None if passes and creation.failures < SHOWN_AFTER_FAILURES else creation.failure


def _creates(desired: DesiredState) -> bool:
    spec = desired.spec
    return spec.c1 is not None and spec.c1.create is not None and not spec.suspend and desired.spec_error is None


def _has_work(state: ConnectorState, now: Instant) -> bool:
    record = state.records.c1
    if record is None or record.credential is None or record.creating is not None:
        return True
    lost = (state.check.failure, state.check.unread)
    if any(each is not None and each.reason is Reason.C1_NOT_CREATED for each in lost):  # somebody deleted the Secret
        return True
    credentials, in_use = state.check.credentials, client_in_use(state)
    if record.credential.retiring and credentials is not None and in_use == credentials.client_id:
        return True
    return record.credential.rotates_at is not None and record.credential.rotates_at <= now.wall


def rotates_at(expires_at: datetime, now: datetime) -> datetime:
    """When a third of the credential's life is left, or 14 days; one that lives for less than 28 days, at its half."""
    life = expires_at - now
    return expires_at - max(life / 3, min(LEAST_LEFT, life / 2))


# Transitions


def recorded(state: ConnectorState, record: C1Record) -> ConnectorState:
    """What a run has come to. New credentials are in the Secret by then: it is read soon."""
    before = state.records.c1
    if before is None or not _creates(state.desired):
        return state
    merged = replace(
        before,
        app_id=record.app_id,
        connector_id=record.connector_id,
        creating=record.creating,
        creating_since=record.creating_since,
        credential=record.credential,
    )
    state = replace(state, records=replace(state.records, c1=merged))
    if _credential_id(before) == _credential_id(record):
        return state
    return replace(state, check=replace(state.check, read_at=float("-inf"), read_wait=0.0, forced_due=float("-inf")))


def same_progress(one: C1Record | None, other: C1Record) -> bool:
    """Whether both say the same of the creation."""
    return one is not None and one == replace(
        other, shown=one.shown, observed_at=one.observed_at, forced_for=one.forced_for
    )


def creation_ended(
    state: ConnectorState, ran_for: DesiredState, failure: Failure | None, now: Instant, share: float
) -> ConnectorState:
    """A run is over."""
    creation = Creation(ran_for.generation, ran_for.sync_request, due_at=now.monotonic + RUNS_APART)
    if failure is not None:
        failures = state.creation.failures + 1
        wait, blocked = max(AFTER_REFUSAL_SECONDS, failure.retry_after or 0.0), 0.0
        if failure.remedy is Remedy.RETRY:
            wait = AFTER_FAILURE.wait(failures, share, failure.retry_after)
            blocked = failure.retry_after or 0.0
        creation = replace(
            creation,
            failure=failure.without_traceback(),
            failures=failures,
            due_at=now.monotonic + wait,
            blocked_until=now.monotonic + min(blocked, LONGEST_PUT_OFF),
        )
    return replace(state, creation=creation)


def _credential_id(record: C1Record) -> str:
    return record.credential.id if record.credential is not None else ""
