"""Any organization, as a hypothesis strategy."""

from typing import TypeVar

from hypothesis import strategies as st

from buildkite_connector.model.directory import (
    AccessLevel,
    Account,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Directory,
    Membership,
    Organization,
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
    )


def some_of(entries: list[Entry]) -> st.SearchStrategy[list[Entry]]:
    return st.lists(st.sampled_from(entries), unique=True, max_size=30) if entries else st.just([])
