"""Expands grants in a snapshot's database: what a team holds, each of its members and maintainers holds too.

It makes the rows that C1's SDK would make of the same grants, in the order of their entitlements and then of users.
Memory holds what one entitlement gives at a time. The indexes are there already: to sort millions of rows for them
would take hundreds of megabytes, and more time.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter

from google.protobuf.message import DecodeError

from buildkite_connector.c1z.messages import GrantSerializer, expanded_entitlement, inherited
from buildkite_connector.c1z.schema import Row, insert
from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.proto.connector_pb2 import GrantExpandable

MOST_EXPANDED = 512 << 20
"""Bytes of the rows that grants may expand to, with their indexes, before they are compressed.

It is half of the chart's volume: the staged snapshots, the unpacked one that is copied and the compressed result need
room too. A pod that uses more than the volume is evicted, with all of its connectors.
"""
_BYTES_BESIDE = 1_100
"""Bytes of such a row and its indexes beside the entitlement that it repeats: measured, with one team for each grant.

SQLite uses up to twice as much where rows do not fill its pages well.
"""

_DESTINATIONS = """
    select e.external_id, e.resource_type_id, e.resource_id, length(e.data)
    from (select entitlement_id, min(id) first from v1_grants where needs_expansion = 1 group by 1) g
    join v1_entitlements e on e.external_id = g.entitlement_id
    order by g.first"""
_ENTITLEMENT = "select data from v1_entitlements where external_id = ?"
_SIZE = "select page_count * page_size from pragma_page_count, pragma_page_size"
_THROUGH_TEAMS = """
    from v1_grants x join v1_grants m
        on m.resource_type_id = x.principal_resource_type_id and m.resource_id = x.principal_resource_id
    where x.entitlement_id = ? and x.needs_expansion = 1"""
_HOLDERS = f"select m.principal_resource_id, m.entitlement_id {_THROUGH_TEAMS} order by 1, 2"
_COUNT_OF_HOLDERS = f"select count(distinct m.principal_resource_id) {_THROUGH_TEAMS}"
_DIRECT = """
    select principal_resource_id, id, data from v1_grants
    where entitlement_id = ? and principal_resource_type_id = ?"""

_EXPANSIONS = """
    select principal_resource_type_id, principal_resource_id, needs_expansion, expansion
        from v1_grants where principal_resource_type_id = ?
    union select principal_resource_type_id, principal_resource_id, needs_expansion, expansion
        from v1_grants where expansion is not null
    union select principal_resource_type_id, principal_resource_id, needs_expansion, expansion
        from v1_grants where needs_expansion = 1"""
_RESOURCE_OF = "select resource_type_id, resource_id from v1_entitlements where external_id = ?"

_USER, _TEAM = ResourceKind.USER.value, ResourceKind.TEAM.value


class ExpansionTooLarge(Failure):
    """The grants expand to more than MOST_EXPANDED. To be remedied by an edit."""

    def __init__(self) -> None:
        super().__init__(
            Reason.SNAPSHOT_INVALID,
            "The sync task asks for a grant for each person of each team on what the team can access. These grants "
            f"take more than {MOST_EXPANDED >> 20} MB, the maximum. Nothing was written. Remove pipeline or cluster "
            "from spec.sync.resourceTypes (--sync-resource-types in service mode), or have C1 expand the grants of "
            "teams: its task must ask for that (skip_expand_grants).",
            remedy=Remedy.EDIT,
        )


def expand(
    connection: sqlite3.Connection, stamp: tuple[str, str], checkpoint: Callable[[], None]
) -> dict[ResourceKind, int]:
    """Add the rows that come of the grants that expand, with `stamp` at their end. Gives how many on each kind.

    The database holds one sync and its indexes. A grant of its own that a user has beside one
    through a team keeps its row, which names both. `checkpoint` is called for each entitlement and may raise.
    Raises ExpansionTooLarge, if possible before anything is added.
    """
    destinations = connection.execute(_DESTINATIONS).fetchall()
    needed = 0
    for destination, _, _, length in destinations:
        checkpoint()
        (holders,) = connection.execute(_COUNT_OF_HOLDERS, (destination,)).fetchone()
        needed += holders * (length + _BYTES_BESIDE)
        if needed > MOST_EXPANDED:
            raise ExpansionTooLarge
    (before,) = connection.execute(_SIZE).fetchone()
    added = Counter[ResourceKind]()
    for destination, kind, resource, _ in destinations:
        checkpoint()
        (data,) = connection.execute(_ENTITLEMENT, (destination,)).fetchone()
        rows = _expanded(connection, destination, data)
        inserted = ((kind, resource, destination, _USER, *row, *stamp) for row in rows)
        added[ResourceKind(kind)] += connection.executemany(insert("grants"), inserted).rowcount
        (size,) = connection.execute(_SIZE).fetchone()
        if size - before > MOST_EXPANDED:
            raise ExpansionTooLarge
    return dict(added)


def _expanded(connection: sqlite3.Connection, destination: str, data: bytes) -> Iterator[Row]:
    """The rows that one entitlement, stored as `data`, is expanded to, from the principal's id on."""
    direct = {user: row for user, *row in connection.execute(_DIRECT, (destination, _USER)).fetchall()}
    entitlement, serializer = expanded_entitlement(destination, data), GrantSerializer(ResourceKind.USER)
    ends: dict[tuple[str, ...], bytes] = {}
    for user, sources in _holders(connection, destination):
        if user in direct:
            row, grant = direct[user]
            grant += inherited(sources, directly=destination)
            connection.execute("update v1_grants set data = ? where id = ?", (grant, row))
            continue
        if sources not in ends:
            ends[sources] = inherited(sources)
        id_, grant = serializer.serialize(entitlement, user)
        yield user, id_, None, 0, grant + ends[sources]


def _holders(connection: sqlite3.Connection, destination: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each user who holds the entitlement through a team, with the entitlements of teams that give it."""
    rows = connection.execute(_HOLDERS, (destination,))
    for user, pairs in groupby(rows, itemgetter(0)):
        yield user, tuple(source for _, source in pairs)


def wrong_expansions(connection: sqlite3.Connection) -> int:
    """How many teams have grants that do not expand to entitlements of that team, each of which is there.

    C1's SDK fails the whole sync on the first of them. What is no team must not expand.
    """
    return sum(
        not _expands(connection, (principal_kind, principal), needed, expansion)
        for principal_kind, principal, needed, expansion in connection.execute(_EXPANSIONS, (_TEAM,)).fetchall()
    )


def _expands(connection: sqlite3.Connection, principal: tuple[str, str], needed: int, expansion: bytes | None) -> bool:
    try:
        sources = GrantExpandable.FromString(expansion or b"").entitlement_ids
    except DecodeError:
        return False
    resources = {connection.execute(_RESOURCE_OF, (source,)).fetchone() for source in sources}
    return needed == 1 and principal[0] == _TEAM and resources == {principal}
