"""What two snapshot files differ in: accounts, teams and memberships gained, lost and changed.

Both files are read side by side in the order of their ids, so that memory holds the differences alone, and of those
no more than asked for. Only rows that differ are decoded.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar

from buildkite_connector.c1z.database import opened, reading
from buildkite_connector.c1z.messages import read_account, read_team
from buildkite_connector.c1z.reader import find_sync_run
from buildkite_connector.c1z.sync_run import SyncRun
from buildkite_connector.model.directory import Account, ResourceKind, Team

Entry = TypeVar("Entry")
Key = TypeVar("Key", str, tuple[str, str])
Value = TypeVar("Value", bytes, str)

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
    """Entries of one kind. The lists are in the order of ids and hold at most `limit` each, the counts are whole."""

    limit: int
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

    `role`: of several, which Buildkite does not give, all, joined by `+`.
    """

    team: str
    account: str
    role: str
    team_name: str
    account_name: str


@dataclass(frozen=True, slots=True)
class Difference:
    """`not_compared`: what only one of the files covers, as its scope says; it is no loss of anything."""

    before: SyncRun
    after: SyncRun
    accounts: Changes[Account]
    teams: Changes[Team]
    memberships: Changes[NamedMembership]
    not_compared: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the files say the same of everything."""
        changes = self.accounts.count + self.teams.count + self.memberships.count
        return changes == 0 and not self.not_compared


def compare(before: Path, after: Path, limit: int) -> Difference:
    """Compare the newest complete syncs of two files; each list of changes holds at most `limit` entries. Blocks.

    Raises Failure like `read_snapshot`.
    """
    with opened(before, None) as first, opened(after, None) as second:
        left, right = _File(first, before), _File(second, after)
        scopes = (left.run.scope, right.run.scope)
        covered = {
            "accounts": [scope.wants_accounts for scope in scopes],
            "teams": [scope.wants_teams for scope in scopes],
            "memberships": [scope.wants_memberships for scope in scopes],
        }
        accounts, teams = Changes[Account](limit), Changes[Team](limit)
        memberships = Changes[NamedMembership](limit)
        if all(covered["accounts"]):
            _collect(accounts, left.accounts(), right.accounts(), ACCOUNT_ATTRIBUTES)
        if all(covered["teams"]):
            _collect(teams, left.teams(), right.teams(), TEAM_ATTRIBUTES)
        if all(covered["memberships"]):
            _collect(memberships, left.memberships(), right.memberships(), ("role",))
        return Difference(
            before=left.run,
            after=right.run,
            accounts=accounts,
            teams=teams,
            memberships=memberships,
            not_compared=tuple(what for what, sides in covered.items() if sides[0] != sides[1]),
        )


@dataclass(frozen=True, slots=True)
class _Rows(Generic[Key, Value, Entry]):
    """Rows in the order of their keys, and what makes an entry of one. Both raise Failure."""

    rows: Generator[tuple[Key, Value], None, None]
    read: Callable[[Key, Value], Entry]


class _File:
    """One of the two files."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        with reading(path):
            self.run = find_sync_run(connection, path)

    def accounts(self) -> _Rows[str, bytes, Account]:
        return _Rows(self._resources(ResourceKind.USER), lambda _, data: self._decoded(read_account, data))

    def teams(self) -> _Rows[str, bytes, Team]:
        return _Rows(self._resources(ResourceKind.TEAM), lambda _, data: self._decoded(read_team, data))

    def memberships(self) -> _Rows[tuple[str, str], str, NamedMembership]:
        return _Rows(self._roles(), self._named)

    def _decoded(self, decode: Callable[[bytes], Entry], data: bytes) -> Entry:
        with reading(self._path):
            return decode(data)

    def _resources(self, kind: ResourceKind) -> Generator[tuple[str, bytes], None, None]:
        """External id and serialized Resource."""
        with reading(self._path):
            yield from self._connection.execute(
                "select ifnull(cast(external_id as text), ''), data from v1_resources"
                " where sync_id = ? and resource_type_id = ? order by 1",
                (self.run.sync_id, kind.value),
            )

    def _roles(self) -> Generator[tuple[tuple[str, str], str], None, None]:
        """Team and account, and the role."""
        with reading(self._path):
            rows = self._connection.execute(
                "select ifnull(cast(resource_id as text), ''), ifnull(cast(principal_resource_id as text), ''),"
                " ifnull(cast(entitlement_id as text), '') from v1_grants where sync_id = ? order by 1, 2, 3",
                (self.run.sync_id,),
            )
            for key, group in groupby(rows, lambda row: (row[0], row[1])):
                yield key, "+".join(entitlement.rpartition(":")[2] for _, _, entitlement in group)

    def _named(self, key: tuple[str, str], role: str) -> NamedMembership:
        team, account = key
        return NamedMembership(
            team=team,
            account=account,
            role=role,
            team_name=self._name(f"{ResourceKind.TEAM}:{team}"),
            account_name=self._name(f"{ResourceKind.USER}:{account}"),
        )

    def _name(self, external_id: str) -> str:
        with reading(self._path):
            row = self._connection.execute(
                "select data from v1_resources where external_id = ? and sync_id = ?", (external_id, self.run.sync_id)
            ).fetchone()
            return read_account(row[0]).name if row else ""


def _collect(
    changes: Changes[Entry],
    before: _Rows[Key, Value, Entry],
    after: _Rows[Key, Value, Entry],
    attributes: tuple[str, ...],
) -> None:
    with closing(before.rows), closing(after.rows):
        for key, old, new in side_by_side(before.rows, after.rows):
            if old is None and new is not None:
                changes.gained_count += 1
                if len(changes.gained) < changes.limit:
                    changes.gained.append(after.read(key, new))
            elif new is None and old is not None:
                changes.lost_count += 1
                if len(changes.lost) < changes.limit:
                    changes.lost.append(before.read(key, old))
            elif old is not None and new is not None and old != new:
                was, is_now = before.read(key, old), after.read(key, new)
                differing = tuple(name for name in attributes if _differs(getattr(was, name), getattr(is_now, name)))
                if differing:
                    changes.changed_count += 1
                    if len(changes.changed) < changes.limit:
                        changes.changed.append(Changed(was, is_now, differing))


def _differs(before: str | None, after: str | None) -> bool:
    return bool(before) and bool(after) and before != after


def side_by_side(
    before: Iterator[tuple[Key, Value]], after: Iterator[tuple[Key, Value]]
) -> Iterator[tuple[Key, Value | None, Value | None]]:
    """Each key of either, with its values; None where a side lacks it. Both must be in the order of their keys."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if old is not None and (new is None or old[0] < new[0]):
            yield old[0], old[1], None
            old = next(before, None)
        elif new is not None and (old is None or new[0] < old[0]):
            yield new[0], None, new[1]
            new = next(after, None)
        elif old is not None and new is not None:
            yield old[0], old[1], new[1]
            old, new = next(before, None), next(after, None)
