"""Buildkite's rows of the table of hostile answers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from buildkite_connector.buildkite import BuildkiteSettings, Patience, Timeouts, open_buildkite
from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.scope import FULL_SCOPE
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import preflight
from unit.hostile.http_server import FOREVER, Answer, HostileServer, Part, Request
from unit.hostile.rows import Row

TOKEN = "bkua_0123456789abcdef0123456789abcdef01234567"
ACME = OrganizationSlug("acme")
TIMEOUTS = Timeouts(connect=1.0, read=0.5, write=1.0, total=1.5)
PATIENCE = Patience(tries=2, first=0.01, longest=0.02, blind_pause=0.05, refusals=2)

ACCESS_TOKEN = "/v2/access-token"
ORGANIZATIONS = "/v2/organizations"
ORGANIZATION = "/v2/organizations/acme"
MEMBERS = "/v2/organizations/acme/members"
TEAMS = "/v2/organizations/acme/teams"
TEAM_MEMBERS = "/v2/organizations/acme/teams/[^/]*/members"


def head(status: str = "200 OK", *headers: str, length: int | str | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    """An answer with nothing wrong about its form."""
    return lambda _: [head(status, *headers, length=len(body)), body]


def document(value: object, status: str = "200 OK", *headers: str) -> Answer:
    return whole(json.dumps(value).encode(), status, *headers)


HONEST: dict[str, Answer] = {
    ACCESS_TOKEN: document({"uuid": "t", "scopes": ["read_organizations", "read_teams", "read_user"]}),
    ORGANIZATIONS: document([{"id": "o", "slug": "acme", "name": "Acme"}]),
    ORGANIZATION: document({"id": "o", "slug": "acme", "name": "Acme"}),
    MEMBERS: document([{"id": "u1", "name": "U", "email": "u@example.com"}]),
    TEAMS: document(
        [
            {
                "id": "t1",
                "name": "T",
                "slug": "t",
                "description": "",
                "privacy": "visible",
                "default": False,
                "created_at": "2025-01-01T00:00:00Z",
            }
        ]
    ),
    TEAM_MEMBERS: document([{"user_id": "u1", "user_name": "U", "role": "member"}]),
}
"""An organization of one of each; a row puts its own answer in the place of one of these."""


@asynccontextmanager
async def sync(origin: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """A preflight and a collection, as a connector does them."""
    settings = BuildkiteSettings(f"{origin}/v2", page_size=10, timeouts=TIMEOUTS, patience=PATIENCE)
    async with open_buildkite(settings) as buildkite:

        async def operate() -> None:
            client = buildkite.client(TOKEN)
            found = await preflight(client, ACME, FULL_SCOPE.kinds)
            await collect(client, found.organization, FULL_SCOPE)

        yield operate


def hostile(name: str, answer: Answer, outcome: str | None, *, at: str = MEMBERS) -> Row:
    def serve() -> AbstractAsyncContextManager[str]:
        return HostileServer({**HONEST, at: answer}).running()

    return Row(name, serve, sync, outcome, secrets=(TOKEN,))


def endless_body(status: str = "200 OK") -> Answer:
    def answer(_: Request) -> Iterator[Part]:
        yield head(status)
        yield b'[{"id": "'
        while True:
            yield b"a" * 1_000_000

    return answer


def never(_: Request) -> Iterator[Part]:
    yield FOREVER


ROWS: list[Row] = [
    hostile("a body of 200 without an end", endless_body(), "larger than"),
    hostile("a body of 500 without an end", endless_body("500 No"), "larger than", at=ACCESS_TOKEN),
    hostile("no answer", never, "no answer came in time"),
]
