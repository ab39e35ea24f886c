"""Decides which events to post for a change of the status. `EventWriter` posts them, once the status is written.

Events report transitions. A sync with the same result as the one before is no transition, nor is a snapshot that waits
for C1 as usual: a sync with its delivery takes three writes of the status and no event.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from buildkite_connector.kubernetes.schema.status_json import bounded_message
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.status import ChangeResult, Condition, ConditionStatus, ConditionType, ConnectorStatus

logger = logging.getLogger(__name__)


class EventType(StrEnum):
    """The types of Kubernetes events."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before it is posted. `reason` is a word of the same closed list as a condition's."""

    type: EventType
    reason: Reason
    message: str


_FAILING = (
    ConditionType.READY,
    ConditionType.CREDENTIALS_VALID,
    ConditionType.SYNCED,
    ConditionType.DELIVERED,
    ConditionType.PROVISIONING_READY,
    ConditionType.C1_SYNCED,
)
"""Reconciling and Stalled repeat what these say."""

_CALM = frozenset(
    {Reason.SUSPENDED, Reason.PENDING, Reason.SYNCING, Reason.AWAITING_SYNC, Reason.AWAITING_TASK, Reason.DELIVERED}
)
"""Reasons for False that are no failure, and what Delivered goes through when all is well."""

_WARNED = {
    ConditionType.CREDENTIALS_VALID: {Reason.TOKEN_EXPIRES, Reason.TOKEN_SEES_LESS},
    ConditionType.PROVISIONING_READY: {Reason.PROTECTED_TEAM_UNKNOWN},
}
"""Reasons for True that are worth a warning."""

_MEMBERSHIP_MESSAGES = {
    Reason.GRANTED: "membership changed",
    Reason.ROLE_CHANGED: "membership changed",
    Reason.REVOKED: "membership changed",
    Reason.CHANGE_NOT_ALLOWED: "membership change refused",
}
"""What the log calls these events; all others report a condition."""


def log_event(connector: str, draft: EventDraft) -> None:
    """Log what an event says, at its level."""
    level = logging.WARNING if draft.type is EventType.WARNING else logging.INFO
    fields = {"connector": connector, "reason": draft.reason.value, "detail": draft.message}
    logger.log(level, _MEMBERSHIP_MESSAGES.get(draft.reason, "condition changed"), extra=fields)


def draft_events(old: ConnectorStatus | None, new: ConnectorStatus) -> list[EventDraft]:
    """What to post when the status goes from `old` (None: there was none) to `new`. Nothing is posted twice."""
    before = old or ConnectorStatus()
    drafts = [*_failures(before, new), *_ready(before, new), *_warnings(before, new), *_delivered(before, new)]
    drafts += _c1_synced(before, new)
    transitions = list({(draft.type, draft.reason): draft for draft in reversed(drafts)}.values())[::-1]
    return [*transitions, *_changes(before, new)]


def _failures(old: ConnectorStatus, new: ConnectorStatus) -> Iterator[EventDraft]:
    for kind in _FAILING:
        condition = new.condition(kind)
        if (
            condition is not None
            and condition.status is ConditionStatus.FALSE
            and condition.reason not in _CALM
            and _changed(old, condition)
        ):
            yield EventDraft(EventType.WARNING, condition.reason, bounded_message(condition.message))


def _ready(old: ConnectorStatus, new: ConnectorStatus) -> Iterator[EventDraft]:
    condition = new.condition(ConditionType.READY)
    if condition is None or not _changed(old, condition):
        return
    if condition.status is ConditionStatus.TRUE or condition.reason is Reason.SUSPENDED:
        yield EventDraft(EventType.NORMAL, condition.reason, bounded_message(condition.message))


def _warnings(old: ConnectorStatus, new: ConnectorStatus) -> Iterator[EventDraft]:
    """Conditions that are True and still need attention, when the message changes: once a day for a token's expiry."""
    for kind, reasons in _WARNED.items():
        before, condition = old.condition(kind), new.condition(kind)
        if condition is None or condition.reason not in reasons:
            continue
        if before is None or (before.reason, before.message) != (condition.reason, condition.message):
            yield EventDraft(EventType.WARNING, condition.reason, bounded_message(condition.message))


def _delivered(old: ConnectorStatus, new: ConnectorStatus) -> Iterator[EventDraft]:
    """The first delivery, and the first one after a failure."""
    delivery, last = new.last_delivery, old.last_delivery
    if delivery is None or (last is not None and last.sync_id == delivery.sync_id):
        return
    condition = old.condition(ConditionType.DELIVERED)
    troubled = condition is not None and condition.reason not in _CALM
    if last is None or troubled:
        yield EventDraft(
            EventType.NORMAL,
            Reason.DELIVERED,
            f"C1 accepted snapshot {delivery.sync_id} with {delivery.delivered or delivery.counts}"
            f" under task {delivery.task_id}.",
        )


def _c1_synced(old: ConnectorStatus, new: ConnectorStatus) -> Iterator[EventDraft]:
    """The first sync of C1 that succeeds after trouble. The first of all is no event: `Delivered` is."""
    before, condition = old.condition(ConditionType.C1_SYNCED), new.condition(ConditionType.C1_SYNCED)
    if before is None or condition is None or condition.status is not ConditionStatus.TRUE:
        return
    synced_before = old.c1 is not None and old.c1.shown is not None and old.c1.shown.completed_at is not None
    resumed = before.status is ConditionStatus.UNKNOWN and before.reason is Reason.C1_SYNCING and synced_before
    if before.status is ConditionStatus.FALSE or resumed:
        yield EventDraft(EventType.NORMAL, condition.reason, bounded_message(condition.message))


def _changes(old: ConnectorStatus, new: ConnectorStatus) -> Iterator[EventDraft]:
    """Each change of a membership, and each refusal."""
    if new.provisioning is None:
        return
    known = old.provisioning.recent[-1].number if old.provisioning is not None and old.provisioning.recent else 0
    for change in new.provisioning.recent:
        if change.number <= known:
            continue
        what = f"{change.user}, {change.role.value} of team {change.team} (C1's task {change.task_id})"
        match change.result:
            case ChangeResult.GRANTED:
                yield EventDraft(EventType.NORMAL, Reason.GRANTED, f"Added {what}.")
            case ChangeResult.ROLE_CHANGED:
                yield EventDraft(EventType.NORMAL, Reason.ROLE_CHANGED, f"Changed the role of {what}.")
            case ChangeResult.REVOKED:
                yield EventDraft(EventType.NORMAL, Reason.REVOKED, f"Removed {what}.")
            case _:
                told = bounded_message(f"Refused to {change.action.value} {what}: {change.reason}")
                yield EventDraft(EventType.WARNING, Reason.CHANGE_NOT_ALLOWED, told)


def _changed(old: ConnectorStatus, condition: Condition) -> bool:
    before = old.condition(condition.type)
    return before is None or (before.status, before.reason) != (condition.status, condition.reason)
