"""The rules of C1's side, one by one: when it is looked at, when it is made to sync, what is kept of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from buildkite_connector.connector import c1_side, transitions
from buildkite_connector.connector.c1_side import (
    LOOK_SECONDS,
    WATCHED_SECONDS,
    force_due,
    forced,
    hang_times,
    look_due,
    look_failed,
    look_times,
    looked,
)
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import next_look
from buildkite_connector.connector.state import C1Side, ConnectorState, Watch
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import C1Creation, C1Spec, Interval
from buildkite_connector.model.status import (
    C1CredentialRecord,
    C1Record,
    C1State,
    C1Step,
    ConditionType,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from fakes.c1_rest import APP, C1_SPEC, CONNECTOR, DISABLED, DONE, ERROR, IDS, RUNNING, busy, denied, unavailable
from fakes.connector_states import (
    NEVER,
    NOW,
    REJECTED,
    SHARE,
    START,
    after,
    checked,
    greeted,
    in_c1,
    new,
    ready,
    record_of,
    restored,
    synced,
    with_record,
)
from fakes.connector_states import desired as desired_state

TIME = START.wall
CREATE = C1Spec(create=C1Creation("acme-c1", app_name="Buildkite"))


def with_trigger(state: ConnectorState, trigger: Trigger) -> ConnectorState:
    assert state.records.last_sync is not None
    return replace(state, records=replace(state.records, last_sync=replace(state.records.last_sync, trigger=trigger)))


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20).wall)


# When C1 is made to sync


def test_a_snapshot_that_c1_does_not_have_is_due() -> None:
    assert force_due(in_c1(), NOW) == "sync1"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(delivered, id="delivered"),
        pytest.param(lambda state: with_record(state, forced_for=SyncID("sync1")), id="forced"),
        pytest.param(lambda state: with_record(state, shown=None), id="not read"),
        pytest.param(lambda state: with_record(state, shown=C1State(RUNNING)), id="running"),
        pytest.param(lambda state: with_record(state, shown=C1State(DISABLED)), id="disabled"),
        pytest.param(lambda state: with_record(state, shown=C1State(DONE, paused_at=TIME)), id="paused"),
        pytest.param(lambda state: with_record(state, connector_id=""), id="not created"),
        pytest.param(lambda state: replace(state, staged=None), id="no file"),
        pytest.param(lambda state: replace(state, host_id_holder="another"), id="blocked"),
        pytest.param(transitions.c1_closed, id="no session"),
        pytest.param(lambda state: with_trigger(state, Trigger.TASK), id="for a task"),
        pytest.param(lambda state: replace(state, desired=desired_state(2, c1=C1_SPEC)), id="outdated"),
        pytest.param(lambda state: replace(state, desired=desired_state(1, c1=C1_SPEC, suspend=True)), id="suspended"),
        pytest.param(
            lambda state: replace(state, desired=replace(state.desired, spec_error=REJECTED)), id="spec invalid"
        ),
        pytest.param(lambda state: replace(state, c1_side=replace(state.c1_side, blocked_until=NEVER)), id="put off"),
    ],
)
def test_no_other_is_due(change: Callable[[ConnectorState], ConnectorState]) -> None:
    assert force_due(change(in_c1()), NOW) is None


def test_what_the_shrink_guard_holds_is_due_once_it_is_accepted() -> None:
    state = synced(delivered(in_c1()), after(3700), "sync2", Counts(10, 10, 30))
    held = looked(state, 1, C1State(DONE), after(3710), SHARE)
    assert force_due(held, after(3710)) is None
    accepted = replace(held, desired=replace(held.desired, accept_shrink="sync2"))
    assert force_due(accepted, after(3710)) == "sync2"
    assert look_due(accepted, after(3710)), "now, not at the next look"


@pytest.mark.parametrize(
    ("failure", "wait"),
    [(denied(), LOOK_SECONDS), (unavailable(), 22.5), (busy(1000.0), 1000.0)],
    ids=["denied", "unavailable", "busy"],
)
def test_a_refused_snapshot_is_due_again_later_and_a_newer_one_at_once(failure: Failure, wait: float) -> None:
    state = c1_side.force_failed(in_c1(), 1, SyncID("sync1"), failure, NOW, SHARE)
    at = NOW.monotonic + wait
    assert force_due(state, after(wait - 0.1, NOW)) is None
    assert not look_due(state, after(wait - 0.1, NOW))
    assert force_due(state, after(wait, NOW)) == "sync1"
    assert look_due(state, after(wait, NOW))
    assert min(each for each in look_times(state) if each > NOW.monotonic) == at
    asked_again = replace(state, desired=replace(state.desired, sync_request="again"))
    newer = synced(asked_again, after(10), "sync2", seconds=1.0)
    assert look_due(newer, after(11)) == (failure.retry_after is None)
    assert force_due(newer, after(11)) == ("sync2" if failure.retry_after is None else None)


def test_a_sync_of_c1_that_hangs_is_waited_for_for_an_hour() -> None:
    state = looked(in_c1(), 1, C1State(RUNNING, NOW.wall), NOW, SHARE)
    assert force_due(state, after(WATCHED_SECONDS - 1, NOW)) is None
    assert force_due(state, after(WATCHED_SECONDS, NOW)) == "sync1"


def test_the_connector_wakes_to_say_that_a_sync_of_c1_hangs() -> None:
    state = looked(in_c1(schedule=Interval(86_400.0), max_snapshot_age=0.0), 1, C1State(RUNNING, NOW.wall), NOW, SHARE)
    state = replace(state, c1_side=replace(state.c1_side, look_at=NEVER))
    assert next_look(state, after(60, NOW)) == NOW.monotonic + WATCHED_SECONDS


@pytest.mark.parametrize(
    ("started", "ended", "since"),
    [(50, None, 50), (50, 60, 50), (50, 50, 50), (50, 40, 30), (None, None, 30)],
    ids=["started", "another ended before", "at the same moment", "the one that started has ended", "not said"],
)
def test_an_hour_of_a_sync_counts_from_its_start_or_from_when_it_was_seen(
    started: int | None, ended: int | None, since: int
) -> None:
    """All in minutes ago; it was seen 30 minutes ago."""
    begun, done = (None if each is None else NOW.wall - timedelta(minutes=each) for each in (started, ended))
    seen = NOW.wall - timedelta(minutes=30)
    state = with_record(in_c1(), shown=C1State(RUNNING, begun, done), observed_at=seen)
    left = WATCHED_SECONDS - 60.0 * since
    assert [*hang_times(state, NOW)] == [NOW.monotonic + left]
    assert force_due(state, after(left - 1, NOW)) is None
    assert force_due(state, after(left, NOW)) == "sync1"


# When it is looked at


def test_a_new_connector_is_looked_at_at_once_and_then_every_five_minutes() -> None:
    state = new(c1=C1_SPEC)
    assert look_due(state, START)
    state = looked(state, 1, C1State(), START, 0.0)
    assert not look_due(state, after(LOOK_SECONDS - 0.1))
    assert look_due(state, after(LOOK_SECONDS))
    assert START.monotonic + LOOK_SECONDS in {*look_times(state)}
    later = looked(state, 1, C1State(), START, 1.0).c1_side.look_at
    assert later == START.monotonic + LOOK_SECONDS * 1.05


@pytest.mark.parametrize(
    "spec",
    [{}, {"c1": C1_SPEC, "suspend": True}, {"c1": CREATE}],
    ids=["no spec.c1", "suspended", "not created"],
)
def test_what_cannot_be_looked_at_has_no_time_for_it(spec: dict[str, object]) -> None:
    state = new(**spec)
    assert (look_due(state, after(NEVER)), [*look_times(state)], force_due(state, START)) == (False, [], None)


def test_the_connector_wakes_for_a_look() -> None:
    state = in_c1(max_snapshot_age=0.0)
    assert next_look(state, NOW) == NOW.monotonic + LOOK_SECONDS * 1.025


def test_a_snapshot_that_a_look_has_considered_waits_for_the_next_one() -> None:
    state = synced(greeted(checked(new(c1=C1_SPEC))), START)
    state = replace(state, c1_side=replace(state.c1_side, look_at=NEVER))
    assert look_due(state, NOW)
    assert not look_due(looked(state, 1, C1State(DISABLED), NOW, SHARE), after(200))
    assert not look_due(look_failed(state, 1, denied(), NOW, SHARE), after(10))


def test_retry_after_holds_also_for_a_new_snapshot() -> None:
    state = look_failed(new(c1=C1_SPEC), 1, busy(900.0), START, SHARE)
    state = synced(greeted(checked(state)), START)
    assert not look_due(state, after(899))
    assert look_due(state, after(900))
    assert START.monotonic + 900.0 in {*look_times(state)}


def test_a_server_puts_looks_off_by_six_hours_at_most() -> None:
    state = look_failed(new(c1=C1_SPEC), 1, busy(1e9), START, SHARE)
    assert state.c1_side.blocked_until == START.monotonic + 6 * 3600


def test_looks_that_fail_come_ever_later_up_to_five_minutes() -> None:
    state, waits = new(c1=C1_SPEC), []
    for _ in range(7):
        state = look_failed(state, 1, denied(), START, SHARE)
        waits.append(state.c1_side.look_at - START.monotonic)
    assert waits == [22.5, 45.0, 90.0, 180.0, 300.0, 300.0, 300.0]
    state = look_failed(looked(state, 1, C1State(), START, SHARE), 1, denied(), START, SHARE)
    assert state.c1_side.look_at - START.monotonic == 22.5


# While C1 works on a sync


def watched(since: ConnectorState, shown: C1State, seconds: float) -> float:
    """The wait for the next look after one that many seconds after `NOW`."""
    now = after(seconds, NOW)
    return looked(since, 1, shown, now, 0.0).c1_side.look_at - now.monotonic


@pytest.mark.parametrize("begun", ["forced", "delivered"])
def test_the_longer_c1_works_the_seldomer_it_is_looked_at_and_after_an_hour_as_ever(begun: str) -> None:
    state = in_c1()
    state = (
        forced(state, 1, SyncID("sync1"), C1State(), NOW, SHARE)
        if begun == "forced"
        else c1_side.delivery_watched(state, NOW)
    )
    assert state.c1_side.look_at == NOW.monotonic + 2.0
    waits = [watched(state, C1State(RUNNING), seconds) for seconds in (2, 8, 20, 100, 240, 3599, 3600)]
    assert waits == pytest.approx([2, 2, 5, 25, 60, 60, LOOK_SECONDS])


ENDED = after(60, NOW)


@pytest.mark.parametrize(
    ("shown", "is_over"),
    [
        (C1State(RUNNING), False),
        (C1State(RUNNING, completed_at=ENDED.wall), False),
        (C1State(None), False),
        (C1State(DONE), False),
        (C1State(DONE, completed_at=ENDED.wall), True),
        (C1State(DONE, completed_at=NOW.wall - timedelta(seconds=60)), True),
        (C1State(DONE, completed_at=NOW.wall - timedelta(seconds=61)), False),
        (C1State(ERROR), True),
        (C1State(ERROR, completed_at=ENDED.wall), True),
        (C1State(ERROR, completed_at=NOW.wall - timedelta(hours=1)), False),
        (C1State(DISABLED), True),
        (C1State(DONE, completed_at=NOW.wall - timedelta(hours=1), paused_at=ENDED.wall), True),
    ],
)
def test_a_sync_is_watched_until_c1_has_ended_it(shown: C1State, is_over: bool) -> None:
    """C1's clock may be a minute behind."""
    state = c1_side.delivery_watched(in_c1(), NOW)
    assert (watched(state, shown, 60) == LOOK_SECONDS) == is_over
    later = looked(state, 1, shown, after(60, NOW), SHARE)
    assert (watched(later, C1State(RUNNING), 90) == LOOK_SECONDS) == is_over, "what C1 does by itself is not watched"


def test_the_sync_before_a_forced_one_is_not_taken_for_it() -> None:
    before = C1State(DONE, completed_at=NOW.wall - timedelta(seconds=20))
    state = looked(in_c1(), 1, before, NOW, SHARE)
    state = forced(state, 1, SyncID("sync1"), C1State(), NOW, SHARE)
    assert watched(state, before, 4) == 2.0
    state = c1_side.delivery_watched(state, after(5, NOW))
    assert watched(state, before, 9) == 2.0
    assert watched(state, replace(before, completed_at=after(8, NOW).wall), 9) == LOOK_SECONDS


def test_a_delivery_amid_a_forced_sync_is_watched_as_a_part_of_it() -> None:
    """What C1 showed before the forced sync is still what ended before it, whatever C1 shows now."""
    before, meanwhile = NOW.wall - timedelta(seconds=20), after(3, NOW).wall
    state = looked(in_c1(), 1, C1State(DONE, completed_at=before), NOW, SHARE)
    state = forced(state, 1, SyncID("sync1"), C1State(), NOW, SHARE)
    state = with_record(state, shown=C1State(RUNNING, completed_at=meanwhile))
    watch = c1_side.delivery_watched(state, after(5, NOW)).c1_side.watch
    assert watch is not None
    assert watch.before == before


def test_the_sync_before_a_delivery_is_not_taken_for_the_one_that_takes_it() -> None:
    before = C1State(DONE, completed_at=NOW.wall - timedelta(seconds=20))
    state = c1_side.delivery_watched(looked(in_c1(), 1, before, NOW, SHARE), after(5, NOW))
    assert watched(state, before, 7) == 2.0
    assert watched(state, replace(before, completed_at=after(8, NOW).wall), 9) == LOOK_SECONDS


def test_c1_is_watched_while_it_syncs_and_a_snapshot_waits_for_its_end() -> None:
    state = ready(c1=C1_SPEC)
    assert watched(state, C1State(RUNNING), 0) == 2.0
    state = looked(state, 1, C1State(RUNNING), NOW, SHARE)
    assert watched(state, C1State(DONE, completed_at=NOW.wall - timedelta(hours=1)), 4) == 2.0
    assert watched(state, C1State(DONE, completed_at=after(3, NOW).wall), 4) == LOOK_SECONDS
    assert force_due(looked(state, 1, C1State(DONE), after(60), SHARE), after(60)) == "sync1"
    assert watched(delivered(ready(c1=C1_SPEC)), C1State(RUNNING), 30) == LOOK_SECONDS
    state = looked(state, 1, C1State(RUNNING), after(3700, NOW), SHARE)
    assert watched(state, C1State(RUNNING), 4000) == LOOK_SECONDS, "an hour for one snapshot"


def test_a_sync_that_ends_without_taking_the_snapshot_is_forced_again_only_where_it_failed() -> None:
    """It may be C1's own, with another snapshot."""
    state = forced(in_c1(), 1, SyncID("sync1"), C1State(), NOW, SHARE)
    for shown, forced_for in ((C1State(DONE, completed_at=ENDED.wall), "sync1"), (C1State(ERROR), None)):
        assert record_of(looked(state, 1, shown, ENDED, SHARE)).forced_for == forced_for
    unwatched = replace(state, c1_side=replace(state.c1_side, watch=None))
    assert record_of(looked(unwatched, 1, C1State(ERROR), ENDED, SHARE)).forced_for == "sync1"


def test_an_error_while_there_is_no_snapshot_yet_leads_to_no_sync() -> None:
    state = c1_side.delivery_watched(new(c1=C1_SPEC), START)
    assert force_due(looked(state, 1, C1State(ERROR), after(60), SHARE), after(60)) is None


def test_c1_may_take_a_forced_sync_before_it_has_shown_anything() -> None:
    state = forced(with_record(in_c1(), shown=None), 1, SyncID("sync1"), C1State(), NOW, SHARE)
    assert state.c1_side.watch == Watch(NOW.monotonic, NOW.wall, None)


# What a look changes


def test_what_c1_shows_is_recorded_when_it_is_something_else() -> None:
    state = looked(new(c1=C1_SPEC), 1, C1State(RUNNING), START, SHARE)
    assert (record_of(state).shown, record_of(state).observed_at) == (C1State(RUNNING), START.wall)
    same = looked(state, 1, C1State(RUNNING), after(60), SHARE)
    assert same.records == state.records
    other = looked(state, 1, C1State(DONE), after(60), SHARE)
    assert (record_of(other).shown, record_of(other).observed_at) == (C1State(DONE), after(60).wall)


def test_a_look_for_another_generation_changes_nothing() -> None:
    state = in_c1()
    assert looked(state, 2, C1State(ERROR), NOW, SHARE) is state
    assert look_failed(state, 2, denied(), NOW, SHARE) is state
    assert forced(state, 2, SyncID("sync1"), C1State(), NOW, SHARE) is state
    assert c1_side.force_failed(state, 2, SyncID("sync1"), denied(), NOW, SHARE) is state
    until = NOW.monotonic + 900.0
    assert look_failed(state, 2, busy(900.0), NOW, SHARE).c1_side == replace(state.c1_side, blocked_until=until)
    refused = c1_side.force_failed(state, 2, SyncID("sync1"), busy(900.0), NOW, SHARE)
    assert refused.c1_side == replace(state.c1_side, blocked_until=until)


def test_a_delivery_is_not_watched_without_spec_c1() -> None:
    assert c1_side.delivery_watched(ready(), NOW) == ready()


# Which connector it is


def edited(state: ConnectorState, c1: C1Spec | None, generation: int = 2, **spec: object) -> ConnectorState:
    return transitions.desired_changed(state, desired_state(generation, c1=c1, **spec), after(60))


def test_an_edit_is_looked_at_at_once_and_keeps_what_is_known_of_the_same_connector() -> None:
    state = forced(in_c1(), 1, SyncID("sync1"), C1State(), NOW, SHARE)
    changed = edited(state, replace(C1_SPEC, force_sync=False))
    assert record_of(changed) == record_of(state)
    assert changed.c1_side == replace(state.c1_side, look_at=after(60).monotonic)


def test_another_connector_keeps_nothing_but_what_c1_said_of_time() -> None:
    state = look_failed(forced(in_c1(), 1, SyncID("sync1"), C1State(), NOW, SHARE), 1, busy(900.0), NOW, SHARE)
    for spec in (replace(C1_SPEC, app_id="other"), replace(C1_SPEC, connector_id="other")):
        changed = edited(state, spec)
        assert record_of(changed) == C1Record(spec.app_id, spec.connector_id)
        kept = C1Side(look_at=after(60).monotonic, blocked_until=state.c1_side.blocked_until)
        assert changed.c1_side == kept


def test_without_spec_c1_nothing_is_kept() -> None:
    changed = edited(forced(in_c1(), 1, SyncID("sync1"), C1State(), NOW, SHARE), None)
    assert (changed.records.c1, changed.c1_side) == (None, C1Side())
    back = edited(changed, C1_SPEC, generation=3)
    assert (record_of(back), back.c1_side) == (C1Record(*IDS), C1Side(look_at=after(60).monotonic))


def test_while_the_spec_is_invalid_nothing_is_forgotten() -> None:
    state = forced(in_c1(), 1, SyncID("sync1"), C1State(), NOW, SHARE)
    invalid = replace(desired_state(2), spec_error=REJECTED)
    changed = transitions.desired_changed(state, invalid, after(60))
    assert changed.records.c1 == state.records.c1
    assert not look_due(changed, after(NEVER))
    assert ConditionType.C1_SYNCED not in {each.type for each in derive_status(changed, NOW).conditions}


def test_the_ids_of_a_connector_that_is_created_are_those_in_the_status() -> None:
    state = new(c1=CREATE)
    assert (record_of(state), c1_side.connector_ids(state)) == (C1Record(), None)
    created = with_record(state, app_id=APP, connector_id=CONNECTOR, credential=C1CredentialRecord("c1"))
    assert (c1_side.connector_ids(created), look_due(created, START)) == (IDS, True)
    changed = edited(created, replace(CREATE, force_sync=False))
    assert record_of(changed) == record_of(created)


def test_a_connector_that_was_not_created_is_not_taken_for_one_that_was() -> None:
    assert record_of(edited(in_c1(), CREATE)) == C1Record()
    invalid = replace(desired_state(2), spec_error=REJECTED)
    by_way_of_an_error = transitions.desired_changed(in_c1(), invalid, after(60))
    assert record_of(edited(by_way_of_an_error, CREATE, generation=3)) == C1Record()


@pytest.mark.parametrize(
    "record",
    [
        C1Record(APP),
        C1Record(APP, creating=C1Step.CONNECTOR, creating_since=TIME),
        C1Record(APP, CONNECTOR, creating=C1Step.CREDENTIAL, creating_since=TIME),
        C1Record(APP, CONNECTOR, credential=C1CredentialRecord("c1")),
    ],
)
def test_what_was_created_so_far_is_kept_over_an_edit(record: C1Record) -> None:
    state = new(c1=CREATE)
    state = replace(state, records=replace(state.records, c1=record))
    assert record_of(edited(state, replace(CREATE, force_sync=False))) == record


def test_a_connector_that_was_created_and_is_named_now_stays_the_same() -> None:
    state = with_record(
        new(c1=CREATE),
        app_id=APP,
        connector_id=CONNECTOR,
        shown=C1State(DONE),
        forced_for=SyncID("sync1"),
        creating=C1Step.CREDENTIAL,
        creating_since=TIME,
        credential=C1CredentialRecord("c1"),
    )
    expected = C1Record(APP, CONNECTOR, C1State(DONE), forced_for=SyncID("sync1"))
    assert record_of(edited(state, C1_SPEC)) == expected


# Another process


def left(state: ConnectorState, now: float = 30.0) -> ConnectorState:
    """What another process begins with."""
    return restored(derive_status(state, NOW), after(now), c1=C1_SPEC)


def test_a_restored_connector_is_looked_at_within_five_minutes() -> None:
    status = derive_status(in_c1(), NOW)
    for share in (0.0, 0.5, 1.0):
        state = transitions.begin(desired_state(1, c1=C1_SPEC), status, after(30), share)
        assert state.c1_side.look_at == after(30).monotonic + share * LOOK_SECONDS


@pytest.mark.parametrize(("age", "is_due"), [(0.0, True), (599.0, True), (600.0, False), (-1.0, False)])
def test_a_snapshot_that_was_left_is_forced_while_it_is_fresh_enough_for_a_task(age: float, is_due: bool) -> None:
    before = in_c1()
    state = greeted(checked(replace(left(before), staged=before.staged)))
    now = after(age, NOW)
    assert (force_due(state, now) == "sync1") == is_due
    assert not look_due(replace(state, c1_side=replace(state.c1_side, look_at=NEVER)), now)
