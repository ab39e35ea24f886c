"""Compares two snapshot files: resources and grants gained, lost and changed.

SQL does it over both databases in one connection, by the ids that are unique in a file. Only rows that differ are
decoded; memory holds the grants of one resource type that differ and lists as long as asked for.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from buildkite_connector.c1z.from_messages import (
    is_inherited,
    read_account,
    read_api_token,
    read_cluster,
    read_pipeline,
    read_team,
)
from buildkite_connector.c1z.reader import check_ids, database_uri, find_sync_run, opened, reading
from buildkite_connector.c1z.sync_run import StoredSync
from buildkite_connector.model.directory import (
    COVERED_BY,
    AccessToken,
    Account,
    Cluster,
    Pipeline,
    ResourceKind,
    SyncScope,
    Team,
)
from buildkite_connector.model.snapshot import SyncID

Entry = TypeVar("Entry")

ACCOUNT_ATTRIBUTES = ("name", "email", "role", "two_factor", "machine")
TEAM_ATTRIBUTES = ("name", "slug", "privacy")
PIPELINE_ATTRIBUTES = ("name", "slug", "repository", "visibility", "cluster_id")
CLUSTER_ATTRIBUTES = ("name",)
"""What is compared. Where one file does not know an attribute (the reference connector writes fewer), it is not."""
API_TOKEN_ATTRIBUTES = ("owner", "description", "expires_at", "scopes")
"""What is compared of API tokens; each file knows them all."""


@dataclass(frozen=True, slots=True)
class Changed(Generic[Entry]):
    """The same id with other attributes: `attributes` names those that differ."""

    before: Entry
    after: Entry
    attributes: tuple[str, ...]


@dataclass(slots=True)
class Changes(Generic[Entry]):
    """Entries of one kind. The counts are whole; the lists may be shorter, and are in the order of ids."""

    gained: list[Entry] = field(default_factory=list)
    lost: list[Entry] = field(default_factory=list)
    changed: list[Changed[Entry]] = field(default_factory=list)
    gained_count: int = 0
    lost_count: int = 0
    changed_count: int = 0

    @property
    def count(self) -> int:
        return self.gained_count + self.lost_count + self.changed_count


@dataclass(frozen=True, slots=True)
class NamedGrant:
    """A grant with the names of its resource and its principal, empty where the file does not list these.

    `kind`: the principal's resource type. `held`: its role or level; several of one principal, which Buildkite does not
    give, are joined by `+`.
    """

    resource: str
    kind: str
    principal: str
    held: str
    resource_name: str
    principal_name: str


COVERED: Mapping[str, Callable[[SyncScope], object]] = {
    **{what: covers for what, covers in COVERED_BY.items() if what not in {"cluster_team_maintainers", "last_logins"}},
    "cluster_maintainers": lambda scope: (
        scope.kinds & {ResourceKind.USER, ResourceKind.TEAM} if scope.wants_clusters and scope.wants_grants else False
    ),
}
"""What is compared, and what of it a scope covers: only where both files cover the same is it compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`not_compared`: what only one of the files covers by its scope; it is not lost."""

    before: StoredSync
    after: StoredSync
    accounts: Changes[Account]
    teams: Changes[Team]
    memberships: Changes[NamedGrant]
    organization_roles: Changes[NamedGrant]
    pipelines: Changes[Pipeline]
    pipeline_access: Changes[NamedGrant]
    clusters: Changes[Cluster]
    cluster_maintainers: Changes[NamedGrant]
    api_tokens: Changes[AccessToken]
    not_compared: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the files hold the same."""
        return not self.not_compared and not any(getattr(self, what).count for what in COVERED)


def compare(before: Path, after: Path, limit: int) -> Difference:
    """Compare the newest complete syncs of two files; each list of changes holds at most `limit` entries. Blocks.

    Raises Failure like `read_snapshot`.
    """
    with opened(before) as connection, opened(after) as other:
        with reading(before):
            first = find_sync_run(connection, before)
            check_ids(connection, first.sync_id)
        with reading(after):
            second = find_sync_run(other, after)
            check_ids(other, second.sync_id)
            _, _, database = other.execute("pragma database_list").fetchone()
            connection.execute("attach database ? as after", (database_uri(Path(database)),))
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        connection.create_function("inherited", 1, is_inherited)
        both = _Both(
            connection, {"main": before, "after": after}, {"main": first.sync_id, "after": second.sync_id}, limit
        )

        def of(what: str, differing: Callable[[], Changes[Entry]]) -> Changes[Entry]:
            covered = COVERED[what](first.scope)
            return differing() if covered and covered == COVERED[what](second.scope) else Changes[Entry]()

        return Difference(
            before=first,
            after=second,
            accounts=of("accounts", lambda: both.resources(ResourceKind.USER, read_account, ACCOUNT_ATTRIBUTES)),
            teams=of("teams", lambda: both.resources(ResourceKind.TEAM, read_team, TEAM_ATTRIBUTES)),
            memberships=of("memberships", lambda: both.grants(ResourceKind.TEAM)),
            organization_roles=of("organization_roles", lambda: both.grants(ResourceKind.ORGANIZATION)),
            pipelines=of(
                "pipelines", lambda: both.resources(ResourceKind.PIPELINE, read_pipeline, PIPELINE_ATTRIBUTES)
            ),
            pipeline_access=of("pipeline_access", lambda: both.grants(ResourceKind.PIPELINE)),
            clusters=of("clusters", lambda: both.resources(ResourceKind.CLUSTER, read_cluster, CLUSTER_ATTRIBUTES)),
            cluster_maintainers=of("cluster_maintainers", lambda: both.grants(ResourceKind.CLUSTER)),
            api_tokens=of(
                "api_tokens",
                lambda: both.resources(ResourceKind.API_TOKEN, read_api_token, API_TOKEN_ATTRIBUTES, _token_differs),
            ),
            not_compared=tuple(
                what for what, covered in COVERED.items() if covered(first.scope) != covered(second.scope)
            ),
        )


@dataclass(frozen=True, slots=True)
class _Both:
    """Both databases in one connection: the earlier file's is `main`, the later one's `after`."""

    connection: sqlite3.Connection
    paths: dict[str, Path]
    sync_ids: dict[str, SyncID]
    limit: int

    def resources(
        self,
        kind: ResourceKind,
        read: Callable[[bytes], Entry],
        attributes: tuple[str, ...],
        differs: Callable[[object, object], bool] | None = None,
    ) -> Changes[Entry]:
        """The resources of one type that differ; `differs`: how attributes do. Raises Failure."""
        differs = differs or _differs
        changes = Changes[Entry]()
        changes.lost_count, changes.lost = self._resources_only_in("main", kind, read)
        changes.gained_count, changes.gained = self._resources_only_in("after", kind, read)
        with reading(self.paths["after"]):
            for old, new in self._rows(
                "select x.data, y.data from main.v1_resources x join after.v1_resources y"
                " on y.external_id = x.external_id and y.sync_id = :after"
                " where x.sync_id = :main and x.resource_type_id = :kind and x.data is not y.data"
                " order by x.external_id",
                kind=kind.value,
            ):
                with reading(self.paths["main"]):
                    was = read(old)
                is_now = read(new)
                differing = tuple(name for name in attributes if differs(getattr(was, name), getattr(is_now, name)))
                changes.changed_count += bool(differing)
                if differing and len(changes.changed) < self.limit:
                    changes.changed.append(Changed(was, is_now, differing))
        return changes

    def grants(self, kind: ResourceKind) -> Changes[NamedGrant]:
        """The grants of one resource type that differ: where a principal has one on each side, what it holds changed.

        Grants that come from a team's are left out, so that an expanded file equals one that is not.
        """
        with reading(self.paths["main"]):  # a grant of it that cannot be read is not to be blamed on the other file
            self._count(f"from main.v1_grants x where x.sync_id = :main and {_DIRECT[kind].format(row='x')}")
        with reading(self.paths["after"]):
            for table, side in (("lost", "main"), ("gained", "after")):
                self._rows(f"drop table if exists temp.{table}")
                self._rows(
                    f"create temp table {table} as select ifnull(cast(x.resource_id as text), '') resource,"
                    " ifnull(cast(x.principal_resource_type_id as text), '') kind,"
                    " ifnull(cast(x.principal_resource_id as text), '') principal,"
                    " group_concat(ifnull(cast(replace(x.entitlement_id, x.resource_type_id || ':' ||"
                    " x.resource_id || ':', '') as text), ''), '+') held"
                    f" {_only_in(side, 'v1_grants', _DIRECT[kind])} group by 1, 2, 3",
                )
            changes = Changes[NamedGrant]()
            changes.lost_count, changes.lost = self._grants_only_in("lost", "gained", "main", kind)
            changes.gained_count, changes.gained = self._grants_only_in("gained", "lost", "after", kind)
            both = "from gained x join lost y using (resource, kind, principal)"
            changes.changed_count = self._count(both)
            for is_now, held in self._named(both, "after", kind, ", y.held"):
                differing = () if kind is ResourceKind.CLUSTER else ("held",)  # all maintain it
                changes.changed.append(Changed(replace(is_now, held=held), is_now, differing))
            return changes

    def _resources_only_in(
        self, side: str, kind: ResourceKind, read: Callable[[bytes], Entry]
    ) -> tuple[int, list[Entry]]:
        which = f"{_only_in(side, 'v1_resources')} and x.resource_type_id = :kind"
        with reading(self.paths[side]):
            rows = self._rows(f"select x.data {which} order by x.external_id limit :limit", kind=kind.value)
            return self._count(which, kind=kind.value), [read(data) for (data,) in rows]

    def _grants_only_in(self, table: str, other: str, side: str, kind: ResourceKind) -> tuple[int, list[NamedGrant]]:
        which = f"from {table} x left join {other} y using (resource, kind, principal) where y.resource is null"
        return self._count(which), [each for each, _ in self._named(which, side, kind, ", ''")]

    def _named(self, which: str, side: str, kind: ResourceKind, more: str) -> Iterator[tuple[NamedGrant, str]]:
        """Grants of `which`, with the names that the file of `side` has, and one column more."""
        selected = f"select x.resource, x.kind, x.principal, x.held{more} {which} order by 1, 2, 3 limit :limit"
        rows = self._rows(
            f"select g.*, r.data, p.data from ({selected}) g"  # noqa: S608  (no value of a file)
            f" left join {side}.v1_resources r on r.external_id = :kind || ':' || g.resource and r.sync_id = :{side}"
            f" left join {side}.v1_resources p on p.external_id = g.kind || ':' || g.principal and p.sync_id = :{side}"
            " order by 1, 2, 3",
            kind=kind.value,
        )
        with reading(self.paths[side]):
            for resource, principal_kind, principal, held, other, data, principal_data in rows:
                names = _name(data), _name(principal_data)
                yield NamedGrant(resource, principal_kind, principal, held, *names), other

    def _rows(self, statement: str, **parameters: str) -> sqlite3.Cursor:
        return self.connection.execute(statement, {**self.sync_ids, "limit": self.limit, **parameters})

    def _count(self, which: str, **parameters: str) -> int:
        (count,) = self._rows(f"select count(*) {which}", **parameters).fetchone()
        return int(count)


_INHERITED = "{row}.principal_resource_type_id = 'user' and inherited({row}.data)"
_DIRECT = {
    ResourceKind.TEAM: "{row}.resource_type_id = 'team'",
    ResourceKind.ORGANIZATION: "{row}.resource_type_id = 'organization'",
    ResourceKind.PIPELINE: "{row}.resource_type_id = 'pipeline' and {row}.principal_resource_type_id = 'team'",
    ResourceKind.CLUSTER: f"{{row}}.resource_type_id = 'cluster' and not ({_INHERITED})",
}
"""Of each resource type, the grants in SQL that do not come from a team's."""


def _only_in(side: str, table: str, where: str = "true") -> str:
    """The rows `x` of one side that meet a condition on `{row}`, whose external ids the other side's rows lack."""
    other = "after" if side == "main" else "main"
    return (
        f"from {side}.{table} x left join {other}.{table} y on y.external_id = x.external_id and y.sync_id = :{other}"
        f" and {where.format(row='y')} where x.sync_id = :{side} and {where.format(row='x')} and y.sync_id is null"
    )


def _name(data: bytes | None) -> str:
    return read_account(data).name if data else ""


def _token_differs(before: object, after: object) -> bool:
    """Whether they are not the same; the order of scopes means nothing."""
    return (set(before) != set(after)) if isinstance(before, tuple) and isinstance(after, tuple) else before != after


def _differs(before: object, after: object) -> bool:
    """Whether both are known, and not the same."""
    return before not in (None, "") and after not in (None, "") and before != after
