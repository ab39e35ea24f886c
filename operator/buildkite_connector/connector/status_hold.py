"""When the status is not written yet, because what it would say changes within seconds. Pure."""

import math
from collections.abc import Iterator

from buildkite_connector.connector.state import C1Phase, ConnectorState, claimed_identity
from buildkite_connector.model.status import ConditionStatus, ConditionType
from buildkite_connector.timing.clock import Instant

SLOW_SECONDS = 2.0
"""How long a check may take before the status reports that it is under way."""
LONGEST_HOLD_SECONDS = 45.0
"""The same when there is a status that says what was true before."""


def hold_status(state: ConnectorState, now: Instant) -> bool:
    """Whether the status is about to change: by a check that was begun just now, C1's first answer, or a sync's start.

    What is certain within seconds is written once, and not first as unknown. A new connector whose status says that it
    is on its way says no more until its first sync has a slot: in a start of many that may take minutes.
    """
    if state.desired.spec.suspend:
        return False
    since = _waits_since(state)
    if since is None:
        return False
    patience = SLOW_SECONDS if not state.records.conditions else LONGEST_HOLD_SECONDS
    if _awaits_turn(state):
        patience = math.inf
    return now.monotonic < since + patience


def hold_ends(state: ConnectorState) -> Iterator[float]:
    """When a status that is held is written although nothing happens, in monotonic seconds."""
    since = _waits_since(state)
    if since is not None:
        yield since + SLOW_SECONDS
        yield since + LONGEST_HOLD_SECONDS


def _waits_since(state: ConnectorState) -> float | None:
    """When what the status waits for began; None: nothing."""
    if state.check.asking_since is not None:
        return state.check.asking_since
    if _awaits_c1(state):
        return state.c1.phase_since
    return state.sync_queued_at if _awaits_slot(state) else None


def _awaits_c1(state: ConnectorState) -> bool:
    """Whether C1's first answer to a session that was opened, or is opened next, is outstanding."""
    if state.check.failure is not None or claimed_identity(state) is None:
        return False
    return state.c1.phase is C1Phase.CLOSING or (state.c1.phase is C1Phase.OPEN and not state.c1.settled)


def _awaits_slot(state: ConnectorState) -> bool:
    """Whether the sync waits for a slot, and nothing fails meanwhile that must be told."""
    return state.sync_queued_at is not None and not _fails(state)


def _awaits_turn(state: ConnectorState) -> bool:
    """Whether a new connector, whose status says so, only awaits its turn to greet C1 or to sync."""
    if state.check.write_failure is not None or not _says_pending(state):
        return False
    return _awaits_slot(state) or (_awaits_c1(state) and not _fails(state))


def _fails(state: ConnectorState) -> bool:
    """Whether something that keeps the sync, or its delivery, from happening must be told."""
    return state.blocked_by is not None or state.c1.failure is not None or state.delivery_failure is not None


def _says_pending(state: ConnectorState) -> bool:
    """Whether the status says of this generation that its first sync is to come."""
    records = state.records
    ready = records.condition(ConditionType.READY)
    pending = ready is not None and ready.status is ConditionStatus.UNKNOWN
    return pending and records.last_sync is None and records.observed_generation == state.desired.generation
