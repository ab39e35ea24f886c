"""One real connector in memory and in virtual time, on the ports of `connector_ports`."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType, ConnectorStatus
from buildkite_connector.model.tasks import SyncTask, TaskID
from buildkite_connector.sync.ports import BuildkiteAPI, PortalAPI
from buildkite_connector.timing.slots import Slots
from fakes.c1_rest import FakeAccess, FakeC1Rest
from fakes.connector_ports import (
    C1,
    HOUR,
    KEY,
    MINUTE,
    ORGANIZATION,
    SYNC_SLOTS,
    USERS,
    Buildkite,
    Reports,
    SecretCredentials,
    Store,
    client_rejected,
    directory_of,
    down,
    rate_limited,
)
from fakes.membership_api import MembershipAPI
from fakes.portal_api import FakePortal
from fakes.virtual_time import NoJitter, VirtualClock

__all__ = (
    "C1",
    "HOUR",
    "KEY",
    "MINUTE",
    "ORGANIZATION",
    "SYNC_SLOTS",
    "USERS",
    "Buildkite",
    "Reports",
    "SecretCredentials",
    "Setup",
    "Store",
    "client_rejected",
    "directory_of",
    "down",
    "rate_limited",
    "ready_setup",
    "stopped_setup",
)

HELLO_SLOTS = 4


class Setup:
    """One connector and its surroundings. `spec` changes the spec that it starts with."""

    def __init__(self, **spec: object) -> None:
        self.clock = VirtualClock()
        self.buildkite = Buildkite()
        self.c1 = C1()
        self.c1_rest = FakeC1Rest()
        self.c1_access = FakeAccess()
        self.members = MembershipAPI()
        self.portal = FakePortal()
        self.portals: list[tuple[tuple[str, str, str], dict[str, Any]]] = []
        """The clients of a portal that were made: organization, portal and token, and the keyword arguments."""
        self.store = Store()
        self.fake_secret = SecretCredentials()
        self.reports = Reports()
        wanted = replace(ConnectorSpec(host_id="default.acme"), **spec)  # type: ignore[arg-type]  # checked by the dataclass
        self.order = DesiredState(1, wanted, self.fake_secret, c1_access=self.c1_access)
        self._ids = (SyncID(f"sync{n}") for n in itertools.count(1))
        self._tasks = itertools.count(1)

    def connect_buildkite(self, token: Any, redactor: Redactor, **how: Any) -> BuildkiteAPI:
        assert "slot" not in how or how["slot"].held
        return self.buildkite.client() if "quota_percent" in how else self.members

    def connect_portal(self, organization: str, portal: str, token: str, redactor: Redactor, **how: Any) -> PortalAPI:
        slot = how.pop("slot", None)
        assert slot is None or slot.held
        self.portals.append(((organization, portal, token), how))
        return self.portal

    def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
        return self.c1

    def environment(self) -> Environment:
        """What the connectors of one process share."""
        return Environment(
            buildkite=self.connect_buildkite,
            portals=self.connect_portal,
            c1=self.connect_c1,
            store=self.store,
            clock=self.clock,
            jitter=NoJitter(),
            sync_slots=Slots(SYNC_SLOTS, shared=False),
            check_slots=Slots(4, shared=False),
            hello_slots=Slots(HELLO_SLOTS, shared=False),
            new_sync_id=lambda now: next(self._ids),
            c1_rest=self.c1_rest.connect,
        )

    @contextlib.asynccontextmanager
    async def running(self, restored: ConnectorStatus | None = None) -> AsyncIterator[Connector]:
        """The operator with this one connector, until the end of the context: then it is shut down.

        Called again with the last `status`, it is a new process that finds what the old one left.
        """
        environment = self.environment()
        self._sync_slots, self._hello_slots = environment.sync_slots, environment.hello_slots
        self.session = Connector(KEY, self.order, restored, self.reports, environment)
        self.session.start()
        rereading = asyncio.create_task(reread_secrets(lambda: [self.session], self.clock))
        try:
            yield self.session
        finally:
            rereading.cancel()
            await self.session.close(discard=False)

    @contextlib.asynccontextmanager
    async def crowd(self) -> AsyncIterator[None]:
        """The syncs of other connectors take all slots."""
        async with _taken(self._sync_slots, SYNC_SLOTS):
            yield

    @contextlib.asynccontextmanager
    async def greeting_crowd(self) -> AsyncIterator[None]:
        """The Hellos of other connectors take all slots."""
        async with _taken(self._hello_slots, HELLO_SLOTS):
            yield

    def edit(self, **changes: object) -> None:
        """An edit of the spec, as `kubectl apply` does it."""
        self.order = replace(
            self.order,
            generation=self.order.generation + 1,
            spec=replace(self.order.spec, **changes),  # type: ignore[arg-type]  # checked by the dataclass
        )
        self.session.update(self.order)

    def annotate(self, *, sync_request: str | None = None, accept_shrink: str | None = None) -> None:
        self.order = replace(
            self.order,
            sync_request=sync_request or self.order.sync_request,
            accept_shrink=accept_shrink or self.order.accept_shrink,
        )
        self.session.update(self.order)

    async def delete(self) -> None:
        """The resource is gone: the connector closes and its staged file goes."""
        await self.session.close(discard=True)

    def cancel(self, task_id: TaskID) -> None:
        """C1 withdraws a task; the connector learns so from its next heartbeat."""
        self.c1.cancelled.add(task_id)

    def rotate(self, **changes: str) -> None:
        """The Secret gets another content."""
        self.fake_secret.credentials = replace(self.fake_secret.credentials, **changes)  # type: ignore[arg-type]  # all strings

    def task(self, scope: SyncScope | None = None) -> TaskID:
        """C1 hands out a sync task at its next poll."""
        task_id = TaskID(f"task{next(self._tasks)}")
        self.c1.tasks.append(SyncTask(task_id, scope or SyncScope()))
        return task_id

    @property
    def delivered_scopes(self) -> list[SyncScope]:
        """What the snapshots that C1 got hold, oldest first."""
        return [self.store.made[path].scope for path in self.c1.files]

    @property
    def status(self) -> ConnectorStatus:
        return self.reports.written[-1]

    def condition(self, kind: ConditionType) -> tuple[str, str]:
        found = self.status.condition(kind)
        return (found.status.value, found.reason.value) if found else ("absent", "")

    def rejected(self, reason: Reason = Reason.TOKEN_REJECTED) -> Failure:
        return Failure(reason, "Buildkite rejected the token.", remedy=Remedy.CREDENTIALS)


@contextlib.asynccontextmanager
async def _taken(slots: Slots, number: int) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as taken:
        for _ in range(number):
            await taken.enter_async_context(slots.slot("others"))
        yield


@contextlib.asynccontextmanager
async def ready_setup(*, after: float = MINUTE, **spec: object) -> AsyncIterator[Setup]:
    """A running connector that is Ready, `after` seconds after its start (longer than 10 min: its snapshot is old)."""
    setup = Setup(**spec)
    async with setup.running():
        await asyncio.sleep(after)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        yield setup


async def stopped_setup(**spec: object) -> Setup:
    """A connector that was Ready for most of a minute, then its process was shut down."""
    async with ready_setup(after=MINUTE, **spec) as setup:
        pass
    return setup
