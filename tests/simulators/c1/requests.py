"""Access requests: what a person asked for and was granted in C1, until it is so or a person is told why not.

A request becomes a task; a task that fails for a while comes again, five times; what its end means for who has what
is kept in a book for each host, which each whole snapshot replaces.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from buildkite_connector.proto import baton_pb2 as pb
from simulators.c1.access import WHOLLY_KNOWN, Book, Form
from simulators.c1.ingest import Expected
from simulators.c1.policy import Policy
from simulators.c1.readings import Effect, Reading, read_answer
from simulators.c1.tasks import HEARTLESS, Ledger, TaskRecord, Who
from simulators.c1.uploads import Received

RETRIES = 5
WHOLE = tuple(Expected("full", expanded=expanded) for expanded in (True, False, None))


class Change(StrEnum):
    GRANT = "grant"
    REVOKE = "revoke"


@dataclass(slots=True)
class AccessRequest:
    """`tasks`: each attempt's id, the last one last. `reading`: of the last answer, an end once `ended_at` is set."""

    action: Change
    team: str
    role: str
    user: str
    made_at: datetime
    tasks: list[str] = field(default_factory=list)
    reading: Reading | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def id(self) -> str:
        return self.tasks[0]

    @property
    def grant_id(self) -> str:
        return f"team:{self.team}:{self.role}:user:{self.user}"


@dataclass(slots=True)
class _Kept:
    """A host's snapshot and what changed since it was ingested; read when it is asked for."""

    path: Path | None = None
    book: Book | None = None
    changes: list[Callable[[Book], None]] = field(default_factory=list)


class Requests:
    """All requests by the id of their first task, and C1's book of each host."""

    def __init__(self, policy: Policy, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self.requests: dict[str, AccessRequest] = {}
        self._policy = policy
        self._ledger = ledger
        self._now = now
        self._kept: dict[Who, _Kept] = {}
        self._by_task: dict[str, AccessRequest] = {}

    def make(
        self, who: Who, action: Change, *, team: str, role: str, user: str, form: Form = WHOLLY_KNOWN
    ) -> AccessRequest:
        """A task for that host, now. Raises LookupError for what its last snapshot does not name."""
        book = self.book(who)
        compose = book.grant_options if action is Change.GRANT else book.revoke_options
        options = compose(team, role, user, form)
        request = AccessRequest(action, team, role, user, self._now())
        task_id = self._ledger.add(
            action.value, client_id=who.client_id, host_id=who.host_id, options=options, retried_by_request=True
        )
        self._attempt(request, task_id)
        self.requests[request.id] = request
        return request

    def host(self, client_id: str | None, host_id: str | None) -> Who:
        """The only host of that client and name that said Hello. Raises LookupError."""
        names = ((who, who.client_id, who.host_id) for who in self._ledger.sessions)
        fits = [who for who, client, host in names if client_id in (None, client) and host_id in (None, host)]
        if len(fits) != 1:
            raise LookupError(f"expected one host, got {[who.host_id for who in fits]}")
        return fits[0]

    def book(self, who: Who) -> Book:
        """What C1 believes now."""
        kept = self._kept.setdefault(who, _Kept())
        if kept.book is None:
            kept.book = Book.read(kept.path) if kept.path else Book()
            for change in kept.changes:
                change(kept.book)
        return kept.book

    def ingested(self, received: Received) -> None:
        """A snapshot counts from now on; one of less than the whole, or that nobody read, changes nothing."""
        if received.expected in WHOLE and received.read is not None:
            self._kept[received.who] = _Kept(received.path)

    def read(self, who: Who, record: TaskRecord, request: pb.BatonServiceFinishTaskRequest) -> Reading | None:
        """What the end of a grant or revoke means; None for other kinds of tasks. Raises Refused."""
        if record.kind not in HEARTLESS:
            return None
        task = record.message()
        return read_answer(task, request, self.book(who).siblings(task.grant.entitlement.id))

    def end(self, who: Who, record: TaskRecord, reading: Reading) -> None:
        """Carries out what the end of a task means, which `read` found."""
        if reading.success:
            self._change(who, record.message(), reading)
            if self._policy.sync_after_change:
                self._ledger.sync_due(who)
        request = self._by_task.get(record.id)
        if request is None:
            return
        request.reading = reading
        if reading.effect is Effect.RETRY and len(request.tasks) <= RETRIES:
            self._attempt(request, self._ledger.again(record))
        else:
            request.ended_at = self._now()
            if self._policy.revoke_replaced and reading.replaced:
                self._revoke_replaced(who, request)

    def _attempt(self, request: AccessRequest, task_id: str) -> None:
        request.tasks.append(task_id)
        self._by_task[task_id] = request

    def _change(self, who: Who, task: pb.Task, reading: Reading) -> None:
        def change(book: Book) -> None:
            if task.WhichOneof("task_type") == "grant":
                for grant in reading.grants:
                    book.grants[grant.id] = grant
                for replaced in reading.replaced:
                    book.grants.pop(replaced, None)
            else:
                grant = task.revoke.grant
                book.grants.pop(f"{grant.entitlement.id}:user:{grant.principal.id.resource}", None)

        kept = self._kept.setdefault(who, _Kept())
        kept.changes.append(change)
        if kept.book is not None:
            change(kept.book)

    def _revoke_replaced(self, who: Who, request: AccessRequest) -> None:
        """C1 may all the same send the revoke of what a grant replaced."""
        for replaced in request.reading.replaced if request.reading else ():
            role = replaced.split(":")[2]
            form = Form(known=False)
            self.make(who, Change.REVOKE, team=request.team, role=role, user=request.user, form=form)
