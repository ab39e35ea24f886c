"""The shrink guard: holds back a snapshot that lost too much since the last delivery. Pure.

C1 takes everything that is missing from a snapshot for deleted: a half-empty answer of Buildkite would revoke the
access of half a company.
"""

from dataclasses import asdict, dataclass, replace

from buildkite_connector.model.directory import Counts
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.model.words import counted

WARNED_PERCENT = 25
"""The loss from which on the status warns; C1 itself pauses a connector at about half."""


@dataclass(frozen=True, slots=True)
class Shrink:
    """The largest loss; `what` is one of the words of `Counts.amounts`."""

    what: str
    before: int
    after: int

    @property
    def percent(self) -> int:
        """How much was lost, in whole percents, rounded down."""
        return (self.before - self.after) * 100 // self.before


def find_shrink(before: Counts | None, after: Counts, max_drop_percent: int) -> Shrink | None:
    """The worst drop that is more than `max_drop_percent` of what was last delivered, or None.

    `before` None (nothing delivered yet) and `max_drop_percent` 0 (disabled) let everything go.
    """
    if before is None or max_drop_percent == 0:
        return None
    now = dict(after.amounts())
    drops = [Shrink(what, amount, now[what]) for what, amount in before.amounts() if what in now]
    held = [drop for drop in drops if drop.before and (drop.before - drop.after) * 100 > max_drop_percent * drop.before]
    return max(held, key=lambda drop: drop.percent, default=None)


def held(records: ConnectorStatus, snapshot: StagedSnapshot, max_drop_percent: int, accepted: str | None) -> str | None:
    """Why the snapshot is held back, as a sentence; None if it is not. `accepted`: the sync id that a person accepted.

    Accepting one sync makes its counts the ones that later snapshots are compared with, so that a release is
    not undone by the next sync.
    """
    shrink = _shrink(records, snapshot, max_drop_percent, accepted)
    if shrink is None:
        return None
    return (
        f"Snapshot {snapshot.sync_id} has {counted(shrink.after, shrink.what)},"
        f" the last delivered one had {shrink.before}"
        f" ({shrink.percent} % fewer, more than the {max_drop_percent} % of delivery.shrinkGuard.maxDropPercent)."
        " It is held. If this is right, release it with the annotation"
        f" connectors.c1.ai/accept-shrink={snapshot.sync_id} (in service mode, with --accept-shrink);"
        " if not, check the token's access in Buildkite."
    )


def shrunk(records: ConnectorStatus, snapshot: StagedSnapshot, accepted: str | None) -> str | None:
    """The warning about a snapshot that lost `WARNED_PERCENT` or more, whether it is held or not."""
    shrink = _shrink(records, snapshot, WARNED_PERCENT - 1, accepted)
    if shrink is None or shrink.percent < WARNED_PERCENT:
        return None
    return (
        f"Snapshot {snapshot.sync_id} has {counted(shrink.after, shrink.what)},"
        f" the last delivered one had {shrink.before}"
        f" ({shrink.percent} % fewer). C1 pauses a connector that loses about half: if this is wrong, check the"
        " token's access in Buildkite."
    )


def _shrink(
    records: ConnectorStatus, snapshot: StagedSnapshot, max_drop_percent: int, accepted: str | None
) -> Shrink | None:
    """The drop since what was last delivered, or since the accepted sync where that is newer."""
    last, before = records.last_delivery, baseline(records, accepted)
    if last is None or before is None or snapshot.sync_id in {last.sync_id, accepted}:
        return None
    return find_shrink(before, snapshot.counts.filled(snapshot.scope, before), max_drop_percent)


def baseline(records: ConnectorStatus, accepted: str | None) -> Counts | None:
    """What later snapshots are compared with: what was last delivered, or the accepted sync where that is newer.

    What that sync left out counts as at the delivery. The history does not say what a sync covered: a sync that left
    out accounts or teams counts none, so none is taken for left out. Until it is delivered, a sync without any team is
    the only one that its acceptance lets through.
    """
    last = records.last_delivery
    if last is None:
        return None
    for entry in records.history:
        if entry.id == accepted and entry.counts is not None and entry.finished_at > last.time:
            found = {name: count for name, count in asdict(entry.counts).items() if count is not None}
            if not entry.counts.accounts:
                del found["accounts"]
            if not entry.counts.teams:
                del found["teams"], found["memberships"]
            return replace(last.counts, **found)
    return last.counts
