"""What a portal shows of a simulated organization and REST does not: activity, second factors, and people's API tokens.

All of it follows from the order of the organization's members when a portal is first asked; members who join later are
the newest. Members come and go in `Organization`; the rest is edited here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from simulators.buildkite.access_records import graphql_id
from simulators.buildkite.listing import Record
from simulators.buildkite.organization import Organization
from simulators.buildkite.portal_pages import Connection
from simulators.buildkite.portal_sdl import SCOPES

FIRST_JOINED = datetime(2021, 3, 14, 0, 49, 55, tzinfo=UTC)
FIRST_TOKEN = datetime(2024, 1, 10, 8, 30, tzinfo=UTC)
LATEST = datetime(2026, 2, 20, 17, 5, 9, tzinfo=UTC)
"""The last sign of anybody's activity."""
EXPIRED, EXPIRES = datetime(2026, 2, 24, tzinfo=UTC), datetime(2036, 1, 15, tzinfo=UTC)


@dataclass
class PersonsToken:
    """Somebody's API access token; open to edits. `owner`: the user's ID, None where Buildkite does not say."""

    uuid: str
    owner: str | None
    description: str | None = "Deploys – ops & dev"
    created_at: datetime = FIRST_TOKEN
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    scopes: tuple[str, ...] = ("READ_ORGANIZATIONS", "READ_TEAMS")
    address: str | None = "203.0.113.7"


@dataclass
class Member:
    """What only a portal shows of a member; open to edits. `number`: the place by which it was made up."""

    user_id: str
    number: int
    since: datetime
    last_seen_at: datetime | None
    two_factor: bool
    machine: bool = False
    bot: bool = False
    tokens: list[PersonsToken] = field(default_factory=list)
    user: Mapping[str, Any] = field(default_factory=dict)
    """The REST record of now; a bot's own."""


@dataclass
class PortalView:
    """One organization. `omitted`: IDs of users whom the portal leaves out although REST lists them.

    `bots`: members whom only the portal lists. `unowned`: tokens that are not a listed member's.
    """

    organization: Organization
    now: Callable[[], datetime]
    omitted: set[str] = field(default_factory=set)
    bots: list[Member] = field(default_factory=list)
    unowned: list[PersonsToken] = field(default_factory=list)
    _members: dict[str, Member] = field(default_factory=dict)
    _numbers: int = 0

    def __post_init__(self) -> None:
        self.bots.append(self._bot())
        self.unowned.append(PersonsToken(self._uuid("unowned token"), None, "Nobody's"))
        self._follow(_made)

    def member(self, user_id: str) -> Member:
        """Raises KeyError for nobody whom REST lists."""
        self._follow(_joined)
        return self._members[user_id]

    def members(self) -> Sequence[Member]:
        self._follow(_joined)
        return [each for each in self._members.values() if each.user_id not in self.omitted] + self.bots

    def tokens(self) -> Sequence[PersonsToken]:
        """A token ends with its owner's membership."""
        self._follow(_joined)
        return [token for member in self._members.values() for token in member.tokens] + self.unowned

    def root(self) -> Record:
        """What a query starts from."""
        named = {"slug": self.organization.slug, "uuid": self.organization.id}

        def organization(_: object, **asked: str) -> Record | None:
            return self._organization() if asked.items() <= named.items() and asked else None

        return {"organization": organization}

    def _organization(self) -> Record:
        members = Connection[Member](lambda each: each.since, lambda each: each.user_id, self._shown)
        tokens = Connection[PersonsToken](lambda each: each.created_at, lambda each: each.uuid, self._shown_token)
        return {
            "id": graphql_id("Organization", self.organization.id),
            "uuid": self.organization.id,
            "slug": self.organization.slug,
            "name": self.organization.name,
            "members": lambda _, **asked: members.page(self.members(), asked),
            "apiAccessTokens": lambda _, **asked: tokens.page(self.tokens(), asked),
        }

    def _follow(self, make: "Callable[[PortalView, str, int], Member]") -> None:
        """Forgets who has left, and makes up what there is to know of those who came."""
        records = {record["id"]: record for record in self.organization.members.records}
        for gone in self._members.keys() - records.keys():
            del self._members[gone]
        for user_id, record in records.items():
            member = self._members.get(user_id)
            if member is None:
                member = self._members[user_id] = make(self, user_id, self._numbers)
                self._numbers += 1
            member.user = record

    def _shown(self, member: Member) -> Record:
        uuid = self._uuid(f"membership {member.user_id}")
        return {
            "id": graphql_id("OrganizationMember", uuid),
            "uuid": uuid,
            "organization": lambda _: self._organization(),
            "user": _user(member),
            "role": member.user.get("role", "member").upper(),
            "createdAt": _time(member.since),
            "lastSeenAt": _time(member.last_seen_at),
            "security": {"passwordProtected": not member.machine, "twoFactorEnabled": member.two_factor},
        }

    def _shown_token(self, token: PersonsToken) -> Record:
        return {
            "id": graphql_id("APIAccessToken", token.uuid),
            "uuid": token.uuid,
            "description": token.description,
            "createdAt": _time(token.created_at),
            "expiresAt": _time(token.expires_at),
            "lastAccessedAt": _time(token.last_used_at),
            "ipAddress": token.address,
            "owner": self._owner(token.owner),
            "scopes": list(token.scopes),
        }

    def _owner(self, user_id: str | None) -> Record | None:
        if user_id is None:
            return None
        found = next((each for each in (*self._members.values(), *self.bots) if each.user_id == user_id), None)
        return _user(found or Member(user_id, 0, FIRST_JOINED, None, False))

    def _bot(self) -> Member:
        bot = Member(self._uuid("bot"), 0, FIRST_JOINED - timedelta(days=400), None, False, bot=True)
        bot.user = {"name": "Buildkite Bot", "email": "bot@buildkite.example", "role": "member"}
        return bot

    def _uuid(self, what: str) -> str:
        return str(uuid5(NAMESPACE_URL, f"{self.organization.id} {what}"))

    def _token(self, owner: str, number: int) -> PersonsToken:
        return PersonsToken(
            self._uuid(f"token {owner} {number}"),
            owner,
            None if number % 7 == 3 else f"Token {number} – ops & dev",
            FIRST_TOKEN + timedelta(days=number * 31 % 600),
            (None, EXPIRED, EXPIRES, EXPIRES)[number % 4],
            None if number % 5 == 2 else LATEST - timedelta(days=number * 13 % 150),
            SCOPES if number % 6 == 5 else ("READ_ORGANIZATIONS", "READ_TEAMS"),
            f"203.0.113.{number % 250 + 1}",
        )


def _made(view: PortalView, user_id: str, number: int) -> Member:
    """A member of long standing; every kind of fact among each seven of them."""
    return Member(
        user_id,
        number,
        FIRST_JOINED + timedelta(days=number * 617 % 1000),
        None if number % 5 == 3 else LATEST - timedelta(days=number * 37 % 400, hours=number % 24),
        two_factor=number % 3 != 1,
        machine=number % 7 == 6,
        tokens=[view._token(user_id, number * 2 + each) for each in range(number % 3)],
    )


def _joined(view: PortalView, user_id: str, number: int) -> Member:
    now = view.now().replace(microsecond=0)
    return Member(user_id, number, now, now, two_factor=False)


def _user(member: Member) -> Record:
    return {
        "id": graphql_id("User", member.user_id),
        "uuid": member.user_id,
        "name": member.user.get("name", ""),
        "email": member.user.get("email", ""),
        "bot": member.bot,
        "machineUser": member.machine,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
