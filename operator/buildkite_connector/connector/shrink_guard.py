"""The shrink guard: may this snapshot go out, seen how much was there before? A pure decision.

C1 reads what is missing from a snapshot as gone, so a half-empty answer of Buildkite would revoke half a company.
"""

from dataclasses import dataclass

from buildkite_connector.model.directory import Counts


@dataclass(frozen=True, slots=True)
class Shrink:
    """What shrank most: `what` is accounts, teams or memberships."""

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
    drops = (
        Shrink("accounts", before.accounts, after.accounts),
        Shrink("teams", before.teams, after.teams),
        Shrink("memberships", before.memberships, after.memberships),
    )
    held = [drop for drop in drops if drop.before and (drop.before - drop.after) * 100 > max_drop_percent * drop.before]
    return max(held, key=lambda drop: drop.percent, default=None)
