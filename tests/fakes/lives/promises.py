"""What must hold after every step of a connector's life, and what must come once nothing stands in the way."""

from buildkite_connector.connector.decisions import reread_at
from buildkite_connector.connector.state import C1Phase
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import Interval
from buildkite_connector.model.status import C1State, C1SyncState, ConditionStatus, ConditionType, ConnectorStatus
from buildkite_connector.timing.clock import LONGEST_PUT_OFF
from fakes.lives import c1_side, choices, session, surroundings, work
from fakes.lives.account import SyncPhase, promise
from fakes.lives.events import ENDS
from fakes.lives.life import Life

SETTLES_WITHIN = LONGEST_PUT_OFF + 3000.0
"""Seconds: what the other side said at most, and the longest backoff."""
LATE = 1000.0
"""Seconds by which a connector is stepped too late, so that the many reads of its Secret take less of the test."""
ROUNDS = 100


def check_promises(life: Life) -> None:
    state, desired = life.state, life.desired
    suspended = desired.spec.suspend
    asleep = life.wake is None and reread_at(state) is None and not suspended and not _runs(life)
    promise(not asleep, "a connector that does nothing has a time to wake at", state)
    if suspended:
        ends = life.sync in {None, SyncPhase.CANCELLING} and (not life.c1_open or life.c1_closing)
        promise(ends, "a suspended connector ends what it does", state)
    else:
        checked = state.check.generation == desired.generation or life.check is not None
        promise(checked, "an edit is checked", state.check)
        _check_is_repeated(life)
        _tasks_wait_for_something(life)
        _what_is_due_is_under_way(life)
    check_status(life.status)
    c1_side.check_c1_side(life)
    c1_side.check_c1_synced(life, life.status)


def _runs(life: Life) -> bool:
    """Whether something is under way that ends by itself."""
    hello = life.c1_open and not life.state.c1.settled
    return any((life.check, life.c1_closing, life.sync, hello, life.look))


def _check_is_repeated(life: Life) -> None:
    if life.check_failed_at is None or life.check is not None:
        return
    failed_at, longest = life.check_failed_at
    repeated = "a check that failed is repeated"
    promise(life.state.check.failure is not None, repeated, life.state.check)
    promise(life.now.monotonic < failed_at + longest + 1e-3, repeated, (life.check_failed_at, life.now))


def _tasks_wait_for_something(life: Life) -> None:
    state = life.state
    waiting = [task_id for task_id, task in life.tasks.items() if task.answer is None]
    promise(waiting == [each.task for each in state.requests], "a task that waits is known", state.requests)
    if waiting:
        promise(state.blocked_by is None, "no task waits for a connector that cannot sync", state.blocked_by)
        promise(life.sync is not None or _can_begin_soon(life), "a task waits only for what is under way", state)


def _can_begin_soon(life: Life) -> bool:
    """Whether a sync cannot begin because of something that ends by itself."""
    return bool(life.check or life.c1_closing or not life.state.c1.settled)


def _what_is_due_is_under_way(life: Life) -> None:
    state, now = life.state, life.now
    at = state.records.next_sync_time
    requested = life.desired.sync_request not in {None, state.records.last_handled_sync_request}
    due = (requested and now.monotonic >= life.requested_at + 10.0) or at is None or at <= now.wall
    said = max(life.blocked_until, state.sync_blocked_until)
    if due and not life.jumped and now.monotonic >= said and life.sync is None:
        waits = state.blocked_by is not None or _can_begin_soon(life)
        promise(waits, "what is due is under way, or a failure that has a wake time is in the way", state)


def check_status(status: ConnectorStatus) -> None:
    conditions = {each.type: each for each in status.conditions}
    both = ConditionType.STALLED in conditions and ConditionType.RECONCILING in conditions
    promise(not both, "Stalled and Reconciling are never both there", status.conditions)
    if conditions[ConditionType.READY].status is ConditionStatus.TRUE:
        parts = (ConditionType.CREDENTIALS_VALID, ConditionType.SYNCED)
        true = all(conditions[each].status is ConditionStatus.TRUE for each in parts)
        promise(true, "Ready means that the credentials are valid and the last sync succeeded", status.conditions)
        promise(ConditionType.STALLED not in conditions, "a Ready connector is not Stalled", status.conditions)
    promise(all(each.message for each in status.conditions), "every condition has a message", status.conditions)


def bring_up(life: Life) -> None:
    """All goes well until the first snapshot is staged."""
    while life.state.staged is None:
        promise(_go_on(life), "a new connector syncs", life.state)


def check_it_settles(life: Life) -> None:
    """Once nothing stands in the way, what was asked for happens, within the longest wait."""
    _clear_the_way(life)
    started = life.now.monotonic
    for _ in range(ROUNDS):
        check_promises(life)
        if not _go_on(life):
            if _is_settled(life):
                break
            life.pass_time(LATE)
            life.apply()
    came = "what was asked for happens once nothing stands in the way"
    promise(_is_settled(life), came, (life.now.monotonic - started, life.state))
    promise(life.now.monotonic - started <= SETTLES_WITHIN, came, life.now.monotonic - started)
    kept = {life.state.staged.sha256} if life.state.staged is not None else set()
    promise(set(life.files) == kept, "a file that no longer serves is removed", life.files)
    _the_schedule_goes_on(life)


def _clear_the_way(life: Life) -> None:
    life.secret = choices.GOOD
    life.c1_shows = C1State(C1SyncState.DONE)
    spec = life.desired.spec
    if spec.suspend or life.desired.spec_error is not None or not isinstance(spec.schedule, Interval):
        surroundings.edit(life, {"suspend": False, "schedule": Interval(3600.0)})
    if life.holder is not None:
        surroundings.another_connector_comes_or_goes(life, 0)


def _go_on(life: Life) -> bool:
    """End one thing that is under way, well; False: nothing is."""
    if life.check is not None:
        return work.end_check(life, None)
    if life.sync is SyncPhase.RUNNING:
        work.finish_sync(life, 0)
        return True
    if any(event(life, 0) for event in (*ENDS, c1_side.a_look_goes_well)):
        return True
    c1 = life.state.c1
    if life.c1_open and c1.phase is C1Phase.OPEN and not c1.ended and (not c1.greeted or c1.failure is not None):
        return session.c1_answers(life, 0)
    if life.held_back:
        surroundings.annotate(life, accept_shrink=life.held_back)
        return True
    return work.its_secret_is_read_again(life)


def _is_settled(life: Life) -> bool:
    state = life.state
    ready = state.records.conditions and state.records.conditions[0]
    return bool(
        not _runs(life)
        and not life.tasks
        and life.desired.sync_request in {None, state.records.last_handled_sync_request}
        and state.records.next_sync_time is not None
        and state.records.next_sync_time > life.now.wall
        and not state.outdated
        and c1_side.due_at_c1(life) is None
        and ready
        and (ready.status is ConditionStatus.TRUE or _delivery_failed(life))
    )


def _delivery_failed(life: Life) -> bool:
    """The last upload failed, and C1 has not asked since."""
    failure: Failure | None = life.state.delivery_failure
    others = (life.state.blocked_by, life.state.sync_failure, life.state.c1.failure)
    return failure is not None and others == (None, None, None) and life.state.c1.greeted


def _the_schedule_goes_on(life: Life) -> None:
    at = life.state.records.next_sync_time
    assert at is not None
    put_off = life.blocked_until - life.now.monotonic
    life.pass_time(max((at - life.now.wall).total_seconds(), put_off, 0.0) + 1.0)
    life.apply()
    check_promises(life)
