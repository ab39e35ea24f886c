"""The rows of a snapshot's tables, one after the other as they are asked for, so that memory stays small."""

from collections.abc import Iterator
from itertools import chain

from buildkite_connector.c1z.messages import (
    RESOURCE_TYPES,
    TeamMessages,
    account_serializer,
    grant_serializer,
    team_messages,
)
from buildkite_connector.c1z.schema import Row, TableRows, insert
from buildkite_connector.c1z.sync_run import SyncRun, resource_kinds, to_row, to_text
from buildkite_connector.c1z.text_limits import checked_id
from buildkite_connector.model.directory import Directory, ResourceKind
from buildkite_connector.model.failure import Failure, Reason

_USER, _TEAM = ResourceKind.USER.value, ResourceKind.TEAM.value


def rows(directory: Directory, run: SyncRun) -> Iterator[TableRows]:
    """Each table's insert statement and its rows, as far as the run's scope goes.

    The rows of a table follow one another in one order for every scope: a derived snapshot (`derive`) copies them.

    Raises Failure while iterated: an id that C1 cannot hold, a membership of a team that is not there.
    """
    scope = run.scope
    stamp = (run.sync_id, to_text(run.ended_at))
    row = to_row(run)
    yield insert("sync_runs", list(row)), iter([tuple(row.values())])
    yield (
        insert("resource_types"),
        ((kind.value, RESOURCE_TYPES[kind].SerializeToString(), *stamp) for kind in resource_kinds(scope)),
    )
    teams = {}
    if scope.wants_teams:
        teams = {checked_id("team", team.id): team_messages(team) for team in directory.teams}
    yield (
        insert("resources"),
        chain(
            ((_TEAM, f"{_TEAM}:{team}", parts.resource, *stamp) for team, parts in teams.items()),
            _accounts(directory, stamp) if scope.wants_accounts else (),
        ),
    )
    if scope.entitlements:
        yield (
            insert("entitlements"),
            (
                (_TEAM, team, role.id, role.entitlement, *stamp)
                for team, parts in teams.items()
                for role in parts.roles.values()
            ),
        )
    if scope.wants_memberships:
        yield insert("grants"), _grants(directory, teams, stamp)


def _accounts(directory: Directory, stamp: tuple[str, str]) -> Iterator[Row]:
    serialize = account_serializer()
    for account in directory.accounts:
        yield _USER, f"{_USER}:{checked_id('account', account.id)}", serialize(account), *stamp


def _grants(directory: Directory, teams: dict[str, TeamMessages], stamp: tuple[str, str]) -> Iterator[Row]:
    serialize = grant_serializer()
    known: set[str] = {account.id for account in directory.accounts}
    for membership in directory.memberships:
        team, account = membership.team, membership.account
        if account not in known:
            if directory.scope.wants_accounts:
                raise _dangling(f"account {account!r} of team {team!r} is not among the accounts")
            known.add(checked_id("account", account))
        parts = teams.get(team)
        if parts is None:
            raise _dangling(f"team {team!r} of account {account!r} is not among the teams")
        role = parts.roles[membership.role]
        yield _TEAM, team, role.id, _USER, account, *serialize(role, account), *stamp


def _dangling(what: str) -> Failure:
    return Failure(
        Reason.SNAPSHOT_INVALID,
        f"A membership points nowhere: {what}. Nothing was written; the next sync reads everything again.",
    )
