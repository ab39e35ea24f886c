"""What answering C1's tasks needs: C1 itself, snapshots, and somebody who hears how C1 is."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from buildkite_connector.model.directory import OrganizationSlug, TeamID
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ChangeResult
from buildkite_connector.model.tasks import Heartbeat, MembershipTask, Poll, SyncTask, TaskID, TaskOutcome
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.timing.clock import Clock


class TaskService(Protocol):
    """C1's BatonService, for one connector. Every method but `aclose` raises Failure."""

    async def hello(self, task_id: TaskID | None = None) -> None: ...

    async def next_task(self) -> Poll: ...

    async def heartbeat(self, task_id: TaskID) -> Heartbeat: ...

    async def upload(self, task_id: TaskID, file: OpenSnapshot, sent: Callable[[], None]) -> None:
        """`sent` is called when the whole file is on its way and only C1's answer is outstanding."""
        ...

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None: ...

    async def aclose(self) -> None: ...


class Snapshots(Protocol):
    """Where sync tasks get their snapshots, and where deliveries are recorded."""

    async def snapshot_for(self, task: SyncTask) -> OpenSnapshot:
        """A snapshot of the task's scope that may go out; its file stays readable when a newer one takes its place.

        Raises Failure: no sync succeeded, or the snapshot is held back. Cancelled, it withdraws the request: a sync
        that only this task asked for is cancelled.
        """
        ...

    def still_true(self, snapshot: StagedSnapshot) -> bool:
        """Whether it shows all changes that were made through this connector: asked again right before an upload."""
        ...

    def delivered(self, task: SyncTask, snapshot: StagedSnapshot) -> None:
        """C1 has the snapshot and has taken the task's end."""
        ...

    def delivery_failed(self, snapshot: StagedSnapshot, failure: Failure) -> None: ...


@dataclass(frozen=True, slots=True)
class ChangeGrounds:
    """What a change is made with now: where, with which access, and what is allowed."""

    organization: OrganizationSlug
    memberships: BuildkiteAPI
    policy: Provisioning


class MembershipChanges(Protocol):
    """Lets tasks change memberships while that is allowed, and records what came of them."""

    def lock(self, team: TeamID) -> AbstractAsyncContextManager[None]:
        """The lock of this team: its changes are made one after the other."""
        ...

    async def grounds(self) -> ChangeGrounds | None:
        """None while provisioning is off. Waits a while for a check that is under way. Raises Failure."""
        ...

    def allowed(self, grounds: ChangeGrounds) -> bool:
        """Whether a write may be sent on these grounds at this moment: asked again right before each."""
        ...

    def protected_slug(self, team: TeamID) -> str | None:
        """The protected slug that this team is known to have or to have had; None: none."""
        ...

    def seen_protected(self, team: TeamID, slug: str) -> None:
        """The team of this protected slug: it stays protected when it is renamed."""
        ...

    def writing(self, team: TeamID) -> AbstractContextManager[None]:
        """A write to this team may take effect within the context: no snapshot from before it counts after it."""
        ...

    def ended(self, task: MembershipTask, result: ChangeResult, user_name: str, reason: str = "") -> None:
        """The task is done, or was refused."""
        ...

    def failed(self, task: MembershipTask, failure: Failure) -> None:
        """The task failed."""
        ...


class SessionListener(Protocol):
    """Hears how the session with C1 goes. None of these raises."""

    def c1_greeted(self) -> None:
        """C1 answered Hello."""
        ...

    def c1_answered(self) -> None:
        """C1 answered GetTask."""
        ...

    def c1_failed(self, failure: Failure) -> None:
        """C1 did not answer the first Hello, has not answered for a while, or refused the client."""
        ...


@dataclass(frozen=True, slots=True)
class SessionPorts:
    """What a session with C1 works with. `name` is the connector's, for the log."""

    name: str
    service: TaskService
    snapshots: Snapshots
    changes: MembershipChanges
    listener: SessionListener
    clock: Clock
    jitter: Jitter
    observer: Observer = SILENT


@dataclass(eq=False, slots=True)
class TaskProgress:
    """How far the work of one task is, as its handler says.

    `awaits_answer`: the work is done but for the other side's answer, which the end of the session awaits.
    """

    awaits_answer: bool = False
