"""Buildkite's JSON, parsed strictly where the connector depends on it and turned into the domain at once.

Strict are ids, slugs, a membership's role, a team's level of access to a pipeline, who maintains a cluster and a
token's scopes: what accounts, teams and access are made of. Any other field only informs a reviewer: it is empty or
None when it is absent or of another type, and never fails a sync. Fields that are not listed are ignored: a pipeline's
steps, configuration, environment and provider are never kept. Ids and names of accounts are interned, so that each is
one object in memory however many teams name it.
"""

import re
from datetime import datetime
from sys import intern
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from buildkite_connector.buildkite.body import MOST_VALUES, MOST_VALUES_KEPT
from buildkite_connector.buildkite.parsing import (
    IDENTIFIER,
    LONGEST_TEXT,
    Identifier,
    Informs,
    Payload,
    PayloadError,
    Word,
    check_size,
    check_words,
    moment,
    note,
    parse,
    text_filter,
)
from buildkite_connector.buildkite.rate_limit import WindowReading, window_reading
from buildkite_connector.buildkite.urls import web_url, without_credentials
from buildkite_connector.model.directory import (
    AccessLevel,
    Account,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    Role,
    Team,
    TeamID,
    TokenFacts,
)
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.sync.ports import MaintainedCluster

MOST_ITEMS = 1000
"""Items of one page, of which 100 were asked for; pydantic stops there, also when it counts what is wrong."""

_PIPELINE_SLUG = re.compile(rf"/pipelines/({IDENTIFIER[1:-1]})/?(?:[?#].*)?\Z", re.S)

_Note = Any
"""Taken as it comes, and read by `note` where the domain's object is made: a validator would cost twice as much."""

_Text = Annotated[str | None, Informs(None)]
_ShortText = Annotated[Word, Informs("")]
_Switch = Annotated[bool | None, Informs(None)]


class _Account(Payload):
    id: Identifier
    name: _Text = None
    email: _Text = None
    role: _Note = None
    sso_mode: _Note = None


class _Team(Payload):
    id: Identifier
    name: _Text = None
    slug: Identifier
    description: _Text = None
    privacy: _ShortText = ""
    default: _Switch = None
    created_at: _ShortText = ""
    default_member_role: _Note = None
    members_can_create_pipelines: _Switch = None
    members_can_create_suites: _Switch = None
    members_can_create_registries: _Switch = None
    members_can_destroy_registries: _Switch = None
    members_can_destroy_packages: _Switch = None


class _Member(Payload):
    user_id: Identifier
    user_name: _Text = None
    role: Role


class _Pipeline(Payload):
    id: Identifier
    slug: Identifier
    name: _Text = None
    description: _Text = None
    web_url: _Text = None
    repository: _Text = None
    visibility: _Note = None
    cluster_id: _Note = None
    archived_at: _Note = None


class _PipelineAccess(Payload):
    pipeline_id: Identifier
    pipeline_url: _Text = None
    access_level: AccessLevel


_InAnyCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class _UserActor(Payload):
    id: Identifier
    name: _Text = None
    type: Annotated[Literal["user"] | None, _InAnyCase] = None


class _TeamActor(Payload):
    id: Identifier
    type: Annotated[Literal["team"] | None, _InAnyCase] = None


class _UserMaintainer(Payload):
    actor: _UserActor


class _TeamMaintainer(Payload):
    actor: _TeamActor


class _Maintainers(Payload):
    users: Annotated[list[_UserMaintainer], Field(max_length=MOST_ITEMS)] | None = None
    teams: Annotated[list[_TeamMaintainer], Field(max_length=MOST_ITEMS)] | None = None


class _Cluster(Payload):
    id: Identifier
    name: _Text = None
    description: _Text = None
    web_url: _Text = None
    maintainers: _Maintainers | None = None


class _Organization(Payload):
    id: Identifier
    slug: Identifier
    name: _Text = None
    web_url: _Text = None


class _Token(Payload):
    uuid: _ShortText = ""
    scopes: frozenset[Word]
    expires_at: Annotated[Word | None, Informs(None)] = None
    user: _Note = None


class Refusal(Payload):
    """The body of a 429: which limit (`rest_user` or `rest`), and seconds until it resets."""

    scope: Annotated[str, Informs("")] = ""
    limit: Annotated[int, Informs(0)] = 0
    reset: Annotated[float | None, Informs(None)] = None

    def reading(self, longest_window: float) -> WindowReading | None:
        """What it says of the window in `scope`."""
        return None if self.reset is None else window_reading(self.limit, 0, self.reset, 1.0, longest_window)


_accounts = TypeAdapter(Annotated[list[_Account], Field(max_length=MOST_ITEMS)])
_teams = TypeAdapter(Annotated[list[_Team], Field(max_length=MOST_ITEMS)])
_one_account = TypeAdapter(_Account)
_one_team = TypeAdapter(_Team)
_one_member = TypeAdapter(_Member)
_members = TypeAdapter(Annotated[list[_Member], Field(max_length=MOST_ITEMS)])
_pipelines = TypeAdapter(Annotated[list[_Pipeline], Field(max_length=MOST_ITEMS)])
_team_pipelines = TypeAdapter(Annotated[list[_PipelineAccess], Field(max_length=MOST_ITEMS)])
_clusters = TypeAdapter(Annotated[list[_Cluster], Field(max_length=MOST_ITEMS)])
_one_cluster = TypeAdapter(_Cluster)
_organizations = TypeAdapter(Annotated[list[_Organization], Field(max_length=MOST_ITEMS)])
_one_organization = TypeAdapter(_Organization)
_token = TypeAdapter(_Token)


def accounts(body: bytes) -> list[Account]:
    """Organization members. Raises PayloadError naming the field, like all that follow."""
    return [_account(found) for found in parse(_accounts, body)]


def account(body: bytes) -> Account:
    """One organization member."""
    return _account(parse(_one_account, body))


def _account(found: _Account) -> Account:
    return Account(
        AccountID(intern(found.id)),
        intern((found.name or "")[:LONGEST_TEXT]),
        (found.email or "")[:LONGEST_TEXT],
        note(found.role),
        note(found.sso_mode),
    )


def teams(body: bytes, redactor: Redactor) -> list[Team]:
    return _read_teams(parse(_teams, body), redactor)


def team(body: bytes, redactor: Redactor) -> Team:
    """One team."""
    return _read_teams([parse(_one_team, body)], redactor)[0]


def _read_teams(found_teams: list[_Team], redactor: Redactor) -> list[Team]:
    check_words((word for found in found_teams for word in (found.id, found.slug)), redactor)
    return [
        Team(
            id=TeamID(intern(found.id)),
            name=(found.name or "")[:LONGEST_TEXT],
            slug=found.slug,
            description=(found.description or "")[:LONGEST_TEXT],
            privacy=intern(found.privacy),
            is_default=found.default,
            created_at=found.created_at,
            default_member_role=note(found.default_member_role),
            members_can_create_pipelines=found.members_can_create_pipelines,
            members_can_create_suites=found.members_can_create_suites,
            members_can_create_registries=found.members_can_create_registries,
            members_can_destroy_registries=found.members_can_destroy_registries,
            members_can_destroy_packages=found.members_can_destroy_packages,
        )
        for found in found_teams
    ]


def members(body: bytes, team: TeamID) -> list[Membership]:
    return [
        Membership(team, AccountID(intern(found.user_id)), found.role, intern((found.user_name or "")[:LONGEST_TEXT]))
        for found in parse(_members, body)
    ]


def member(body: bytes, team: TeamID, redactor: Redactor) -> Membership:
    """One membership. Its name stands in the status, in events and in the log."""
    found = parse(_one_member, body)
    name = redactor.redact((found.user_name or "")[:LONGEST_TEXT])
    return Membership(team, AccountID(intern(found.user_id)), found.role, name)


def pipelines(body: bytes, redactor: Redactor) -> list[Pipeline]:
    """A page may be much larger than what is kept of it: it has the steps and the YAML of each pipeline."""
    check_size(body, MOST_VALUES)
    found_pipelines = parse(_pipelines, body)
    check_words((word for found in found_pipelines for word in (found.id, found.slug)), redactor)
    texts = ("name", "description", "web_url", "repository", "visibility", "cluster_id", "archived_at")
    kept = text_filter(found_pipelines, texts, redactor)
    return [
        Pipeline(
            id=PipelineID(intern(found.id)),
            slug=intern(found.slug),
            name=kept(found.name),
            description=kept(found.description),
            web_url=kept(web_url(found.web_url)),
            repository=kept(without_credentials(found.repository)),
            visibility=kept(note(found.visibility)),
            cluster_id=kept(note(found.cluster_id)),
            archived_at=kept(note(found.archived_at)),
        )
        for found in found_pipelines
    ]


def team_pipelines(body: bytes, team: TeamID, redactor: Redactor) -> list[PipelineAccess]:
    access = [
        PipelineAccess(PipelineID(intern(found.pipeline_id)), team, found.access_level, _slug_in(found))
        for found in parse(_team_pipelines, body)
    ]
    check_words((word for each in access for word in (each.pipeline, each.slug)), redactor)
    return access


def _slug_in(found: _PipelineAccess) -> str:
    """The pipeline's slug, the end of its URL; or empty. Nothing is ever asked of that URL."""
    slug = _PIPELINE_SLUG.search(found.pipeline_url or "")
    return intern(slug[1]) if slug else ""


def clusters(body: bytes, redactor: Redactor) -> list[MaintainedCluster]:
    check_size(body, MOST_VALUES_KEPT)
    return _read_clusters(parse(_clusters, body), redactor)


def cluster(body: bytes, redactor: Redactor) -> MaintainedCluster:
    """One cluster. Without its maintainers, it would seem to have none."""
    check_size(body, MOST_VALUES_KEPT)
    found = parse(_one_cluster, body)
    if found.maintainers is None or found.maintainers.users is None or found.maintainers.teams is None:
        raise PayloadError("maintainers: expected the lists users and teams", broken=False)
    return _read_clusters([found], redactor)[0]


def _read_clusters(found_clusters: list[_Cluster], redactor: Redactor) -> list[MaintainedCluster]:
    kept = text_filter(found_clusters, ("name", "description", "web_url"), redactor)
    read = [
        MaintainedCluster(
            Cluster(
                id=ClusterID(intern(found.id)),
                name=kept(found.name),
                description=kept(found.description),
                web_url=kept(web_url(found.web_url)),
            ),
            _maintainers(found),
        )
        for found in found_clusters
    ]
    check_words((found.id for found in found_clusters), redactor)
    check_words((each.maintainer for found in read for each in found.maintainers), redactor)
    return read


def _maintainers(cluster: _Cluster) -> tuple[ClusterMaintainer, ...]:
    """Empty unless both lists are there: one alone is not all of them."""
    found, id_ = cluster.maintainers, ClusterID(intern(cluster.id))
    if found is None or found.users is None or found.teams is None:
        return ()
    users = [each.actor for each in found.users]
    teams = [each.actor for each in found.teams]
    maintainers = [
        *(
            ClusterMaintainer(
                id_, AccountID(intern(user.id)), ResourceKind.USER, intern((user.name or "")[:LONGEST_TEXT])
            )
            for user in users
        ),
        *(ClusterMaintainer(id_, TeamID(intern(team.id)), ResourceKind.TEAM) for team in teams),
    ]
    return tuple(dict.fromkeys(maintainers))


def organizations(body: bytes, redactor: Redactor) -> list[Organization]:
    return [_organization(found, redactor) for found in parse(_organizations, body)]


def organization(body: bytes, redactor: Redactor) -> Organization:
    return _organization(parse(_one_organization, body), redactor)


def token(body: bytes) -> TokenFacts:
    found = parse(_token, body)
    email = found.user.get("email") if isinstance(found.user, dict) else None
    return TokenFacts(
        found.uuid,
        found.scopes,
        _expiry(found.expires_at),
        email[:LONGEST_TEXT] if isinstance(email, str) else "",
    )


def _expiry(text: str | None) -> datetime | None:
    try:
        return moment(text) if text else None
    except ValueError as error:
        raise PayloadError(f"expires_at: {error}", broken=False) from None


def refusal(body: bytes) -> Refusal:
    """The body of a 429; empty if it cannot be read."""
    try:
        return Refusal.model_validate_json(body)
    except ValidationError:
        return Refusal()


def _organization(found: _Organization, redactor: Redactor) -> Organization:
    check_words((found.id, found.slug), redactor)
    name = redactor.without(found.slug).quote(found.name or "", LONGEST_TEXT)
    return Organization(found.id, OrganizationSlug(found.slug), name, web_url(found.web_url))
