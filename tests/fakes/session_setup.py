"""A real connector, its real client of C1 and its real files, at a simulated C1 over TLS, in hurried time.

Buildkite is `connector_ports.Buildkite`, whose syncs last until they are let go, unless a test brings another.
"""

import asyncio
import contextlib
import itertools
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from buildkite_connector.c1 import C1, open_c1
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.ports import BuildkiteClients
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.model.directory import Directory
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.timing.slots import Slots
from fakes.c1_setup import HOST_ID, settings_for
from fakes.connector_ports import KEY, Buildkite, Reports, SecretCredentials
from fakes.hurried_time import HurriedClock, TrueClock
from fakes.membership_api import MembershipAPI
from fakes.portal_api import no_portal
from fakes.virtual_time import NoJitter
from harness.trust import reaching
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator
from simulators.c1.tasks import State, TaskRecord

PATIENCE = 1500.0
"""Seconds of the loop in which what should happen must have: an ended session is opened again after 300."""
NO_BREACH = "none for"
"""In what the simulator calls a violation: a heartbeat that did not come while C1 could not be reached."""


class GatedBuildkite(Buildkite):
    """A sync lasts while `gate` is closed."""

    def __init__(self) -> None:
        super().__init__(seconds=0.0)
        self.gate = asyncio.Event()
        self.gate.set()

    async def collecting(self) -> Directory:
        directory = await super().collecting()
        await self.gate.wait()
        return directory


class AnnouncedReports(Reports):
    """Whoever waits for something at C1 looks again when a status was written."""

    def __init__(self, sim: C1Simulator) -> None:
        super().__init__()
        self._sim = sim

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        await super().report(before, after)
        self._sim.journal.announce()


class SessionSetup:
    """Made by `session_setup`. `start` begins the connector."""

    def __init__(self, sim: C1Simulator, c1: C1, store: SnapshotStore, clock: HurriedClock) -> None:
        self.sim = sim
        self.c1 = c1
        self.store = store
        self.clock = clock
        self.buildkite = GatedBuildkite()
        self.members = MembershipAPI()
        self.client = sim.register_client()
        self.fake_secret = SecretCredentials(Credentials(self.client.client_id, self.client.client_secret, "token"))
        self.reports = AnnouncedReports(sim)
        self.another_buildkite: BuildkiteClients | None = None
        self._secrets = itertools.count()
        self._connector: Connector | None = None

    def connect_buildkite(self, token: Any, redactor: Redactor, **how: Any) -> BuildkiteAPI:
        if self.another_buildkite is not None:
            return self.another_buildkite(token, redactor, **how)
        return self.buildkite.client() if "quota_percent" in how else self.members

    def start(self, max_snapshot_age: float = 0.0) -> None:
        environment = Environment(
            buildkite=self.connect_buildkite,
            portals=no_portal,
            c1=self.c1.connect,
            store=self.store,
            clock=self.clock,
            jitter=NoJitter(),
            sync_slots=Slots(4, shared=False),
            check_slots=Slots(4, shared=False),
            hello_slots=Slots(4, shared=False),
            new_sync_id=lambda now: new_sync_id(now, lambda size: next(self._secrets).to_bytes(size, "big")),
        )
        spec = ConnectorSpec(host_id=HOST_ID, max_snapshot_age=max_snapshot_age)
        self._connector = Connector(KEY, DesiredState(1, spec, self.fake_secret), None, self.reports, environment)
        connector = self._connector
        connector.start()
        self._rereading = asyncio.create_task(reread_secrets(lambda: [connector], self.clock))

    async def stop(self) -> None:
        if self._connector is None:
            return
        self._rereading.cancel()
        await self._connector.close(discard=False)
        self._connector = None

    # What C1 knows

    async def until(self, predicate: Callable[[], object]) -> None:
        """Once it holds; asked anew whenever something happened at C1 or a status was written. Raises TimeoutError."""
        await self.sim.wait_for(predicate, PATIENCE)

    def condition(self, kind: ConditionType) -> tuple[str, str]:
        found = self.reports.written[-1].condition(kind) if self.reports.written else None
        return (found.status.value, found.reason.value) if found else ("absent", "")

    @property
    def ready(self) -> bool:
        return self.condition(ConditionType.READY)[0] == ConditionStatus.TRUE

    @property
    def taken(self) -> list[TaskRecord]:
        """The tasks that were handed out."""
        return [record for record in self.sim.tasks.values() if record.holder is not None]

    @property
    def settled(self) -> bool:
        """Whether every task has ended, and the newest one with success."""
        tasks = list(self.sim.tasks.values())
        ended = all(record.state is State.FINISHED for record in tasks)
        return ended and tasks[-1].outcome is not None and tasks[-1].outcome.success

    async def until_settled(self) -> None:
        """Once C1's books and the status agree, and the connector is ready. Raises TimeoutError."""
        await self.until(lambda: self.settled)

        def told() -> bool:
            last, status = list(self.sim.tasks)[-1], self.reports.written[-1]  # a new session may bring one more task
            return self.ready and status.last_delivery is not None and status.last_delivery.task_id == last

        await self.until(told)

    @property
    def disagreements(self) -> list[str]:
        """Where the tasks that C1 handed out and what came back do not agree."""
        succeeded = {task.id for task in self.sim.tasks.values() if task.outcome and task.outcome.success}
        delivered = Counter(received.task_id for received in self.sim.ingested)
        unfinished = [f"{task.id} was taken and not ended" for task in self.taken if task.outcome is None]
        twice = [f"{task_id} was delivered {times} times" for task_id, times in delivered.items() if times > 1]
        apart = [f"{each} was delivered or succeeded, not both" for each in succeeded ^ set(delivered)]
        broken = [each for each in self.sim.violations if NO_BREACH not in each]
        return unfinished + twice + apart + broken


@contextlib.asynccontextmanager
async def session_setup(policy: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[SessionSetup]:
    """`policy` changes the simulator's, `settings` the client's. Seconds are the loop's; gRPC's deadlines are real."""
    clock = HurriedClock()
    usual_policy = {"next_poll": 5.0, "next_heartbeat": 20.0, "heartbeat_grace": 5.0}
    patient = Policy(retry_failed=True, requeue_lost=True, **(usual_policy | (policy or {})))
    usual = {"call_timeout": 300.0, "poll_timeout": 300.0, "connect_timeout": 300.0}
    async with C1Simulator(patient, clock=TrueClock()) as sim:
        with tempfile.TemporaryDirectory() as folder:
            chosen, network = settings_for(sim, **(usual | settings)), reaching(sim.ca_file)
            async with open_c1(chosen, network, clock=TrueClock(), jitter=NoJitter()) as c1:
                setup = SessionSetup(sim, c1, SnapshotStore(Path(folder), clock), clock)
                try:
                    yield setup
                finally:
                    sim.faults.clear()
                    setup.buildkite.gate.set()
                    await setup.stop()
