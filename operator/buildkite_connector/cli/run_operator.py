"""The operator's process: what `kubernetes.handlers` runs in, when it may act, and how it ends.

Shutdown: the watch stops first, then acting (syncs are cancelled, tasks go back to C1), then the Lease is released.
A lost Lease raises Failure in `leading`, which ends `operate`; `cli.app` then exits with 1.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.c1 import C1Settings, open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.client_config import choose_client_config
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.election import Election, ElectionSettings, Fence
from buildkite_connector.kubernetes.handlers import operate
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.watch import LONGEST_SILENCE, Pulse
from buildkite_connector.model.failure import Failure
from buildkite_connector.network import Network
from buildkite_connector.telemetry.gauges import ProcessGauges, Report
from buildkite_connector.telemetry.server import LoopMonitor, heard_lately, serve
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.timing.clock import Clock, SystemClock, system_jitter
from buildkite_connector.timing.slots import Slots

logger = logging.getLogger(__name__)

POD_NAME_VARIABLE = "POD_NAME"
POD_NAMESPACE_VARIABLE = "POD_NAMESPACE"
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LEASE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
CATCH_UP_SECONDS = 5.0
"""Seconds that a new leader waits for its watch to report the newest statuses."""
HELLOS_AT_ONCE = 16
"""Concurrent Hellos to C1, so that a start of many connectors does not overload it."""


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
        """Whether several namespaces share the slots; then none may hold all of them."""
        return len(self.namespaces) != 1


async def run_operator(settings: OperatorSettings, network: Network) -> None:
    """Run until SIGTERM or SIGINT. Raises Failure when it cannot start, or loses its Lease or its watch."""
    clock = SystemClock()
    pulse, monitor, ready = Pulse(), LoopMonitor(clock), asyncio.Event()
    leadership = Leadership(settings.leadership, clock)
    controller: Controller | None = None

    def reports() -> Iterator[Report]:
        """Read by metrics, in the thread that collects them."""
        for resource, status in controller.reports() if controller is not None else ():
            yield Report(resource.namespace, resource.name, status, resource.spec.suspend)

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
                portals=buildkite.portal,
                c1=c1.connect,
                c1_rest=c1.rest,
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
            informer = Informer(controller.observe, controller.forget, ready)
            watch = WatchSettings(settings.namespaces, settings.selector)
            rereading = group.create_task(reread_secrets(controller.connectors, clock))
            monitoring = group.create_task(monitor.run())

            async def lead() -> None:
                await ready.wait()
                logger.info("the operator is ready", extra={"namespaces": ",".join(settings.namespaces) or "all"})
                await leadership.lead(api, controller, informer, watch)

            leading = group.create_task(lead())

            async def shut_down() -> None:
                logger.info("the operator is shutting down")
                for task in (monitoring, rereading):
                    task.cancel()
                if not leading.cancelling():  # a second time would cut its orderly end short
                    leading.cancel()
                await asyncio.wait({leading})
                await controller.close()

            await operate(api, informer, watch, pulse, shut_down)


# Who may act


def read_leadership(
    environment: Mapping[str, str],
    *,
    enabled: bool,
    lease: str,
    namespace: str,
    times: tuple[float, float, float],
    namespace_file: Path = POD_NAMESPACE_FILE,
) -> ElectionSettings | None:
    """Return None when this process acts without an election. `times`: lease duration, renew deadline, retry period.

    Raises ValueError with a sentence.
    """
    if environment.get("BUILDKITE_CONNECTOR_SHARDS", "1") not in {"", "1"}:  # or each pod would serve all connectors
        raise ValueError(
            "BUILDKITE_CONNECTOR_SHARDS is no longer supported: divide the connectors by"
            " BUILDKITE_CONNECTOR_SELECTOR or WATCH_NAMESPACE, and unset it"
        )
    if not enabled:
        return None
    if not _LEASE_NAME.fullmatch(lease):
        raise ValueError(
            f"the lease name {lease!r} is not valid: use up to 63 lowercase letters, digits and hyphens, and start and"
            " end with a letter or digit"
        )
    pod = environment.get(POD_NAME_VARIABLE) or socket.gethostname()
    home = namespace or environment.get(POD_NAMESPACE_VARIABLE) or _read(namespace_file)
    if not home:
        raise ValueError(
            "the Lease's namespace is not known: set BUILDKITE_CONNECTOR_LEASE_NAMESPACE, as this process does not run"
            " in a pod"
        )
    return ElectionSettings(lease, home, f"{pod}_{secrets.token_hex(4)}", *times)


class Leadership:
    """Whether this process acts. `settings` None: always."""

    def __init__(self, settings: ElectionSettings | None, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._fence = Fence(clock)
        self._election: Election | None = None

    @property
    def elected(self) -> bool:
        """Whether there is an election at all."""
        return self._settings is not None

    @property
    def is_leader(self) -> bool:
        return self._election.is_leader if self._election is not None else not self.elected

    @property
    def may_act(self) -> Callable[[], None]:
        """Called before each request for a connector; raises Failure when this process may not act now."""
        return self._fence.check if self.elected else lambda: None

    async def lead(self, api: KubernetesApi, controller: Controller, informer: Informer, watch: WatchSettings) -> None:
        """Act while this process holds the Lease, once all resources were seen. Raises Failure when the Lease is lost.

        Cancelled once, it ends acting in order and releases the Lease. Without an election there is nothing to wait
        for.
        """
        if self._settings is None:
            await controller.prune_snapshots()
            return

        async def act() -> None:
            try:
                await _catch_up(api, informer, watch)
                controller.start_acting()
                await controller.prune_snapshots()
                await asyncio.Event().wait()
            finally:
                await controller.stop_acting()

        leases = api.leases(self._settings.namespace, self._settings.lease)
        self._election = Election(leases, self._settings, self._fence, act, self._clock, system_jitter())
        await self._election.run()


async def _catch_up(api: KubernetesApi, informer: Informer, watch: WatchSettings) -> None:
    """Wait for the newest statuses, but not for long: a connector without a leader is worse than an old status."""
    try:
        if await informer.catch_up(lambda: api.list_connectors(watch.namespaces, watch.selector), CATCH_UP_SECONDS):
            return
        why = f"the watch did not report the newest resources within {CATCH_UP_SECONDS:g} s"
    except (ApiError, Failure) as error:
        why = str(error)
    logger.warning("this leader may begin from an older status", extra={"why": why})


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
