"""Any organization, as a hypothesis strategy."""

from datetime import UTC
from typing import TypeVar

from hypothesis import strategies as st

from buildkite_connector.model.directory import (
    ALL_KINDS,
    AccessLevel,
    AccessToken,
    AccessTokenID,
    Account,
    AccountDetails,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Directory,
    Membership,
    Organization,
    OrganizationRole,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    Role,
    SyncScope,
    Team,
    TeamID,
)

Entry = TypeVar("Entry")

anything = st.text(st.characters(exclude_categories=()), max_size=40)
long = st.builds(lambda text, times: text * times, anything, st.integers(1, 200))
texts = anything | long
notes = st.none() | st.sampled_from(("admin", "member")) | texts
rights = st.none() | st.booleans()
pages = st.sampled_from(("https", "http")).map("{}://buildkite.com/acme/deploy".format) | texts
times = st.datetimes(timezones=st.just(UTC))
details = st.builds(AccountDetails, st.none() | times, st.booleans(), rights, st.none() | times)
scopes = st.builds(
    SyncScope,
    kinds=st.frozensets(st.sampled_from(ResourceKind), min_size=1),
    entitlements=st.booleans(),
    grants=st.booleans(),
)


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    """What a collection of the drawn scope gives, in any order and with any text."""
    scope = draw(scopes)
    account_ids = draw(st.lists(st.uuids(), unique=True, max_size=12))
    team_ids = draw(st.lists(st.uuids(), unique=True, max_size=5))
    pairs = [(team, account) for team in team_ids for account in account_ids]
    chosen = draw(some_of(pairs))
    accounts = tuple(
        Account(
            AccountID(str(identity)),
            name=draw(texts),
            email=draw(st.emails() | texts),
            role=draw(notes),
            sso_mode=draw(notes),
            details=draw(st.none() | details),
        )
        for identity in account_ids
    )
    teams = tuple(
        Team(
            TeamID(str(identity)),
            name=draw(texts),
            slug=draw(texts),
            description=draw(texts),
            privacy=draw(texts),
            is_default=draw(rights),
            created_at=draw(texts),
            default_member_role=draw(notes),
            members_can_create_pipelines=draw(rights),
            members_can_create_suites=draw(rights),
            members_can_create_registries=draw(rights),
            members_can_destroy_registries=draw(rights),
            members_can_destroy_packages=draw(rights),
        )
        for identity in team_ids
    )
    memberships = tuple(
        Membership(TeamID(str(team)), AccountID(str(account)), draw(st.sampled_from(Role))) for team, account in chosen
    )
    pipelines = tuple(
        Pipeline(
            PipelineID(str(identity)),
            slug=draw(texts),
            name=draw(texts),
            description=draw(texts),
            web_url=draw(pages),
            repository=draw(texts),
            visibility=draw(texts),
            cluster_id=draw(texts),
            archived_at=draw(texts),
        )
        for identity in draw(st.lists(st.uuids(), unique=True, max_size=4 * scope.wants_pipelines))
    )
    clusters = tuple(
        Cluster(ClusterID(str(identity)), name=draw(texts), description=draw(texts), web_url=draw(pages))
        for identity in draw(st.lists(st.uuids(), unique=True, max_size=3 * scope.wants_clusters))
    )
    api_tokens = tuple(
        AccessToken(
            AccessTokenID(str(identity)),
            owner=draw(st.none() | st.uuids().map(str).map(AccountID)),
            description=draw(texts),
            created_at=draw(times),
            expires_at=draw(st.none() | times),
            last_used_at=draw(st.none() | times),
            scopes=tuple(draw(st.lists(texts, max_size=3))),
        )
        for identity in draw(st.lists(st.uuids(), unique=True, max_size=3 * scope.wants_api_tokens))
    )
    held = [(pipeline.id, team.id) for pipeline in pipelines for team in teams if scope.wants_pipeline_access]
    maintainers = [
        ClusterMaintainer(cluster.id, account.id, ResourceKind.USER)
        for cluster in clusters
        for account in accounts
        if scope.wants_user_maintainers
    ] + [
        ClusterMaintainer(cluster.id, team.id, ResourceKind.TEAM)
        for cluster in clusters
        for team in teams
        if scope.wants_team_maintainers
    ]
    return Directory(
        Organization("0b1e", OrganizationSlug("acme"), draw(texts)),
        accounts if scope.wants_accounts else (),
        teams if scope.wants_teams else (),
        memberships if scope.wants_memberships else (),
        scope,
        pipelines,
        tuple(PipelineAccess(*pair, draw(st.sampled_from(AccessLevel))) for pair in draw(some_of(held))),
        clusters,
        tuple(draw(some_of(maintainers))),
        api_tokens,
    )


def some_of(entries: list[Entry]) -> st.SearchStrategy[list[Entry]]:
    return st.lists(st.sampled_from(entries), unique=True, max_size=30) if entries else st.just([])


@st.composite
def small_directories(draw: st.DrawFn) -> Directory:
    """A few of each type, with the same ids in all of them, and any roles, levels and maintainers."""
    roles = st.sampled_from((*OrganizationRole, None))

    def some(what: str, most: int) -> list[str]:
        return [f"{what}-{number}" for number in range(draw(st.integers(0, most)))]

    def pairs(first: list[str], second: list[str]) -> list[tuple[str, str]]:
        return [pair for pair in ((a, b) for a in first for b in second) if draw(st.booleans())]

    accounts, teams, pipelines, clusters = some("account", 4), some("team", 4), some("pipeline", 3), some("cluster", 2)
    return Directory(
        Organization("id", OrganizationSlug("acme"), "Acme"),
        tuple(Account(AccountID(each), each, f"{each}@example.com", draw(roles)) for each in accounts),
        tuple(Team(TeamID(each), each, each, "", "visible", False, "") for each in teams),
        tuple(
            Membership(TeamID(team), AccountID(account), draw(st.sampled_from(Role)))
            for team, account in pairs(teams, accounts)
        ),
        SyncScope(ALL_KINDS),
        tuple(Pipeline(PipelineID(each), each, each) for each in pipelines),
        tuple(
            PipelineAccess(PipelineID(pipeline), TeamID(team), draw(st.sampled_from(AccessLevel)))
            for pipeline, team in pairs(pipelines, teams)
        ),
        tuple(Cluster(ClusterID(each), each) for each in clusters),
        (
            *(
                ClusterMaintainer(ClusterID(cluster), AccountID(account), ResourceKind.USER)
                for cluster, account in pairs(clusters, accounts)
            ),
            *(
                ClusterMaintainer(ClusterID(cluster), TeamID(team), ResourceKind.TEAM)
                for cluster, team in pairs(clusters, teams)
            ),
        ),
    )
