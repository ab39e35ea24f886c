"""What Buildkite's REST API answers, decided without I/O: authentication, scopes, quota, pages.

The rules are those of facts/buildkite-api.md; the wording of 401, 403 and 429 is the public
documentation's. `buildkite` carries requests in and replies out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote
from uuid import NAMESPACE_URL, uuid5

from simulators.buildkite.access_reads import Reader, read_access
from simulators.buildkite.access_records import graphql_id
from simulators.buildkite.listing import encode
from simulators.buildkite.memberships import FORBIDDEN, WRITES, Change, Outcome, Writer, read_membership
from simulators.buildkite.organization import Organization
from simulators.buildkite.pages import link_header, page_asked
from simulators.buildkite.quota import Quota

BASE_PATH = "/v2"
ALL_SCOPES = ("read_organizations", "read_teams", "read_user")
"""All that reading accounts and teams takes."""
ACCESS_SCOPES = (*ALL_SCOPES, "read_pipelines", "read_clusters")
WRITING_SCOPES = (*ALL_SCOPES, "write_teams")


@dataclass(frozen=True, slots=True)
class User:
    """Whose token it is; the user limit is counted by `id`. An `admin` sees all teams and everybody's `sso_mode`, and
    writes to any team; another sees the secret teams that they are in, and their own `sso_mode`."""

    id: str = "5acb99cf-d349-4189-b361-d1b9f36d70d7"
    name: str = "C1 Sync"
    email: str = "c1-sync@example.com"
    admin: bool = True


@dataclass(frozen=True, slots=True)
class Token:
    """An API access token. `organizations`: the slugs it reaches, None for all; its value is never shown."""

    value: str = field(default="bkua_" + "0123456789abcdef" * 2 + "01234567", repr=False)
    scopes: tuple[str, ...] = ALL_SCOPES
    organizations: frozenset[str] | None = None
    user: User = User()
    expires_at: datetime | None = None
    description: str = "C1 connector"
    created_at: datetime = datetime(2025, 7, 16, 6, 7, 42, tzinfo=UTC)

    @property
    def uuid(self) -> str:
        """Names the token in the transcript, where its value must not stand."""
        return str(uuid5(NAMESPACE_URL, self.value))

    def reaches(self, slug: str) -> bool:
        return self.organizations is None or slug in self.organizations


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `path`: all of it, as it came; `query`: the last of each name; `body`: empty when it is no JSON."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str = field(default="", repr=False)
    body: bytes = b""

    @classmethod
    def parse(cls, method: str, target: str, authorization: str, body: bytes = b"") -> "Call":
        path, _, query = target.partition("?")
        return cls(method, path, dict(parse_qsl(query, keep_blank_values=True)), authorization, body)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]


JSON_TYPE = {"Content-Type": "application/json; charset=utf-8"}


def refusal(status: int, message: str) -> Reply:
    return Reply(status, encode({"message": message}), JSON_TYPE)


NOT_FOUND = refusal(404, "Not Found")
NO_ORGANIZATION = refusal(404, "No organization found")
NO_TEAM = refusal(404, "No team found")
NO_MEMBER = refusal(404, "No organization member found")
UNAUTHENTICATED = refusal(
    401,
    "Authentication required. Please supply a valid API Access Token: "
    "https://buildkite.com/docs/apis/rest-api#authentication",
)


@dataclass
class Api:
    """The API over data that may change between two calls. `origin` is where its own links lead.

    `revoked`: who else is told the value of a token that is revoked.
    `last_maintainer_stays`: whether a team with maintainers keeps one; no page of the documentation says.
    """

    organizations: dict[str, Organization]
    tokens: dict[str, Token]
    quota: Quota
    now: Callable[[], datetime]
    origin: str = ""
    last_maintainer_stays: bool = False
    revoked: list[Callable[[str], None]] = field(default_factory=list)

    def token_of(self, call: Call) -> Token | None:
        """The token that the call carries, when it is good now."""
        kind, _, value = call.authorization.partition(" ")
        token = self.tokens.get(value) if kind == "Bearer" else None
        if token is None or (token.expires_at is not None and token.expires_at <= self.now()):
            return None
        return token

    def revoke(self, value: str) -> None:
        """From now on the token of that value is unknown."""
        self.tokens.pop(value, None)
        for each in self.revoked:
            each(value)

    def edit(self, edits: Iterable[Mapping[str, Any]]) -> None:
        """`Organization.edit`s, each with its `operation`, arguments and, of several, its `organization`."""
        for each in edits:
            arguments = dict(each)
            slug = arguments.pop("organization", next(iter(self.organizations)))
            self.organizations[slug].edit(**arguments)

    def answer(self, call: Call, token: Token | None) -> Reply:
        """Answers a call by `token_of` it. Whatever a good token asks for counts against its limits."""
        if token is None:
            return UNAUTHENTICATED
        segments = [unquote(part) for part in call.path.strip("/").split("/")]
        standings = self.quota.count_request(token.user.id, self._charged(segments, token))
        limits = {name: value for standing in standings for name, value in standing.headers().items()}
        exceeded = next((standing for standing in standings if standing.exceeded), None)
        if exceeded is not None:
            reset = float(exceeded.reset)
            body = {
                "message": exceeded.warning,
                "scope": exceeded.scope,
                "limit": exceeded.limit,
                "current": exceeded.current,
                "reset": int(reset) if reset.is_integer() else reset,
            }
            reply = Reply(429, encode(body), JSON_TYPE)
        elif call.method == "GET":
            reply = self._get(call, segments, token)
        else:
            reply = self._write(call, segments, token)
        return Reply(reply.status, reply.body, {**reply.headers, **limits})

    def _charged(self, segments: Sequence[str], token: Token) -> str | None:
        """The organization that pays: the one asked about, else the first that the token reaches."""
        if len(segments) > 2 and segments[2] in self.organizations and token.reaches(segments[2]):
            return segments[2]
        return next((slug for slug in self.organizations if token.reaches(slug)), None)

    def _get(self, call: Call, segments: Sequence[str], token: Token) -> Reply:
        match segments:
            case ["v2", "access-token"]:
                return _ok(_token_payload(token))
            case ["v2", "user"]:
                return _missing_scope(token, "read_user") or _ok(_user_payload(token.user))
            case ["v2", "organizations"]:
                return _missing_scope(token, "read_organizations") or self._organization_list(call, token)
            case ["v2", "organizations", slug, *rest]:
                return _missing_scope(token, *_scopes(rest)) or self._organization(call, token, slug, rest)
        return NOT_FOUND

    def _write(self, call: Call, segments: Sequence[str], token: Token) -> Reply:
        match segments:
            case ["v2", "organizations", slug, "teams", team, "members", *users] if (
                call.method,
                len(users) == 1,
            ) in WRITES:
                organization = self.organizations.get(slug)
                missing = _missing_scope(token, "write_teams")
                if missing is not None:
                    return missing
                if organization is None or not token.reaches(slug):
                    return NO_ORGANIZATION
                roster = organization.team_members.get(team)
                if roster is None:
                    return NO_TEAM
                if not Writer(token.user.id, token.user.admin).may_write(roster):
                    return _reply(FORBIDDEN)
                change = Change(organization, roster, self.now(), self.last_maintainer_stays)
                return _reply(change.make(call.method, "".join(users), call.body))
        return NOT_FOUND

    def _organization(  # noqa: PLR0911 - one answer a path
        self, call: Call, token: Token, slug: str, rest: Sequence[str]
    ) -> Reply:
        organization = self.organizations.get(slug)
        if organization is None or not token.reaches(slug):
            return NO_ORGANIZATION
        user = token.user
        hidden = None if user.admin or len(rest) < 2 or rest[0] != "teams" else organization.teams.find(rest[1])
        if hidden is not None and not organization.sees(user.id, hidden):
            return NO_TEAM
        match rest:
            case []:
                return _ok(self._organization_payload(organization))
            case ["members", *ids] if len(ids) < 2:
                listing = organization.members if user.admin else organization.members_seen_by(user.id)
                if ids:
                    return _found(listing.find(ids[0]), NO_MEMBER)
            case ["teams"]:
                listing = organization.teams if user.admin else organization.teams_seen_by(user.id)
            case ["teams", team]:
                return _found(organization.teams.find(team), NO_TEAM)
            case ["teams", team, "members", *users] if len(users) < 2:
                if team not in organization.team_members:
                    return NO_TEAM
                listing = organization.team_members[team]
                if users:
                    return _reply(read_membership(listing, users[0]))
            case _:
                reader = Reader(user.id, user.admin, "write_pipelines" in token.scopes)
                found = read_access(organization, reader, rest)
                if isinstance(found, Outcome):
                    return _reply(found)
                listing = found
        number, size = page_asked(call.query)
        links = link_header(self._url(call), call.query, number, listing.pages(size))
        return Reply(200, listing.page(number, size), {**JSON_TYPE, **links})

    def _organization_list(self, call: Call, token: Token) -> Reply:
        reached = [
            self._organization_payload(found) for found in self.organizations.values() if token.reaches(found.slug)
        ]
        number, size = page_asked(call.query)
        links = link_header(self._url(call), call.query, number, -(-len(reached) // size))
        body = encode(reached[(number - 1) * size : number * size])
        return Reply(200, body, {**JSON_TYPE, **links})

    def _url(self, call: Call) -> str:
        return f"{self.origin}{call.path}"

    def _organization_payload(self, organization: Organization) -> dict[str, str]:
        url = f"{self.origin}{BASE_PATH}/organizations/{organization.slug}"
        return {
            "id": organization.id,
            "graphql_id": graphql_id("Organization", organization.id),
            "url": url,
            "web_url": f"https://buildkite.com/{organization.slug}",
            "name": organization.name,
            "slug": organization.slug,
            "pipelines_url": f"{url}/pipelines",
            "agents_url": f"{url}/agents",
            "emojis_url": f"{url}/emojis",
            "created_at": organization.created_at,
        }


def _ok(payload: object) -> Reply:
    return Reply(200, encode(payload), JSON_TYPE)


def _found(record: Mapping[str, Any] | None, missing: Reply) -> Reply:
    return missing if record is None else _ok(record)


def _reply(outcome: Outcome) -> Reply:
    if outcome.payload is None:
        return Reply(outcome.status, b"", {})
    return Reply(outcome.status, encode(outcome.payload), JSON_TYPE)


def _scopes(path: Sequence[str]) -> tuple[str, ...]:
    """The scopes of which reading that path below an organization takes one."""
    match path:
        case ["pipelines", *_]:
            return ("read_pipelines",)
        case ["clusters", *_]:
            return ("read_clusters",)
        case ["teams", _, "pipelines", *_]:
            return ("read_teams", "view_teams")
        case ["teams", *_]:
            return ("read_teams",)
    return ("read_organizations",)


def _missing_scope(token: Token, *scopes: str) -> Reply | None:
    """The refusal of a token that has none of the scopes; it names the first."""
    if not set(scopes).isdisjoint(token.scopes):
        return None
    return refusal(403, f"Your access token doesn't have the {scopes[0]} scope")


def _token_payload(token: Token) -> dict[str, object]:
    return {
        "uuid": token.uuid,
        "scopes": list(token.scopes),
        "description": token.description,
        "created_at": _utc(token.created_at),
        "expires_at": token.expires_at and _utc(token.expires_at),
        "user": {"name": token.user.name, "email": token.user.email},
    }


def _user_payload(user: User) -> dict[str, str]:
    return {
        "id": user.id,
        "graphql_id": graphql_id("User", user.id),
        "name": user.name,
        "email": user.email,
        "avatar_url": "https://www.gravatar.com/avatar/e14f55d3f939977cecbf51b64ff6f861",
        "created_at": "2022-01-18T02:51:30.983Z",
    }


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
