"""How a connector's own work ends: checks, syncs, files."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from buildkite_connector.connector import transitions
from buildkite_connector.connector.decisions import reread_at
from buildkite_connector.connector.transitions import CheckResult, SyncResult
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import Credentials, Interval, check_schedule
from buildkite_connector.model.status import SnapshotFile, SyncRecord
from buildkite_connector.sync.preflight import ScopesMissing
from buildkite_connector.timing.clock import BETWEEN_SYNCS, LONGEST_PUT_OFF
from fakes.lives import choices
from fakes.lives.account import Failed, Sync, SyncPhase, promise
from fakes.lives.choices import pick
from fakes.lives.life import Life

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
        result = CheckResult(generation, request, None, failure=unread, forced=check.forced)
    elif not check.forced and credentials == check.known:
        result = CheckResult(generation, request, credentials, forced=check.forced)
    elif failure is not None:
        missing = failure.missing if isinstance(failure, ScopesMissing) else ()
        result = CheckResult(
            generation, request, credentials, None, missing, failure, forced=check.forced, asked_buildkite=True
        )
    else:
        result = CheckResult(
            generation, request, credentials, choices.PREFLIGHT, forced=check.forced, asked_buildkite=True
        )
    return _finish_check(life, result)


def _finish_check(life: Life, result: CheckResult) -> bool:
    if result.generation == life.desired.generation:
        _learn(life, result)
    life.apply(lambda state: transitions.check_finished(state, result, life.now, life.luck))
    return True


def its_secret_is_read_again(life: Life) -> bool:
    """Once it is due; in a process with many connectors later."""
    at = reread_at(life.state)
    if at is None or at > life.now.monotonic or life.check is not None:
        return False
    life.begin_check(forced=False)
    life.apply()
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
        life.cleared = result.generation


def _check_failed(life: Life, failure: Failure | None) -> None:
    assert failure is not None
    longest = max(900.0, min(failure.retry_after or 0.0, LONGEST_PUT_OFF))
    said(life, failure)
    life.check_failed_at = (life.now.monotonic, longest if failure.remedy is Remedy.RETRY else 300.0)


def said(life: Life, failure: Failure) -> float:
    """For how many seconds Buildkite wants to be left alone."""
    if failure.reason is Reason.KUBERNETES_UNAVAILABLE:
        return 0.0
    seconds = min(failure.retry_after or 0.0, LONGEST_PUT_OFF)
    life.blocked_until = max(life.blocked_until, life.now.monotonic + seconds)
    return seconds


def a_check_breaks(life: Life, number: int) -> bool:
    """By an error of the operator itself."""
    check, life.check = life.check, None
    if check is None:
        return False
    generation, request = check.desired.generation, check.desired.sync_request
    error = internal_error(RuntimeError("unexpected"))
    result = CheckResult(generation, request, check.known, failure=error, forced=check.forced, asked_buildkite=True)
    return _finish_check(life, result)


# The sync


def a_slot_is_free(life: Life, number: int) -> bool:
    if life.sync is not SyncPhase.QUEUED:
        return False
    sync_id = SyncID(f"sync{life.number()}")
    life.apply(lambda state: transitions.sync_admitted(state, sync_id, life.now))
    if life.sync is SyncPhase.QUEUED:  # nothing asks for it any more
        life.sync = None
        life.apply()
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
    scope = SyncScope(run.spec.kinds)
    counts = pick(choices.COUNTS, number).within(scope)
    staged = StagedSnapshot(run.id, Path("/nowhere") / run.id, f"sha-{run.id}", 1000, counts, scope)
    started = run.started.wall
    record = SyncRecord(
        run.id, run.trigger, started, now.wall, counts, 3, 0.0, SnapshotFile(staged.sha256, staged.size)
    )
    life.sync, life.failed, life.failures = None, None, 0
    life.files[staged.sha256] = staged
    life.syncs[run.id] = Sync(run.generation, run.credentials, run.started.monotonic, now.wall, counts)
    current = run.generation == life.desired.generation and run.credentials == life.read
    life.apply(lambda state: transitions.sync_succeeded(state, run, SyncResult(record, staged), now, life.luck))
    if current:
        _next_sync_is_as_scheduled(life, run.started.wall)


def _next_sync_is_as_scheduled(life: Life, started: datetime) -> None:
    at, schedule = life.state.records.next_sync_time, life.desired.spec.schedule
    assert at is not None
    reach = 1.05 * schedule.seconds if isinstance(schedule, Interval) else 1200.0
    soonest = 0.95 * schedule.seconds if isinstance(schedule, Interval) else 0.0
    after = (at - started).total_seconds()
    promise(soonest <= after <= reach, "the next sync is as the schedule says", (after, schedule))


def fail_sync(life: Life, failure: Failure) -> None:
    run, now = life.run, life.now
    life.sync = None
    life.failures += 1
    ours = min(BETWEEN_SYNCS.cap, BETWEEN_SYNCS.first * 2 ** (life.failures - 1))
    theirs = said(life, failure)
    wait = max(theirs, ours / 2)
    life.put_off_to = now.wall + timedelta(seconds=theirs) if theirs > ours else None
    meanwhile = life.desired.sync_request != life.state.records.last_handled_sync_request
    current = run.generation == life.desired.generation and run.credentials == life.read
    # microseconds are the clock's grain
    life.failed = Failed(now.wall + timedelta(seconds=wait - 1e-5), excused=meanwhile or not current)
    if failure.remedy is not Remedy.RETRY and current:
        _check_failed(life, failure)
    life.apply(lambda state: transitions.sync_failed(state, run, failure, now, life.luck))
