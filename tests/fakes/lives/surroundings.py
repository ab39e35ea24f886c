"""What happens around a connector: time, edits, annotations, another Secret, another process."""

from dataclasses import replace
from datetime import timedelta

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import reread_at
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.status import ConnectorStatus, Phase
from buildkite_connector.timing.clock import LONGEST_PUT_OFF, Instant
from fakes.lives import choices, work
from fakes.lives.account import promise
from fakes.lives.choices import pick
from fakes.lives.life import Life

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
    jumped = life.jumped
    life.pass_time(seconds)
    if not jumped:
        quiet = "before its wake time a connector has nothing to do and nothing new to report"
        promise(not life.is_due, quiet, seconds)
        if life.now.monotonic >= life.state.status_held_until:
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
    """At times while nobody looks, at times just before it is read."""
    life.secret = pick(choices.SECRETS, number)
    if number >= 128 and (at := reread_at(life.state)) is not None:
        life.pass_time(max(at - life.now.monotonic, 0.0))
        work.its_secret_is_read_again(life)
    return True


def another_connector_comes_or_goes(life: Life, number: int) -> bool:
    life.holder = "BuildkiteConnector default/older" if life.holder is None else None
    life.apply()
    return True


# The process


def it_starts_again(life: Life, number: int) -> bool:
    """Another process, or a standby that acts from now on: only the status and perhaps the staged file are left."""
    restored = life.written
    last = restored.last_sync
    kept = life.files.get(last.snapshot.sha256) if last is not None and number % 3 else None
    if kept is not None and number % 7 == 1:  # as a former version staged it
        scope = SyncScope(kept.scope.kinds, grants=False)
        kept = replace(kept, scope=scope, counts=kept.counts.within(scope))
    life.files = {kept.sha256: kept} if kept is not None else {}
    life.syncs = {
        each.id: replace(life.syncs[each.id], credentials=None, started=float("-inf"))
        for each in restored.history
        if each.id in life.syncs
    }
    life.cleared = 0
    life.check = life.check_failed_at = life.read = life.sync = None
    life.c1_open = life.c1_closing = False
    life.tasks = {}
    life.checked = None
    life.requested_at = life.check_requested_at = float("-inf")
    delivery = restored.last_delivery
    life.delivered = (delivery.sync_id, delivery.counts, delivery.time) if delivery is not None else None
    if restored.consecutive_failures != life.failures or restored.phase is Phase.SYNCING:
        life.failed = None  # the failure was not written, or another sync was interrupted
    life.failures = restored.consecutive_failures
    if restored.observed_generation != life.desired.generation:
        life.excuse()
    life.now = Instant(life.now.wall + timedelta(seconds=5), float(number))
    life.blocked_until = _put_off(life, restored)
    left = restored if restored.conditions else None
    life.look, life.c1_put_off = None, float("-inf")
    forced_for = restored.c1.forced_for if restored.c1 is not None else None
    life.forced, life.forced_again = ({forced_for} if forced_for is not None else set()), set()
    life.state = transitions.begin(life.desired, left, life.now, life.luck)
    if left is not None and transitions.still_serves(life.desired, left, life.now):
        life.state = replace(life.state, staged=kept)
    else:
        life.files = {}
    life.apply()
    return True


def _put_off(life: Life, restored: ConnectorStatus) -> float:
    """What Buildkite said holds for the next process too, unless a change made a sync due since."""
    at, said_until = restored.next_sync_time, life.put_off_to
    if restored.last_sync_time is None or life.now.wall < restored.last_sync_time:
        return 0.0
    if at is None or said_until is None or at < said_until or not restored.consecutive_failures:
        return 0.0
    seconds = (said_until - life.now.wall).total_seconds()
    return life.now.monotonic + min(seconds, LONGEST_PUT_OFF) - 1e-5
