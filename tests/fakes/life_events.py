"""What can happen to a connector in a random life; see `connector_life`.

An event takes a number, from which it draws its details, and gives whether it could happen.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from buildkite_connector.connector import credential_transitions as on_credentials
from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.credential_transitions import CheckResult
from buildkite_connector.connector.decisions import decide
from buildkite_connector.connector.state import SnapshotRequest, SyncPhase
from buildkite_connector.connector.status_hold import hold_status
from buildkite_connector.model.failure import Failure, Remedy
from buildkite_connector.model.schedule import check_schedule
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, Credentials
from buildkite_connector.model.status import ConnectorStatus, Phase, SyncRecord
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.sync.preflight import ScopesMissing
from buildkite_connector.timing.backoff import BETWEEN_SYNCS, LONGEST_RETRY_AFTER
from buildkite_connector.timing.clock import Instant
from fakes import life_choices as choices
from fakes.connector_life import Failed, Life, Sync, Task, cut, promise

Event = Callable[[Life, int], bool]


def pick(options: tuple[Any, ...], number: int) -> Any:
    return options[number % len(options)]


# Time


def time_passes(life: Life, number: int) -> bool:
    """Any length of time; the connector is stepped when its wake time has come, if late."""
    seconds = pick(choices.SECONDS, number)
    due = None if life.wake is None else life.wake - life.now.monotonic
    if due is not None and due <= seconds:
        life.pass_time(due if number % 2 else seconds)
        life.apply()
        return True
    before = life.state.records
    life.pass_time(seconds)
    last = life.state.records.last_sync
    if not life.jumped and (last is None or last.finished_at <= life.now.wall):  # a clock set back starts no wait
        quiet = "before its wake time a connector has nothing to do and nothing new to report"
        actions = decide(life.state, life.now)
        promise(not actions, quiet, (seconds, actions))
        if not hold_status(life.state, life.now):
            promise(derive_status(life.state, life.now) == before, quiet, seconds)
    return True


def it_wakes(life: Life, number: int) -> bool:
    if life.wake is None:
        return False
    life.pass_time(life.wake - life.now.monotonic)
    life.apply()
    return True


def the_clock_is_set(life: Life, number: int) -> bool:
    life.now = Instant(life.now.wall + timedelta(seconds=pick(choices.JUMPS, number)), life.now.monotonic)
    life.jumped = True
    life.excuse()
    return True


# The resource and the Secret


def edit(life: Life, changes: dict[str, object], spec_error: Failure | None = None) -> None:
    desired = replace(
        life.desired,
        generation=life.desired.generation + 1,
        spec=replace(life.desired.spec, **changes),  # type: ignore[arg-type]  # checked by the dataclass
        spec_error=spec_error,
    )
    life.desired = desired
    life.excuse()
    life.apply(lambda state: transitions.desired_changed(state, desired, life.now))


def it_is_edited(life: Life, number: int) -> bool:
    edit(life, pick(choices.EDITS, number), choices.SPEC_INVALID if number >= 240 else None)
    return True


def annotate(life: Life, **annotations: str) -> None:
    desired = life.desired = replace(life.desired, **annotations)  # type: ignore[arg-type]  # strings both
    life.apply(lambda state: transitions.desired_changed(state, desired, life.now))


def a_sync_is_requested(life: Life, number: int) -> bool:
    life.excuse()
    annotate(life, sync_request=f"request{life.number()}")
    return True


def a_shrink_is_accepted(life: Life, number: int) -> bool:
    if life.state.staged is None:
        return False
    annotate(life, accept_shrink=life.state.staged.sync_id if number % 4 else "something else")
    return True


def the_secret_changes(life: Life, number: int) -> bool:
    life.secret = pick(choices.SECRETS, number)
    return True


def another_connector_comes_or_goes(life: Life, number: int) -> bool:
    life.holder = ConnectorKey("default.older") if life.holder is None else None
    life.apply()
    return True


# The check


def the_check_ends(life: Life, number: int) -> bool:
    failure = choices.CHECK_FAILURES[number % 5] if number >= 210 else None
    if number >= 250:
        failure = ScopesMissing("The token lacks read_teams.", ("read_teams",))
    return end_check(life, failure)


def end_check(life: Life, failure: Failure | None) -> bool:
    check = life.check
    if check is None:
        return False
    life.check = None
    generation, request = check.desired.generation, check.desired.sync_request
    unread = _spec_failure(life) or (life.secret if isinstance(life.secret, Failure) else None)
    credentials = life.secret if isinstance(life.secret, Credentials) else None
    if unread is not None:
        result = CheckResult(generation, request, None, failure=unread)
    elif not check.full and credentials == check.known:
        result = CheckResult(generation, request, credentials)
    elif failure is not None:
        missing = failure.missing if isinstance(failure, ScopesMissing) else ()
        result = CheckResult(generation, request, credentials, None, missing, failure, asked_buildkite=True)
    else:
        result = CheckResult(generation, request, credentials, choices.PREFLIGHT, asked_buildkite=True)
    if generation == life.desired.generation:
        _learn(life, result)
    life.apply(lambda state: on_credentials.check_finished(state, result, life.now, life.waits))
    return True


def _spec_failure(life: Life) -> Failure | None:
    assert life.check is None
    try:
        check_schedule(life.desired.spec.schedule)
    except Failure as failure:
        return life.desired.spec_error or failure
    return life.desired.spec_error


def _learn(life: Life, result: CheckResult) -> None:
    """The life's own account of what is known of the Secret and of Buildkite's answer."""
    unread = result.failure is not None and result.credentials is None and result.failure.remedy is Remedy.RETRY
    if unread:
        if not life.state.checked:
            _check_failed(life, result.failure)
        return
    if result.credentials != life.read:
        if None not in (life.read, result.credentials):
            life.excuse()
        life.read = result.credentials
        for sync_id, sync in life.syncs.items():
            if sync.credentials is None and life.read is not None:
                life.syncs[sync_id] = replace(sync, credentials=life.read)
    if result.failure is not None:
        _check_failed(life, result.failure)
    elif result.asked_buildkite:
        if life.check_failed_at is not None:
            life.excuse()
        life.check_failed_at = None


def _check_failed(life: Life, failure: Failure | None) -> None:
    assert failure is not None
    longest = max(900.0, min(failure.retry_after or 0.0, LONGEST_RETRY_AFTER))
    said(life, failure)
    life.check_failed_at = (life.now.monotonic, longest if failure.remedy is Remedy.RETRY else 300.0)


def said(life: Life, failure: Failure) -> float:
    """For how many seconds Buildkite wants to be left alone."""
    seconds = min(failure.retry_after or 0.0, LONGEST_RETRY_AFTER)
    life.blocked_until = max(life.blocked_until, life.now.monotonic + seconds)
    return seconds


def an_action_breaks(life: Life, number: int) -> bool:
    """An error of the operator itself ends the check."""
    if life.check is None:
        return False
    life.check = None
    _check_failed(life, choices.INTERNAL)
    error = RuntimeError("unexpected")
    life.apply(lambda state: on_credentials.failed_unexpectedly(state, error, life.now, life.waits))
    return True


def the_file_is_restored(life: Life, number: int) -> bool:
    sha256 = life.restoring
    if sha256 is None:
        return False
    life.restoring = None
    staged = life.files.get(sha256)
    life.apply(lambda state: transitions.snapshot_restored(state, staged))
    return True


# The session with C1


def c1_answers(life: Life, number: int) -> bool:
    if not life.c1_open or life.c1_closing or life.state.c1.ended:
        return False
    if not life.state.c1.greeted:
        life.apply(on_credentials.c1_greeted)
        return True
    if life.state.c1.failure is not None:
        life.apply(on_credentials.c1_answered)
    return True


def c1_fails(life: Life, number: int) -> bool:
    if not life.c1_open or life.state.c1.ended:
        return False
    failure = pick(choices.C1_FINAL, number) if number >= 200 else pick(choices.C1_PASSING, number)
    life.apply(lambda state: on_credentials.c1_failed(state, failure, life.now, life.waits))
    return True


def c1_is_closed(life: Life, number: int) -> bool:
    if not life.c1_closing:
        return False
    for task_id in [*life.tasks]:
        _leave(life, task_id)
    life.c1_open = life.c1_closing = False
    life.apply(on_credentials.c1_closed)
    return True


# C1's tasks


def c1_asks(life: Life, number: int) -> bool:
    c1 = life.state.c1
    if not life.c1_open or life.c1_closing or not c1.greeted or c1.ended or len(life.tasks) >= 3:
        return False
    ask(life, pick(choices.SCOPES, number))
    return True


def ask(life: Life, scope: SyncScope) -> None:
    task_id = TaskID(f"task{life.number()}")
    life.tasks[task_id] = Task(scope, life.now.monotonic)
    request = SnapshotRequest(task_id, scope, life.now.monotonic)
    life.apply(lambda state: transitions.snapshot_requested(state, request))


def c1_withdraws(life: Life, number: int) -> bool:
    if not life.tasks:
        return False
    _leave(life, pick(tuple(life.tasks), number))
    return True


def _leave(life: Life, task_id: TaskID) -> None:
    task = life.tasks.pop(task_id)
    if not task.ending:
        life.apply(lambda state: transitions.delivery_ended(state, task_id))


def an_upload_ends(life: Life, number: int) -> bool:
    uploading = [(task_id, task) for task_id, task in life.tasks.items() if task.file is not None and not task.ending]
    if not uploading:
        return False
    task_id, task = pick(tuple(uploading), number)
    file = task.file
    if number >= 200:
        failure = pick(choices.UPLOAD_FAILURES, number)
        life.apply(lambda state: transitions.delivery_failed(state, file, failure))
        _leave(life, task_id)
        return True
    task.ending = True
    life.apply(lambda state: transitions.delivery_ended(state, task_id))
    return True


def c1_takes_the_end(life: Life, number: int) -> bool:
    ending = [(task_id, task) for task_id, task in life.tasks.items() if task.ending]
    if not ending:
        return False
    task_id, task = pick(tuple(ending), number)
    file = task.file
    assert file is not None
    del life.tasks[task_id]
    life.apply(lambda state: transitions.delivered(state, task_id, file, life.now))
    _delivered(life, task_id, file)
    return True


def _delivered(life: Life, task_id: TaskID, file: StagedSnapshot) -> None:
    before, scope = life.delivered, file.scope
    counts = file.counts
    if before is not None:
        counts = replace(
            counts,
            accounts=counts.accounts if scope.wants_accounts else before[1].accounts,
            teams=counts.teams if scope.wants_teams else before[1].teams,
            memberships=counts.memberships if scope.wants_memberships else before[1].memberships,
        )
    life.delivered = (file.sync_id, counts, life.now.wall)
    record = life.state.records.last_delivery
    assert record is not None
    told = (record.task_id, record.sync_id, record.sha256, record.bytes, record.counts, record.time)
    what = (task_id, file.sync_id, file.sha256, file.size, counts, life.now.wall)
    promise(told == what, "the record of a delivery is of what left", (told, what))


# The sync


def a_slot_is_free(life: Life, number: int) -> bool:
    if life.sync is not SyncPhase.QUEUED:
        return False
    sync_id = SyncID(f"sync{life.number()}")
    life.apply(lambda state: transitions.sync_admitted(state, sync_id, life.now))
    return True


def the_sync_ends(life: Life, number: int) -> bool:
    if life.sync is SyncPhase.CANCELLING:
        life.sync = None
        life.apply(transitions.sync_ended)
        return True
    if life.sync is not SyncPhase.RUNNING:
        return False
    if number >= 180:
        fail_sync(life, pick(choices.SYNC_FAILURES, number))
    else:
        finish_sync(life, number)
    return True


def finish_sync(life: Life, number: int) -> None:
    run, now = life.run, life.now
    assert run.id is not None
    assert run.inputs is not None
    assert run.spec is not None
    assert run.started is not None
    scope = SyncScope(run.spec.kinds)
    counts = cut(pick(choices.COUNTS, number), scope)
    staged = StagedSnapshot(run.id, Path("/nowhere") / run.id, f"sha-{run.id}", 1000, counts, scope, run.started.wall)
    started = run.started.wall
    record = SyncRecord(run.id, run.trigger, started, now.wall, counts, 3, 0.0, staged.sha256, staged.size)
    life.sync, life.failed, life.failures = None, None, 0
    life.files[staged.sha256] = staged
    life.syncs[run.id] = Sync(run.inputs.generation, run.inputs.credentials, run.started.monotonic, now.wall, counts)
    life.apply(lambda state: transitions.sync_succeeded(state, record, staged, now, life.waits))


def fail_sync(life: Life, failure: Failure) -> None:
    run, now = life.run, life.now
    life.sync = None
    life.failures += 1
    ours = min(BETWEEN_SYNCS.cap, BETWEEN_SYNCS.first * 2 ** (life.failures - 1))
    theirs = said(life, failure)
    wait = max(theirs, ours / 2)
    life.put_off_to = now.wall + timedelta(seconds=theirs) if theirs > ours else None
    meanwhile = life.desired.sync_request != life.state.records.last_handled_sync_request
    assert run.inputs is not None
    current = run.inputs.generation == life.desired.generation and run.inputs.credentials == life.read
    # microseconds are the clock's grain
    life.failed = Failed(now.wall + timedelta(seconds=wait - 1e-5), excused=meanwhile or not current)
    if failure.remedy is not Remedy.RETRY and current:
        _check_failed(life, failure)
    life.apply(lambda state: transitions.sync_failed(state, failure, now, life.waits))


def a_file_is_removed(life: Life, number: int) -> bool:
    if not life.discarding:
        return False
    snapshot = life.discarding.pop(0)
    del life.files[snapshot.sha256]
    life.apply(lambda state: transitions.discarded(state, snapshot))
    return True


# The process


def it_starts_again(life: Life, number: int) -> bool:
    """Another process, or a standby that acts from now on: only the status and perhaps the staged file are left."""
    restored = life.written
    last = restored.last_sync
    kept = life.files.get(last.snapshot_sha256) if last is not None and number % 3 else None
    life.files = {kept.sha256: kept} if kept is not None else {}
    life.syncs = {
        each.id: replace(life.syncs[each.id], credentials=None, started=float("-inf"))
        for each in restored.history
        if each.id in life.syncs
    }
    life.check = life.restoring = life.check_failed_at = life.read = life.sync = None
    life.c1_open = life.c1_closing = False
    life.tasks, life.discarding = {}, []
    life.checked = None
    delivery = restored.last_delivery
    life.delivered = (delivery.sync_id, delivery.counts, delivery.time) if delivery is not None else None
    if restored.consecutive_failures != life.failures or restored.phase is Phase.SYNCING:
        life.failed = None  # the failure was not written, or another sync was interrupted
    life.failures = restored.consecutive_failures
    if restored.observed_generation != life.desired.generation:
        life.excuse()
    life.now = Instant(life.now.wall + timedelta(seconds=5), float(number))
    life.blocked_until = _put_off(life, restored)
    life.state = transitions.begin(life.desired, restored if restored.conditions else None, life.now)
    life.apply()
    return True


def _put_off(life: Life, restored: ConnectorStatus) -> float:
    """What Buildkite said holds for the next process too, unless a change made a sync due since."""
    at, said_until = restored.next_sync_time, life.put_off_to
    if at is None or said_until is None or at < said_until or not restored.consecutive_failures:
        return 0.0
    seconds = (said_until - life.now.wall).total_seconds()
    return life.now.monotonic + min(seconds, LONGEST_RETRY_AFTER) - 1e-5


def nothing(life: Life, number: int) -> bool:
    return False


ENDS: tuple[Event, ...] = (
    the_check_ends,
    the_sync_ends,
    a_slot_is_free,
    an_upload_ends,
    c1_takes_the_end,
    c1_is_closed,
    a_file_is_removed,
    the_file_is_restored,
)


def something_ends(life: Life, number: int) -> bool:
    """Something that is under way ends; C1 answers Hello; else time passes to the wake time."""
    turn = number % len(ENDS)
    if any(event(life, number) for event in (*ENDS[turn:], *ENDS[:turn])):
        return True
    return (not life.state.c1.settled and c1_answers(life, number)) or it_wakes(life, number)
