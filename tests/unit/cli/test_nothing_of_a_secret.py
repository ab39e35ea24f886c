"""Whoever may create a connector, but may not read the Secret that it names, learns nothing of what is in it.

Every key of `credentialsSecretRef.keys` leads to a value of every kind, and then everything fails that can: neither the
value nor a piece of it is in a status, an event, the log at debug level, a span, a metric, the `repr` of an object, or
what `check` and `--help` print. Public by then are an organization that Buildkite confirmed and a host that is allowed.
"""

import asyncio
import base64
import dataclasses
import gc
import io
import itertools
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Console
from typer.testing import CliRunner

from buildkite_connector.buildkite import BuildkiteSettings, Patience, open_buildkite
from buildkite_connector.c1 import C1Settings, open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.cli.app import app
from buildkite_connector.cli.checklist import CheckSettings, print_finding, run_checks, to_document
from buildkite_connector.cli.wiring import Connections
from buildkite_connector.connector.credential_transitions import Waits
from buildkite_connector.connector.environment import Environment
from buildkite_connector.kubernetes.client import Written
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.events import EventDraft
from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.schema.status_json import status_to_json
from buildkite_connector.model.observer import Fact, Observer, Operation, Work
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus
from buildkite_connector.telemetry.logs import LogFormat, LogLevel, configure_logs
from buildkite_connector.telemetry.metrics import ProcessGauges
from buildkite_connector.telemetry.observer import Telemetry
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.telemetry.status_gauges import Report
from buildkite_connector.timing.clock import SystemClock, system_jitter
from buildkite_connector.timing.scheduler import Scheduler
from buildkite_connector.timing.slots import Slots
from buildkite_connector.timing.spacing import Turns
from fakes.buildkite_world import HASTY
from harness.trust import NOBODY, reaching
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
SLUG = "acme"
LETTERS = str.maketrans("0123456789", "ghijklmnop")
SOMEBODY_ELSES = "somebody-elses"
"""The key that the resource names for one of its fields."""
KEYS = {
    "clientID": "BATON_CLIENT_ID",
    "clientSecret": "BATON_CLIENT_SECRET",
    "apiToken": "BATON_API_TOKEN",
    "writeApiToken": "BATON_WRITE_API_TOKEN",
    "organization": "BATON_ORGANIZATION",
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
    "slug": lambda nonce: f"staging_{nonce[:24].translate(LETTERS)}".encode(),
    "client ID": lambda nonce: f"{nonce[:20]}@{nonce[20:]}.internal-vault.example/{nonce[::-1]}".encode(),
    "binary": lambda nonce: b"\x00\xff\xfe" + nonce.encode() + b"\x80",
}


NO_CREDENTIAL = {"PEM", "binary"}
"""Kinds that are refused when the Secret is read."""
SLUGS = {"Buildkite token", "slug"}
"""Kinds that could be an organization's slug."""


@dataclass
class Case:
    """One connector, whose field `named` leads to a value of a kind. `texts` are what is in its Secret, by field."""

    number: int
    named: str
    kind: str
    client: Client
    texts: dict[str, bytes]
    status: ConnectorStatus | None = None
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
        confirmed = self.status.organization if self.status is not None else None
        if confirmed is not None:
            own[confirmed.slug.encode()] = ()
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
        return {
            "metadata": {"namespace": "ns", "name": self.name, "uid": f"u{self.number}", "generation": 1},
            "spec": {
                "credentialsSecretRef": {"name": self.name, "keys": keys},
                "provisioning": {"enabled": True},
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


def _letters(case: Case) -> str:
    """The value as an OAuth error may have it, where it may."""
    return case.value.decode("latin-1")


# The servers, and the API server with its Secrets


class Cluster:
    """The API server as the controller sees it."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self.cases = {case.name: case for case in cases}
        self.schema = ServedSchema()

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        assert namespace == "ns"
        return self.cases[name].data()

    async def apply_status(self, resource: ObservedResource, status: ConnectorStatus) -> Written:
        case = self.cases[resource.name]
        case.status = status
        case.shown.append(json.dumps(status_to_json(status)))
        ready = status.condition(ConditionType.READY)
        if ready is not None and ready.status is not ConditionStatus.UNKNOWN:
            case.settled.set()
        return Written.WRITTEN

    async def post_event(self, resource: ObservedResource, draft: EventDraft) -> None:
        self.cases[resource.name].shown.append(f"{draft.reason} {draft.message}")

    def forget(self, uid: str) -> None: ...


class Buildkite:
    """Answers whoever has a token of a case, as the failure says or as Buildkite would."""

    def __init__(self, cases: Iterable[Case], failing: Failing) -> None:
        self._failing = failing
        self._cases = {
            case.texts[each].decode("latin-1").strip(): case for case in cases for each in ("apiToken", "writeApiToken")
        }
        self.server = HostileServer({".*": self._answer})

    def _answer(self, request: Request) -> Iterable[Part]:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        case = self._cases.get(token)
        path = request.path.removeprefix("/v2")
        if case is None:  # the check asks once without a token
            return self._whole(401, {"message": "Authentication required."}, "")
        writes = token == case.texts["writeApiToken"].decode("latin-1")
        failed = self._failing.buildkite(case, path) if writes or not self._failing.writing else None
        status, body = failed or self._honest(path)
        return self._whole(status, body, quote(case.echo(), safe="")[:2000])

    def _honest(self, path: str) -> tuple[int, object]:
        last = path.rpartition("/")[2]
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


class Ears:
    """The product's own observer, and spans and facts of everything that it hears."""

    def __init__(self, observer: Observer) -> None:
        self.heard: list[str] = []
        self.exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._tracer = self._provider.get_tracer("test")
        self._observer = observer
        self._telemetry = Telemetry(self._hear, self._tracer)

    def _hear(self, work: Work, _: float, facts: dict[str, Fact]) -> None:
        self.heard.append(f"{work} {facts}")

    @contextmanager
    def operation(self, work: Work, **facts: Fact) -> Iterator[Operation]:
        """Within a span of the test's own, so that a check's requests have spans too."""
        with (
            self._tracer.start_as_current_span("test"),
            self._observer.operation(work, **facts) as one,
            self._telemetry.operation(work, **facts) as other,
        ):
            yield _Both(one, other)

    def shown(self) -> list[str]:
        self._provider.shutdown()
        return [*self.heard, *(span.to_json() for span in self.exporter.get_finished_spans())]


@dataclass(frozen=True)
class _Both:
    one: Operation
    other: Operation

    def tell(self, **facts: Fact) -> None:
        self.one.tell(**facts)
        self.other.tell(**facts)


# The test


@dataclass(frozen=True)
class World:
    """The cases, and how to reach the servers that they meet."""

    cases: list[Case]
    buildkite: BuildkiteSettings
    c1: C1Settings
    ca_file: Path


@asynccontextmanager
async def world(failing: Failing) -> AsyncIterator[World]:
    """The cases, and the servers that they meet."""
    async with C1Simulator(Policy(sync_on_hello=False)) as c1:
        address = c1.address if failing.reachable else "localhost:1"
        named = [(each, kind) for each, kind in itertools.product(KEYS, KINDS) if can_follow(failing, each, kind)]
        cases = [made(number, *each, c1.register_client(address)) for number, each in enumerate(named)]
        fail_as(c1, cases, failing)
        async with Buildkite(cases, failing).server.running() as origin:
            patience = Patience(tries=1, blind_pause=0.01, refusals=0)
            buildkite = dataclasses.replace(
                HASTY,
                api_url=f"{origin}/v2",
                patience=patience,
                longest_window=0.01,
                timeouts=BuildkiteSettings().timeouts,
            )
            yield World(cases, buildkite, C1Settings(allowed_hosts=address, call_timeout=20.0), c1.ca_file)


def can_follow(failing: Failing, named: str, kind: str) -> bool:
    """Whether the failure comes to pass; what ends before that is tried once, where nothing fails."""
    if failing is FAILURES["nothing"]:
        return True
    of_c1 = failing.token is not None or failing.call is not None or not failing.reachable
    if named == "organization":
        return kind in SLUGS
    return kind not in NO_CREDENTIAL and not (of_c1 and named in {"clientID", "clientSecret"})


def made(number: int, each: str, kind: str, client: Client) -> Case:
    texts = {
        "clientID": client.client_id.encode(),
        "clientSecret": client.client_secret.encode(),
        "apiToken": f"bkua_{secrets.token_hex(20)}".encode(),
        "writeApiToken": f"bkua_{secrets.token_hex(20)}".encode(),
        "organization": f"slug-of-{secrets.token_hex(8)}".encode(),
    }
    return Case(number, each, kind, client, texts | {each: KINDS[kind](secrets.token_hex(20))})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """All that the process logs at debug level, every library's logger turned up."""
    path = tmp_path / "log"
    root = logging.getLogger()
    names = [name for name in root.manager.loggerDict if not name.startswith("buildkite_connector")]
    before, levels = root.handlers[:], {name: logging.getLogger(name).level for name in names}
    root.handlers = []
    configure_logs(LogFormat.JSON, LogLevel.DEBUG, paths=[str(path)])
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield path
    for handler in root.handlers:
        handler.close()
    root.handlers = before
    root.setLevel(logging.WARNING)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Shown:
    """What was shown to anybody, each part of a line once."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.text = "\n".join(
            {part for text in texts for line in text.lower().splitlines() for part in line.split(", ")}
        )

    def pieces(self, wanted: frozenset[str]) -> list[str]:
        """Those of the wanted, PIECE characters each, that are in it."""
        text = self.text
        return sorted({text[at : at + PIECE] for at in range(len(text)) if text[at : at + PIECE] in wanted})


def pieces_of(secret: bytes) -> Iterator[str]:
    """As it is and in other forms, but for what is around every PEM."""
    text = secret.decode("latin-1")
    for form in (text, secret.hex(), base64.b64encode(secret).decode(), json.dumps(text)[1:-1]):
        pieces = (form[at : at + PIECE].lower() for at in range(len(form) - PIECE + 1))
        yield from (piece for piece in pieces if ARMOUR not in piece and "\n" not in piece)


def leaks(cases: Iterable[Case], shown: Shown) -> dict[str, list[str]]:
    """Of which case, pieces of what is in its Secret were shown."""
    found: dict[str, list[str]] = {}
    owners = {piece: case for case in cases for secret in case.secrets for piece in pieces_of(secret)}
    for piece in shown.pieces(frozenset(owners)):
        found.setdefault(owners[piece].title, []).append(piece)
    return found


def representations() -> Iterator[str]:
    """Of every object of the product that is alive."""
    for each in gc.get_objects():
        if type(each).__module__.startswith("buildkite_connector") and not isinstance(each, type):
            with suppress(AttributeError):  # a dataclass that was not filled in yet
                yield repr(each)


async def run_connectors(met: World, folder: Path) -> list[str]:
    """What the process shows of itself while all connectors of the cases run until each is Ready or says why not."""
    clock, cluster, controllers = SystemClock(), Cluster(met.cases), list[Controller]()
    network = reaching(met.ca_file)
    scheduler = Scheduler(clock)

    def reports() -> Iterator[Report]:
        for controller in controllers:
            for resource, status in controller.reports():
                yield Report(resource.namespace, resource.name, status, suspended=False)

    gauges = ProcessGauges(reports, leader=lambda: None, loop_lag=lambda: 0.0, watch_age=lambda: 0.0)
    with open_telemetry({}, network, gauges) as telemetry:
        ears = Ears(telemetry.observer)
        async with (
            open_buildkite(met.buildkite, network, observer=ears) as of_buildkite,
            open_c1(met.c1, network, observer=ears) as of_c1,
            asyncio.TaskGroup() as group,
        ):
            environment = Environment(
                clients=Connections(of_buildkite, of_c1),
                store=SnapshotStore(folder, clock),
                scheduler=scheduler,
                clock=clock,
                waits=Waits(system_jitter(), Turns(0.2)),
                sync_slots=Slots(16, shared=False),
                check_slots=Slots(16, shared=False),
                hello_slots=Slots(16, shared=False),
                new_sync_id=lambda now: new_sync_id(now, secrets.token_bytes),
                observer=ears,
            )
            controller = Controller(cluster, environment, group)
            controllers.append(controller)
            running = group.create_task(scheduler.run())
            for case in met.cases:
                controller.observe(read_resource(case.resource()))
            async with asyncio.timeout(60):
                await asyncio.gather(*(case.settled.wait() for case in met.cases))
            shown = [*representations()]
            assert telemetry.scrape is not None
            shown.append(telemetry.scrape().decode())
            running.cancel()
            await controller.close()
        shown += ears.shown()
    return shown


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_operator_shows_nothing_of_a_secret_whatever_fails(failure: str, log: Path, tmp_path: Path) -> None:
    async with world(FAILURES[failure]) as met:
        cases, shown = met.cases, await run_connectors(met, tmp_path)
    told = log.read_text()
    assert leaks(cases, Shown([*shown, *(text for case in cases for text in case.shown), told])) == {}
    assert any(f"ns.{case.name}" in told for case in cases), "the log must be among what is searched"


@pytest.mark.parametrize("failure", FAILURES)
async def test_check_shows_nothing_of_a_secret_whatever_fails(failure: str, log: Path) -> None:
    """The organization is what a person gave as a flag or a variable; it is quoted."""
    async with world(FAILURES[failure]) as met:
        cases = met.cases

        async def check(case: Case) -> str:
            case.texts |= {"writeApiToken": b"", "organization": SLUG.encode()}  # it is not told of the Secret's
            text = {each: value.decode("utf-8", "surrogateescape").strip() for each, value in case.texts.items()}
            settings = CheckSettings(
                met.buildkite.api_url,
                text["apiToken"],
                "host",
                met.c1,
                organization=SLUG,
                client_id=text["clientID"],
                client_secret=text["clientSecret"],
                hosts_listed=True,
                environment={"SSL_CERT_FILE": str(met.ca_file), "SSL_CERT_DIR": str(NOBODY.parent)},
            )
            console = Console(file=io.StringIO(), width=200)
            findings = await run_checks(settings, lambda finding: print_finding(finding, console))
            assert isinstance(console.file, io.StringIO)
            return f"{settings!r} {findings!r}\n{console.file.getvalue()}\n{json.dumps(to_document(findings))}"

        chosen = [case for case in cases if case.named in {"clientID", "clientSecret", "apiToken"}]
        shown = await asyncio.gather(*map(check, chosen))
    assert leaks(chosen, Shown([*shown, log.read_text()])) == {}


@pytest.mark.parametrize("command", ["", "sync", "service", "check", "operator", "config"])
def test_help_shows_nothing_of_the_variables(command: str) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    for kind in KINDS.keys() - {"binary"}:  # no variable can hold it
        value = KINDS[kind](secrets.token_hex(20))
        variables = {**dict.fromkeys(KEYS.values(), value.decode()), "COLUMNS": "200"}
        ended = CliRunner().invoke(app, arguments, env=variables)
        assert ended.exit_code == 0
        assert Shown([ended.output]).pieces(frozenset(pieces_of(value))) == []
