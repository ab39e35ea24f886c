"""One connector's life without an event loop: the real decisions and transitions, and a model of what was begun.

`Life` performs what `decisions` answers as `connector.connector` does, and keeps its own account of what runs, of the
files on the disk, of what C1 has and of what Buildkite said. Whatever breaks a promise raises `BrokenPromise` at the
action that breaks it; what must hold after every step is in `promises`, what can happen in `events`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from buildkite_connector.connector import transitions
from buildkite_connector.connector.c1_side import look_due
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import (
    Answer,
    answer,
    check_due,
    next_look,
    session_due,
    session_over,
    why_cancel,
    why_sync,
)
from buildkite_connector.connector.state import ConnectorState, DesiredState, SyncRun, claimed_identity
from buildkite_connector.model.directory import Counts, SyncScope
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.status import C1State, ConnectorStatus, Trigger
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import Instant
from fakes.lives.account import (
    BrokenPromise,
    Check,
    Failed,
    Sync,
    SyncPhase,
    Task,
    Unread,
    covered,
    promise,
)
from fakes.lives.choices import GOOD, START

ROUNDS = 5


@dataclass
class Life:
    """`log` tells the story of a life that broke a promise.

    `look`: the generation that a look at C1's REST API was begun for. `c1_shows` is what that shows; it wants to be
    left alone until `c1_put_off`, and accepted to sync for the snapshots in `forced`; it failed those in `forced_again`
    at first.
    """

    now: Instant = field(default_factory=lambda: Instant(START, 1000.0))
    luck: float = 0.5
    desired: DesiredState = field(
        default_factory=lambda: DesiredState(1, ConnectorSpec(host_id="default.acme"), Unread())
    )
    secret: Credentials | Failure = GOOD
    holder: str | None = None
    check: Check | None = None
    check_failed_at: tuple[float, float] | None = None
    c1_open: bool = False
    c1_closing: bool = False
    sync: SyncPhase | None = None
    tasks: dict[TaskID, Task] = field(default_factory=dict)
    files: dict[str, StagedSnapshot] = field(default_factory=dict)
    syncs: dict[SyncID, Sync] = field(default_factory=dict)
    delivered: tuple[SyncID, Counts, datetime] | None = None
    read: Credentials | None = None
    checked: tuple[object, float, bool] | None = None
    cleared: int = 0
    blocked_until: float = 0.0
    requested_at: float = float("-inf")
    check_requested_at: float = float("-inf")
    put_off_to: datetime | None = None
    failed: Failed | None = None
    failures: int = 0
    jumped: bool = False
    wake: float | None = None
    written: ConnectorStatus = field(default_factory=ConnectorStatus)
    numbers: int = 0
    log: list[tuple[str, object]] = field(default_factory=list)
    look: int | None = None
    c1_shows: C1State = field(default_factory=C1State)
    c1_put_off: float = float("-inf")
    forced: set[SyncID] = field(default_factory=set)
    forced_again: set[SyncID] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.state = transitions.begin(self.desired, None, self.now)
        self.apply()

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    @property
    def status(self) -> ConnectorStatus:
        """What the state is for people, now."""
        state, now = self.derived_of
        return self.derived if state is self.state and now == self.now else derive_status(self.state, self.now)

    # One step, as `Connector._apply` makes it

    def apply(self, transition: Callable[[ConnectorState], ConnectorState] | None = None) -> None:
        if transition is not None:
            staged = self.state.staged
            self.state = transition(self.state)
            if staged is not None and self.state.staged is not staged:
                del self.files[staged.sha256]  # a task that was answered with it has it open
            self.sync_started_or_not()
        holder = self.holder if claimed_identity(self.state) is not None else None
        if holder != self.state.host_id_holder:
            self.state = replace(self.state, host_id_holder=holder)
        self.begin_all()
        self.derived = derive_status(self.state, self.now)
        if self.now.monotonic >= self.state.status_held_until:
            self.written = self.derived
            self.state = replace(self.state, records=self.written)
        self.derived_of = (self.state, self.now)
        self.wake = next_look(self.state, self.now)
        self.jumped = False

    def begin_all(self) -> None:
        for _ in range(ROUNDS):
            before = self.state
            self.tend()
            if self.state is before:
                return
        promise(False, "what is begun is not begun again: a step comes to an end", self.state)

    def tend(self) -> None:
        """As `Connector._begin_and_end`."""
        if self.check is None and check_due(self.state, self.now):
            self.begin_check(forced=True)
        if session_over(self.state):
            promise(self.c1_open and not self.c1_closing, "a session is closed once", self.state.c1)
            self.begins("close C1")
            self.c1_closing = True
            self.state = transitions.c1_closing(self.state, self.now)
        identity = session_due(self.state, self.now)
        if identity is not None and not self.c1_open:
            self.begins("C1", acts=True)
            self.c1_open = True
            self.state = transitions.c1_opened(self.state, identity, self.now)
        for request in self.state.requests:
            found = answer(self.state, request, self.now)
            if found is None:
                continue
            self.begins(found, acts=isinstance(found, Answer))
            self.state = transitions.request_ended(self.state, request.task)
            self.waiting(request.task)
            if isinstance(found, Answer):
                self.answer(request.task, found)
            else:
                del self.tasks[request.task]
        if self.sync is None and self.state.can_sync and why_sync(self.state, self.now) is not None:
            self.begins("sync", acts=True)
            self.sync = SyncPhase.QUEUED
        elif self.sync in {SyncPhase.QUEUED, SyncPhase.RUNNING} and (why := why_cancel(self.state, self.now)):
            self.begins(why)
            self.sync = SyncPhase.CANCELLING
        if self.look is None and look_due(self.state, self.now):
            self.begins("look", acts=True)
            promise(self.state.desired.spec.c1 is not None, "without spec.c1 nothing is asked", self.state.c1_side)
            put_off = self.now.monotonic < self.c1_put_off
            promise(not put_off, "C1 is left alone for as long as it asks", self.c1_put_off)
            self.look = self.state.desired.generation

    @property
    def is_due(self) -> bool:
        """Whether there is something to begin or to end."""
        state, now = self.state, self.now
        begins = self.sync is None and state.can_sync and why_sync(state, now) is not None
        ends = self.sync in {SyncPhase.QUEUED, SyncPhase.RUNNING} and why_cancel(state, now) is not None
        return (
            (self.check is None and check_due(state, now))
            or session_over(state)
            or (not self.c1_open and session_due(state, now) is not None)
            or any(answer(state, each, now) is not None for each in state.requests)
            or begins
            or ends
            or (self.look is None and look_due(state, now))
        )

    def begin_check(self, *, forced: bool) -> None:
        self.begins(f"check, {forced=}", acts=True)
        asked = (self.desired.generation, self.desired.sync_request)
        again = self.checked in ((asked, self.now.monotonic, True), (asked, self.now.monotonic, forced))
        promise(not again, "a Secret is not read again at once, but for a check that asks more", asked)
        self.checked = (asked, self.now.monotonic, forced)
        self.check = Check(self.state.desired, self.state.check.credentials, forced)
        self.check_requested()
        if forced:
            self.state = transitions.forced_check_begun(self.state, self.now)

    def begins(self, what: object, *, acts: bool = False) -> None:
        """`acts`: what a suspended connector does not do."""
        self.log.append(("    begins", what))
        promise(not (acts and self.state.desired.spec.suspend), "a suspended connector does not act", what)

    # What an action may do

    def waiting(self, task_id: TaskID) -> Task:
        task = self.tasks.get(task_id)
        if task is None or task.answer is not None:
            raise BrokenPromise(f"who gets an answer waits for one: {task_id}")
        return task

    def answer(self, task_id: TaskID, answer: Answer) -> None:
        task, whole = self.waiting(task_id), answer.snapshot
        spec = self.desired.spec
        asked = task.scope
        wanted = SyncScope(asked.kinds & spec.kinds, asked.entitlements, asked.grants, asked.expanded)
        promise(
            bool(wanted.kinds) and answer.scope == wanted, "an answer is of the scope that its task asks for", answer
        )
        promise(whole.scope.includes(wanted), "a snapshot that leaves holds what its task asks for", answer)
        promise(whole.sha256 in self.files, "a file that leaves is there", answer)
        sync = self.syncs[whole.sync_id]
        current = sync.generation == self.desired.generation and sync.credentials in {None, self.read}
        promise(current, "nothing leaves that is older than a change of the resource or its Secret", answer)
        age = (self.now.wall - sync.finished).total_seconds()
        fresh = 0 <= age < spec.max_snapshot_age or sync.started >= task.asked_at
        promise(fresh, "nothing older than maxSnapshotAge leaves, unless its sync began after the task", (age, answer))
        promise(not self.held(whole), "nothing leaves that the shrink guard holds", (self.delivered, answer))
        task.answer = answer
        counts = whole.counts.within(wanted)
        derived = replace(whole, sha256=f"part-{whole.sha256}", size=500, counts=counts, scope=wanted)
        task.file = whole if wanted == whole.scope else derived

    def held(self, snapshot: StagedSnapshot) -> bool:
        """Whether it lost too much since what C1 has, or since what a person accepted later."""
        before = self.baseline
        if before is None or self.delivered is None:
            return False
        if snapshot.sync_id in {self.delivered[0], self.desired.accept_shrink}:
            return False
        limit = self.desired.spec.max_drop_percent
        amounts = [(getattr(before, name), getattr(snapshot.counts, name)) for name in covered(snapshot.scope)]
        return limit > 0 and any(old and 100 * (old - new) > limit * old for old, new in amounts)

    @property
    def baseline(self) -> Counts | None:
        """What C1 has, with what the sync covered that a person accepted later. No teams are taken for no answer."""
        if self.delivered is None:
            return None
        _, before, time = self.delivered
        accepted = self.desired.accept_shrink
        sync = self.syncs.get(SyncID(accepted)) if accepted is not None else None
        if sync is None or sync.finished <= time:
            return before
        known = {name: count for name, count in asdict(sync.counts).items() if count is not None}
        for name, principal in (("accounts", "accounts"), ("teams", "teams"), ("memberships", "teams")):
            if not getattr(sync.counts, principal):
                del known[name]
        return replace(before, **known)

    @property
    def held_back(self) -> str | None:
        """The id of the staged snapshot, when the shrink guard holds it."""
        staged = self.state.staged
        return staged.sync_id if staged is not None and self.held(staged) else None

    def sync_started_or_not(self) -> None:
        """After a transition: has the sync that waited for a slot one, or is it not wanted any more?"""
        sync = self.state.sync
        if self.sync is SyncPhase.QUEUED and sync is not None:
            self.sync = SyncPhase.RUNNING
            self.sync_starts(sync)

    def sync_starts(self, run: SyncRun) -> None:
        wall, monotonic = self.now.wall, self.now.monotonic
        promise(not self.desired.spec.suspend, "a suspended connector does not act", run)
        promise(monotonic >= self.blocked_until, "no sync begins before what Buildkite said", run)
        current = run.generation == self.desired.generation and run.credentials == self.read
        promise(current and run.spec == self.desired.spec, "a sync works with what is desired now", run)
        cleared = self.cleared == self.desired.generation and self.check_failed_at is None
        works = self.read is not None and cleared
        promise(works, "no sync begins that a check did not clear", run)
        if run.trigger is Trigger.REQUEST:
            apart = monotonic - self.requested_at
            last = self.state.records.history[0] if self.state.records.history else None
            again = last is not None and not last.succeeded and last.trigger is Trigger.REQUEST
            promise(again or apart >= 10.0 - 1e-6, "requested syncs of one connector are 10 s apart", (run, apart))
            self.requested_at = monotonic
        far = self.failed is None or self.failed.excused or wall >= self.failed.not_before
        promise(far, "syncs after a failure keep their distance", (run, self.failed))

    def check_requested(self) -> None:
        """A check begins; at times only because an annotation asks a connector that is blocked to try again."""
        check, desired, now = self.state.check, self.desired, self.now.monotonic
        other = check.generation != desired.generation or (check.forced_due <= now and self.check_failed_at is not None)
        if self.check is None or not self.check.forced or other or self.state.blocked_by is None:
            return
        apart = now - self.check_requested_at
        promise(apart >= 10.0 - 1e-6, "checks that annotations ask for are 10 s apart", apart)
        self.check_requested_at = now

    def excuse(self) -> None:
        """Something happened for which the next sync need not wait for the backoff of the last."""
        if self.failed is not None:
            self.failed.excused = True

    @property
    def run(self) -> SyncRun:
        assert self.state.sync is not None
        return self.state.sync

    def pass_time(self, seconds: float) -> None:
        self.now = Instant(self.now.wall + timedelta(seconds=seconds), self.now.monotonic + seconds)
