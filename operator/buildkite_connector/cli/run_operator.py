"""The operator's process: what `kubernetes.handlers` runs in, and how it ends.

Shutdown: the watch stops first, then acting (syncs are cancelled, tasks go back to C1), then the Lease is released.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.c1 import C1Settings, open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.cli.leadership import Leadership, end
from buildkite_connector.connector.connector import reread_secrets
from buildkite_connector.connector.environment import Environment
from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import choose_client_config
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.election import ElectionSettings
from buildkite_connector.kubernetes.handlers import operate
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.resource import ObservedConnector
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.watch import LONGEST_SILENCE, Pulse
from buildkite_connector.network import Network
from buildkite_connector.telemetry.gauges import ProcessGauges, Report
from buildkite_connector.telemetry.server import LoopMonitor, heard_lately, serve
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.timing.clock import SystemClock, system_jitter
from buildkite_connector.timing.slots import Slots

logger = logging.getLogger(__name__)

HELLOS_AT_ONCE = 16
"""Sessions with C1 that say Hello at once, so that a start of many connectors is no storm."""


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """`namespaces` empty: all. `selector`: of labels. `data_directory`: where snapshots wait, of this process alone.

    `leadership` None: no other process acts on the same resources.
    """

    buildkite: BuildkiteSettings
    c1: C1Settings
    data_directory: Path
    namespaces: tuple[str, ...] = ()
    selector: str = ""
    concurrency: int = 32
    http_address: str | None = ""
    """Empty: no server; None: the default address, where it is free."""
    leadership: ElectionSettings | None = None

    @property
    def shared(self) -> bool:
        """Whether connectors of several namespaces may be there, of which none may hold all slots."""
        return len(self.namespaces) != 1


async def run_operator(settings: OperatorSettings, network: Network) -> None:
    """Until SIGTERM or SIGINT. Raises Failure when it cannot start, or its Lease or its watch is lost."""
    clock = SystemClock()
    pulse, monitor, ready = Pulse(), LoopMonitor(clock), asyncio.Event()
    leadership = Leadership(settings.leadership, clock)
    controller: Controller | None = None

    def reports() -> Iterator[Report]:
        """What metrics read of the connectors, in the thread that collects them."""
        for resource, status in controller.reports() if controller is not None else ():
            suspended = isinstance(resource, ObservedConnector) and resource.spec.suspend
            yield Report(resource.namespace, resource.name, status, suspended)

    gauges = ProcessGauges(
        reports=reports,
        leader=lambda: leadership.is_leader if leadership.elected else None,
        loop_lag=monitor.take_longest,
        watch_age=lambda: clock.monotonic() - pulse.last,
    )
    alive = {
        "loop": heard_lately("the event loop", lambda: monitor.last, clock),
        "watch": heard_lately("the watch", lambda: pulse.last, clock, LONGEST_SILENCE),
    }
    schema = ServedSchema()
    ready_checks = {
        "resources": lambda: None if ready.is_set() else "not all resources were seen yet",
        "crd": lambda: schema.outdated or None,
    }
    login = choose_client_config(os.environ, network)
    with open_telemetry(os.environ, network, gauges) as telemetry:
        async with (
            serve(settings.http_address, alive, ready_checks, telemetry.scrape),
            open_buildkite(
                settings.buildkite, network, clock=clock, observer=telemetry.observer, may_send=leadership.may_act
            ) as buildkite,
            open_c1(settings.c1, network, clock=clock, observer=telemetry.observer, may_send=leadership.may_act) as c1,
            connect(login, clock, socket.gethostname(), may_act=leadership.may_act, schema=schema) as api,
            asyncio.TaskGroup() as group,
        ):
            environment = Environment(
                buildkite=buildkite.client,
                c1=c1.connect,
                store=SnapshotStore(settings.data_directory, clock),
                clock=clock,
                jitter=system_jitter(),
                sync_slots=Slots(settings.concurrency, shared=settings.shared),
                check_slots=Slots(settings.concurrency, shared=settings.shared),
                hello_slots=Slots(HELLOS_AT_ONCE, shared=settings.shared),
                new_sync_id=lambda now: new_sync_id(now, secrets.token_bytes),
                observer=telemetry.observer,
            )
            controller = Controller(api, environment, group, acting=not leadership.elected)
            informer = Informer(controller, ready)
            watch = WatchSettings(settings.namespaces, settings.selector)
            rereading = group.create_task(reread_secrets(controller.connectors, clock))
            monitoring = group.create_task(monitor.run())

            async def lead() -> None:
                await ready.wait()
                logger.info("the operator is ready", extra={"namespaces": ",".join(settings.namespaces) or "all"})
                await leadership.lead(api, controller, informer, watch)

            leading = group.create_task(lead())

            async def stop() -> None:
                logger.info("the operator is shutting down")
                for task in (monitoring, rereading):
                    task.cancel()
                await end(leading)
                await controller.close()

            await operate(api, informer, watch, pulse, stop)
