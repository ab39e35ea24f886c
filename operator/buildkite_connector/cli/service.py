"""Service mode: one connector in one process, without a cluster, in place of the vendor's connector.

At shutdown the connector's sync is cancelled and its tasks go back to C1.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildkite_connector.buildkite import open_buildkite
from buildkite_connector.c1 import C1, C1Client, open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.cli.exit import on_signals
from buildkite_connector.cli.service_settings import ServiceSettings
from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.kubernetes.events import draft_events, log_event
from buildkite_connector.kubernetes.schema.status_json import status_from_json, status_to_json
from buildkite_connector.model.failure import Failure, Remedy
from buildkite_connector.model.spec import C1Access, ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.network import Network
from buildkite_connector.service.data_directory import remove_files
from buildkite_connector.service.health import Health, serve_health
from buildkite_connector.service.state import StateFile, StatusLog
from buildkite_connector.telemetry.gauges import ProcessGauges, Report
from buildkite_connector.telemetry.server import LoopMonitor, heard_lately, serve
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.timing.clock import Clock, SystemClock, system_jitter
from buildkite_connector.timing.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ProcessCredentials:
    """The connector's credentials from the process's settings, re-read as the operator re-reads a Secret.

    Variables and flags of a process do not change, but the YAML file may be a mounted Secret, whose content does.
    `settings` reads all sources, and raises Failure for what is missing or cannot be read. `last`: the result of the
    last read, at first the credentials of the start.
    """

    settings: Callable[[], Credentials]
    last: Credentials

    async def read(self) -> Credentials:
        self.last = await asyncio.to_thread(self.settings)
        return self.last


@dataclass(frozen=True, slots=True)
class ProcessC1Access:
    """The access to C1's REST API, re-read from the same sources. `settings` reads all of them, or raises Failure."""

    settings: Callable[[], C1Access]

    async def read(self) -> C1Access:
        return await asyncio.to_thread(self.settings)


class FirstHello:
    """Ends the process when C1 refuses the first Hello for good, as the vendor's connector does: a Deployment shows it.

    `end` is called then, and `failure` is set. Once C1 has answered a Hello, a refusal is an outage like any other: the
    connector reports it and asks again.
    """

    def __init__(self, c1: C1, end: Callable[[], object]) -> None:
        self._c1 = c1
        self._end = end
        self._greeted = False
        self.failure: Failure | None = None

    def connect(self, credentials: Credentials, spec: ConnectorSpec) -> C1Client:
        """Raises Failure, which at the start ends the process too: no session can begin."""
        try:
            return self._c1.connect(credentials, spec, self.note)
        except Failure as failure:
            self.note(failure)
            raise

    def note(self, failure: Failure | None) -> None:
        """Take the result of a Hello; None: C1 answered it."""
        if failure is None:
            self._greeted = True
        elif not self._greeted and failure.remedy is not Remedy.RETRY:
            self.failure = self.failure or failure
            self._end()


async def run_service(
    settings: ServiceSettings, network: Network, directory: Path, variables: Mapping[str, str]
) -> Failure | None:
    """Run until SIGTERM or SIGINT, or until C1 refuses the first Hello; return the failure of that Hello.

    `directory`: this connector's own. `variables`: OpenTelemetry's. Raises Failure when it cannot start.
    """
    clock = SystemClock()
    monitor, ended = LoopMonitor(clock), asyncio.Event()
    connector: Connector | None = None

    def reports() -> Iterator[Report]:
        if connector is not None:
            yield Report("", settings.spec.host_id, connector.status, suspended=False)

    heard = heard_lately("the event loop", lambda: monitor.last, clock)
    health = Health(lambda: None if connector is None else connector.status, heard, clock.now)
    gauges = ProcessGauges(reports, leader=lambda: None, loop_lag=monitor.take_longest, watch_age=lambda: None)
    async with serve_health(settings.health, health):
        with open_telemetry(variables, network, gauges) as telemetry:
            async with (
                serve(settings.http_address, {"loop": heard}, {"connector": health.not_ready}, telemetry.scrape),
                open_buildkite(settings.buildkite, network, clock=clock, observer=telemetry.observer) as buildkite,
                open_c1(settings.c1, network, clock=clock, observer=telemetry.observer) as c1,
            ):
                first_hello = FirstHello(c1, ended.set)
                environment = Environment(
                    buildkite=buildkite.client,
                    portals=buildkite.portal,
                    c1=first_hello.connect,
                    c1_rest=c1.rest,
                    store=SnapshotStore(directory, clock),
                    clock=clock,
                    jitter=system_jitter(),
                    sync_slots=Slots(1, shared=False),
                    check_slots=Slots(1, shared=False),
                    hello_slots=Slots(1, shared=False),
                    new_sync_id=lambda now: new_sync_id(now, secrets.token_bytes),
                    observer=telemetry.observer,
                    most_tasks=settings.most_tasks,
                )
                connector = await _begin(settings, directory, environment)
                await _run(connector, clock, monitor, ended)
                return first_hello.failure


async def _begin(settings: ServiceSettings, directory: Path, environment: Environment) -> Connector:
    """Start the connector from the state that the last process left."""
    source = ProcessCredentials(settings.credentials, settings.started_with)
    state = StateFile(directory, status_to_json, status_from_json, lambda: settings.identity(source.last).digest())
    restored = await asyncio.to_thread(state.read)
    if restored is None:
        await asyncio.to_thread(remove_files, directory)
    spec = settings.spec
    desired = DesiredState(
        settings.generation(),
        spec,
        source,
        accept_shrink=settings.accept_shrink,
        c1_access=None if settings.c1_access is None else ProcessC1Access(settings.c1_access),
    )
    sink = StatusLog(spec.host_id, state, partial(_log_transitions, spec.host_id))
    connector = Connector(ConnectorKey(spec.host_id), desired, restored, sink, environment)
    connector.start()
    logger.info(
        "the service is ready",
        extra={
            "connector": spec.host_id,
            "organization": spec.organization or "",
            "restored_sync": restored.last_sync.id if restored is not None and restored.last_sync is not None else "",
        },
    )
    return connector


async def _run(connector: Connector, clock: Clock, monitor: LoopMonitor, ended: asyncio.Event) -> None:
    """Wait for the end, which SIGTERM and SIGINT bring too; then close the connector."""
    async with asyncio.TaskGroup() as group:
        others = group.create_task(monitor.run()), group.create_task(reread_secrets(lambda: [connector], clock))
        with on_signals(lambda _: ended.set()):
            try:
                await ended.wait()
            finally:
                logger.info("the service is shutting down")
                for task in others:
                    task.cancel()
                await connector.close(discard=False)


def _log_transitions(name: str, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
    """Log the transitions for which the operator posts events."""
    for draft in draft_events(before, after):
        log_event(name, draft)
