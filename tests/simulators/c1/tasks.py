"""The simulated C1's ledger of hosts and tasks: who said Hello, who works on what, and what that allows.

Decides without I/O. Every method raises `Refused` where C1 would refuse.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from google.protobuf import json_format
from grpc import StatusCode

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2
from simulators.c1.journal import Journal
from simulators.c1.ksuid import ksuid
from simulators.c1.limits import Refused, precondition
from simulators.c1.policy import Policy

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
HEARTLESS = ("grant", "revoke")
"""Kinds of tasks that connectors send no heartbeats for; one that comes is taken, and prolongs the lease."""


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Who:
    """A connector as C1 tells them apart."""

    client_id: str
    host_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended. `code` is google.rpc's; 0 is success."""

    code: int
    message: str = ""
    non_retryable: bool = False

    @property
    def success(self) -> bool:
        return self.code == 0


@dataclass(slots=True)
class TaskRecord:
    """One task's life. `options` are the fields of its message, by their names.

    `retried_by_request`: whether it comes again is up to an access request. `clients`: any of them may be handed it.
    """

    id: str
    kind: str
    options: Mapping[str, Any]
    debug: bool = False
    client_id: str | None = None
    host_id: str | None = None
    state: State = State.QUEUED
    holder: Who | None = None
    handed_out: int = 0
    heartbeats: int = 0
    cancelled: bool = False
    cancel_told: bool = False
    delivered: bool = False
    handed_again: bool = False
    end_unanswered: bool = False
    retried_by_request: bool = False
    clients: Collection[str] | None = None
    outcome: Outcome | None = None
    alarm: asyncio.TimerHandle | None = field(default=None, repr=False)

    def message(self) -> pb.Task:
        fields = {"id": self.id, "debug": self.debug, "status": "STATUS_SCHEDULED", self.kind: self.options}
        return json_format.ParseDict(fields, pb.Task())

    def is_for(self, who: Who) -> bool:
        if self.clients is not None and who.client_id not in self.clients:
            return False
        return self.client_id in (None, who.client_id) and self.host_id in (None, who.host_id)


@dataclass(slots=True)
class Session:
    """What a host said of itself, each time."""

    hellos: list[pb.BatonServiceHelloRequest] = field(default_factory=list)
    user_agent: str = ""

    @property
    def provisions(self) -> bool:
        """Whether its last Hello announced that teams can be granted and revoked."""
        told = self.hellos[-1].connector_metadata.capabilities
        kinds = [each for each in told.resource_type_capabilities if each.resource_type.id == "team"]
        return any(connector_pb2.CAPABILITY_PROVISION in each.capabilities for each in kinds)


class Ledger:
    """Tasks in the order in which they were added, and the sessions that work on them.

    `watch` gets each task that was added, handed out or ended; `greet` each host that says Hello for the first time,
    with the name that it gives itself. `held_back`: clients that are handed nothing.
    """

    def __init__(self, policy: Policy, journal: Journal, call_later: CallLater) -> None:
        self.tasks: dict[str, TaskRecord] = {}
        self.sessions: dict[Who, Session] = {}
        self.watch: Callable[[TaskRecord], None] = lambda _: None
        self.greet: Callable[[Who, str], None] = lambda _, __: None
        self.held_back: list[Collection[str]] = []
        self._policy = policy
        self._journal = journal
        self._call_later = call_later
        self._due: dict[Who, asyncio.TimerHandle] = {}
        self._forgotten: set[Who] = set()

    def close(self) -> None:
        """No task is overdue and no sync due any more."""
        for record in self.tasks.values():
            self._expect_heartbeat(record, expected=False)
        for timer in self._due.values():
            timer.cancel()

    def forget_hosts(self) -> None:
        """Every host must say Hello again; one that does not know so yet breaks no contract."""
        self._forgotten |= set(self.sessions)
        self.sessions.clear()

    def add(
        self,
        kind: str = "sync_full",
        *,
        client_id: str | None = None,
        host_id: str | None = None,
        debug: bool = False,
        options: Mapping[str, Any] | None = None,
        retried_by_request: bool = False,
        clients: Collection[str] | None = None,
    ) -> str:
        """A task for that host, or any; its ID. Raises json_format.ParseError for a kind or option unknown."""
        record = TaskRecord(ksuid(), kind, options or {}, debug, client_id, host_id)
        record.retried_by_request = retried_by_request
        record.clients = clients
        record.message()
        self.tasks[record.id] = record
        self.watch(record)
        self._journal.announce()
        return record.id

    def cancel(self, task_id: str) -> None:
        """The next heartbeat says so; a task that nobody has yet is never handed out. Raises KeyError."""
        record = self.tasks[task_id]
        record.cancelled = True
        if record.state is State.QUEUED:
            self._end(record, Outcome(StatusCode.CANCELLED.value[0], "cancelled before it was handed out"))
        self._journal.announce()

    def waiting(self, who: Who) -> Iterator[TaskRecord]:
        """Tasks that this host may be handed."""
        if any(who.client_id in clients for clients in self.held_back):
            return iter(())
        return (t for t in self.tasks.values() if t.state is State.QUEUED and t.is_for(who))

    def hello(self, who: Who, request: pb.BatonServiceHelloRequest, user_agent: str) -> None:
        if request.task_id:
            record = self._running(who, request.task_id)
            if record.kind != "hello":
                raise precondition(f"task_id: {record.id} is a {record.kind} task; only a hello task is answered so")
            self._end(record, Outcome(0))
        session = self.sessions.setdefault(who, Session())
        session.hellos.append(request)
        session.user_agent = user_agent
        if len(session.hellos) == 1:
            self.greet(who, request.connector_metadata.display_name)
            if self._policy.sync_on_hello:
                self.sync_due(who)
            self._schedule_sync(who)
        self._journal.announce()

    def hand_out(self, who: Who, limit: int, known: Iterable[str] = ()) -> list[TaskRecord]:
        """At most `limit` tasks for this host, which now works on them."""
        self._greeted(who)
        known = frozenset(known)
        handed = [record for record in self.waiting(who) if record.id not in known][:limit]
        for record in handed:
            record.state, record.holder = State.RUNNING, who
            record.handed_out += 1
            self._expect_heartbeat(record)
            self.watch(record)
        return handed

    def heartbeat(self, who: Who, task_id: str) -> bool:
        """Whether the task is cancelled."""
        record = self._running(who, task_id, late=True)
        record.heartbeats += 1
        record.cancel_told = record.cancelled
        self._expect_heartbeat(record)
        return record.cancelled

    def uploading(self, who: Who, task_id: str) -> TaskRecord:
        """The task under which this host may upload."""
        record = self._running(who, task_id)
        if record.kind != "sync_full":
            raise precondition(f"task_id: {record.id} is a {record.kind} task; only sync_full takes an upload")
        if record.cancel_told:
            raise precondition(f"task_id: {record.id} is cancelled and the host was told")
        if not record.heartbeats:
            self._journal.violate(f"UploadAsset by {who.host_id}: no heartbeat came before it for {record.id}")
        return record

    def answer_lost(self, task_id: str) -> None:
        """The host does not know what became of its call: one more FinishTask is refused and no breach."""
        if (record := self.tasks.get(task_id)) is not None:
            record.end_unanswered = record.outcome is not None

    def finish(self, who: Who, task_id: str, outcome: Outcome) -> TaskRecord:
        record = self._running(who, task_id)
        if record.kind == "hello":
            raise precondition(f"task_id: {record.id} is a hello task; it is answered with Hello alone")
        if outcome.success and record.kind == "sync_full" and not record.delivered:
            told = f"task_id: {record.id} is a sync_full task without an accepted upload"
            raise Refused(StatusCode.FAILED_PRECONDITION, told, violation=not record.handed_again)
        if outcome.success and record.cancel_told:
            raise precondition(f"task_id: {record.id} is cancelled and the host was told")
        self._end(record, outcome)
        retry = not (outcome.success or outcome.non_retryable or record.cancelled)
        if retry and self._policy.retry_failed and not record.retried_by_request:
            self.again(record)
        return record

    def again(self, record: TaskRecord) -> str:
        """The same task under a new ID."""
        return self.add(
            record.kind,
            client_id=record.client_id,
            host_id=record.host_id,
            debug=record.debug,
            options=record.options,
            retried_by_request=record.retried_by_request,
            clients=record.clients,
        )

    def held(self, who: Who, task_id: str) -> TaskRecord:
        """The task that this host may end."""
        return self._running(who, task_id)

    def _greeted(self, who: Who) -> None:
        if who not in self.sessions:
            told = f"host_id: {who.host_id} has not said Hello"
            raise Refused(StatusCode.FAILED_PRECONDITION, told, violation=who not in self._forgotten)

    def _running(self, who: Who, task_id: str, *, late: bool = False) -> TaskRecord:
        """`late`: what comes just after the end is refused, but no breach: it was under way."""
        self._greeted(who)
        record = self.tasks.get(task_id)
        if record is None or not record.is_for(who) or record.holder not in (None, who):
            raise Refused(StatusCode.NOT_FOUND, f"task_id: this host has no task {task_id}")
        if record.state is State.FINISHED:
            breach = not late and not record.end_unanswered
            raise Refused(StatusCode.FAILED_PRECONDITION, f"task_id: {task_id} is finished already", violation=breach)
        if record.state is State.QUEUED:
            told = f"task_id: {task_id} has not been handed out"
            raise Refused(StatusCode.FAILED_PRECONDITION, told, violation=not record.handed_again)
        return record

    def _end(self, record: TaskRecord, outcome: Outcome) -> None:
        record.state, record.outcome = State.FINISHED, outcome
        self._expect_heartbeat(record, expected=False)
        self.watch(record)
        self._journal.announce()

    def _expect_heartbeat(self, record: TaskRecord, *, expected: bool = True) -> None:
        if record.alarm is not None:
            record.alarm.cancel()
            record.alarm = None
        if expected:
            patience = self._policy.heartbeat_interval * self._policy.heartbeat_grace
            if record.kind in HEARTLESS:
                patience = self._policy.change_lease
            record.alarm = self._call_later(patience, lambda: self._overdue(record, patience))

    def _overdue(self, record: TaskRecord, patience: float) -> None:
        record.alarm = None
        host_id = record.holder.host_id if record.holder else ""
        if self._policy.requeue_lost:
            record.state, record.holder, record.handed_again = State.QUEUED, None, True
            record.delivered = record.delivered and not self._policy.forget_uploads
        if record.kind in HEARTLESS:
            self._journal.announce()
        else:
            self._journal.violate(f"Heartbeat by {host_id}: none for {record.id} within {patience:g} s")

    def sync_due(self, who: Who) -> None:
        """C1 asks a host for one full sync at a time."""
        for record in self.tasks.values():
            open_ = record.state is not State.FINISHED and record.holder in (None, who)
            if record.kind == "sync_full" and open_ and record.is_for(who):
                return
        self.add(client_id=who.client_id, host_id=who.host_id)

    def _schedule_sync(self, who: Who) -> None:
        if self._policy.sync_every is None:
            return

        def fall_due() -> None:
            self.sync_due(who)
            self._schedule_sync(who)

        self._due[who] = self._call_later(self._policy.sync_every, fall_due)
