"""The answers of a hostile Buildkite, and the sync that gets them."""

import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial

from buildkite_connector.buildkite import BuildkiteSettings, Patience, Timeouts, open_buildkite
from buildkite_connector.model.directory import FULL_SCOPE, SyncScope
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import preflight
from fakes.organization_api import REST_KINDS
from harness.trust import DIRECT
from unit.hostile.http_server import Answer, HostileServer, Part, Request
from unit.hostile.rows import Bounds, Row

TOKEN = "bkua_0123456789abcdef0123456789abcdef01234567"


ACME = "acme"


TIMEOUTS = Timeouts(connect=1.0, read=0.5, write=1.0, total=1.5)


UNHURRIED = Timeouts(connect=1.0, read=4.0, write=1.0, total=4.5)
"""For answers that another bound ends, on a machine however busy."""


HURRIED = Timeouts(connect=1.0, read=0.2, write=1.0, total=0.35)
"""For answers that only `total` ends; as they grow for a quarter of the time, memory may grow by a quarter."""


PATIENCE = Patience(tries=2, first=0.01, longest=0.02, blind_pause=0.05, refusals=2)


MOST_PAGES = 20
"""Instead of 10,000, so that a listing without an end has one soon."""


ACCESS_TOKEN = "/v2/access-token"


ORGANIZATIONS = "/v2/organizations"


ORGANIZATION = "/v2/organizations/acme"


MEMBERS = "/v2/organizations/acme/members"


TEAMS = "/v2/organizations/acme/teams"


TEAM_MEMBERS = "/v2/organizations/acme/teams/[^/]*/members"


PIPELINES = "/v2/organizations/acme/pipelines"


TEAM_PIPELINES = "/v2/organizations/acme/teams/[^/]*/pipelines"


CLUSTERS = "/v2/organizations/acme/clusters"


CLUSTER = "/v2/organizations/acme/clusters/[^/]*"


OF_OPT_IN_TYPES = (PIPELINES, TEAM_PIPELINES, CLUSTERS, CLUSTER)


SCOPES = ["read_organizations", "read_teams", "read_user", "read_pipelines", "read_clusters"]


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


ORG: dict[str, object] = {"id": "o", "slug": "acme", "name": "Acme"}


USER: dict[str, object] = {"id": "u1", "name": "U", "email": "u@example.com"}


MEMBER: dict[str, object] = {"user_id": "u1", "user_name": "U", "role": "member"}


TEAM: dict[str, object] = {
    "id": "t1",
    "name": "T",
    "slug": "t",
    "description": "",
    "privacy": "visible",
    "default": False,
    "created_at": "2025-01-01T00:00:00Z",
}


A_PIPELINE: dict[str, object] = {"id": "p1", "slug": "deploy", "name": "Deploy"}


TEAM_PIPELINE: dict[str, object] = {
    "pipeline_id": "p1",
    "pipeline_url": "http://api.buildkite.com/v2/organizations/acme/pipelines/deploy",
    "access_level": "read_only",
}


A_CLUSTER: dict[str, object] = {"id": "c1", "name": "C", "maintainers": {"users": [], "teams": []}}


MAINTAINED: dict[str, object] = {
    **A_CLUSTER,
    "maintainers": {"users": [{"id": "m1", "actor": {"id": "u1"}}], "teams": [{"id": "m2", "actor": {"id": "t1"}}]},
}


HONEST: dict[str, Answer] = {
    ACCESS_TOKEN: document({"uuid": "t", "scopes": SCOPES}),
    ORGANIZATIONS: document([ORG]),
    ORGANIZATION: document(ORG),
    MEMBERS: document([USER]),
    TEAMS: document([TEAM]),
    TEAM_MEMBERS: document([MEMBER]),
    PIPELINES: document([A_PIPELINE]),
    TEAM_PIPELINES: document([TEAM_PIPELINE]),
    CLUSTERS: document([A_CLUSTER]),
    CLUSTER: document(MAINTAINED),
}
"""An organization of one of each; a row puts its own answer in the place of one of these."""


@asynccontextmanager
async def sync(
    origin: str, slug: str = ACME, timeouts: Timeouts = TIMEOUTS, scope: SyncScope = FULL_SCOPE
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """A preflight and a collection, as a connector does them."""
    settings = BuildkiteSettings(
        f"{origin}/v2", page_size=10, most_pages=MOST_PAGES, longest_window=0.2, timeouts=timeouts, patience=PATIENCE
    )
    async with open_buildkite(settings, DIRECT) as buildkite:

        async def operate() -> None:
            client = buildkite.client(TOKEN)
            found = await preflight(client, OrganizationChoice(slug) if slug else None, scope.kinds)
            await collect(client, found.organization, scope)

        yield operate


def hostile(
    name: str,
    answer: Answer,
    outcome: str | None,
    *,
    at: str = MEMBERS,
    slug: str = ACME,
    timeouts: Timeouts = TIMEOUTS,
    peak: float = Bounds().peak,
    **others: Answer,
) -> Row:
    """`others`: answers for further listings, by the name of their constant here."""
    routes = {**HONEST, **{globals()[path]: each for path, each in others.items()}, at: answer}

    def serve() -> AbstractAsyncContextManager[str]:
        return HostileServer(routes).running()

    bounds = Bounds(peak=14.0 if timeouts is HURRIED else peak)
    scope = SyncScope(REST_KINDS) if at in OF_OPT_IN_TYPES else FULL_SCOPE
    return Row(name, serve, partial(sync, slug=slug, timeouts=timeouts, scope=scope), outcome, (TOKEN,), bounds)


def endless(start: bytes, piece: bytes) -> Answer:
    """`start`, and then `piece` for ever."""

    def answer(_: Request) -> Iterator[Part]:
        yield start
        while True:
            yield piece

    return answer


def dribble(piece: bytes, pause: float, start: bytes = b"") -> Answer:
    """A piece after each pause, each too early for the client to give up."""

    def answer(_: Request) -> Iterator[Part]:
        yield start
        while True:
            yield pause
            yield piece

    return answer


def parts(*sent: Part) -> Answer:
    return lambda _: sent


@cache
def bomb() -> bytes:
    """1 MB of gzip that unpacks to 1 GB of blanks, which JSON allows before an array."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    start = packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    again = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = again.compress(b" " * 1_000_000) + again.flush(zlib.Z_FULL_FLUSH)
    return start + 1_000 * block + b"\x03\x00"


def zipped(status: str, body: Callable[[], bytes]) -> Answer:
    return lambda _: [head(status, "Content-Encoding: gzip", length=len(body())), body()]


def listing(item: Callable[[int, int], object], *, last: int | None, per_page: int = 10, ends: bool = False) -> Answer:
    """Page after page, each with a next link, unless it `ends`; `item` makes each item of its page and place."""

    def answer(request: Request) -> Iterable[Part]:
        page = request.page
        links = [f'<{request.origin}{request.path}?page={page + 1}>; rel="next"']
        if last is not None:
            links.append(f'<{request.origin}{request.path}?page={last}>; rel="last"')
        if ends and page == last:
            links = []
        items = json.dumps([item(page, place) for place in range(per_page)]).encode()
        return [head("200 OK", f"Link: {', '.join(links)}", length=len(items)), items]

    return answer


def linked(target: str, rel: str = "next") -> Answer:
    return document([USER], "200 OK", f'Link: <{target}>; rel="{rel}"')


def one(value: dict[str, object], **fields: object) -> Answer:
    return document([{**value, **fields}])


def user(page: int, place: int) -> dict[str, object]:
    return {**USER, "id": f"u-{page}-{place}"}


def told(text: str) -> bytes:
    return json.dumps({"message": text}).encode()


def split(text: str, by: str) -> str:
    return by.join(text)


CHUNKED = head("200 OK", "Transfer-Encoding: chunked")


BIDI = "\u202e\u2066\u200b"
