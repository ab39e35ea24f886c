"""What happens in C1 beside the session: what its REST API shows, accepts and refuses."""

from dataclasses import replace
from datetime import timedelta

from buildkite_connector.connector import c1_side
from buildkite_connector.connector.c1_side import WATCHED_SECONDS
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import C1State, C1SyncState, ConditionType, ConnectorStatus, Trigger
from buildkite_connector.timing.clock import LONGEST_PUT_OFF
from fakes.lives import choices
from fakes.lives.account import promise
from fakes.lives.choices import pick
from fakes.lives.life import Life

# What C1 does


def c1_goes_on(life: Life, number: int) -> bool:
    """C1 begins a sync, ends it, or pauses the connector."""
    before, now = life.c1_shows, life.now.wall
    match pick(("run", "done", "done", "error", "pause", "disable"), number):
        case "run":
            life.c1_shows = C1State(C1SyncState.RUNNING, now, before.completed_at)
        case "done":
            life.c1_shows = C1State(C1SyncState.DONE, before.started_at, now - timedelta(seconds=number % 90))
        case "error":
            life.c1_shows = C1State(C1SyncState.ERROR, before.started_at, now, "no data")
        case "pause":
            life.c1_shows = replace(before, paused_at=now, paused_reason="half of it is gone")
        case _:
            life.c1_shows = C1State(C1SyncState.DISABLED, before.started_at, before.completed_at)
    return True


# What a look finds


def a_look_ends(life: Life, number: int) -> bool:
    generation = life.look
    if generation is None:
        return False
    life.look = None
    if number >= 200:
        failure = pick(choices.REST_FAILURES, number)
        _said(life, failure)
        life.apply(lambda state: c1_side.look_failed(state, generation, failure, life.now, life.luck))
        return True
    shown, life.look = life.c1_shows, generation  # it goes on
    forced_for = life.state.records.c1.forced_for if life.state.records.c1 is not None else None
    life.apply(lambda state: c1_side.looked(state, generation, shown, life.now, life.luck))
    if life.state.records.c1 is not None and life.state.records.c1.forced_for != forced_for is not None:
        _lost(life, forced_for)
    if generation == life.desired.generation and life.state.records.c1 is not None:
        promise(life.state.records.c1.shown == shown, "what C1 shows is recorded", life.state.records.c1)
    sync_id = c1_side.force_due(life.state, life.now)
    if sync_id is not None and generation == life.desired.generation:
        _force(life, sync_id, number)
    life.look = None
    life.apply()
    return True


def a_look_goes_well(life: Life, number: int) -> bool:
    """And C1 ends at once what it is made to do."""
    looked = a_look_ends(life, 0)
    life.c1_shows = C1State(C1SyncState.DONE, completed_at=life.now.wall)
    return looked


def _force(life: Life, sync_id: SyncID, number: int) -> None:
    shown = life.c1_shows
    promise(not life.desired.spec.suspend, "a suspended connector does not act", sync_id)
    promise(sync_id not in life.forced, "C1 is made to sync once for a snapshot", (sync_id, life.forced))
    promise(shown.paused_at is None, "a paused connector is not made to sync", shown)
    hangs = shown.started_at is not None and (life.now.wall - shown.started_at).total_seconds() >= WATCHED_SECONDS
    resting = shown.state is not C1SyncState.DISABLED and (shown.state is not C1SyncState.RUNNING or hangs)
    promise(resting, "C1 is not made to sync while it syncs, nor while it is paused", shown)
    promise(due_at_c1(life) == sync_id, "C1 is made to sync for what it does not have and may get", sync_id)
    promise(life.now.monotonic >= life.c1_put_off, "C1 is left alone for as long as it asks", life.c1_put_off)
    if number >= 120:
        failure = pick(choices.REST_FAILURES, number)
        _said(life, failure)
        life.apply(
            lambda state: c1_side.force_failed(state, life.desired.generation, sync_id, failure, life.now, life.luck)
        )
        return
    life.forced.add(sync_id)
    life.c1_shows = C1State(C1SyncState.RUNNING, life.now.wall, shown.completed_at)
    seen = life.c1_shows if number % 2 else C1State()
    life.apply(lambda state: c1_side.forced(state, life.desired.generation, sync_id, seen, life.now, life.luck))


def _lost(life: Life, sync_id: SyncID) -> None:
    """C1 is made to sync for it once more."""
    has = life.delivered is not None and life.delivered[0] == sync_id
    failed = life.c1_shows.state is C1SyncState.ERROR
    promise(failed and not has, "only a sync that C1 failed without the snapshot is made up for", life.c1_shows)
    promise(sync_id not in life.forced_again, "a sync that C1 failed is made up for once", sync_id)
    life.forced.discard(sync_id)
    life.forced_again.add(sync_id)


def due_at_c1(life: Life) -> SyncID | None:
    """The snapshot that C1 is to sync for, by the life's own account."""
    spec, staged, last = life.desired.spec, life.state.staged, life.state.records.last_sync
    if spec.c1 is None or life.desired.spec_error is not None or spec.suspend or staged is None or last is None:
        return None
    sync = life.syncs[staged.sync_id]
    current = sync.generation == life.desired.generation and sync.credentials in {None, life.read}
    wanted = last.trigger is Trigger.REQUEST or (spec.c1.force_sync and last.trigger is not Trigger.TASK)
    has = life.delivered is not None and life.delivered[0] == staged.sync_id
    if not current or not wanted or has or life.held(staged) or staged.sync_id in life.forced:
        return None
    left = sync.started == float("-inf")
    age = (life.now.wall - sync.finished).total_seconds()
    return None if left and not 0 <= age < spec.max_snapshot_age else staged.sync_id


def _said(life: Life, failure: Failure) -> None:
    life.c1_put_off = max(life.c1_put_off, life.now.monotonic + min(failure.retry_after or 0.0, LONGEST_PUT_OFF))


# What must hold


def check_c1_side(life: Life) -> None:
    state, desired = life.state, life.desired
    if desired.spec_error is None:
        promise((state.records.c1 is None) == (desired.spec.c1 is None), "status.c1 is there with spec.c1", desired)
        ids = c1_side.connector_ids(state)
        named = (desired.spec.c1.app_id, desired.spec.c1.connector_id) if desired.spec.c1 is not None else None
        promise(ids == named, "the status names the connector that the resource names", (ids, named))
    if life.look is None and c1_side.connector_ids(state) is not None and not desired.spec.suspend:
        soon = max(life.now.monotonic + c1_side.LOOK_SECONDS * 1.05, life.c1_put_off) + 1.0
        promise(min(c1_side.look_times(state)) <= soon, "C1 is looked at again within five minutes", state.c1_side)


def check_c1_synced(life: Life, status: ConnectorStatus) -> None:
    used = life.desired.spec.c1 is not None and life.desired.spec_error is None and not life.desired.spec.suspend
    said = status.condition(ConditionType.C1_SYNCED) is not None
    promise(said == used, "C1Synced is there while spec.c1 is used", status.conditions)
