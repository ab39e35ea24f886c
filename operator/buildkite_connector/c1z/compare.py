"""Compares two snapshot files: accounts, teams and memberships gained, lost and changed.

SQL does it over both databases in one connection, by the ids that are unique in a file. Only rows that differ are
decoded; memory holds the memberships that differ and lists as long as asked for.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from buildkite_connector.c1z.messages import read_account, read_team
from buildkite_connector.c1z.reader import database_uri, find_sync_run, opened, reading
from buildkite_connector.c1z.sync_run import StoredSync
from buildkite_connector.model.directory import Account, ResourceKind, Team
from buildkite_connector.model.snapshot import SyncID

Entry = TypeVar("Entry")

ACCOUNT_ATTRIBUTES = ("name", "email", "role")
TEAM_ATTRIBUTES = ("name", "slug", "privacy")
"""What is compared. Where one file does not know an attribute (the reference connector writes fewer), it is not."""


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
class NamedMembership:
    """A membership with the names of its team and account, empty where the file does not list them.

    `role`: several, which Buildkite does not give, are joined by `+`.
    """

    team: str
    account: str
    role: str
    team_name: str
    account_name: str


@dataclass(frozen=True, slots=True)
class Difference:
    """`not_compared`: the kinds that only one of the files covers by its scope; they are not lost."""

    before: StoredSync
    after: StoredSync
    accounts: Changes[Account]
    teams: Changes[Team]
    memberships: Changes[NamedMembership]
    not_compared: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the files hold the same."""
        changes = self.accounts.count + self.teams.count + self.memberships.count
        return changes == 0 and not self.not_compared


def compare(before: Path, after: Path, limit: int) -> Difference:
    """Compare the newest complete syncs of two files; each list of changes holds at most `limit` entries. Blocks.

    Raises Failure like `read_snapshot`.
    """
    with opened(before) as connection, opened(after) as other:
        with reading(before):
            first = find_sync_run(connection, before)
        with reading(after):
            second = find_sync_run(other, after)
            _, _, database = other.execute("pragma database_list").fetchone()
            connection.execute("attach database ? as after", (database_uri(Path(database)),))
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        both = _Both(
            connection, {"main": before, "after": after}, {"main": first.sync_id, "after": second.sync_id}, limit
        )
        both.check_ids()
        accounts, teams, memberships = Changes[Account](), Changes[Team](), Changes[NamedMembership]()
        if first.scope.wants_accounts and second.scope.wants_accounts:
            accounts = both.resources(ResourceKind.USER, read_account, ACCOUNT_ATTRIBUTES)
        if first.scope.wants_teams and second.scope.wants_teams:
            teams = both.resources(ResourceKind.TEAM, read_team, TEAM_ATTRIBUTES)
        if first.scope.wants_memberships and second.scope.wants_memberships:
            memberships = both.memberships()
        return Difference(
            before=first,
            after=second,
            accounts=accounts,
            teams=teams,
            memberships=memberships,
            not_compared=tuple(
                what
                for what in ("accounts", "teams", "memberships")
                if getattr(first.scope, f"wants_{what}") != getattr(second.scope, f"wants_{what}")
            ),
        )


@dataclass(frozen=True, slots=True)
class _Both:
    """Both databases in one connection: the earlier file's is `main`, the later one's `after`."""

    connection: sqlite3.Connection
    paths: dict[str, Path]
    sync_ids: dict[str, SyncID]
    limit: int

    def check_ids(self) -> None:
        """Raise Failure where an id comes twice: each would be joined with each of the other file."""
        for side, path in self.paths.items():
            for table in ("v1_resources", "v1_grants"):
                twice = f"from {side}.{table} where sync_id = :{side} group by external_id having count(*) > 1 limit 1"
                with reading(path):
                    if self._rows(f"select external_id {twice}").fetchone():
                        raise ValueError(f"{table} has an id twice")

    def resources(
        self, kind: ResourceKind, read: Callable[[bytes], Entry], attributes: tuple[str, ...]
    ) -> Changes[Entry]:
        """The resources of one kind that differ. Raises Failure."""
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
                differing = tuple(name for name in attributes if _differs(getattr(was, name), getattr(is_now, name)))
                changes.changed_count += bool(differing)
                if differing and len(changes.changed) < self.limit:
                    changes.changed.append(Changed(was, is_now, differing))
        return changes

    def memberships(self) -> Changes[NamedMembership]:
        """The memberships that differ: of a team and an account with a grant on each side, the role changed."""
        with reading(self.paths["after"]):
            for table, side in (("lost", "main"), ("gained", "after")):
                self._rows(
                    f"create temp table {table} as select"
                    " ifnull(cast(x.resource_id as text), '') team, ifnull(cast(x.principal_resource_id as text), '')"
                    " account, group_concat(ifnull(cast(replace(x.entitlement_id, x.resource_type_id || ':' ||"
                    " x.resource_id || ':', '') as text), ''), '+') role"
                    f" {_only_in(side, 'v1_grants')} group by 1, 2",
                )
            changes = Changes[NamedMembership]()
            changes.lost_count, changes.lost = self._memberships_only_in("lost", "gained", "main")
            changes.gained_count, changes.gained = self._memberships_only_in("gained", "lost", "after")
            both = "from gained x join lost y using (team, account)"
            changes.changed_count = self._count(both)
            for now, role in self._named(both, "after", ", y.role"):
                changes.changed.append(Changed(replace(now, role=role), now, ("role",)))
            return changes

    def _resources_only_in(
        self, side: str, kind: ResourceKind, read: Callable[[bytes], Entry]
    ) -> tuple[int, list[Entry]]:
        which = f"{_only_in(side, 'v1_resources')} and x.resource_type_id = :kind"
        with reading(self.paths[side]):
            rows = self._rows(f"select x.data {which} order by x.external_id limit :limit", kind=kind.value)
            return self._count(which, kind=kind.value), [read(data) for (data,) in rows]

    def _memberships_only_in(self, table: str, other: str, side: str) -> tuple[int, list[NamedMembership]]:
        which = f"from {table} x left join {other} y using (team, account) where y.team is null"
        return self._count(which), [each for each, _ in self._named(which, side, ", ''")]

    def _named(self, which: str, side: str, more: str) -> Iterator[tuple[NamedMembership, str]]:
        """Memberships of `which`, with the names that the file of `side` has, and one column more."""
        selected = f"select x.team, x.account, x.role{more} {which} order by 1, 2 limit :limit"
        rows = self._rows(
            f"select m.*, t.data, a.data from ({selected}) m"  # noqa: S608  (no value of a file)
            f" left join {side}.v1_resources t on t.external_id = 'team:' || m.team and t.sync_id = :{side}"
            f" left join {side}.v1_resources a on a.external_id = 'user:' || m.account and a.sync_id = :{side}"
            " order by 1, 2"
        )
        with reading(self.paths[side]):
            for team, account, role, other, team_data, account_data in rows:
                yield NamedMembership(team, account, role, _name(team_data), _name(account_data)), other

    def _rows(self, statement: str, **parameters: str) -> sqlite3.Cursor:
        return self.connection.execute(statement, {**self.sync_ids, "limit": self.limit, **parameters})

    def _count(self, which: str, **parameters: str) -> int:
        (count,) = self._rows(f"select count(*) {which}", **parameters).fetchone()
        return int(count)


def _only_in(side: str, table: str) -> str:
    """The rows `x` of one side whose external ids the other side lacks."""
    other = "after" if side == "main" else "main"
    return (
        f"from {side}.{table} x left join {other}.{table} y on y.external_id = x.external_id and y.sync_id = :{other}"
        f" where x.sync_id = :{side} and y.sync_id is null"
    )


def _name(data: bytes | None) -> str:
    return read_account(data).name if data else ""


def _differs(before: str | None, after: str | None) -> bool:
    return bool(before) and bool(after) and before != after
