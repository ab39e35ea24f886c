"""What C1's tasks need, in memory: a C1 that does not answer, snapshots, who hears of the session and of work."""

import asyncio
import contextlib
import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildkite_connector.model.directory import Counts, OrganizationSlug, SyncScope, TeamID
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.observer import Fact, Observer, Operation, Work
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot, SyncID
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ChangeResult
from buildkite_connector.model.tasks import Heartbeat, MembershipTask, Poll, SyncTask, TaskID, TaskOutcome
from buildkite_connector.tasks.ports import ChangeGrounds, SessionPorts
from buildkite_connector.tasks.session import MOST_TASKS, C1Session
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.slots import Slots
from fakes.connector_ports import C1
from fakes.membership_api import MembershipAPI
from fakes.virtual_time import NoJitter, VirtualClock


def seconds() -> float:
    """The virtual time, to a hundredth."""
    return round(asyncio.get_running_loop().time(), 2)


@dataclass
class SilentC1(C1):
    """`silent_heartbeat`: no heartbeat gets an answer; the seconds are how long an answer takes.

    `polled` and `greeted` are the times of GetTask and of Hello; the errors are raised by the next.
    """

    silent_heartbeat: bool = False
    hello_seconds: float = 0.0
    poll_seconds: float = 0.0
    finish_seconds: float = 0.0
    polled: list[float] = field(default_factory=list)
    greeted: list[float] = field(default_factory=list)
    hello_error: Exception | None = None
    poll_error: Exception | None = None

    async def hello(self, task_id: TaskID | None = None) -> None:
        self.greeted.append(seconds())
        await asyncio.sleep(self.hello_seconds)
        error, self.hello_error = self.hello_error, None
        if error is not None:
            raise error
        await super().hello(task_id)

    async def next_task(self) -> Poll:
        self.polled.append(seconds())
        await asyncio.sleep(self.poll_seconds)
        error, self.poll_error = self.poll_error, None
        if error is not None:
            raise error
        return await super().next_task()

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        beat = await super().heartbeat(task_id)
        if self.silent_heartbeat:
            await asyncio.Event().wait()
        return beat

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        await asyncio.sleep(self.finish_seconds)
        await super().finish(task_id, outcome)


@dataclass
class Records(Observer):
    """A fake observer. `facts`: the kind of each work begun, and all that was told of it."""

    facts: list[tuple[str, dict[str, Fact]]] = field(default_factory=list)

    @contextlib.contextmanager
    def operation(self, work: Work, **facts: Fact) -> Iterator[Operation]:
        self.facts.append((work.value, facts))
        yield Operation(facts)


SNAPSHOT = StagedSnapshot(SyncID("sync1"), Path("/nowhere/sync1"), "sha-sync1", 1000, Counts(1, 1, 1), SyncScope())


class _File(io.BytesIO):
    """Calls `closed_by` when it is closed."""

    def __init__(self, closed_by: Callable[[], None]) -> None:
        super().__init__()
        self._closed_by = closed_by

    def close(self) -> None:
        if not self.closed:
            self._closed_by()
        super().close()


@dataclass
class Snapshots:
    """Gives `snapshot` to each task, after `seconds`. `open` are the tasks that have it now."""

    snapshot: StagedSnapshot = SNAPSHOT
    seconds: float = 0.0
    open: set[TaskID] = field(default_factory=set)
    deliveries: list[tuple[TaskID, StagedSnapshot]] = field(default_factory=list)
    failed: list[tuple[StagedSnapshot, Failure]] = field(default_factory=list)
    untrue: set[SyncID] = field(default_factory=set)

    async def snapshot_for(self, task: SyncTask) -> OpenSnapshot:
        await asyncio.sleep(self.seconds)
        self.open.add(task.id)
        return OpenSnapshot(self.snapshot, _File(lambda: self.open.remove(task.id)))

    def still_true(self, snapshot: StagedSnapshot) -> bool:
        return snapshot.sync_id not in self.untrue

    def delivered(self, task: SyncTask, snapshot: StagedSnapshot) -> None:
        self.deliveries.append((task.id, snapshot))

    def delivery_failed(self, snapshot: StagedSnapshot, failure: Failure) -> None:
        self.failed.append((snapshot, failure))


@dataclass
class Changes:
    """What handlers of grants and revokes ask. `off`: provisioning is.

    `writes_off`: it was switched off since the membership was read; `edits`: the policies that it was edited to then,
    one at each writing. `held`: teams that are known to have or to have had a slug.
    `locked`: those whose lock was asked for.
    """

    api: MembershipAPI = field(default_factory=MembershipAPI)
    policy: Provisioning = field(default_factory=lambda: Provisioning(enabled=True))
    off: bool = False
    writes_off: bool = False
    edits: deque[Provisioning] = field(default_factory=deque)
    held: dict[TeamID, str] = field(default_factory=dict)
    failure: Failure | None = None
    done: list[tuple[ChangeResult, str, str]] = field(default_factory=list)
    failures: list[tuple[TaskID, Failure]] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    locked: list[TeamID] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def lock(self, team: TeamID) -> AsyncIterator[None]:
        self.locked.append(team)
        yield

    async def grounds(self) -> ChangeGrounds | None:
        if self.failure is not None:
            raise self.failure
        return None if self.off else ChangeGrounds(OrganizationSlug("acme"), self.api, self.policy)

    def allowed(self, grounds: ChangeGrounds) -> bool:
        self.off |= self.writes_off
        if self.edits:
            self.policy = self.edits.popleft()
        return not self.writes_off and grounds.policy == self.policy

    def protected_slug(self, team: TeamID) -> str | None:
        slug = self.held.get(team)
        return slug if slug in self.policy.protected_teams else None

    def seen_protected(self, team: TeamID, slug: str) -> None:
        self.held[team] = slug

    @contextlib.contextmanager
    def writing(self, team: TeamID) -> Iterator[None]:
        self.marks.append(f"begun {team}")
        try:
            yield
        finally:
            self.marks.append(f"ended {team}")

    def ended(self, task: MembershipTask, result: ChangeResult, user_name: str, reason: str = "") -> None:
        self.done.append((result, user_name, reason))

    def failed(self, task: MembershipTask, failure: Failure) -> None:
        self.failures.append((task.id, failure))


@dataclass
class Listener:
    """What was heard of the session: `greeted`, `answered`, or a failure, each with its time in seconds."""

    heard: list[tuple[str | Failure, float]] = field(default_factory=list)

    def c1_greeted(self) -> None:
        self._hear("greeted")

    def c1_answered(self) -> None:
        self._hear("answered")

    def c1_failed(self, failure: Failure) -> None:
        self._hear(failure)

    @property
    def failures(self) -> list[tuple[Failure, float]]:
        return [(what, at) for what, at in self.heard if isinstance(what, Failure)]

    def _hear(self, what: str | Failure) -> None:
        self.heard.append((what, seconds()))


@dataclass
class Session:
    """A session on all of these. `end` ends it as a connector does. `provisions` False: C1 was not offered changes."""

    c1: SilentC1 = field(default_factory=SilentC1)
    snapshots: Snapshots = field(default_factory=Snapshots)
    listener: Listener = field(default_factory=Listener)
    records: Records = field(default_factory=Records)
    patient: bool = False
    slots: int = 1
    changes: Changes | None = None
    provisions: bool = True
    clock: Clock = field(default_factory=VirtualClock)

    def begin(self, most_tasks: int = MOST_TASKS) -> asyncio.Task[None]:
        self.hello_slots = Slots(self.slots, shared=False)
        self.serving = C1Session(
            self.ports,
            lambda: self.hello_slots.slot("default"),
            patient=self.patient,
            most_tasks=most_tasks,
            provisions=self.provisions and self.changes is not None,
        )
        self.running = asyncio.create_task(self.serving.run())
        return self.running

    @property
    def ports(self) -> SessionPorts:
        changes = self.changes or Changes(off=True)
        ports = session_ports(self.c1, self.snapshots, changes, self.listener, self.records)
        return replace(ports, clock=self.clock)

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.wait({self.running})

    def sync_task(self, name: str, **changes: str) -> TaskID:
        """C1 hands out a sync task at its next poll."""
        self.c1.tasks.append(SyncTask(TaskID(name), SyncScope(), **changes))
        return TaskID(name)


def session_ports(
    c1: C1,
    snapshots: Snapshots | None = None,
    changes: Changes | None = None,
    listener: Listener | None = None,
    records: Records | None = None,
) -> SessionPorts:
    """What a handler of the connector `default.acme` works with, in virtual time."""
    return SessionPorts(
        "default.acme",
        c1,
        snapshots or Snapshots(),
        changes or Changes(off=True),
        listener or Listener(),
        VirtualClock(),
        NoJitter(),
        records or Records(),
    )
