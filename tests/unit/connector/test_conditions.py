"""Conditions and phase, from the state: which status, reason and sentence each has, and which comes first."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import (
    CHANGE_SYNCS,
    CHANGE_WAITS,
    CHECKING,
    derive_status,
    expires_soon,
    sentence_changes,
)
from buildkite_connector.connector.state import ConnectorState, host_id_taken
from buildkite_connector.model.directory import ALL_KINDS, Counts, ResourceKind, SyncScope, TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import (
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    Phase,
    TokenAccess,
    TokenStatus,
)
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import Instant
from fakes.connector_states import (
    PREFLIGHT,
    REJECTED,
    START,
    after,
    asked,
    checked,
    desired,
    greeted,
    new,
    ready,
    running,
    synced,
)

Told = tuple[str, str, str]
"""Status, reason and message of a condition."""
HOUR = 3600.0
NOW = after(HOUR + 10)
HOLDER = "BuildkiteConnector default/older"
CLIENT = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
ACCESS = Failure(Reason.ACCESS_DENIED, "The token may not read teams.", remedy=Remedy.CREDENTIALS)
ELSEWHERE = Failure(Reason.ORGANIZATION_NOT_FOUND, "No such organization.", remedy=Remedy.EDIT)
CRON = Failure(Reason.CRON_INVALID, "spec.schedule.cron cannot be used.", remedy=Remedy.EDIT)
LATE = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
DOWN = Failure(Reason.BUILDKITE_UNAVAILABLE, "Buildkite answers 503.")
AWAY = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
BROKEN = Failure(Reason.UPLOAD_FAILED, "C1 did not take the file.")
UNREAD = Failure(Reason.SECRET_FORBIDDEN, "The Secret cannot be read.")


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20).wall)


def but(
    state: ConnectorState,
    *,
    check: Failure | None = None,
    c1: Failure | None = None,
    sync: Failure | None = None,
    delivery: Failure | None = None,
    accepted: tuple[bool, bool] = (True, True),
    **spec: object,
) -> ConnectorState:
    """The same state with these failures. `accepted`: whether Buildkite took the token, and C1 the client."""
    token, client = accepted
    return replace(
        state,
        check=replace(state.check, failure=check, preflight=state.check.preflight if token else None),
        c1=replace(state.c1, failure=c1, greeted=client),
        sync_failure=sync,
        delivery_failure=delivery,
        desired=replace(state.desired, spec=replace(state.desired.spec, **spec)),  # type: ignore[arg-type]  # checked by the dataclass
    )


NEW = new()
FIRST = greeted(checked(new()))
STAGED = ready()
WELL = delivered(STAGED)
SYNCING = running(WELL, after(HOUR))
LEAST = synced(WELL, after(HOUR), "sync2", Counts(75, 10, 300))
HALF = synced(WELL, after(HOUR), "sync2", Counts(10, 10, 300))
EDITED = transitions.desired_changed(WELL, desired(2), NOW)
CHECKED = checked(EDITED, NOW)


def with_token(expires_at: datetime | None, access: TokenAccess | None) -> ConnectorState:
    preflight = replace(PREFLIGHT, token=replace(PREFLIGHT.token, expires_at=expires_at))
    token = TokenStatus(access=access)
    return replace(WELL, check=replace(WELL.check, preflight=preflight), records=replace(WELL.records, token=token))


SOON = NOW.wall + timedelta(days=3)
MEMBER = TokenAccess(False, 1)


def told(state: ConnectorState, kind: ConditionType, now: Instant = NOW) -> Told | None:
    found = derive_status(state, now).condition(kind)
    return (found.status.value, found.reason.value, found.message) if found is not None else None


def of(status: str, failure: Failure, reason: Reason | None = None) -> Told:
    return status, (reason or failure.reason).value, failure.message


VALID = ("True", "Valid", "Buildkite accepts the API token and C1 accepts the client.")
UNCHECKED = ("Unknown", "Pending", "The credentials have not been checked yet.")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WELL, VALID),
        (but(WELL, accepted=(False, True)), UNCHECKED),
        (but(WELL, accepted=(True, False)), UNCHECKED),
        (but(WELL, check=REJECTED), of("False", REJECTED)),
        (but(WELL, check=CRON), of("Unknown", CRON)),
        (
            but(WELL, check=ELSEWHERE),
            ("Unknown", "OrganizationNotFound", "Buildkite accepts the API token. No such organization."),
        ),
        (but(WELL, check=DOWN, c1=CLIENT, sync=ACCESS), of("Unknown", DOWN)),
        (but(WELL, c1=CLIENT, sync=ACCESS), of("False", CLIENT)),
        (but(WELL, sync=ACCESS), of("False", ACCESS)),
        (but(WELL, c1=AWAY, sync=ACCESS), of("False", ACCESS)),
        (but(WELL, sync=DOWN), VALID),
        (but(WELL, delivery=BROKEN), VALID),
        (but(WELL, c1=AWAY), VALID),
        (but(WELL, c1=AWAY, accepted=(True, False)), of("Unknown", AWAY)),
        (but(WELL, c1=AWAY, accepted=(False, True)), UNCHECKED),
        (but(with_token(SOON, None), sync=ACCESS), of("False", ACCESS)),
        (replace(WELL, check=replace(WELL.check, unread=UNREAD)), of("Unknown", UNREAD)),
        (replace(but(WELL, c1=CLIENT), check=replace(WELL.check, unread=UNREAD)), of("False", CLIENT)),
        (replace(WELL, host_id_holder=HOLDER), of("Unknown", host_id_taken(HOLDER, "default.acme"))),
    ],
)
def test_the_credentials_are_valid_once_both_sides_took_them(state: ConnectorState, expected: Told) -> None:
    assert told(state, ConditionType.CREDENTIALS_VALID) == expected


@pytest.mark.parametrize(
    ("expires_at", "access", "reason", "says"),
    [
        (SOON, None, "TokenExpires", ["expires in 3 days"]),
        (None, MEMBER, "TokenSeesLess", ["not an administrator"]),
        (SOON, MEMBER, "TokenExpires", ["expires in 3 days", "not an administrator"]),
    ],
)
def test_a_token_that_soon_fails_or_sees_less_is_valid_with_a_warning(
    expires_at: datetime | None, access: TokenAccess | None, reason: str, says: list[str]
) -> None:
    found = told(with_token(expires_at, access), ConditionType.CREDENTIALS_VALID)
    assert found is not None
    assert found[:2] == ("True", reason)
    assert all(each in found[2] for each in says)


COUNTED = "100 accounts, 10 teams and 300 memberships in snapshot sync1."


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (FIRST, ("Unknown", "AwaitingSync", "No sync has finished yet.")),
        (WELL, ("True", "SyncSucceeded", COUNTED)),
        (but(WELL, sync=DOWN), of("False", DOWN)),
        (but(FIRST, sync=DOWN), of("False", DOWN)),
    ],
)
def test_synced_reports_the_last_sync(state: ConnectorState, expected: Told) -> None:
    assert told(state, ConditionType.SYNCED) == expected


ALL_COUNTED = Counts(100, 10, 300, 100, 50, 80, 4, 12, 8)


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (
            ALL_KINDS,
            (
                "100 accounts, 10 teams, 300 memberships, 100 organization roles, 50 pipelines, 80 pipeline access"
                " grants, 4 clusters, 12 cluster maintainers and 8 cluster team maintainers in snapshot sync1."
            ),
        ),
        (
            {ResourceKind.USER, ResourceKind.PIPELINE},
            (
                "100 accounts, 0 teams, 0 memberships and 50 pipelines in snapshot sync1."
                " Check spec.sync.resourceTypes: pipeline has no grants without team."
            ),
        ),
    ],
)
def test_synced_names_what_is_in_scope_and_a_type_whose_grants_cannot_exist(
    kinds: set[ResourceKind], says: str
) -> None:
    chosen = frozenset(kinds)
    state = synced(greeted(checked(new(kinds=chosen))), START, counts=ALL_COUNTED.within(SyncScope(chosen)))
    assert told(state, ConditionType.SYNCED) == ("True", "SyncSucceeded", says)
    assert told(state, ConditionType.READY) == ("True", "Ready", says)


HELD = "Snapshot sync2 has 10 accounts, the last delivered one had 100 (90 % fewer"
LOST = "Snapshot sync2 has 75 accounts, the last delivered one had 100 (25 % fewer)"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (FIRST, ("False", "AwaitingSync", "There is no snapshot to deliver yet.")),
        (
            STAGED,
            ("False", "AwaitingTask", "C1 does not have snapshot sync1 yet: the newest one is delivered when C1 asks."),
        ),
        (WELL, ("True", "Delivered", "C1 accepted snapshot sync1 under task task0.")),
        (LEAST, ("False", "Shrunk", LOST)),
        (but(STAGED, c1=AWAY), of("False", AWAY)),
        (but(WELL, c1=AWAY, delivery=BROKEN), of("False", BROKEN)),
        (but(HALF, delivery=BROKEN), ("False", "ShrinkHeld", HELD)),
        (replace(HALF, desired=replace(HALF.desired, accept_shrink="sync2")), ("False", "AwaitingTask", "C1 does not")),
        (but(HALF, max_drop_percent=90), ("False", "Shrunk", HELD)),
        (replace(HALF, staged=None), ("False", "AwaitingTask", "C1 does not have snapshot sync2 yet")),
        (but(WELL, sync=DOWN, check=REJECTED), ("True", "Delivered", "C1 accepted snapshot sync1")),
    ],
)
def test_delivered_reports_what_c1_has(state: ConnectorState, expected: Told) -> None:
    found = told(state, ConditionType.DELIVERED)
    assert found is not None
    assert found[:2] == expected[:2]
    assert found[2].startswith(expected[2])


WRITES = but(WELL, provisioning=Provisioning(enabled=True))
CARRIED_OUT = "Grants and revokes from C1 are applied."
FORBIDS = replace(WRITES, check=replace(WRITES.check, write_failure=REJECTED))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WELL, None),
        (replace(WELL, check=FORBIDS.check), None),
        (replace(FORBIDS, desired=replace(FORBIDS.desired, spec_error=DOWN)), None),
        (WRITES, ("True", "Ready", CARRIED_OUT)),
        (
            but(WELL, provisioning=Provisioning(enabled=True, protected_teams=("nobody",))),
            (
                "True",
                "ProtectedTeamUnknown",
                (
                    f"{CARRIED_OUT} Check spec.provisioning.protectedTeams: no team has the slug nobody, so it protects"
                    " nothing."
                ),
            ),
        ),
        (
            but(WRITES, accepted=(False, True)),
            ("Unknown", "Pending", "The credentials are being checked; the change can be made afterwards."),
        ),
        (FORBIDS, of("False", REJECTED)),
    ],
)
def test_provisioning_ready_says_whether_memberships_can_be_changed(
    state: ConnectorState, expected: Told | None
) -> None:
    assert told(state, ConditionType.PROVISIONING_READY) == expected


SUSPENDED = ("False", "Suspended", "spec.suspend is true: no syncs and no contact with C1 until it is false.")


@pytest.mark.parametrize(
    ("state", "expected", "phase"),
    [
        (but(SYNCING, suspend=True, check=REJECTED), SUSPENDED, Phase.SUSPENDED),
        (but(WELL, check=REJECTED, sync=DOWN, c1=AWAY, delivery=BROKEN), of("False", REJECTED), Phase.ERROR),
        (but(WELL, check=CRON), of("False", CRON), Phase.ERROR),
        (but(WELL, sync=DOWN, c1=AWAY, delivery=BROKEN), of("False", DOWN), Phase.DEGRADED),
        (but(FIRST, sync=DOWN), of("False", DOWN), Phase.ERROR),
        (but(WELL, c1=AWAY, delivery=BROKEN), of("False", AWAY), Phase.DEGRADED),
        (but(WELL, c1=CLIENT), of("False", CLIENT), Phase.ERROR),
        (but(HALF, delivery=BROKEN), of("False", BROKEN), Phase.DEGRADED),
        (replace(WELL, check=replace(WELL.check, unread=UNREAD)), of("False", UNREAD), Phase.DEGRADED),
        (replace(WELL, host_id_holder=HOLDER), of("False", host_id_taken(HOLDER, "default.acme")), Phase.ERROR),
        (HALF, ("False", "ShrinkHeld", told(HALF, ConditionType.DELIVERED)[2]), Phase.DEGRADED),  # type: ignore[index]  # it is there
        (STAGED, ("True", "Ready", COUNTED), Phase.CONNECTED),
        (WELL, ("True", "Ready", COUNTED), Phase.CONNECTED),
        (SYNCING, ("True", "Ready", COUNTED), Phase.SYNCING),
        (running(FIRST, START), ("Unknown", "Syncing", "The first sync is in progress."), Phase.SYNCING),
        (NEW, ("Unknown", "Pending", CHECKING), Phase.PENDING),
        (FIRST, ("Unknown", "Pending", CHANGE_WAITS), Phase.PENDING),
        (but(WELL, accepted=(False, True)), ("Unknown", "Pending", COUNTED), Phase.PENDING),
        (but(EDITED, accepted=(False, True)), ("Unknown", "Pending", CHECKING), Phase.PENDING),
        (EDITED, ("True", "Ready", COUNTED), Phase.CONNECTED),
    ],
)
def test_ready_reports_the_first_trouble_or_what_was_synced(
    state: ConnectorState, expected: Told, phase: Phase
) -> None:
    assert told(state, ConditionType.READY) == expected
    assert derive_status(state, NOW).phase is phase


STALLED, RECONCILING = ConditionType.STALLED, ConditionType.RECONCILING
RETRYING = Reason.RETRYING


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WELL, {}),
        (SYNCING, {}),
        (but(HALF, suspend=True, check=REJECTED, sync=DOWN), {}),
        (but(HALF, check=REJECTED), {STALLED: of("True", REJECTED)}),
        (but(WELL, check=CRON), {STALLED: of("True", CRON)}),
        (but(WELL, c1=CLIENT), {STALLED: of("True", CLIENT)}),
        (but(WELL, sync=DOWN), {RECONCILING: of("True", DOWN, RETRYING)}),
        (but(WELL, c1=AWAY), {RECONCILING: of("True", AWAY, RETRYING)}),
        (but(HALF, sync=DOWN), {STALLED: ("True", "ShrinkHeld", told(HALF, ConditionType.READY)[2])}),  # type: ignore[index]  # it is there
        (running(FIRST, START), {RECONCILING: ("True", "Syncing", CHANGE_SYNCS)}),
    ],
)
def test_stalled_and_reconciling_say_who_must_act(state: ConnectorState, expected: dict[ConditionType, Told]) -> None:
    assert {kind: found for kind in (STALLED, RECONCILING) if (found := told(state, kind))} == expected


@pytest.mark.parametrize(
    ("state", "reason", "says"),
    [
        pytest.param(EDITED, "Pending", CHECKING, id="an edit"),
        pytest.param(CHECKED, "Pending", CHANGE_WAITS, id="checked"),
        pytest.param(running(CHECKED, NOW), "Syncing", CHANGE_SYNCS, id="syncs"),
        pytest.param(FIRST, "Pending", CHANGE_WAITS, id="before the first sync"),
        pytest.param(SYNCING, None, None, id="scheduled sync"),
        pytest.param(running(asked(WELL, after(1000)), after(1000)), None, None, id="a task's sync"),
    ],
)
def test_what_goes_on_is_reconciling_and_ready_stays_as_it_was(
    state: ConnectorState, reason: str | None, says: str | None
) -> None:
    assert told(state, RECONCILING) == (("True", reason, says) if reason else None)
    assert told(state, ConditionType.READY) == told(FIRST if state is FIRST else WELL, ConditionType.READY)


def test_a_late_secret_is_on_its_way_for_three_minutes() -> None:
    state = checked(new(), START, LATE)
    for seconds, kind, phase in ((179, RECONCILING, Phase.PENDING), (180, STALLED, Phase.ERROR)):
        status = derive_status(state, after(seconds))
        assert (status.phase, status.condition(kind) is not None) == (phase, True)
    again = checked(transitions.desired_changed(WELL, desired(2), NOW), NOW, LATE)
    assert derive_status(again, after(NOW.monotonic - START.monotonic + 10)).phase is Phase.PENDING


# What holds for all of them


def test_a_transition_time_moves_only_when_the_status_does() -> None:
    first = derive_status(STAGED, after(10))
    same = derive_status(delivered(replace(STAGED, records=first)), after(30))
    broken = derive_status(but(replace(STAGED, records=same), sync=DOWN), after(60))
    assert same.condition(ConditionType.READY) == first.condition(ConditionType.READY)
    times = {each.type: each.last_transition_time for each in broken.conditions}
    assert times[ConditionType.CREDENTIALS_VALID] == after(10).wall
    assert times[ConditionType.DELIVERED] == after(30).wall
    assert times[ConditionType.READY] == after(60).wall
    assert derive_status(replace(STAGED, records=first), NOW) == first


def test_every_condition_observes_the_generation() -> None:
    status = derive_status(EDITED, NOW)
    assert {2} == {status.observed_generation, *(each.observed_generation for each in status.conditions)}


@pytest.mark.parametrize("state", [NEW, FIRST, WELL, but(WELL, suspend=True), but(WELL, sync=DOWN), HALF, WRITES])
def test_every_condition_has_a_message(state: ConnectorState) -> None:
    conditions = derive_status(state, NOW).conditions
    assert all(each.message for each in conditions)
    assert [each.type.value for each in conditions[:4]] == ["Ready", "CredentialsValid", "Synced", "Delivered"]
    assert all(each.status is ConditionStatus.TRUE for each in conditions if each.type in {STALLED, RECONCILING})


# The records beside them


def test_the_status_names_the_organization_and_the_token_s_end_that_the_check_found() -> None:
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    facts = replace(PREFLIGHT, token=TokenFacts("uuid", frozenset(), expires))
    state = replace(ready(), check=replace(ready().check, preflight=facts, missing_scopes=("read_teams",)))
    status = derive_status(state, after(10))
    assert status.organization == PREFLIGHT.organization
    assert status.token == TokenStatus(expires, ("read_teams",))


def test_what_a_former_process_knew_of_the_organization_is_reported_until_a_check_finds_it_anew() -> None:
    known = ConnectorStatus(organization=PREFLIGHT.organization, token=TokenStatus(SOON, access=MEMBER))
    status = derive_status(replace(new(), records=known), START)
    assert (status.organization, status.token) == (known.organization, known.token)


# A token that expires soon


ENDS = "2026-03-20T12:00:00Z"
END = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (14 * DAY + SECOND, None),
        (14 * DAY, "in 14 days"),
        (13 * DAY + SECOND, "in 14 days"),
        (13 * DAY, "in 13 days"),
        (DAY + SECOND, "in 2 days"),
        (DAY, "within a day"),
        (SECOND, "within a day"),
        (-SECOND, "now"),
    ],
)
def test_people_are_warned_from_two_weeks_before_with_the_days_that_are_left(
    before: timedelta, says: str | None
) -> None:
    sentence = expires_soon(END, END - before)
    assert (sentence is None) if says is None else (sentence is not None and f"expires {says} ({ENDS})" in sentence)


def test_the_warning_says_what_to_do() -> None:
    assert expires_soon(END, END - 3 * DAY) == (
        "The Buildkite API token expires in 3 days (2026-03-20T12:00:00Z). Create a new one with the same scopes"
        " and replace it before then."
    )


def test_a_token_that_never_expires_is_no_news() -> None:
    assert (expires_soon(None, END), sentence_changes(None, END)) == (None, None)


@pytest.mark.parametrize("days", range(1, 15))
def test_the_sentence_changes_exactly_when_it_is_said_to(days: int) -> None:
    now = END - days * DAY - SECOND
    at = sentence_changes(END, now)
    assert at == END - days * DAY
    assert expires_soon(END, now) == expires_soon(END, at - SECOND / 2) != expires_soon(END, at)


def test_it_changes_last_when_the_token_ends() -> None:
    assert sentence_changes(END, END - SECOND) == END
    assert sentence_changes(END, END) is None
