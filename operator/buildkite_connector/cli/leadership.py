"""Joins the election to the operator: who may act, and what acting is."""

import asyncio
import contextlib
import logging
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.election import Election, ElectionSettings, Fence
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import Clock, system_jitter

logger = logging.getLogger(__name__)

POD_NAME_VARIABLE = "POD_NAME"
POD_NAMESPACE_VARIABLE = "POD_NAMESPACE"
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LEASE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
CATCH_UP_SECONDS = 5.0
"""How long a new leader waits for its watch to report the newest statuses."""


def read_leadership(
    environment: Mapping[str, str],
    *,
    enabled: bool,
    lease: str,
    namespace: str,
    times: tuple[float, float, float],
    namespace_file: Path = POD_NAMESPACE_FILE,
) -> ElectionSettings | None:
    """None: this process acts without an election. `times`: lease duration, renew deadline, retry period.

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
            f"the lease name {lease!r} is none: up to 63 lower-case letters, digits and hyphens, no hyphen at an end"
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


async def end(leading: asyncio.Task[None]) -> None:
    """Cancel it once, and wait for its end. A second time would cut its orderly end short."""
    if not leading.cancelling():
        leading.cancel()
    await asyncio.wait({leading})


async def _catch_up(api: KubernetesApi, informer: Informer, watch: WatchSettings) -> None:
    """Wait for the newest statuses, but not for long: a connector without a leader is worse off."""
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
