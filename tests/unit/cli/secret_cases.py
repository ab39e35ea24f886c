"""Connectors with values of every kind under every key of their Secrets, the servers that they meet, what a leak is."""

import asyncio
import base64
import dataclasses
import gc
import itertools
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx

from buildkite_connector.buildkite import BuildkiteSettings, Patience
from buildkite_connector.buildkite.portal_document import MARK
from buildkite_connector.c1 import C1Settings
from fakes.buildkite_setup import HASTY
from simulators.c1.limits import Refused
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client, TokenError
from unit.hostile.buildkite_answers import head
from unit.hostile.http_server import HostileServer, Part, Request

PIECE = 12
"""Characters in a row that are a leak."""
ARMOUR = "-----"
"""Around every PEM, certificates among them."""
LABEL = "private key"
"""In the first line of every private key, and in sentences about one."""
SLUG = "acme"
PORTAL = "c1"
PORTALS = "/portal/organizations"
LETTERS = str.maketrans("0123456789", "ghijklmnop")
SOMEBODY_ELSES = "somebody-elses"
"""The key that the resource names for one of its fields."""
KEYS = {
    "clientID": "BATON_CLIENT_ID",
    "clientSecret": "BATON_CLIENT_SECRET",
    "apiToken": "BATON_API_TOKEN",
    "writeApiToken": "BATON_WRITE_API_TOKEN",
    "organization": "BATON_ORGANIZATION",
    "tokenExchangeClientID": "BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID",
    "tokenExchangePrivateKey": "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY",
    "tokenExchangeSubject": "BUILDKITE_TOKEN_EXCHANGE_SUBJECT",
    "portalToken": "BUILDKITE_PORTAL_TOKEN",
}
KINDS: dict[str, Callable[[str], bytes]] = {
    "Buildkite token": lambda nonce: f"bkua_{nonce}".encode(),
    "DSN": lambda nonce: f"postgres://reader:{nonce}@db-{nonce[:9]}.internal:5432/orders?sslmode=require".encode(),
    "password": lambda nonce: f"{nonce[:16]}&{nonce[16:]}%41!$".encode(),
    "PEM": lambda nonce: (
        f"-----BEGIN PRIVATE KEY-----\nMC4CAQ{nonce}\n{nonce[::-1]}==\n-----END PRIVATE KEY-----".encode()
    ),
    "JSON": lambda nonce: json.dumps(
        {"project": f"p-{nonce[:20]}", "key": nonce, "n": 1}, separators=(",", ":")
    ).encode(),
    "slug": lambda nonce: nonce[:24].translate(LETTERS).encode(),
    "client ID": lambda nonce: f"{nonce[:20]}@{nonce[20:]}.internal-vault.example/{nonce[::-1]}".encode(),
    "binary": lambda nonce: b"\x00\xff\xfe" + nonce.encode() + b"\x80",
}


NO_CREDENTIAL = {"PEM", "binary"}
"""Kinds that are refused when the Secret is read."""
SLUGS = {"Buildkite token", "slug"}
"""Kinds that could be an organization's slug."""


@dataclass
class Case:
    """One connector, whose field `named` leads to a value of a kind. `texts` are what is in its Secret, by field.

    `confirmed`: the organizations that Buildkite said it knows. `shown`: statuses and events.
    """

    number: int
    named: str
    kind: str
    client: Client
    texts: dict[str, bytes]
    confirmed: set[bytes] = field(default_factory=set)
    shown: list[str] = field(default_factory=list)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return f"c{self.number}"

    @property
    def value(self) -> bytes:
        return self.texts[self.named]

    @property
    def secrets(self) -> list[bytes]:
        """All that is not public: not the host that the settings allow, C1's own words, a confirmed organization."""
        name, _, rest = self.client.client_id.encode().partition(b"@")
        own: dict[bytes, tuple[bytes, ...]] = {
            self.client.client_id.encode(): (name, rest.partition(b"/")[2]),
            self.client.client_secret.encode(): (self.client.client_secret.rpartition(":")[2].encode(),),
        }
        own |= dict.fromkeys(self.confirmed, ())
        return [part for text in self.texts.values() for part in own.get(text, (text,))]

    @property
    def title(self) -> str:
        return f"keys.{self.named}: {self.kind}"

    def echo(self) -> str:
        """What a server says that has come to know all of it; the beginning of that is what is quoted."""
        others = [each for each in self.texts if each != self.named]
        turn = self.number % len(others)
        known = [self.texts[each].decode("latin-1") for each in (self.named, *others[turn:], *others[:turn])]
        return " ".join(form for text in known for form in _forms(text))

    def resource(self) -> dict[str, Any]:
        keys = {self.named: SOMEBODY_ELSES}
        for_c1 = {"clientID": KEYS["clientID"], "clientSecret": KEYS["clientSecret"]}
        for_c1["clientSecret" if self.named in {"clientSecret", "organization"} else "clientID"] = SOMEBODY_ELSES
        return {
            "metadata": {"namespace": "ns", "name": self.name, "uid": f"u{self.number}", "generation": 1},
            "spec": {
                "credentialsSecretRef": {"name": self.name, "keys": keys},
                "provisioning": {"enabled": True},
                "portal": {"slug": PORTAL},
                "c1": {
                    "appID": "2app",
                    "connectorID": "2connector",
                    "auth": {"secretRef": {"name": self.name, "keys": for_c1}},
                },
                **({} if self.named == "organization" else {"organization": SLUG}),
            },
        }

    def data(self) -> Mapping[str, str]:
        named = {SOMEBODY_ELSES if each == self.named else KEYS[each]: text for each, text in self.texts.items()}
        return {key: base64.b64encode(text).decode() for key, text in named.items()}


def _forms(text: str) -> Iterator[str]:
    half = len(text) // 2
    yield from (text, text[:half], text[half:], text[3:-3])
    yield "".join(f"\\u{ord(char):04x}" for char in text[:60])
    yield text.encode("latin-1").hex()
    yield base64.b64encode(text.encode("latin-1")).decode()
    yield quote(text, safe="")
    yield json.dumps(text)


# What fails


Answers = Callable[[Case, str], tuple[int, object] | None]
"""Of a case and a path: status and body where this failure has its own, else None."""


@dataclass(frozen=True, slots=True)
class Failing:
    """One way to fail. `confirms`: Buildkite knows whatever organization it is asked for.

    `writing`: what Buildkite says is to the token that changes memberships.
    """

    buildkite: Answers = lambda _, __: None
    writing: bool = False
    confirms: bool = False
    token: Callable[[Case], Exception] | None = None
    call: Callable[[Case], Exception] | None = None
    reachable: bool = True


def _always(status: int, body: Callable[[Case], object], at: str = "") -> Answers:
    return lambda case, path: (status, body(case)) if path.endswith(at) else None


def _says(case: Case) -> object:
    return {"message": case.echo()}


def _refusal(code: grpc.StatusCode) -> Callable[[Case], Exception]:
    return lambda case: Refused(code, case.echo(), violation=False)


FAILURES = {
    "nothing": Failing(confirms=True),
    "Buildkite knows no such organization": Failing(),
    "Buildkite rejects the token": Failing(_always(401, _says)),
    "Buildkite denies access": Failing(_always(403, _says, SLUG), confirms=True),
    "Buildkite denies access to any organization": Failing(
        lambda case, path: (403, _says(case)) if path.startswith("/organizations") else None
    ),
    "Buildkite misses a scope": Failing(
        lambda case, path: (
            (200, {"uuid": "t", "scopes": [case.echo()[:190]]})
            if path == "/access-token"
            else (403, {"message": f"no scope, {case.echo()}"})
        )
    ),
    "Buildkite rejects the token that writes": Failing(_always(401, _says), writing=True, confirms=True),
    "Buildkite misses the scope to write": Failing(
        _always(200, lambda case: {"uuid": "t", "scopes": [case.echo()[:190]]}), writing=True, confirms=True
    ),
    "Buildkite's rate limit": Failing(_always(429, _says)),
    "Buildkite is down": Failing(lambda case, path: (500, _says(case)) if "organizations" in path else None),
    "Buildkite leads elsewhere": Failing(lambda case, path: (302, _says(case)) if "organizations" in path else None),
    "Buildkite's organizations are its credentials": Failing(
        lambda case, path: (
            (200, [{"id": "o", "slug": f"x-{case.texts['apiToken'][4:30].decode('latin-1')}", "name": case.echo()}])
            if path == "/organizations"
            else None
        )
    ),
    "Buildkite's names and teams are its credentials": Failing(
        lambda case, path: (
            (200, {"id": "o", "slug": SLUG, "name": case.echo()})
            if path == f"/organizations/{SLUG}"
            else (200, [{"id": case.echo()[:40], "slug": case.echo()[:40]}])
            if path.endswith("/teams")
            else None
        ),
        confirms=True,
    ),
    "the portal rejects the token": Failing(
        lambda case, path: (401, _says(case)) if path.startswith(PORTALS) else None, confirms=True
    ),
    "the portal answers with errors": Failing(
        lambda case, path: (200, {"errors": [{"message": case.echo()}]}) if path.startswith(PORTALS) else None,
        confirms=True,
    ),
    "the portal's members are its credentials": Failing(
        lambda case, path: (200, _members(case.echo()[:190])) if path.startswith(PORTALS) else None, confirms=True
    ),
    "C1 rejects the client": Failing(
        confirms=True, token=lambda case: TokenError(401, _letters(case), case.echo(), violation=False)
    ),
    "C1's token endpoint is down": Failing(
        confirms=True, token=lambda case: TokenError(500, case.echo(), case.echo(), violation=False)
    ),
    "C1 refuses the token": Failing(confirms=True, call=_refusal(grpc.StatusCode.UNAUTHENTICATED)),
    "C1 denies permission": Failing(confirms=True, call=_refusal(grpc.StatusCode.PERMISSION_DENIED)),
    "C1 finds the request invalid": Failing(confirms=True, call=_refusal(grpc.StatusCode.INVALID_ARGUMENT)),
    "C1 is unavailable": Failing(confirms=True, call=_refusal(grpc.StatusCode.UNAVAILABLE)),
    "C1 is out of reach": Failing(confirms=True, reachable=False),
}


def _members(*users: str) -> dict[str, object]:
    """What a portal shows of the members with these UUIDs, who were never active."""
    edges = [
        {
            "node": {
                "user": {"uuid": each, "machineUser": False},
                "lastSeenAt": None,
                "createdAt": "2026-01-02T03:04:05Z",
                "security": {"twoFactorEnabled": True},
            }
        }
        for each in users
    ]
    members = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
    return {"data": {MARK: "Query", "organization": {"members": members}}}


def _letters(case: Case) -> str:
    """The value as an OAuth error may have it, where it may."""
    return case.value.decode("latin-1")


# The servers


class Buildkite:
    """Answers whoever has a token of a case, as the failure says or as Buildkite would."""

    def __init__(self, cases: Iterable[Case], failing: Failing) -> None:
        self._failing = failing
        self._cases = {
            case.texts[each].decode("latin-1").strip(): case
            for case in cases
            for each in ("apiToken", "writeApiToken", "portalToken")
        }
        self.server = HostileServer({".*": self._answer})
        self.alive: set[str] = set()
        """What objects say of themselves while a request for an organization of the Secret is out."""

    def _answer(self, request: Request) -> Iterable[Part]:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        case = self._cases.get(token)
        path = request.path.removeprefix("/v2")
        if case is None:  # the check asks once without a token
            return self._whole(401, {"message": "Authentication required."}, "")
        if case.named == "organization" and path.startswith("/organizations/"):
            self.alive |= set(representations())
        writes = token == case.texts["writeApiToken"].decode("latin-1")
        failed = self._failing.buildkite(case, path) if writes or not self._failing.writing else None
        status, body = failed or self._honest(path)
        if status == 200 and re.fullmatch("/organizations/[^/]+", path):
            case.confirmed.add(path.rpartition("/")[2].encode())
        return self._whole(status, body, quote(case.echo()[:2000], safe="")[:2000])

    def _honest(self, path: str) -> tuple[int, object]:
        last = path.rpartition("/")[2]
        if path.startswith(PORTALS):
            return 200, _members()
        if path == "/access-token":
            return 200, {"uuid": "t", "scopes": ["read_organizations", "read_teams", "write_teams"]}
        if path == "/organizations":
            return 200, [{"id": "o", "slug": SLUG, "name": "Acme"}]
        if last in {"members", "teams"}:
            return 200, []
        if last == SLUG or self._failing.confirms:
            return 200, {"id": "o", "slug": last, "name": "Acme"}
        return 404, {"message": f"No organization {last} found"}

    @staticmethod
    def _whole(status: int, body: object, line: str) -> Iterable[Part]:
        sent = json.dumps(body).encode()
        return [head(f"{status} {line[:100]}", f"Location: https://{line}.example/", length=len(sent)), sent]


def fail_as(c1: C1Simulator, cases: Iterable[Case], failing: Failing) -> None:
    """Let C1 say to each client what the failure says of its case."""
    by_client = {case.client.client_id: case for case in cases}
    exchange, identify = c1.authority.exchange, c1.authority.identify

    def answer(form: Mapping[str, str]) -> dict[str, object]:
        if failing.token is not None:
            raise failing.token(by_client[form["client_id"]])
        return exchange(form)

    def know(authorization: str) -> str:
        client_id = identify(authorization)
        if failing.call is not None:
            raise failing.call(by_client[client_id])
        return client_id

    c1.authority.exchange = answer  # type: ignore[method-assign]  # what it says is all that a fault can change
    c1.authority.identify = know  # type: ignore[method-assign]


@dataclass(frozen=True)
class Setup:
    """The cases, and how to reach the servers that they meet. `alive`: representations that Buildkite's server saw."""

    cases: list[Case]
    alive: set[str]
    buildkite: BuildkiteSettings
    c1: C1Settings
    ca_file: Path


@asynccontextmanager
async def setup(failing: Failing) -> AsyncIterator[Setup]:
    async with C1Simulator(Policy(sync_on_hello=False)) as c1:
        address = c1.address if failing.reachable else "localhost:1"
        named = [(each, kind) for each, kind in itertools.product(KEYS, KINDS) if can_follow(failing, each, kind)]
        cases = [made(number, *each, c1.register_client(address)) for number, each in enumerate(named)]
        fail_as(c1, cases, failing)
        of_buildkite = Buildkite(cases, failing)
        async with of_buildkite.server.running() as origin:
            patience = Patience(tries=1, blind_pause=0.01, refusals=0)
            buildkite = dataclasses.replace(
                HASTY,
                api_url=f"{origin}/v2",
                portal_url=f"{origin}/portal",
                patience=patience,
                longest_window=0.01,
                timeouts=BuildkiteSettings().timeouts,
            )
            settings = C1Settings(allowed_hosts=address, call_timeout=20.0)
            yield Setup(cases, of_buildkite.alive, buildkite, settings, c1.ca_file)


def can_follow(failing: Failing, named: str, kind: str) -> bool:
    """Whether the failure comes to pass and is tried; what ends before that is tried once, where nothing fails.

    Every two of failure, key and kind meet, and every three in which the key is the organization's; of the other
    threes one half is tried, as the fields of a chessboard have one colour.
    """
    if failing is FAILURES["nothing"]:
        return True
    of_c1 = failing.token is not None or failing.call is not None or not failing.reachable
    if named == "organization":
        return kind in SLUGS
    if kind in NO_CREDENTIAL or (of_c1 and named in {"clientID", "clientSecret"}):
        return False
    numbers = ([*FAILURES.values()].index(failing), [*KEYS].index(named), [*KINDS].index(kind))
    return sum(numbers) % 2 == 0


def made(number: int, each: str, kind: str, client: Client) -> Case:
    texts = {
        "clientID": client.client_id.encode(),
        "clientSecret": client.client_secret.encode(),
        "apiToken": f"bkua_{secrets.token_hex(20)}".encode(),
        "writeApiToken": f"bkua_{secrets.token_hex(20)}".encode(),
        "organization": f"slug-of-{secrets.token_hex(8)}".encode(),
        "portalToken": secrets.token_hex(24).encode(),
    }
    return Case(number, each, kind, client, texts | {each: KINDS[kind](secrets.token_hex(20))})


# What is a leak


class Shown:
    """What was shown to anybody, each part of a line once."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.text = "\n".join(
            {part for text in texts for line in text.lower().splitlines() for part in line.split(", ")}
        )

    def pieces(self, wanted: frozenset[str]) -> list[str]:
        """Those of the wanted, PIECE characters each, that are in it."""
        text = self.text
        return sorted(wanted.intersection([text[at : at + PIECE] for at in range(len(text))]))


def pieces_of(secret: bytes) -> Iterator[str]:
    """As it is and in other forms, but for what is around every PEM."""
    text = secret.decode("latin-1")
    for form in (text, secret.hex(), base64.b64encode(secret).decode(), json.dumps(text)[1:-1]):
        pieces = (form[at : at + PIECE].lower() for at in range(len(form) - PIECE + 1))
        yield from (piece for piece in pieces if ARMOUR not in piece and LABEL not in piece and "\n" not in piece)


def leaks(cases: Iterable[Case], shown: Shown) -> dict[str, list[str]]:
    """Of which case, pieces of what is in its Secret were shown."""
    found: dict[str, list[str]] = {}
    owners = {piece: case for case in cases for secret in case.secrets for piece in pieces_of(secret)}
    for piece in shown.pieces(frozenset(owners)):
        found.setdefault(owners[piece].title, []).append(piece)
    return found


def representations() -> Iterator[str]:
    """Of every dataclass of the product that is alive, and of every request to these servers."""
    alive = gc.get_objects()
    ours = {
        kind
        for kind in {*map(type, alive)}
        if dataclasses.is_dataclass(kind) and kind.__module__.startswith("buildkite_connector")
    }
    for each in alive:
        kind = type(each)
        if kind in ours or (kind is httpx.Request and each.url.host in {"127.0.0.1", "localhost"}):
            with suppress(AttributeError):  # a dataclass that was not filled in yet
                yield repr(each)
