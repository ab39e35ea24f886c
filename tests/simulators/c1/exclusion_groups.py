"""Groups of entitlements of which a principal holds at most one: C1's rules for them, checked over a snapshot."""

from collections import defaultdict

from buildkite_connector.proto import connector_pb2 as pb

MOST = 50
"""Entitlements of one group."""


def exclusion_group(entitlement: pb.Entitlement) -> pb.EntitlementExclusionGroup | None:
    """The group that an entitlement is in."""
    group = pb.EntitlementExclusionGroup()
    for annotation in entitlement.annotations:
        if annotation.Unpack(group):
            return group
    return None


class ExclusionGroups:
    """What was seen of each group: how many entitlements, of which resource type, and its default."""

    def __init__(self) -> None:
        self._sizes: defaultdict[str, int] = defaultdict(int)
        self._types: dict[str, str] = {}
        self._defaults: dict[str, str] = {}

    def take(self, entitlement: pb.Entitlement) -> None:
        """Raises ValueError when the entitlement does not fit its group."""
        group = exclusion_group(entitlement)
        if group is None:
            return
        name, kind = group.exclusion_group_id, entitlement.resource.id.resource_type
        if not name:
            raise ValueError(f"{entitlement.id}: EntitlementExclusionGroup without an id")
        self._sizes[name] += 1
        if self._sizes[name] > MOST:
            raise ValueError(f"{entitlement.id}: exclusion group {name} has more than {MOST} entitlements")
        if self._types.setdefault(name, kind) != kind:
            raise ValueError(f"{entitlement.id}: exclusion group {name} is of {self._types[name]}, not of {kind}")
        if group.is_default and self._defaults.setdefault(name, entitlement.id) != entitlement.id:
            raise ValueError(f"{entitlement.id}: exclusion group {name} has a default already")
