"""What people can reach and through which teams, by a directory. Everything here is pure.

`reach` computes it; `answer` finds what a person asks about and puts the answer together, for `access_report` to print.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TypeVar

from buildkite_connector.cli.printing import LONGEST_SHOWN, shown
from buildkite_connector.cli.settings import SettingError
from buildkite_connector.model.canonical_id import canonical_id
from buildkite_connector.model.directory import (
    AccessLevel,
    Account,
    AccountID,
    Cluster,
    ClusterID,
    Directory,
    OrganizationRole,
    Pipeline,
    PipelineID,
    ResourceKind,
    Role,
    SyncScope,
    Team,
    TeamID,
)
from buildkite_connector.model.words import in_words, listed


@dataclass(frozen=True, slots=True)
class Way:
    """How an account reaches a pipeline or maintains a cluster.

    `team` and the account's `role` in it are None where the account itself maintains the cluster, `level` at clusters.
    """

    team: TeamID | None = None
    role: Role | None = None
    level: AccessLevel | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """For each pipeline and cluster the accounts that reach it, each with all its ways, in the directory's order.

    What has no account is not there. Organization administrators reach everything without a grant: not part of it.
    """

    pipelines: dict[PipelineID, dict[AccountID, list[Way]]] = field(default_factory=dict)
    clusters: dict[ClusterID, dict[AccountID, list[Way]]] = field(default_factory=dict)


def reach(directory: Directory) -> Reach:
    """All that the accounts of `directory` can reach by its memberships and grants.

    What stands in it more than once counts once: a file that somebody made could multiply the ways otherwise.
    """
    members: dict[str, list[tuple[AccountID, Role]]] = defaultdict(list)
    for membership in dict.fromkeys(directory.memberships):
        members[membership.team].append((membership.account, membership.role))
    found = Reach()
    for access in dict.fromkeys(directory.pipeline_access):
        for account, role in members.get(access.team, ()):
            ways = found.pipelines.setdefault(access.pipeline, {}).setdefault(account, [])
            ways.append(Way(access.team, role, access.level))
    for each in dict.fromkeys(directory.cluster_maintainers):
        if each.kind is ResourceKind.USER:
            found.clusters.setdefault(each.cluster, {}).setdefault(AccountID(each.maintainer), []).append(Way())
            continue
        for account, role in members.get(each.maintainer, ()):
            ways = found.clusters.setdefault(each.cluster, {}).setdefault(account, [])
            ways.append(Way(TeamID(each.maintainer), role))
    return found


def highest(levels: Iterable[AccessLevel | None]) -> AccessLevel | None:
    """What a person can do who has several levels through several teams."""
    return max(levels, key=rank)


def rank(level: object) -> int:
    """The place of a level in the order of levels, each of which includes those before it; -1 for anything else."""
    return _RANKS.get(level, -1)


_RANKS: dict[object, int] = {level: place for place, level in enumerate(AccessLevel)}


# What a person asks, and the answer


Subject = TypeVar("Subject", Account, Team, Pipeline, Cluster)
Fields = dict[str, str | int | None]

MOST_NAMED = 10
"""Accounts, teams, pipelines or clusters that one sentence names, and teams that one cell of a table names."""

MOST_COMPARED = 2_000
"""Names among which similar ones are looked for, where none contains what was asked for."""

NEEDED = {
    ResourceKind.USER: (ResourceKind.TEAM, ResourceKind.PIPELINE, ResourceKind.CLUSTER),
    ResourceKind.TEAM: (ResourceKind.USER, ResourceKind.PIPELINE, ResourceKind.CLUSTER),
    ResourceKind.PIPELINE: (ResourceKind.USER, ResourceKind.TEAM),
    ResourceKind.CLUSTER: (ResourceKind.USER, ResourceKind.TEAM),
}
"""The other types that an answer about each type needs."""
GRANTS, ROLES = "grants", "organizationRoles"
"""What else a snapshot can lack."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An account, a team, a pipeline or a cluster: its fields in JSON, and the teams through which it is reached."""

    fields: Fields
    teams: tuple[Fields, ...] | None = None

    def to_json(self) -> dict[str, object]:
        return {**self.fields} if self.teams is None else {**self.fields, "teams": list(self.teams)}


@dataclass(frozen=True, slots=True)
class Section:
    """One list of an answer. `entries` are None where the snapshot does not have what they need.

    `key`: its name in JSON. `of`: the type of an entry.
    """

    key: str
    of: ResourceKind
    entries: list[Entry] | None


@dataclass(frozen=True, slots=True)
class AccessAnswer:
    """What a snapshot says of one account, team, pipeline or cluster; `missing`: what of it the snapshot lacks."""

    of: ResourceKind
    subject: Fields
    sections: tuple[Section, ...]
    missing: tuple[str, ...]


def answer(directory: Directory, kind: ResourceKind, text: str) -> AccessAnswer:
    """What `directory` says of the one that `text` names. Raises SettingError when that is not exactly one."""
    if kind not in directory.scope.kinds:
        raise SettingError(f"--{kind}", lacks([in_words(kind)]))
    if kind is ResourceKind.USER:
        called = "e-mail address, login"
        return _of_account(directory, _find(kind, directory.accounts, text, called, lambda each: each.email))
    if kind is ResourceKind.TEAM:
        return _of_team(directory, _find(kind, directory.teams, text, "slug", lambda each: each.slug))
    if kind is ResourceKind.PIPELINE:
        return _of_pipeline(directory, _find(kind, directory.pipelines, text, "slug", lambda each: each.slug))
    return _of_cluster(directory, _find(kind, directory.clusters, text, "name", lambda each: each.name))


def _find(
    kind: ResourceKind, among: Sequence[Subject], text: str, called: str, name: Callable[[Subject], str]
) -> Subject:
    """The one with this ID or name. Upper and lower case are told apart only where a name exists as it is written."""
    text = text.strip()
    found = (
        [each for each in among if canonical_id(each.id) == canonical_id(text)]
        or [each for each in among if name(each) == text]
        or [each for each in among if name(each).casefold() == text.casefold()]
    )
    if len(found) == 1:
        return found[0]
    what = in_words(kind)
    if found:
        ids = _some([each.id for each in found])
        raise SettingError(f"--{kind}", f"{len(found):,} {what} match. Use the ID of one: {ids}.")
    names = sorted({name(each) or each.id for each in among})
    similar = [each for each in names if text.casefold() in each.casefold()]
    if not similar and len(names) <= MOST_COMPARED:
        similar = get_close_matches(text[:LONGEST_SHOWN], [each[:LONGEST_SHOWN] for each in names])
    if not similar and len(names) > MOST_NAMED:
        exist = f"The snapshot contains {len(among):,} {what}; `inspect` lists them."
    elif not similar:
        exist = f"The {what} in the snapshot: {_some(names) or 'none'}."
    else:
        exist = f"Similar: {_some(similar)}."
    raise SettingError(f"--{kind}", f"none of the {what} has this {called} or ID. {exist}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(map(shown, names[:MOST_NAMED])) + (f" and {more:,} more" if more > 0 else "")


# The answers


def _of_account(directory: Directory, account: Account) -> AccessAnswer:
    """What a person can reach, and through which teams."""
    scope = directory.scope
    memberships = tuple(each for each in directory.memberships if each.account == account.id)
    found = reach(replace(directory, memberships=memberships))
    names = _Names(directory)
    teams = [Entry({**names.team(each.team), "role": each.role}) for each in memberships]
    pipelines = [names.reached(names.pipeline(each), ways[account.id]) for each, ways in found.pipelines.items()]
    clusters = [
        names.reached(names.cluster(each), ways[account.id])
        for each, ways in found.clusters.items()
        if account.id in ways
    ]
    return AccessAnswer(
        ResourceKind.USER,
        _account(account),
        (
            Section("teams", ResourceKind.TEAM, _listed(teams, scope.wants_memberships)),
            Section("pipelines", ResourceKind.PIPELINE, _listed(pipelines, scope.wants_pipeline_access)),
            Section("clusters", ResourceKind.CLUSTER, _listed(clusters, scope.wants_user_maintainers)),
        ),
        _missing(scope, ResourceKind.USER, roles_known=account.role is not None),
    )


def _of_team(directory: Directory, team: Team) -> AccessAnswer:
    """What a team gives, and who is in it."""
    scope, names = directory.scope, _Names(directory)
    members = [
        Entry({**names.account(each.account), "role": each.role})
        for each in directory.memberships
        if each.team == team.id
    ]
    pipelines = [
        Entry({**names.pipeline(each.pipeline), "level": each.level})
        for each in directory.pipeline_access
        if each.team == team.id
    ]
    clusters = [
        Entry(names.cluster(each.cluster))
        for each in directory.cluster_maintainers
        if each.kind is ResourceKind.TEAM and each.maintainer == team.id
    ]
    return AccessAnswer(
        ResourceKind.TEAM,
        _team(team),
        (
            Section("members", ResourceKind.USER, _listed(members, scope.wants_memberships)),
            Section("pipelines", ResourceKind.PIPELINE, _listed(pipelines, scope.wants_pipeline_access)),
            Section("clusters", ResourceKind.CLUSTER, _listed(clusters, scope.wants_team_maintainers)),
        ),
        _missing(scope, ResourceKind.TEAM),
    )


def _of_pipeline(directory: Directory, pipeline: Pipeline) -> AccessAnswer:
    """Who can reach a pipeline, and how."""
    scope, names = directory.scope, _Names(directory)
    access = tuple(each for each in directory.pipeline_access if each.pipeline == pipeline.id)
    found = reach(replace(directory, pipeline_access=access, cluster_maintainers=()))
    teams = [
        Entry({**names.team(each.team), "level": each.level, "members": names.members[each.team]}) for each in access
    ]
    accounts = [
        names.reached(names.account(account), ways) for account, ways in found.pipelines.get(pipeline.id, {}).items()
    ]
    return AccessAnswer(
        ResourceKind.PIPELINE,
        _pipeline(pipeline),
        (
            Section("teams", ResourceKind.TEAM, _listed(teams, scope.wants_pipeline_access)),
            Section("accounts", ResourceKind.USER, _listed(accounts, scope.wants_pipeline_access)),
            names.administrators(),
        ),
        _missing(scope, ResourceKind.PIPELINE, roles_known=None not in names.roles),
    )


def _of_cluster(directory: Directory, cluster: Cluster) -> AccessAnswer:
    """Who maintains a cluster, and how."""
    scope, names = directory.scope, _Names(directory)
    maintained = scope.wants_user_maintainers or scope.wants_team_maintainers
    maintainers = tuple(each for each in directory.cluster_maintainers if each.cluster == cluster.id)
    found = reach(replace(directory, pipeline_access=(), cluster_maintainers=maintainers))
    teams = [
        Entry({**names.team(TeamID(each.maintainer)), "members": names.members[each.maintainer]})
        for each in maintainers
        if each.kind is ResourceKind.TEAM
    ]
    accounts = [
        names.reached(names.account(account), ways) for account, ways in found.clusters.get(cluster.id, {}).items()
    ]
    return AccessAnswer(
        ResourceKind.CLUSTER,
        _cluster(cluster),
        (
            Section("teams", ResourceKind.TEAM, _listed(teams, scope.wants_team_maintainers)),
            Section("accounts", ResourceKind.USER, _listed(accounts, maintained)),
            names.administrators(),
        ),
        _missing(scope, ResourceKind.CLUSTER, roles_known=None not in names.roles),
    )


class _Names:
    """The fields of what a directory names by ID; what it does not list has its ID alone."""

    def __init__(self, directory: Directory) -> None:
        self.roles = {each.role for each in directory.accounts}
        self.members = Counter[str](each.team for each in directory.memberships)
        self._accounts = {each.id: each for each in directory.accounts}
        self._teams = {each.id: each for each in directory.teams}
        self._pipelines = {each.id: each for each in directory.pipelines}
        self._clusters = {each.id: each for each in directory.clusters}

    def account(self, of: AccountID) -> Fields:
        return _account(self._accounts.get(of) or Account(of, "", ""))

    def team(self, of: TeamID) -> Fields:
        return _team(self._teams.get(of) or Team(of, "", "", "", "", None, ""))

    def pipeline(self, of: PipelineID) -> Fields:
        return _pipeline(self._pipelines.get(of) or Pipeline(of, "", ""))

    def cluster(self, of: ClusterID) -> Fields:
        return _cluster(self._clusters.get(of) or Cluster(of, ""))

    def reached(self, fields: Fields, ways: Sequence[Way]) -> Entry:
        """What is reached, or who reaches it: the highest level, and the teams, of the highest level first."""
        teams = [
            Entry({**self.team(way.team), "role": way.role, **({"level": way.level} if way.level else {})})
            for way in ways
            if way.team
        ]
        level = highest(way.level for way in ways)
        how: Fields = {"level": level} if level else {"direct": any(way.team is None for way in ways)}
        return Entry({**fields, **how}, tuple(each.fields for each in _by_level(teams)))

    def administrators(self) -> Section:
        found = [Entry(_account(each)) for each in self._accounts.values() if each.role == OrganizationRole.ADMIN]
        return Section("administrators", ResourceKind.USER, _listed(found, any(self.roles)))


# Null where Buildkite gave no value


def _account(account: Account) -> Fields:
    return {
        "id": account.id,
        "name": account.name or None,
        "email": account.email or None,
        "organizationRole": account.role,
    }


def _team(team: Team) -> Fields:
    return {"id": team.id, "name": team.name or None, "slug": team.slug or None}


def _pipeline(pipeline: Pipeline) -> Fields:
    return {
        "id": pipeline.id,
        "name": pipeline.name or pipeline.slug or None,
        "slug": pipeline.slug or None,
        "visibility": pipeline.visibility or None,
    }


def _cluster(cluster: Cluster) -> Fields:
    return {"id": cluster.id, "name": cluster.name or None}


def _by_level(entries: Iterable[Entry]) -> list[Entry]:
    """The highest level first, then by name, then by ID."""

    def place(entry: Entry) -> tuple[int, str, str]:
        fields = entry.fields
        return -rank(fields.get("level")), str(fields["name"] or "").casefold(), str(fields["id"])

    return sorted(entries, key=place)


def _listed(entries: Iterable[Entry], contained: bool) -> list[Entry] | None:
    return _by_level(entries) if contained else None


def _missing(scope: SyncScope, of: ResourceKind, *, roles_known: bool = True) -> tuple[str, ...]:
    types = [in_words(kind) for kind in NEEDED[of] if kind not in scope.kinds]
    grants = [] if scope.wants_grants else [GRANTS]
    roles = [ROLES] if scope.wants_accounts and not roles_known else []
    return (*types, *grants, *roles)


def lacks(types: Sequence[str]) -> str:
    """The sentence for types that a snapshot lacks."""
    setting = "set spec.sync.resourceTypes, or --sync-resource-types of `sync`"
    return f"this snapshot does not contain {listed(types)}: {setting}."
