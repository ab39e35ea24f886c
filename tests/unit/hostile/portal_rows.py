"""A portal's rows of the table of hostile answers: one page of members or of API tokens."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.buildkite.portal_document import MARK
from buildkite_connector.model.directory import OrganizationSlug
from harness.trust import DIRECT
from unit.hostile.buildkite_answers import PATIENCE, TIMEOUTS, UNHURRIED, bomb, document, endless, head, whole, zipped
from unit.hostile.http_server import Answer, HostileServer
from unit.hostile.rows import Row

TOKEN = "0123456789abcdef0123456789abcdef0123456789abcdef"
SCOPES = [f"READ_SOMETHING_{each}" for each in range(49)]


@asynccontextmanager
async def page(url: str, *, tokens: bool) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    settings = BuildkiteSettings(
        portal_url=url, timeouts=UNHURRIED if tokens else TIMEOUTS, patience=PATIENCE, longest_window=0.05
    )
    async with open_buildkite(settings, DIRECT) as buildkite:

        async def ask() -> None:
            client = buildkite.portal(OrganizationSlug("acme"), "c1", TOKEN)
            await (client.api_tokens() if tokens else client.members())

        yield ask


def hostile(name: str, answer: Answer, outcome: str | None, *, tokens: bool = False) -> Row:
    def serve() -> AbstractAsyncContextManager[str]:
        return HostileServer({"/organizations/acme/portals/c1": answer}).running()

    return Row(name, serve, partial(page, tokens=tokens), outcome, (TOKEN,))


def listed(number: int, **changes: object) -> Answer:
    """So many API tokens, all characters escaped."""
    node: dict[str, Any] = {
        "uuid": "u",
        "description": "d",
        "createdAt": "2024-01-10T08:30:00Z",
        "expiresAt": None,
        "lastAccessedAt": None,
        "scopes": SCOPES,
        "owner": {"uuid": "o"},
    }
    connection = {"nodes": [{**node, **changes}] * number, "pageInfo": {"endCursor": None, "hasNextPage": False}}
    organization = {"apiAccessTokens": connection}
    return whole(json.dumps({"data": {MARK: "Query", "organization": organization}}).encode())


LARGE = r"is larger than 4,194,304 bytes"
INVALID = "not what Buildkite documents"
ROWS: list[Row] = [
    hostile("members without an end", endless(head() + b'{"data": "', b"a" * 1_000_000), LARGE),
    hostile("gzip that unpacks to 1 GB", zipped("200 OK", bomb), LARGE),
    hostile("an error without an end", endless(head("403 No"), b"a" * 1_000_000), r"is larger than 65,536 bytes"),
    hostile("an answer as deep as it is long", whole(b'{"data": ' + b"[" * 49_000), f"{INVALID}.*recursion"),
    hostile("more values than memory is for", whole(b'{"data": [' + b"[]," * 1_300_000 + b"0]}"), "at most 50,000"),
    hostile(
        "as many values as are read",
        whole(b'{"data": {"x": [' + b"[]," * 24_000 + b"0]}}" + b" " * 4_000_000),
        f"does not show {MARK}",
    ),
    hostile("an error as long as a page", document({"errors": [{"message": "a" * 4_000_000}]}), "with an error"),
    hostile("as many errors as are read", document({"errors": [{"message": TOKEN}] * 20_000}), "with an error"),
    hostile("the largest page of API tokens", listed(500, description="\U0001f600" * 255), None, tokens=True),
    hostile("descriptions as long as a page", listed(500, description="d" * 6_000), None, tokens=True),
    hostile("the token in every description", listed(500, description=TOKEN * 9), None, tokens=True),
    hostile("wrong scopes in all tokens", listed(490, scopes=["x"] * 90), r"nodes\[0\]\.scopes\[0\]", tokens=True),
    hostile("501 API tokens", listed(501, scopes=[]), f"{INVALID}.*apiAccessTokens.nodes", tokens=True),
]
