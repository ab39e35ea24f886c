"""Service mode: one connector in one process, without a cluster, in place of the vendor's connector.

At shutdown the connector's sync is cancelled and its tasks go back to C1.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from buildkite_connector.buildkite import open_buildkite
from buildkite_connector.c1 import open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.cli.service_settings import ServiceSettings
from buildkite_connector.cli.signals import signalled_end
from buildkite_connector.cli.wiring import Connections
from buildkite_connector.connector.connector import Connector, reread_secrets
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.kubernetes.events import EventType, draft_events
from buildkite_connector.kubernetes.schema.status_json import status_from_json, status_to_json
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.network import Network
from buildkite_connector.service.credentials import ProcessCredentials
from buildkite_connector.service.data_directory import remove_files
from buildkite_connector.service.health import Health, serve_health
from buildkite_connector.service.startup import StartupHello
from buildkite_connector.service.state import StateFile, StatusLog
from buildkite_connector.telemetry.gauges import ProcessGauges, Report
from buildkite_connector.telemetry.server import LoopMonitor, heard_lately, serve
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.timing.clock import Clock, SystemClock, system_jitter
from buildkite_connector.timing.slots import Slots

logger = logging.getLogger(__name__)


class _Begun:
    """The connector once there is one, for whoever looks at it from beside."""

    connector: Connector | None = None

    def status(self) -> ConnectorStatus | None:
        return self.connector.status if self.connector is not None else None


async def run_service(
    settings: ServiceSettings, network: Network, directory: Path, variables: Mapping[str, str]
) -> Failure | None:
    """Until SIGTERM or SIGINT; gives the failure of a first Hello that C1 refused, which ends it too.

    `directory`: this connector's own. `variables`: OpenTelemetry's. Raises Failure when it cannot start.
    """
    clock, begun = SystemClock(), _Begun()
    monitor = LoopMonitor(clock)
    heard = heard_lately("the event loop", lambda: monitor.last, clock)
    health = Health(begun.status, heard, clock.now)
    begun_check = {"connector": health.not_ready}
    gauges = ProcessGauges(
        reports=lambda: _reports(begun, settings.spec.host_id),
        leader=lambda: None,
        loop_lag=monitor.take_longest,
        watch_age=lambda: None,
    )
    async with serve_health(settings.health, health):
        with open_telemetry(variables, network, gauges) as telemetry:
            async with (
                serve(settings.http_address, {"loop": heard}, begun_check, telemetry.scrape),
                open_buildkite(settings.buildkite, network, clock=clock, observer=telemetry.observer) as buildkite,
                open_c1(settings.c1, network, clock=clock, observer=telemetry.observer) as c1,
            ):
                startup = StartupHello(Connections(buildkite, c1))
                environment = Environment(
                    clients=startup,
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
                begun.connector = await _begin(settings, directory, environment)
                await _run(begun.connector, clock, monitor, startup)
                return startup.failure


async def _begin(settings: ServiceSettings, directory: Path, environment: Environment) -> Connector:
    """The connector, from the state that its last process left."""
    source = ProcessCredentials(settings.credentials, settings.started_with)
    state = StateFile(directory, status_to_json, status_from_json, lambda: settings.identity(source.last).digest())
    restored = await asyncio.to_thread(state.read)
    if restored is None:
        await asyncio.to_thread(remove_files, directory)
    spec = settings.spec
    desired = DesiredState(settings.generation(), spec, source, accept_shrink=settings.accept_shrink)
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


async def _run(connector: Connector, clock: Clock, monitor: LoopMonitor, startup: StartupHello) -> None:
    """Until a signal, or until C1 refuses the first Hello."""
    async with asyncio.TaskGroup() as group:
        monitoring = group.create_task(monitor.run())
        rereading = group.create_task(reread_secrets(lambda: [connector], clock))
        with signalled_end() as signalled:
            ends = {group.create_task(signalled.wait()), group.create_task(startup.refused.wait())}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                logger.info("the service is shutting down")
                for task in (*ends, monitoring, rereading):
                    task.cancel()
                await connector.close(discard=False)


def _log_transitions(name: str, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
    """The transitions that the operator posts events of."""
    for draft in draft_events(before, after):
        level = logging.WARNING if draft.type is EventType.WARNING else logging.INFO
        fields = {"connector": name, "reason": draft.reason.value, "detail": draft.message}
        logger.log(level, "condition changed", extra=fields)


def _reports(begun: _Begun, name: str) -> Iterable[Report]:
    status = begun.status()
    return [] if status is None else [Report("", name, status, suspended=False)]
