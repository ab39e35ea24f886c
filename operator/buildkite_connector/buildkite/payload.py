"""Buildkite's JSON, parsed strictly where the connector depends on it and turned into the domain at once.

Strict are ids, slugs, a membership's role, a team's level of access to a pipeline, who maintains a cluster and a
token's scopes: what accounts, teams and access are made of. Any other field only informs a reviewer: it is empty or
None when it is absent or of another type, and never fails a sync. Fields that are not listed are ignored: a pipeline's
steps, configuration, environment and provider are never kept. Ids and names of accounts are interned, so that each is
one object in memory however many teams name it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from sys import intern
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from buildkite_connector.buildkite.body import MOST_VALUES, MOST_VALUES_OF_CLUSTERS, has_too_many_values
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

T = TypeVar("T")

IDENTIFIER = r"^[0-9A-Za-z_][0-9A-Za-z_.:=~@+-]{0,199}$"
"""Ids and slugs become parts of paths and stand in sentences. Buildkite's are UUIDs, and words with dashes."""

MOST_ITEMS = 1000
"""Items of one page, of which 100 were asked for; pydantic stops there, also when it counts what is wrong."""

MOST_TEXT = 1_000_000
"""Characters of names, descriptions and URLs in a page: looking for credentials in them takes time. 100 pipelines with
the longest texts have about 800,000."""

LONGEST_TEXT = 2048
"""Characters of a name or description that are kept; C1 takes less (`c1z.messages`)."""

Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
Word = Annotated[str, StringConstraints(max_length=200)]

_LONGEST_NOTE = 100
"""Characters of a text that only informs."""


def _note(value: object) -> str | None:
    """One line of printable text, or None. Interned: few different ones come, in every account or team."""
    if not isinstance(value, str):
        return None
    text = value[:_LONGEST_NOTE]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return intern(text.strip()) or None


_PIPELINE_SLUG = re.compile(rf"/pipelines/({IDENTIFIER[1:-1]})/?(?:[?#].*)?\Z", re.S)

_Note = Any
"""Taken as it comes, and read by `_note` where the domain's object is made: a validator would cost twice as much."""


@dataclass(frozen=True, slots=True)
class _Informs:
    """Marks a field that takes `otherwise` in place of a value of another type."""

    otherwise: str | int | None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=self.otherwise, on_error="default")


_Text = Annotated[str | None, _Informs(None)]
_ShortText = Annotated[Word, _Informs("")]
_Switch = Annotated[bool | None, _Informs(None)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class _Account(_Payload):
    id: Identifier
    name: _Text = None
    email: _Text = None
    role: _Note = None
    sso_mode: _Note = None


class _Team(_Payload):
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


class _Member(_Payload):
    user_id: Identifier
    user_name: _Text = None
    role: Role


class _Pipeline(_Payload):
    id: Identifier
    slug: Identifier
    name: _Text = None
    description: _Text = None
    web_url: _Text = None
    repository: _Text = None
    visibility: _Note = None
    cluster_id: _Note = None
    archived_at: _Note = None


class _PipelineAccess(_Payload):
    pipeline_id: Identifier
    pipeline_url: _Text = None
    access_level: AccessLevel


_InAnyCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class _UserActor(_Payload):
    id: Identifier
    name: _Text = None
    type: Annotated[Literal["user"] | None, _InAnyCase] = None


class _TeamActor(_Payload):
    id: Identifier
    type: Annotated[Literal["team"] | None, _InAnyCase] = None


class _UserMaintainer(_Payload):
    actor: _UserActor


class _TeamMaintainer(_Payload):
    actor: _TeamActor


class _Maintainers(_Payload):
    users: Annotated[list[_UserMaintainer], Field(max_length=MOST_ITEMS)] | None = None
    teams: Annotated[list[_TeamMaintainer], Field(max_length=MOST_ITEMS)] | None = None


class _Cluster(_Payload):
    id: Identifier
    name: _Text = None
    description: _Text = None
    web_url: _Text = None
    maintainers: _Maintainers | None = None


class _Organization(_Payload):
    id: Identifier
    slug: Identifier
    name: _Text = None
    web_url: _Text = None


class _Token(_Payload):
    uuid: _ShortText = ""
    scopes: frozenset[Word]
    expires_at: Annotated[Word | None, _Informs(None)] = None
    user: _Note = None


class Refusal(_Payload):
    """The body of a 429: which limit (`rest_user` or `rest`), and seconds until it resets."""

    scope: Annotated[str, _Informs("")] = ""
    limit: Annotated[int, _Informs(0)] = 0
    reset: Annotated[float | None, _Informs(None)] = None

    def reading(self, longest_window: float) -> WindowReading | None:
        """What it says of the window in `scope`."""
        return None if self.reset is None else window_reading(self.limit, 0, self.reset, 1.0, longest_window)


class _Complaint(_Payload):
    message: str = ""


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


class PayloadError(Exception):
    """An answer's body is not what was expected. `broken`: it is not even JSON, as when cut short."""

    def __init__(self, message: str, *, broken: bool) -> None:
        super().__init__(message)
        self.broken = broken


def accounts(body: bytes) -> list[Account]:
    """Organization members. Raises PayloadError naming the field, like all that follow."""
    return [_account(found) for found in _parse(_accounts, body)]


def account(body: bytes) -> Account:
    """One organization member."""
    return _account(_parse(_one_account, body))


def _account(found: _Account) -> Account:
    return Account(
        AccountID(intern(found.id)),
        intern((found.name or "")[:LONGEST_TEXT]),
        (found.email or "")[:LONGEST_TEXT],
        _note(found.role),
        _note(found.sso_mode),
    )


def teams(body: bytes, redactor: Redactor) -> list[Team]:
    return _read_teams(_parse(_teams, body), redactor)


def team(body: bytes, redactor: Redactor) -> Team:
    """One team."""
    return _read_teams([_parse(_one_team, body)], redactor)[0]


def _read_teams(found_teams: list[_Team], redactor: Redactor) -> list[Team]:
    _check_words((word for found in found_teams for word in (found.id, found.slug)), redactor)
    return [
        Team(
            id=TeamID(intern(found.id)),
            name=(found.name or "")[:LONGEST_TEXT],
            slug=found.slug,
            description=(found.description or "")[:LONGEST_TEXT],
            privacy=intern(found.privacy),
            is_default=found.default,
            created_at=found.created_at,
            default_member_role=_note(found.default_member_role),
            members_can_create_pipelines=found.members_can_create_pipelines,
            members_can_create_suites=found.members_can_create_suites,
            members_can_create_registries=found.members_can_create_registries,
            members_can_destroy_registries=found.members_can_destroy_registries,
            members_can_destroy_packages=found.members_can_destroy_packages,
        )
        for found in found_teams
    ]


def members(body: bytes, team: TeamID) -> list[Membership]:
    return [_membership(found, team) for found in _parse(_members, body)]


def member(body: bytes, team: TeamID, redactor: Redactor) -> Membership:
    """One membership. Its name stands in the status, in events and in the log."""
    found = _membership(_parse(_one_member, body), team)
    return replace(found, name=redactor.redact(found.name))


def _membership(found: _Member, team: TeamID) -> Membership:
    return Membership(
        team, AccountID(intern(found.user_id)), found.role, intern((found.user_name or "")[:LONGEST_TEXT])
    )


def pipelines(body: bytes, redactor: Redactor) -> list[Pipeline]:
    """A page may be much larger than what is kept of it: it has the steps and the YAML of each pipeline."""
    _check_size(body, MOST_VALUES)
    found_pipelines = _parse(_pipelines, body)
    _check_words((word for found in found_pipelines for word in (found.id, found.slug)), redactor)
    texts = ("name", "description", "web_url", "repository", "visibility", "cluster_id", "archived_at")
    kept = _text_filter(found_pipelines, texts, redactor)
    return [
        Pipeline(
            id=PipelineID(intern(found.id)),
            slug=intern(found.slug),
            name=kept(found.name),
            description=kept(found.description),
            web_url=kept(web_url(found.web_url)),
            repository=kept(without_credentials(found.repository)),
            visibility=kept(_note(found.visibility)),
            cluster_id=kept(_note(found.cluster_id)),
            archived_at=kept(_note(found.archived_at)),
        )
        for found in found_pipelines
    ]


def _check_size(body: bytes, most: int) -> None:
    """Raises PayloadError when parsing the body would take more memory than there is for it."""
    if has_too_many_values(body, most):
        raise PayloadError(f"body: expected at most {most:,} values", broken=False)


def _text_filter(items: Iterable[_Payload], fields: Iterable[str], redactor: Redactor) -> Callable[[str | None], str]:
    """What cuts a text of these fields to LONGEST_TEXT, and takes the Secret's credentials out.

    Raises PayloadError for more text than a page can have.
    """
    values = (getattr(each, field) for each in items for field in fields)
    texts = [value[: 2 * LONGEST_TEXT] for value in values if isinstance(value, str)]
    if sum(map(len, texts)) > MOST_TEXT:
        raise PayloadError(f"body: expected at most {MOST_TEXT:,} characters of names and URLs", broken=False)
    held = redactor.holds_secret("|".join(texts))  # one look at all of them takes a tenth of the time

    def kept(text: str | None) -> str:
        whole = (text or "")[: 2 * LONGEST_TEXT]
        return (redactor.redact(whole) if held and redactor.holds_secret(whole) else whole)[:LONGEST_TEXT]

    return kept


def team_pipelines(body: bytes, team: TeamID, redactor: Redactor) -> list[PipelineAccess]:
    access = [
        PipelineAccess(PipelineID(intern(found.pipeline_id)), team, found.access_level, _slug_in(found))
        for found in _parse(_team_pipelines, body)
    ]
    _check_words((word for each in access for word in (each.pipeline, each.slug)), redactor)
    return access


def _slug_in(found: _PipelineAccess) -> str:
    """The pipeline's slug, the end of its URL; or empty. Nothing is ever asked of that URL."""
    slug = _PIPELINE_SLUG.search(found.pipeline_url or "")
    return intern(slug[1]) if slug else ""


def clusters(body: bytes, redactor: Redactor) -> list[MaintainedCluster]:
    _check_size(body, MOST_VALUES_OF_CLUSTERS)
    return _read_clusters(_parse(_clusters, body), redactor)


def cluster(body: bytes, redactor: Redactor) -> MaintainedCluster:
    """One cluster. Without its maintainers, it would seem to have none."""
    _check_size(body, MOST_VALUES_OF_CLUSTERS)
    found = _parse(_one_cluster, body)
    if found.maintainers is None or found.maintainers.users is None or found.maintainers.teams is None:
        raise PayloadError("maintainers: expected the lists users and teams", broken=False)
    return _read_clusters([found], redactor)[0]


def _read_clusters(found_clusters: list[_Cluster], redactor: Redactor) -> list[MaintainedCluster]:
    kept = _text_filter(found_clusters, ("name", "description", "web_url"), redactor)
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
    _check_words((found.id for found in found_clusters), redactor)
    _check_words((each.maintainer for found in read for each in found.maintainers), redactor)
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
    return [_organization(found, redactor) for found in _parse(_organizations, body)]


def organization(body: bytes, redactor: Redactor) -> Organization:
    return _organization(_parse(_one_organization, body), redactor)


def token(body: bytes) -> TokenFacts:
    found = _parse(_token, body)
    email = found.user.get("email") if isinstance(found.user, dict) else None
    return TokenFacts(
        found.uuid,
        found.scopes,
        _moment(found.expires_at) if found.expires_at else None,
        email[:LONGEST_TEXT] if isinstance(email, str) else "",
    )


def refusal(body: bytes) -> Refusal:
    """The body of a 429; empty if it cannot be read."""
    try:
        return Refusal.model_validate_json(body)
    except ValidationError:
        return Refusal()


def complaint(body: bytes) -> str:
    """The `message` of an error's body as it came, not yet fit to be shown; empty when there is none."""
    try:
        return _Complaint.model_validate_json(body).message
    except ValidationError:
        return ""


def _organization(found: _Organization, redactor: Redactor) -> Organization:
    _check_words((found.id, found.slug), redactor)
    name = redactor.without(found.slug).quote(found.name or "", LONGEST_TEXT)
    return Organization(found.id, OrganizationSlug(found.slug), name, web_url(found.web_url))


def _check_words(words: Iterable[str], redactor: Redactor) -> None:
    """Raises PayloadError when a credential is among ids and slugs that will stand in sentences."""
    joined = "|".join(words)
    if redactor.holds_secret(joined):
        raise PayloadError("body: expected ids and slugs, but a credential is among them", broken=False)


def _moment(text: str) -> datetime:
    """`2025-07-23 06:07:42 UTC`, or ISO 8601 with a zone, in UTC and whole seconds. Raises PayloadError."""
    try:
        moment = datetime.fromisoformat(re.sub(" ?UTC$", "Z", text))
        if moment.tzinfo is not None:
            return moment.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        pass
    raise PayloadError("expires_at: expected a time like 2025-07-23 06:07:42 UTC", broken=False)


def _parse(adapter: TypeAdapter[T], body: bytes) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        broken = first["type"] == "json_invalid"
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        told = first["msg"]
        if first["type"] == "string_pattern_mismatch":
            told = (
                "expected 1 to 200 letters, digits, or characters of _.:=~@+-, of which the first is a letter or digit"
            )
        raise PayloadError(f"{place.lstrip('.') or 'body'}: {told}{more}", broken=broken) from None
