"""Any organization, as a hypothesis strategy."""

from hypothesis import strategies as st

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    ResourceKind,
    Role,
    SyncScope,
    Team,
    TeamID,
)

anything = st.text(st.characters(exclude_categories=()), max_size=40)
long = st.builds(lambda text, times: text * times, anything, st.integers(1, 200))
texts = anything | long
notes = st.none() | st.sampled_from(("admin", "member")) | texts
rights = st.none() | st.booleans()
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
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []
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
    return Directory(
        Organization("id", OrganizationSlug("acme"), "Acme"),
        accounts if scope.wants_accounts else (),
        teams if scope.wants_teams else (),
        memberships if scope.wants_memberships else (),
        scope,
    )
