"""The scope of a sync and of its snapshot: kinds of resources, entitlements, grants.

C1 reads what is absent from a snapshot as gone. A task that asks for less than the staged whole is therefore
answered with a file of exactly that scope (`c1z.derive`), never with the whole and never with less.
"""

from dataclasses import dataclass
from enum import StrEnum


class ResourceKind(StrEnum):
    """The resource types that a snapshot holds, by their ids in C1."""

    USER = "user"
    TEAM = "team"


ALL_KINDS = frozenset(ResourceKind)


@dataclass(frozen=True, slots=True)
class SyncScope:
    """C1's task options and the resource's `sync.resourceTypes` in one value; two scopes are compared by `==`.

    `kinds` are the resource types in the snapshot. `entitlements=False` leaves entitlements and grants out
    (C1's `resources_only`), `grants=False` leaves grants out.
    """

    kinds: frozenset[ResourceKind] = ALL_KINDS
    entitlements: bool = True
    grants: bool = True

    @property
    def wants_accounts(self) -> bool:
        return ResourceKind.USER in self.kinds

    @property
    def wants_teams(self) -> bool:
        return ResourceKind.TEAM in self.kinds

    @property
    def wants_memberships(self) -> bool:
        """Memberships are the grants of team resources."""
        return self.wants_teams and self.entitlements and self.grants

    def includes(self, other: "SyncScope") -> bool:
        """Whether a snapshot of this scope holds all that one of `other` needs. Every scope includes itself."""
        return (
            other.kinds <= self.kinds
            and (self.entitlements or not other.entitlements)
            and (self.grants or not other.grants)
        )


FULL_SCOPE = SyncScope()
