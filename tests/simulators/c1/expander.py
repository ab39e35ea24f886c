"""What C1's SDK makes of a snapshot whose grants expand, by the SDK's own rules.

Independent of the product on purpose: it reads the file as C1 would, and knows neither teams nor pipelines.
"""

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from buildkite_connector.proto import connector_pb2 as pb

DEEPEST = 20
"""Edges that an entitlement may be away from where a grant came from."""

Principal = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Edge:
    """Who holds the source holds the destination. `kinds`: of principals; empty means all."""

    shallow: bool
    kinds: frozenset[str]

    def merged(self, other: "Edge") -> "Edge":
        """Of two between the same entitlements the wider: deep before shallow, all principals before some."""
        kinds = self.kinds | other.kinds if self.kinds and other.kinds else frozenset[str]()
        return Edge(self.shallow and other.shallow, kinds)


@dataclass(slots=True)
class Graph:
    """Entitlements, the grants of each by their principals, and the edges between them, by destination."""

    entitlements: dict[str, pb.Entitlement] = field(default_factory=dict)
    grants: defaultdict[str, dict[Principal, pb.Grant]] = field(default_factory=lambda: defaultdict(dict))
    edges: defaultdict[str, dict[str, Edge]] = field(default_factory=lambda: defaultdict(dict))


def expanded(connection: sqlite3.Connection, *, afresh: bool = False) -> dict[str, pb.Grant]:
    """Every grant of the snapshot as it is once all are expanded, by id. Expanded grants come out as they are.

    `afresh`: what comes from other grants is forgotten first. Raises ValueError where the SDK fails the sync.
    """
    graph = _graph(connection, afresh)
    for destination in _in_order(graph):
        for source, edge in graph.edges[destination].items():
            for principal, grant in graph.grants[source].items():
                direct = _is_direct(grant, source)
                if (direct or not edge.shallow) and (not edge.kinds or principal[0] in edge.kinds):
                    _add(graph, destination, source, principal, grant, direct)
    return {grant.id: grant for those in graph.grants.values() for grant in those.values()}


def _graph(connection: sqlite3.Connection, afresh: bool) -> Graph:
    graph = Graph()
    for external_id, data in connection.execute("select external_id, data from v1_entitlements"):
        graph.entitlements[external_id] = pb.Entitlement.FromString(data)
    rows = connection.execute("select data, expansion, needs_expansion from v1_grants order by id")
    for data, expansion, needs_expansion in rows:
        grant = pb.Grant.FromString(data)
        principal = _pair(grant.principal.id)
        if afresh and grant.annotations:
            continue  # a GrantImmutable
        if afresh:
            grant.ClearField("sources")
        graph.grants[grant.entitlement.id][principal] = grant
        if expansion is None or not needs_expansion:
            continue
        found = pb.GrantExpandable.FromString(expansion)
        edge = Edge(found.shallow, frozenset(found.resource_type_ids))
        for source in found.entitlement_ids:
            if (entitlement := graph.entitlements.get(source)) is None:
                continue  # the SDK warns and goes on
            if _pair(entitlement.resource.id) != principal:
                raise ValueError(
                    f"{grant.id}: source entitlement resource id did not match grant principal id: {source}"
                )
            edges = graph.edges[grant.entitlement.id]
            edges[source] = edges[source].merged(edge) if source in edges else edge
    return graph


def _in_order(graph: Graph) -> list[str]:
    """The destinations, each after those that lead to it. The SDK merges cycles; nothing here may have any."""
    try:
        order = list(TopologicalSorter(graph.edges).static_order())
    except CycleError as error:
        raise ValueError(f"entitlements lead in a circle: {error.args[1]}") from None
    depths: dict[str, int] = {}
    for entitlement in order:
        depths[entitlement] = max((depths[source] + 1 for source in graph.edges.get(entitlement, ())), default=0)
    if max(depths.values(), default=0) > DEEPEST:
        raise ValueError(f"entitlements lead over more than {DEEPEST} others")
    return [entitlement for entitlement in order if entitlement in graph.edges]


def _add(graph: Graph, destination: str, source: str, principal: Principal, through: pb.Grant, direct: bool) -> None:
    grant = graph.grants[destination].get(principal)
    if grant is None:
        grant = graph.grants[destination][principal] = pb.Grant(
            id=f"{destination}:{principal[0]}:{principal[1]}",
            entitlement=graph.entitlements[destination],
            principal=through.principal,
        )
        grant.annotations.add().Pack(pb.GrantImmutable())
    elif not grant.sources.sources:
        grant.sources.sources[destination].is_direct = True
    grant.sources.sources[source].is_direct = direct


def _is_direct(grant: pb.Grant, entitlement: str) -> bool:
    return not grant.sources.sources or entitlement in grant.sources.sources


def _pair(identity: pb.ResourceId) -> Principal:
    return identity.resource_type, identity.resource
