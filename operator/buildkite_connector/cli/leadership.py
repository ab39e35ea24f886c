"""Joins the election to the operator: who may act, what acting is, and what the process tells of it."""

import asyncio
import contextlib
import logging
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.election import Election
from buildkite_connector.kubernetes.election_settings import ElectionSettings, check_times
from buildkite_connector.kubernetes.fence import Fence, watchdog
from buildkite_connector.kubernetes.informer import EventHandler, Informer, WatchSettings
from buildkite_connector.kubernetes.shards import Shard, ShardFilter, shard_of_pod
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import Clock, system_jitter

logger = logging.getLogger(__name__)

POD_NAME_VARIABLE = "POD_NAME"
POD_NAMESPACE_VARIABLE = "POD_NAMESPACE"
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LEASE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Also the value of a label, which is not longer."""
CATCH_UP_SECONDS = 5.0
"""How long a new leader waits for its watch to report the newest statuses."""


@dataclass(frozen=True, slots=True)
class LeadershipSettings:
    """`lease` is the unsharded Lease's name; times in seconds."""

    identity: str
    lease: str
    namespace: str
    duration: float
    deadline: float
    retry: float
    shard: Shard


def read_leadership(
    environment: Mapping[str, str],
    *,
    enabled: bool,
    lease: str,
    namespace: str,
    times: tuple[float, float, float],
    shards: int,
    namespace_file: Path = POD_NAMESPACE_FILE,
) -> LeadershipSettings | None:
    """None: this process acts without asking. `times`: lease duration, renew deadline, retry period.

    Shards are divided by Leases, so that more than one shard means an election.
    Raises ValueError with a sentence.
    """
    if not enabled and shards == 1:
        return None
    check_times(*times)
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
    return LeadershipSettings(
        f"{pod}_{secrets.token_hex(4)}",
        lease,
        home,
        *times,
        shard_of_pod(environment.get(POD_NAME_VARIABLE, ""), shards),
    )


class Leadership:
    """Whether this process acts. `settings` None: always."""

    def __init__(self, settings: LeadershipSettings | None, clock: Clock) -> None:
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

    def healthy(self, now: float) -> str | None:
        """A reason when this process is the leader and could not renew its Lease in time; `now` is monotonic."""
        return self._election.healthy(now) if self._election is not None else None

    @property
    def may_act(self) -> Callable[[], None]:
        """Called before each request for a connector; raises Failure when this process may not act now."""
        return self._fence.check if self.elected else lambda: None

    def handler(self, controller: Controller) -> EventHandler:
        """What the watch reports to."""
        if self._settings is not None and self._settings.shard.count > 1:
            return ShardFilter(controller, self._settings.shard)
        return controller

    async def lead(self, api: KubernetesApi, controller: Controller, informer: Informer, watch: WatchSettings) -> None:
        """Once all resources were seen: act whenever this process may, until cancelled. Cancelled once, it ends acting
        in order and releases the Lease. Without an election there is nothing to wait for."""
        settings = self._settings
        if settings is None:
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

        self._election = Election(
            api.leases(settings.namespace, settings.lease),
            ElectionSettings(
                settings.shard.lease(settings.lease),
                settings.identity,
                settings.duration,
                settings.deadline,
                settings.retry,
                settings.shard.count,
            ),
            self._fence,
            act,
            self._clock,
            system_jitter(),
        )
        with watchdog(self._fence):
            await self._election.run()


async def end(leading: asyncio.Task[None]) -> None:
    """Cancel it once, and wait for its end. A second time would cut its orderly end short."""
    if not leading.cancelling():
        leading.cancel()
    await asyncio.wait({leading})


async def _catch_up(api: KubernetesApi, informer: Informer, watch: WatchSettings) -> None:
    """What cannot be known in time is not waited for: a connector without a leader is worse off."""
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
