"""The rows of an uploaded snapshot, checked one by one: each message decodes, agrees with its columns, keeps
C1's limits and refers to what is there. Raises ValueError that names the row.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from buildkite_connector.proto import connector_pb2 as pb
from simulators.c1.exclusion_groups import ExclusionGroups
from simulators.c1.traits import LABEL, TRAITS, check_time, check_traits

LINK = re.compile(rf"(?=.{{9,1024}}\Z)https://{LABEL}(?:\.{LABEL})*(?::\d+)?(?:[/?#][!-~]*)?")
"""An absolute address, as C1's validation of the field has it."""
ANNOTATIONS: dict[type[Message], tuple[type[Message], ...]] = {
    pb.ResourceType: (pb.OptInRequired, pb.CapabilityPermissions, pb.SkipEntitlementsAndGrants),
    pb.Resource: (*TRAITS.values(), pb.ExternalLink),
    pb.Entitlement: (pb.EntitlementExclusionGroup,),
    pb.Grant: (pb.GrantImmutable,),
}
"""What may stand on each. A GrantExpandable never stands on a grant in a file: it has a column."""
M = TypeVar("M", bound=Message)


class RowChecks:
    """Counts by resource type, and the first few rows in words, once `run` has gone through the file."""

    def __init__(self, connection: sqlite3.Connection, sample: int) -> None:
        self.types: dict[str, pb.ResourceType] = {}
        self.resources: Counter[str] = Counter()
        self.entitlements: Counter[str] = Counter()
        self.grants: Counter[str] = Counter()
        self.dangling_grants = 0
        self.inherited_grants = 0
        self.expandable_grants = 0
        self.accounts: list[dict[str, Any]] = []
        self.teams: list[dict[str, Any]] = []
        self.memberships: list[dict[str, Any]] = []
        self._connection = connection
        self._sample = sample
        self._names: dict[tuple[str, str], str] = {}
        self._offers: dict[str, tuple[tuple[str, str], str, frozenset[str]]] = {}
        self._opt_in: set[str] = set()
        self._bare: set[str] = set()
        self._groups = ExclusionGroups()

    def run(self) -> None:
        for external_id, data in self._rows("external_id, data", "v1_resource_types"):
            self._resource_type(external_id, data)
        columns = "external_id, resource_type_id, parent_resource_type_id, parent_resource_id, data"
        for row in self._rows(columns, "v1_resources"):
            self._resource(*row)
        self._parents()
        for row in self._rows("external_id, resource_type_id, resource_id, data", "v1_entitlements"):
            self._entitlement(*row)
        columns = (
            "external_id, entitlement_id, resource_type_id, resource_id,"
            " principal_resource_type_id, principal_resource_id, data, expansion, needs_expansion"
        )
        for (
            external_id,
            entitlement_id,
            kind,
            resource_id,
            principal_kind,
            principal_id,
            data,
            *expansion,
        ) in self._rows(columns, "v1_grants"):
            principal = principal_kind, principal_id
            self._grant(external_id, entitlement_id, (kind, resource_id), principal, data)
            self._expansion(external_id, principal, *expansion)

    def _rows(self, columns: str, table: str) -> Iterator[Any]:
        return self._connection.execute(f"select {columns} from {table} order by id")  # noqa: S608

    def _resource_type(self, external_id: str, data: bytes) -> None:
        kind = _decode(pb.ResourceType, data, external_id)
        _same(external_id, "id", external_id, kind.id)
        _size(external_id, "id", kind.id, 1, 1024)
        _size(external_id, "display_name", kind.display_name, 1, 1024)
        _size(external_id, "description", kind.description, 0, 4096)
        if len(set(kind.traits)) != len(kind.traits):
            raise ValueError(f"{external_id}: a trait comes twice")
        for annotation in _annotations(external_id, kind):
            if isinstance(annotation, pb.OptInRequired):
                self._opt_in.add(kind.id)
            elif isinstance(annotation, pb.SkipEntitlementsAndGrants):
                self._bare.add(kind.id)
            elif not all(each.permission for each in annotation.permissions):
                raise ValueError(f"{external_id}: CapabilityPermissions: a permission is empty")
        self.types[kind.id] = kind

    def _resource(self, external_id: str, kind: str, parent_kind: str | None, parent: str | None, data: bytes) -> None:
        resource = _decode(pb.Resource, data, external_id)
        if kind not in self.types:
            raise ValueError(f"{external_id}: resource type {kind} is not in v1_resource_types")
        _same(external_id, "id.resource_type", kind, resource.id.resource_type)
        _same(external_id, "id", external_id, f"{resource.id.resource_type}:{resource.id.resource}")
        _size(external_id, "id.resource", resource.id.resource, 1, 1024)
        _size(external_id, "display_name", resource.display_name, 1, 1024)
        _size(external_id, "description", resource.description, 0, 2048)
        parents = (parent_kind or "", parent or "")
        _same(external_id, "parent_resource_id", parents, _pair(resource.parent_resource_id))
        check_time(external_id, resource, "created_at")
        trait = self._traits(external_id, resource)
        self._names[kind, resource.id.resource] = resource.display_name
        self.resources[kind] += 1
        if pb.ResourceType.TRAIT_USER in self.types[kind].traits:
            if len(self.accounts) < self._sample:
                self.accounts.append(_account(resource, trait))
        elif pb.ResourceType.TRAIT_GROUP in self.types[kind].traits and len(self.teams) < self._sample:
            self.teams.append(
                {"id": resource.id.resource, "name": resource.display_name, "description": resource.description}
            )

    def _traits(self, external_id: str, resource: pb.Resource) -> pb.UserTrait:
        """The user trait, empty where there is none."""
        found = _annotations(external_id, resource)
        check_traits(external_id, self.types[resource.id.resource_type], found)
        for annotation in found:
            if isinstance(annotation, pb.ExternalLink) and not LINK.fullmatch(annotation.url):
                raise ValueError(f"{external_id}: ExternalLink.url: {annotation.url!r} is not an https address")
        return next((each for each in found if isinstance(each, pb.UserTrait)), pb.UserTrait())

    def _parents(self) -> None:
        columns = "distinct parent_resource_type_id, parent_resource_id"
        for kind, parent in self._connection.execute(f"select {columns} from v1_resources"):  # noqa: S608
            if kind is not None and (kind, parent) not in self._names:
                raise ValueError(f"parent resource {kind}:{parent} is not in v1_resources")

    def _entitlement(self, external_id: str, kind: str, resource_id: str, data: bytes) -> None:
        entitlement = _decode(pb.Entitlement, data, external_id)
        _same(external_id, "id", external_id, entitlement.id)
        _same(external_id, "resource.id", (kind, resource_id), _pair(entitlement.resource.id))
        if (kind, resource_id) not in self._names:
            raise ValueError(f"{external_id}: resource {kind}:{resource_id} is not in v1_resources")
        _size(external_id, "id", entitlement.id, 1, 1024)
        _size(external_id, "display_name", entitlement.display_name, 1, 1024)
        _size(external_id, "description", entitlement.description, 0, 2048)
        _size(external_id, "resource.display_name", entitlement.resource.display_name, 0, 1024)
        if kind in self._bare:
            raise ValueError(f"{external_id}: resources of type {kind} have no entitlements")
        self.entitlements[kind] += 1
        _annotations(external_id, entitlement)
        for each in entitlement.grantable_to:
            if each != self.types.get(each.id, each):
                raise ValueError(f"{external_id}: grantable_to: {each.id} is not as in v1_resource_types")
        grantable = frozenset(each.id for each in entitlement.grantable_to)
        self._offers[external_id] = ((kind, resource_id), entitlement.slug, grantable)
        self._groups.take(entitlement)

    def _grant(
        self, external_id: str, entitlement_id: str, resource: tuple[str, str], principal: tuple[str, str], data: bytes
    ) -> None:
        grant = _decode(pb.Grant, data, external_id)
        _same(external_id, "id", external_id, grant.id)
        _same(external_id, "entitlement.id", entitlement_id, grant.entitlement.id)
        _same(external_id, "entitlement.resource.id", resource, _pair(grant.entitlement.resource.id))
        _same(external_id, "principal.id", principal, _pair(grant.principal.id))
        _size(external_id, "id", grant.id, 1, 1024)
        _size(external_id, "principal.id.resource", grant.principal.id.resource, 1, 1024)
        if (offer := self._offers.get(entitlement_id)) is None:
            raise ValueError(f"{external_id}: entitlement {entitlement_id} is not in v1_entitlements")
        _same(external_id, "the entitlement's resource", resource, offer[0])
        if offer[2] and principal[0] not in offer[2]:
            raise ValueError(f"{external_id}: the entitlement is not grantable to a {principal[0]}")
        if resource[0] in self._opt_in and principal not in self._names:
            raise ValueError(f"{external_id}: principal {':'.join(principal)} is not in v1_resources")
        self._sources(grant)
        self.grants[resource[0]] += 1
        self.dangling_grants += principal not in self._names
        if pb.ResourceType.TRAIT_GROUP not in self.types[resource[0]].traits:
            return
        if len(self.memberships) < self._sample:
            account = self._names.get(principal, principal[1])
            self.memberships.append({"account": account, "team": self._names[resource], "role": offer[1]})

    def _sources(self, grant: pb.Grant) -> None:
        """A grant that comes from others names their entitlements, and is immutable unless it stands by itself too."""
        sources = grant.sources.sources
        if strangers := sorted(set(sources) - set(self._offers)):
            raise ValueError(f"{grant.id}: sources: entitlement {strangers[0]} is not in v1_entitlements")
        if not all(source.is_direct for source in sources.values()):
            raise ValueError(f"{grant.id}: sources: a shallow expansion has direct sources alone")
        inherited = bool(sources) and grant.entitlement.id not in sources
        if inherited != bool(_annotations(grant.id, grant)):
            raise ValueError(f"{grant.id}: GrantImmutable: expected on grants that come from others alone")
        self.inherited_grants += bool(sources)

    def _expansion(self, external_id: str, principal: tuple[str, str], expansion: bytes | None, needed: int) -> None:
        """What a GrantExpandable may name: the SDK fails the whole sync for an entitlement of another resource."""
        if needed != (expansion is not None):
            raise ValueError(f"{external_id}: needs_expansion is {needed}, expected {int(not needed)}")
        if expansion is None:
            return
        self.expandable_grants += 1
        found = _decode(pb.GrantExpandable, expansion, external_id)
        if not found.entitlement_ids or len(set(found.entitlement_ids)) != len(found.entitlement_ids):
            raise ValueError(f"{external_id}: GrantExpandable.entitlement_ids: expected at least one, none twice")
        for source in found.entitlement_ids:
            if (offer := self._offers.get(source)) is None:
                raise ValueError(f"{external_id}: GrantExpandable: entitlement {source} is not in v1_entitlements")
            if offer[0] != principal:
                raise ValueError(f"{external_id}: GrantExpandable: {source} is not an entitlement of the principal")
        if strangers := sorted(set(found.resource_type_ids) - set(self.types)):
            raise ValueError(f"{external_id}: GrantExpandable.resource_type_ids: {strangers[0]} is not in the file")


def _annotations(row: str, message: pb.ResourceType | pb.Resource | pb.Entitlement | pb.Grant) -> list[Any]:
    """The message's annotations, decoded."""
    known = {each.DESCRIPTOR.full_name: each for each in ANNOTATIONS[type(message)]}
    for annotation in message.annotations:
        if annotation.TypeName() not in known:
            raise ValueError(f"{row}: annotations: {annotation.type_url!r} has no place here")
    return [_decode(known[annotation.TypeName()], annotation.value, row) for annotation in message.annotations]


def _pair(identity: pb.ResourceId) -> tuple[str, str]:
    return identity.resource_type, identity.resource


def _account(resource: pb.Resource, trait: pb.UserTrait) -> dict[str, Any]:
    return {
        "id": resource.id.resource,
        "name": resource.display_name,
        "email": next((email.address for email in trait.emails if email.is_primary), ""),
        "status": pb.Status.ResourceStatus.Name(resource.status.status),
    }


def _decode(message: type[M], data: bytes, row: str) -> M:
    try:
        return message.FromString(data)
    except DecodeError:
        raise ValueError(f"{row}: data is not a {message.DESCRIPTOR.full_name}") from None


def _same(row: str, field: str, column: object, value: object) -> None:
    if column != value:
        raise ValueError(f"{row}: {field}: the columns say {column!r}, the message says {value!r}")


def _size(row: str, field: str, value: str, shortest: int, longest: int) -> None:
    size = len(value.encode())
    if not shortest <= size <= longest:
        raise ValueError(f"{row}: {field}: expected {shortest} to {longest} bytes, got {size}")
