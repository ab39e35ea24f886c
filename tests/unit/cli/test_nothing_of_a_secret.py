"""Whoever may create a connector, but may not read the Secret that it names, learns nothing of what is in it.

Every key of `credentialsSecretRef.keys` leads to a value of every kind, and then everything fails that can: neither the
value nor a piece of it is in a status, an event, the log at debug level, a span, a metric, the `repr` of an object, or
what `check` and `--help` print. Public by then are an organization that Buildkite confirmed and a host that is allowed.
"""

import asyncio
import io
import json
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Console
from typer.testing import CliRunner

from buildkite_connector.buildkite import open_buildkite
from buildkite_connector.c1 import open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.cli.app import app
from buildkite_connector.cli.check import CheckSettings, run_checks
from buildkite_connector.cli.findings import print_finding, to_document
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.kubernetes.client import AppliedStatus, KubernetesApi, Written
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.events import EventDraft
from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.schema.status_json import status_to_json
from buildkite_connector.model.observer import Fact, Observer, Operation, Work
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus
from buildkite_connector.telemetry.gauges import ProcessGauges, Report
from buildkite_connector.telemetry.logs import LogFormat, LogLevel, configure_logs
from buildkite_connector.telemetry.observer import Telemetry
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.timing.clock import SystemClock, system_jitter
from buildkite_connector.timing.slots import Slots
from harness.trust import NOBODY, reaching
from unit.cli.secret_cases import (
    FAILURES,
    KEYS,
    KINDS,
    PORTAL,
    SLUG,
    Case,
    Setup,
    Shown,
    leaks,
    pieces_of,
    representations,
    setup,
)


class Cluster:
    """The API server as the controller sees it."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self.cases = {case.name: case for case in cases}
        self.schema = ServedSchema()

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        assert namespace == "ns"
        return self.cases[name].data()

    async def apply_status(
        self, resource: ObservedResource, status: ConnectorStatus, applied: AppliedStatus | None = None
    ) -> Written:
        case = self.cases[resource.name]
        case.shown.append(json.dumps(status_to_json(status)))
        ready = status.condition(ConditionType.READY)
        if ready is not None and ready.status is not ConditionStatus.UNKNOWN:
            case.settled.set()
        return Written.WRITTEN

    def post_event(self, resource: ObservedResource, draft: EventDraft) -> None:
        self.cases[resource.name].shown.append(f"{draft.reason} {draft.message}")

    async def drain_events(self, seconds: float) -> None: ...


class Looks(Slots):
    """The slots of C1's REST API. `enough` once as many looks have ended as there are connectors."""

    def __init__(self, connectors: int) -> None:
        super().__init__(16, shared=False)
        self.enough = asyncio.Event()
        self._missing = connectors

    @asynccontextmanager
    async def slot(self, namespace: str) -> AsyncIterator[None]:  # type: ignore[override]
        async with super().slot(namespace):
            yield
        self._missing -= 1
        if not self._missing:
            self.enough.set()


class Ears(Observer):
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
            try:
                yield one
            finally:
                other.tell(**one.facts)

    def shown(self) -> list[str]:
        self._provider.shutdown()
        return [*self.heard, *(span.to_json() for span in self.exporter.get_finished_spans())]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """All that the process logs at debug level, every library's logger turned up."""
    path = tmp_path / "log"
    root = logging.getLogger()
    names = [name for name in root.manager.loggerDict if not name.startswith("buildkite_connector")]
    before, levels = root.handlers[:], {name: logging.getLogger(name).level for name in names}
    root.handlers = []
    for name in names:  # by the attribute: `setLevel` goes through all loggers each time, and root's is called anyway
        logging.getLogger(name).level = logging.DEBUG
    configure_logs(LogFormat.JSON, LogLevel.DEBUG, paths=[str(path)])
    yield path
    for handler in root.handlers:
        handler.close()
    root.handlers = before
    for name, level in levels.items():
        logging.getLogger(name).level = level
    root.setLevel(logging.WARNING)


async def run_connectors(met: Setup, folder: Path) -> list[str]:
    """What the process shows of itself while all connectors of the cases run until each is Ready or says why not."""
    clock, cluster, controllers = SystemClock(), Cluster(met.cases), list[Controller]()
    looks = Looks(len(met.cases))
    network = reaching(met.ca_file)

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
                buildkite=of_buildkite.client,
                portals=of_buildkite.portal,
                c1=of_c1.connect,
                c1_rest=of_c1.rest,
                c1_rest_slots=looks,
                store=SnapshotStore(folder, clock),
                clock=clock,
                jitter=system_jitter(),
                sync_slots=Slots(16, shared=False),
                check_slots=Slots(16, shared=False),
                hello_slots=Slots(16, shared=False),
                new_sync_id=lambda now: new_sync_id(now, secrets.token_bytes),
                observer=ears,
            )
            controller = Controller(cast(KubernetesApi, cluster), environment, group)
            controllers.append(controller)
            rereading = group.create_task(reread_secrets(controller.connectors, clock))
            for case in met.cases:
                controller.observe(read_resource(case.resource()))
            async with asyncio.timeout(180):
                await asyncio.gather(looks.enough.wait(), *(case.settled.wait() for case in met.cases))
            shown = [*representations()]
            assert telemetry.scrape is not None
            shown.append(telemetry.scrape().decode())
            rereading.cancel()
            await controller.close()
        shown += ears.shown()
    return shown


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_operator_shows_nothing_of_a_secret_whatever_fails(failure: str, log: Path, tmp_path: Path) -> None:
    async with setup(FAILURES[failure]) as met:
        shown = await run_connectors(met, tmp_path)
    told = log.read_text()
    assert (
        leaks(met.cases, Shown([*shown, *met.alive, *(text for case in met.cases for text in case.shown), told])) == {}
    )
    assert any(f"ns.{case.name}" in told for case in met.cases), "the log must be among what is searched"


@pytest.mark.parametrize("failure", [name for name, failing in FAILURES.items() if not failing.writing])
async def test_check_shows_nothing_of_a_secret_whatever_fails(failure: str, log: Path) -> None:
    """The organization is what a person gave as a flag or a variable; it is quoted."""
    async with setup(FAILURES[failure]) as met:

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
                portal=PORTAL,
                portal_token=text["portalToken"],
                portal_url=met.buildkite.portal_url,
                environment={"SSL_CERT_FILE": str(met.ca_file), "SSL_CERT_DIR": str(NOBODY.parent)},
            )
            console = Console(file=io.StringIO(), width=200)
            findings = await run_checks(settings, lambda finding: print_finding(finding, console))
            assert isinstance(console.file, io.StringIO)
            return f"{settings!r} {findings!r}\n{console.file.getvalue()}\n{json.dumps(to_document(findings))}"

        passed = {"clientID", "clientSecret", "apiToken", "portalToken"}
        chosen = [case for case in met.cases if case.named in passed]
        shown = await asyncio.gather(*map(check, chosen))
    assert leaks(chosen, Shown([*shown, log.read_text()])) == {}


@pytest.mark.parametrize("command", ["", "sync", "service", "check", "operator", "config", "portal"])
def test_help_shows_nothing_of_the_variables(command: str) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    values = [kind(secrets.token_hex(20)) for name, kind in KINDS.items() if name != "binary"]  # no variable holds it
    names = [*KEYS.values(), "C1_CLIENT_ID", "C1_CLIENT_SECRET"]
    for turn in range(0, len(values), len(names)):
        held = dict(zip(names, (values * 2)[turn:], strict=False))
        variables = {key: value.decode() for key, value in held.items()} | {"COLUMNS": "200"}
        ended = CliRunner().invoke(app, arguments, env=variables)
        assert ended.exit_code == 0
        pieces = frozenset(piece for value in held.values() for piece in pieces_of(value))
        assert Shown([ended.output]).pieces(pieces) == []
