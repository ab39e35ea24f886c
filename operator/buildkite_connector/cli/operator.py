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
from buildkite_connector.kubernetes.watch import WatchSettings, run_watch
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
    """`namespaces` empty: all. `data_directory`: where snapshots wait, this process's own."""

    buildkite: BuildkiteSettings
    c1: C1Settings
    data_directory: Path
    namespaces: tuple[str, ...] = ()
    concurrency: int = 32


async def run_operator(settings: OperatorSettings) -> None:
    """Until SIGTERM or SIGINT. Raises Failure when it cannot start or its watch is lost for good."""
    clock = SystemClock()
    login = choose_client_config(os.environ, Path.home())
    store = SnapshotStore(settings.data_directory, clock)
    async with (
        open_buildkite(settings.buildkite, clock=clock) as buildkite,
        open_c1(settings.c1, clock=clock) as c1,
        connect(login, clock, socket.gethostname()) as api,
        asyncio.TaskGroup() as group,
    ):
        scheduler = Scheduler(clock)
        environment = Environment(
            clients=Connections(buildkite, c1),
            store=store,
            scheduler=scheduler,
            clock=clock,
            waits=Waits(system_jitter(), Spacing(SECRET_READ_SPACING)),
            sync_slots=asyncio.Semaphore(settings.concurrency),
            check_slots=asyncio.Semaphore(settings.concurrency),
            hello_slots=asyncio.Semaphore(HELLOS_AT_ONCE),
            new_sync_id=lambda now: new_sync_id(now, secrets.token_bytes),
        )
        controller = Controller(api, environment, group)
        stop, ready = asyncio.Event(), asyncio.Event()
        watching = group.create_task(
            run_watch(controller, api, login, WatchSettings(settings.namespaces), ready=ready, stop=stop)
        )
        acting = group.create_task(scheduler.run())
        saying = group.create_task(_when_ready(ready, controller, settings))
        with _signalled() as signalled:
            waiting = group.create_task(signalled.wait())
            try:
                await asyncio.wait({waiting, watching, acting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                logger.info("the operator is shutting down")
                for task in (waiting, saying, acting):
                    task.cancel()
                await asyncio.wait({acting})
                await controller.close()
                stop.set()


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
