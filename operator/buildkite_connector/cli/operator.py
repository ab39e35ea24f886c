"""The operator's process: the watch feeds the controller, the scheduler steps connectors, a signal ends them in order.

Shutdown: the scheduler stops first (syncs are cancelled, tasks go back to C1), then the watch.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.c1 import C1Settings, open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.cli.wiring import Connections
from buildkite_connector.connector.credential_transitions import Waits
from buildkite_connector.connector.environment import Environment
from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import choose_client_config
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.resource import ObservedConnector
from buildkite_connector.kubernetes.watch import Pulse, WatchSettings, run_watch
from buildkite_connector.telemetry.health import LoopMonitor, heard_lately
from buildkite_connector.telemetry.metrics import ProcessGauges, Report
from buildkite_connector.telemetry.server import serve
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.timing.clock import SystemClock, system_jitter
from buildkite_connector.timing.scheduler import Scheduler
from buildkite_connector.timing.spacing import Spacing

logger = logging.getLogger(__name__)

SECRET_READ_SPACING = 0.2
"""Seconds between two routine reads of Secrets: at most five a second, however many connectors there are."""
HELLOS_AT_ONCE = 16
"""Sessions with C1 that say Hello at once, so that a start of many connectors is no storm."""


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """`namespaces` empty: all. `data_directory`: where snapshots wait, of this process alone."""

    buildkite: BuildkiteSettings
    c1: C1Settings
    data_directory: Path
    namespaces: tuple[str, ...] = ()
    concurrency: int = 32
    http_address: str | None = ""
    """Empty: no server; None: the default address, where it is free."""


async def run_operator(settings: OperatorSettings) -> None:
    """Until SIGTERM or SIGINT. Raises Failure when it cannot start or its watch is lost for good."""
    clock = SystemClock()
    scheduler = Scheduler(clock)
    pulse, monitor, ready = Pulse(), LoopMonitor(clock), asyncio.Event()
    reports = _Reports()
    gauges = ProcessGauges(
        reports=reports.read,
        leader=lambda: None,
        loop_lag=monitor.take_longest,
        watch_age=lambda: clock.monotonic() - pulse.last,
    )
    alive = {
        "scheduler": heard_lately("the scheduler", lambda: scheduler.last_iteration, clock),
        "watch": heard_lately("the watch", lambda: pulse.last, clock),
    }
    ready_checks = {"resources": lambda: None if ready.is_set() else "not all resources were seen yet"}
    login = choose_client_config(os.environ, Path.home())
    with open_telemetry(os.environ, gauges) as telemetry:
        async with (
            serve(settings.http_address, alive, ready_checks, telemetry.scrape),
            open_buildkite(settings.buildkite, clock=clock, observer=telemetry.observer) as buildkite,
            open_c1(settings.c1, clock=clock, observer=telemetry.observer) as c1,
            connect(login, clock, socket.gethostname()) as api,
            asyncio.TaskGroup() as group,
        ):
            environment = Environment(
                clients=Connections(buildkite, c1),
                store=SnapshotStore(settings.data_directory, clock),
                scheduler=scheduler,
                clock=clock,
                waits=Waits(system_jitter(), Spacing(SECRET_READ_SPACING)),
                sync_slots=asyncio.Semaphore(settings.concurrency),
                check_slots=asyncio.Semaphore(settings.concurrency),
                hello_slots=asyncio.Semaphore(HELLOS_AT_ONCE),
                new_sync_id=lambda now: new_sync_id(now, secrets.token_bytes),
                observer=telemetry.observer,
            )
            controller = reports.controller = Controller(api, environment, group)
            stop = asyncio.Event()
            watching = group.create_task(
                run_watch(
                    controller, api, login, WatchSettings(settings.namespaces), ready=ready, stop=stop, pulse=pulse
                )
            )
            acting = group.create_task(scheduler.run())
            helping = [
                group.create_task(_when_ready(ready, controller, settings)),
                group.create_task(monitor.run()),
            ]
            with _signalled() as signalled:
                waiting = group.create_task(signalled.wait())
                try:
                    await asyncio.wait({waiting, watching, acting}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    logger.info("the operator is shutting down")
                    for task in (waiting, *helping, acting):
                        task.cancel()
                    await asyncio.wait({acting})
                    await controller.close()
                    stop.set()


class _Reports:
    """What metrics read of the connectors, in the thread that collects them."""

    def __init__(self) -> None:
        self.controller: Controller | None = None

    def read(self) -> Iterator[Report]:
        if self.controller is None:
            return
        for resource, status in self.controller.reports():
            suspended = isinstance(resource, ObservedConnector) and resource.spec.suspend
            yield Report(resource.namespace, resource.name, status, suspended)


async def _when_ready(ready: asyncio.Event, controller: Controller, settings: OperatorSettings) -> None:
    await ready.wait()
    logger.info("the operator is ready", extra={"namespaces": ",".join(settings.namespaces) or "all"})
    await controller.prune_snapshots()


@contextlib.contextmanager
def _signalled() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
