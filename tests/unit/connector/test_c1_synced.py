"""What `C1Synced` says: of what C1 shows, of what it refuses, and of what a former process said."""

from dataclasses import replace
from datetime import timedelta

import pytest

from buildkite_connector.connector import c1_side, transitions
from buildkite_connector.connector.c1_side import (
    HANGS,
    NOT_FORCED,
    WATCHED_SECONDS,
    Verdict,
    forced,
    look_failed,
    looked,
)
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.state import ConnectorState, DesiredState
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import C1Creation, C1Spec
from buildkite_connector.model.status import (
    C1State,
    ConditionStatus,
    ConditionType,
)
from buildkite_connector.model.tasks import TaskID
from fakes.c1_rest import C1_SPEC, DISABLED, DONE, ERROR, RUNNING, denied, unavailable
from fakes.connector_states import (
    NEVER,
    NOW,
    SHARE,
    START,
    after,
    in_c1,
    new,
    restored,
    running,
)
from fakes.connector_states import desired as desired_state

TIME = START.wall
PAUSED_AT = "2026-03-02T09:00:00Z"
PAUSED = "C1 does not sync it and hands out no grants or revokes."
REMEDY = "Find out why on the connector's page in C1, then resume it or confirm its changes there."
CREATE = C1Spec(create=C1Creation("acme-c1", app_name="Buildkite"))


def c1_synced(state: ConnectorState, seconds: float = 0.0) -> Verdict:
    """What is said so many seconds after `NOW`."""
    return c1_side.c1_synced(state, after(seconds, NOW))


def edited(state: ConnectorState, c1: C1Spec | None, generation: int = 2, **spec: object) -> ConnectorState:
    return transitions.desired_changed(state, desired_state(generation, c1=c1, **spec), after(60))


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20).wall)


def left(state: ConnectorState, now: float = 30.0) -> ConnectorState:
    """What another process begins with."""
    return restored(derive_status(state, NOW), after(now), c1=C1_SPEC)


# What is said


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (C1State(DONE), (ConditionStatus.TRUE, Reason.C1_SYNCED, "C1's last sync of the connector succeeded.")),
        (
            C1State(DONE, completed_at=TIME),
            (
                ConditionStatus.TRUE,
                Reason.C1_SYNCED,
                "C1's last sync of the connector succeeded at 2026-03-02T09:00:00Z.",
            ),
        ),
        (C1State(RUNNING), (ConditionStatus.UNKNOWN, Reason.C1_SYNCING, "C1 syncs the connector.")),
        (
            C1State(ERROR, last_error="no data"),
            (ConditionStatus.FALSE, Reason.C1_SYNC_FAILED, "C1's last sync of the connector failed: no data"),
        ),
        (
            C1State(ERROR),
            (
                ConditionStatus.FALSE,
                Reason.C1_SYNC_FAILED,
                "C1's last sync of the connector failed: C1 does not say why.",
            ),
        ),
        (
            C1State(DISABLED),
            (
                ConditionStatus.FALSE,
                Reason.C1_PAUSED,
                f"The connector is paused in C1: {PAUSED} {REMEDY}",
            ),
        ),
        (
            C1State(ERROR, paused_at=TIME, paused_reason="No MAX."),
            (
                ConditionStatus.FALSE,
                Reason.C1_PAUSED,
                f"The connector has been paused in C1 since {PAUSED_AT}: {PAUSED} C1's reason: No MAX. {REMEDY}",
            ),
        ),
        (C1State(), (ConditionStatus.UNKNOWN, Reason.C1_AWAITING_SYNC, "C1 has not synced the connector yet.")),
    ],
)
def test_what_c1_shows_is_said(shown: C1State, verdict: tuple[ConditionStatus, Reason, str]) -> None:
    assert c1_synced(looked(new(c1=C1_SPEC), 1, shown, NOW, SHARE)) == verdict


def test_before_the_first_look_and_before_the_creation_nothing_is_known() -> None:
    assert c1_synced(new(c1=C1_SPEC)) == (
        ConditionStatus.UNKNOWN,
        Reason.C1_AWAITING_SYNC,
        "C1 has not been asked for the connector's state yet.",
    )
    assert c1_synced(new(c1=CREATE)) == (
        ConditionStatus.UNKNOWN,
        Reason.C1_NOT_CREATED,
        "The connector is not created in C1 yet: see the condition CredentialsValid.",
    )


NO_DATA = "C1's last sync of the connector failed: no data"


@pytest.mark.parametrize(
    ("before", "verdict"),
    [
        (C1State(DONE), (ConditionStatus.TRUE, Reason.C1_SYNCING, "C1 syncs the connector.")),
        (C1State(ERROR, last_error="no data"), (ConditionStatus.FALSE, Reason.C1_SYNC_FAILED, NO_DATA)),
        (C1State(DISABLED), (ConditionStatus.UNKNOWN, Reason.C1_SYNCING, "C1 syncs the connector.")),
        (None, (ConditionStatus.UNKNOWN, Reason.C1_SYNCING, "C1 syncs the connector.")),
    ],
)
def test_what_c1s_last_sync_led_to_stays_while_c1_syncs_again(before: C1State | None, verdict: Verdict) -> None:
    state = new(c1=C1_SPEC)
    if before is not None:
        state = looked(state, 1, before, START, SHARE)
    for seconds in (0, 10, 20):
        state = replace(state, records=derive_status(state, after(seconds)))
        state = looked(state, 1, C1State(RUNNING), after(seconds), SHARE)
    assert c1_synced(state) == verdict
    assert c1_synced(left(state)) == verdict, "and after a restart"


def test_a_failure_that_stays_while_c1_syncs_again_names_a_refused_sync_once() -> None:
    state = looked(in_c1(), 1, C1State(ERROR, last_error="no data"), NOW, SHARE)
    state = c1_side.force_failed(state, 1, SyncID("sync1"), denied(), NOW, SHARE)
    for seconds in (0, 10, 20):
        state = replace(state, records=derive_status(state, after(seconds, NOW)))
        state = looked(state, 1, C1State(RUNNING), after(seconds, NOW), SHARE)
    refused = f"{NO_DATA}. {NOT_FORCED} C1 answers 403 to force_sync."
    assert c1_synced(state) == (ConditionStatus.FALSE, Reason.C1_SYNC_FAILED, refused)


@pytest.mark.parametrize(
    "shown",
    [
        C1State(RUNNING, NOW.wall),
        C1State(RUNNING),
        C1State(RUNNING, NOW.wall - timedelta(days=1), NOW.wall - timedelta(hours=23)),
    ],
    ids=["since its start", "since it was seen", "since it was seen, as the start is that of the sync before"],
)
@pytest.mark.parametrize("before", [C1State(DONE), C1State(ERROR, last_error="no data")])
def test_a_sync_that_does_not_end_does_not_look_well_for_ever(shown: C1State, before: C1State) -> None:
    state = looked(new(c1=C1_SPEC), 1, before, START, SHARE)
    state = looked(replace(state, records=derive_status(state, START)), 1, shown, NOW, SHARE)
    assert c1_synced(state, WATCHED_SECONDS - 1)[0] is not ConditionStatus.UNKNOWN
    message = f"C1 has been syncing the connector since 2026-03-02T09:00:05Z, {HANGS}"
    hangs = (ConditionStatus.UNKNOWN, Reason.C1_SYNCING, message)
    assert c1_synced(state, WATCHED_SECONDS) == hangs
    later = replace(state, records=derive_status(state, after(WATCHED_SECONDS, NOW)))
    assert c1_synced(later, 9 * WATCHED_SECONDS) == hangs, "the same, so that the status is not written again"


def test_a_refused_sync_is_said_until_one_is_accepted_unless_what_c1_shows_is_worse() -> None:
    state = c1_side.force_failed(in_c1(), 1, SyncID("sync1"), denied(), NOW, SHARE)
    refused = f"{NOT_FORCED} C1 answers 403 to force_sync."
    for shown in (C1State(DONE), C1State(RUNNING), C1State()):
        seen = looked(state, 1, shown, after(60), SHARE)
        assert c1_synced(seen) == (ConditionStatus.FALSE, Reason.C1_ACCESS_DENIED, refused)
    assert c1_synced(looked(state, 1, C1State(DISABLED), NOW, SHARE))[1] is Reason.C1_PAUSED
    both = c1_synced(looked(state, 1, C1State(ERROR, last_error="no data."), NOW, SHARE))
    message = f"C1's last sync of the connector failed: no data. {refused}"
    assert both == (ConditionStatus.FALSE, Reason.C1_SYNC_FAILED, message)
    assert c1_synced(delivered(state))[1] is Reason.C1_ACCESS_DENIED
    accepted = forced(state, 1, SyncID("sync2"), C1State(), after(60), SHARE)
    assert c1_synced(accepted)[:2] == (ConditionStatus.TRUE, Reason.C1_SYNCED)


@pytest.mark.parametrize(("failure", "stays"), [(denied(), True), (unavailable(), False)])
def test_once_no_snapshot_waits_only_what_a_person_must_fix_is_said(failure: Failure, stays: bool) -> None:
    state = in_c1()
    for seconds in (0, 60):
        state = c1_side.force_failed(state, 1, SyncID("sync1"), failure, after(seconds, NOW), SHARE)
    assert c1_synced(state, 60)[1] is failure.reason
    taken = looked(delivered(state), 1, C1State(DONE), after(90, NOW), SHARE)
    assert c1_synced(taken, 90)[1] is (failure.reason if stays else Reason.C1_SYNCED)


def test_who_switches_forced_syncs_off_does_not_read_of_their_refusal() -> None:
    state = c1_side.force_failed(in_c1(), 1, SyncID("sync1"), denied(), NOW, SHARE)
    assert c1_synced(edited(state, replace(C1_SPEC, force_sync=False)))[1] is Reason.C1_SYNCED
    assert c1_synced(edited(state, C1_SPEC, sync_timeout=60.0))[1] is Reason.C1_ACCESS_DENIED


def test_a_read_that_failed_goes_before_what_c1_showed() -> None:
    state = look_failed(in_c1(), 1, denied(), NOW, SHARE)
    assert c1_synced(state) == (ConditionStatus.FALSE, Reason.C1_ACCESS_DENIED, "C1 answers 403 to force_sync.")
    assert c1_synced(looked(state, 1, C1State(DONE), after(60), SHARE))[1] is Reason.C1_SYNCED


@pytest.mark.parametrize("kind", ["read", "force"])
def test_what_may_pass_is_said_once_it_has_lasted_half_a_minute(kind: str) -> None:
    def fail(state: ConnectorState, seconds: float, failure: Failure) -> ConnectorState:
        if kind == "read":
            return look_failed(state, 1, failure, after(seconds), SHARE)
        return c1_side.force_failed(state, 1, SyncID("sync1"), failure, after(seconds), SHARE)

    def reason(state: ConnectorState) -> Reason:
        return c1_synced(state)[1]

    state = fail(in_c1(), 10, unavailable())
    assert (reason(state), reason(fail(state, 39.9, unavailable()))) == (Reason.C1_SYNCED, Reason.C1_SYNCED)
    assert reason(fail(state, 40.0, unavailable())) is Reason.C1_UNAVAILABLE
    refused = fail(state, 20, denied())
    assert reason(refused) is Reason.C1_ACCESS_DENIED
    assert reason(fail(refused, 30, unavailable())) is Reason.C1_ACCESS_DENIED, "what was said stays"
    works = looked(state, 1, C1State(DONE), after(20), SHARE) if kind == "read" else in_c1()
    assert reason(fail(works, 50, unavailable())) is Reason.C1_SYNCED, "it counts from the first failure"


def test_c1s_side_says_nothing_of_the_connector_itself() -> None:
    state = replace(in_c1(), c1_side=replace(in_c1().c1_side, look_at=NEVER))
    well, ill = derive_status(state, NOW), derive_status(look_failed(state, 1, denied(), NOW, SHARE), NOW)
    assert well.phase == ill.phase
    others = [[each for each in one.conditions if each.type is not ConditionType.C1_SYNCED] for one in (well, ill)]
    assert others[0] == others[1]
    assert [each.type for each in ill.conditions][-1] is ConditionType.C1_SYNCED


def test_the_condition_comes_after_provisioning_and_only_while_spec_c1_is_used() -> None:
    kinds = [each.type for each in derive_status(running(new(c1=C1_SPEC), START), START).conditions]
    assert kinds.index(ConditionType.C1_SYNCED) < kinds.index(ConditionType.RECONCILING)
    for spec in ({}, {"c1": C1_SPEC, "suspend": True}):
        status = derive_status(new(**spec), START)
        assert status.condition(ConditionType.C1_SYNCED) is None


def test_no_credential_is_in_what_the_process_keeps() -> None:
    assert "secret" not in repr(in_c1().c1_side)
    assert DesiredState.__dataclass_fields__["c1_access"].repr is False


# What a former process said


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(looked(in_c1(), 1, C1State(DONE, completed_at=TIME), NOW, SHARE), id="well"),
        pytest.param(looked(in_c1(), 1, C1State(ERROR, last_error="no data"), NOW, SHARE), id="error"),
        pytest.param(looked(in_c1(), 1, C1State(DISABLED, paused_reason="drop"), NOW, SHARE), id="paused"),
        pytest.param(look_failed(in_c1(), 1, denied(), NOW, SHARE), id="not read"),
        pytest.param(c1_side.force_failed(in_c1(), 1, SyncID("sync1"), denied(), NOW, SHARE), id="not forced"),
        pytest.param(new(c1=C1_SPEC), id="not looked at"),
    ],
)
def test_what_was_said_is_said_until_the_first_look(before: ConnectorState) -> None:
    assert c1_synced(left(before)) == c1_synced(before)


def test_what_was_said_of_another_connector_is_not() -> None:
    status = derive_status(look_failed(in_c1(), 1, denied(), NOW, SHARE), NOW)
    for before in (status, replace(status, c1=None)):
        other = restored(before, after(30), c1=replace(C1_SPEC, connector_id="other"))
        assert c1_synced(other)[:2] == (ConditionStatus.UNKNOWN, Reason.C1_AWAITING_SYNC)


def test_after_a_restart_a_read_that_works_ends_a_failed_one_and_not_a_refused_sync() -> None:
    for failing, reason in (
        (look_failed(in_c1(), 1, denied(), NOW, SHARE), Reason.C1_SYNCED),
        (c1_side.force_failed(in_c1(), 1, SyncID("sync1"), denied(), NOW, SHARE), Reason.C1_ACCESS_DENIED),
    ):
        state = looked(left(failing), 1, C1State(DONE), after(60), SHARE)
        assert c1_synced(state)[1] is reason
    assert c1_synced(forced(state, 1, SyncID("sync2"), C1State(), after(90), SHARE))[1] is Reason.C1_SYNCED
