"""When a run of the creation is due, what it leaves, and when a session takes the credentials that replaced its own."""

from dataclasses import replace
from datetime import timedelta

import pytest

from buildkite_connector.connector.decisions import next_look, session_over
from buildkite_connector.connector.rotation import (
    changes_over,
    client_in_use,
    creation_due,
    creation_ended,
    creation_times,
    recorded,
    rotates_at,
    rotation_failure,
    same_progress,
)
from buildkite_connector.connector.state import (
    C1Identity,
    C1Phase,
    Check,
    ConnectorState,
    Creation,
    DesiredState,
    SessionState,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import C1Spec, ConnectorSpec, Credentials
from buildkite_connector.model.status import C1CredentialRecord, C1Record, C1State, C1Step, ConnectorStatus
from buildkite_connector.timing.clock import Instant
from fakes.c1_creation import WANTED
from fakes.connector_ports import SecretCredentials
from fakes.connector_states import NEVER, REJECTED
from fakes.virtual_time import START

NOW = Instant(START, 1000.0)
DESIRED = DesiredState(1, ConnectorSpec(host_id="default.acme", c1=C1Spec(create=WANTED)), SecretCredentials())
REPLACED = ConnectorState(
    DESIRED,
    0.0,
    ConnectorStatus(),
    check=Check(generation=1, credentials=Credentials("new", "new secret", "token"), read_at=NOW.monotonic),
    c1=SessionState(C1Phase.OPEN, C1Identity("old", "old secret", "default.acme"), greeted=True, settled=True),
)
"""The session has the old credentials, and the Secret new ones."""


def with_session(**changes: object) -> ConnectorState:
    return replace(REPLACED, c1=replace(REPLACED.c1, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def test_replaced_credentials_are_taken_when_the_session_serves_nothing_which_is_looked_at_every_five_seconds() -> None:
    assert session_over(REPLACED)
    assert changes_over(REPLACED)
    assert next_look(REPLACED, NOW) == NOW.monotonic + 5


@pytest.mark.parametrize(
    "state",
    [
        with_session(ended=True),
        with_session(phase=C1Phase.CLOSING),
        with_session(identity=C1Identity("old", "old secret", "another")),
        with_session(identity=C1Identity("old", "old secret", "default.acme", provisions=True)),
        with_session(identity=C1Identity("new", "new secret", "default.acme")),
        replace(REPLACED, check=Check()),
        replace(REPLACED, desired=replace(DESIRED, spec=replace(DESIRED.spec, c1=C1Spec("2app", "2connector")))),
        replace(REPLACED, desired=replace(DESIRED, spec=replace(DESIRED.spec, suspend=True))),
    ],
    ids=["refused", "closing", "host", "provisioning", "the same", "unread", "not created here", "suspended"],
)
def test_nothing_else_waits_for_the_tasks_of_a_session(state: ConnectorState) -> None:
    assert not changes_over(state)


# When a run is due


HOUR = 3600.0
MOMENT = timedelta(microseconds=1)
CREDENTIAL = C1CredentialRecord("credential3", rotates_at=NOW.wall + MOMENT)
RECORD = C1Record("app1", "connector2", credential=CREDENTIAL)
AWAY = Failure(Reason.C1_UNAVAILABLE, "C1 answered 503.")
REFUSED = Failure(Reason.C1_ACCESS_DENIED, "C1 refused it.", remedy=Remedy.CREDENTIALS)
NOT_CREATED = Failure(Reason.C1_NOT_CREATED, "The Secret is not there.")
RAN = Creation(1, None, due_at=NOW.monotonic, blocked_until=NOW.monotonic)
USED = Check(1, credentials=Credentials("client", "secret", "token"))
IDLE = ConnectorState(
    DESIRED,
    0.0,
    ConnectorStatus(c1=RECORD),
    check=USED,
    creation=RAN,
    c1=SessionState(C1Phase.OPEN, C1Identity("client", "secret", "default.acme"), greeted=True),
)
"""All is done, and at this moment a run that has something to do is due."""


def of_record(record: C1Record | None = RECORD, **credential: object) -> ConnectorState:
    if record is not None and credential:
        record = replace(record, credential=replace(CREDENTIAL, **credential))  # type: ignore[arg-type]  # by its fields
    return replace(IDLE, records=ConnectorStatus(c1=record))


def after_run(state: ConnectorState = IDLE, **creation: object) -> ConnectorState:
    return replace(state, creation=replace(RAN, **creation))  # type: ignore[arg-type]  # by its fields


NEW = of_record(C1Record())
EDITED = replace(IDLE, desired=replace(DESIRED, generation=2))
ANNOTATED = replace(IDLE, desired=replace(DESIRED, sync_request="now"))
RETIRING = of_record(retiring=("credential2",))


DUE = {
    "nothing to do": (False, IDLE),
    "no record": (True, of_record(None)),
    "no credential": (True, NEW),
    "a call was announced": (True, of_record(replace(RECORD, creating=C1Step.CREDENTIAL))),
    "a little early": (False, after_run(NEW, due_at=NOW.monotonic + 0.001)),
    "put off a little longer": (False, after_run(NEW, blocked_until=NOW.monotonic + 0.001)),
    "an edit does not wait": (True, after_run(EDITED, due_at=NEVER)),
    "an edit waits for what C1 asked for": (False, after_run(EDITED, blocked_until=NEVER)),
    "an annotation after a failure": (True, after_run(ANNOTATED, due_at=NEVER, failure=AWAY)),
    "an annotation without a failure": (False, ANNOTATED),
    "a failure": (True, after_run(failure=AWAY)),
    "a failure a moment ago": (False, after_run(failure=AWAY, due_at=NEVER)),
    "the Secret is gone": (True, replace(IDLE, check=replace(USED, failure=NOT_CREATED))),
    "the Secret is gone while it works": (True, replace(IDLE, check=replace(USED, unread=NOT_CREATED))),
    "the Secret cannot be read": (False, replace(IDLE, check=replace(USED, failure=AWAY, unread=AWAY))),
    "one to revoke": (True, RETIRING),
    "one to revoke, and C1 did not greet": (False, replace(RETIRING, c1=replace(IDLE.c1, greeted=False))),
    "one to revoke, and the session has it": (False, replace(RETIRING, c1=REPLACED.c1)),
    "one to revoke, and no credentials": (False, replace(RETIRING, check=Check())),
    "the moment to replace it": (True, of_record(rotates_at=NOW.wall)),
    "it does not expire": (False, of_record(rotates_at=None)),
    "suspended": (False, replace(NEW, desired=replace(DESIRED, spec=replace(DESIRED.spec, suspend=True)))),
    "an invalid spec": (False, replace(NEW, desired=replace(DESIRED, spec_error=REJECTED))),
    "named by hand": (False, replace(NEW, desired=replace(DESIRED, spec=replace(DESIRED.spec, c1=C1Spec())))),
    "without spec.c1": (False, replace(NEW, desired=replace(DESIRED, spec=replace(DESIRED.spec, c1=None)))),
}


@pytest.mark.parametrize("why", DUE)
def test_when_a_run_is_due(why: str) -> None:
    due, state = DUE[why]
    assert creation_due(state, NOW) is due


@pytest.mark.parametrize(("life", "left"), [(90, 30), (42, 14), (30, 14), (28, 14), (24, 12), (2, 1)])
def test_a_credential_is_replaced_in_time(life: int, left: int) -> None:
    """Both in days."""
    ends = NOW.wall + timedelta(days=life)
    assert rotates_at(ends, NOW.wall) == ends - timedelta(days=left)


def test_when_to_look_whether_one_is_due() -> None:
    creation = Creation(1, due_at=7.0, blocked_until=9.0)
    assert [*creation_times(replace(IDLE, creation=creation), NOW)] == [7.0, 9.0]
    assert [*creation_times(replace(REPLACED, creation=creation), NOW)] == [7.0, 9.0, NOW.monotonic + 5.0]
    assert [*creation_times(replace(IDLE, desired=replace(DESIRED, spec_error=REJECTED)), NOW)] == []


def test_the_client_in_use_is_that_of_a_session_that_c1_greeted() -> None:
    assert client_in_use(REPLACED) == "old"
    for changes in ({"phase": C1Phase.CLOSED}, {"greeted": False}, {"identity": None}):
        assert client_in_use(with_session(**changes)) == ""


@pytest.mark.parametrize(("failure", "failures", "shown"), [(AWAY, 4, False), (AWAY, 5, True), (REFUSED, 1, True)])
def test_what_may_pass_is_shown_from_the_fifth_failure_on(failure: Failure, failures: int, shown: bool) -> None:
    state = after_run(failure=failure, failures=failures)
    assert rotation_failure(state) is (failure if shown else None)
    assert rotation_failure(IDLE) is None


# After a run


def asks(seconds: float | None, remedy: Remedy = Remedy.RETRY) -> Failure:
    return Failure(Reason.C1_UNAVAILABLE, "Not now.", remedy=remedy, retry_after=seconds)


@pytest.mark.parametrize(
    ("failure", "before", "share", "wait", "blocked"),
    [
        (asks(None), 0, 0.0, 15.0, 0.0),
        (asks(None), 0, 1.0, 30.0, 0.0),
        (asks(None), 2, 1.0, 120.0, 0.0),
        (asks(None), 99, 1.0, 900.0, 0.0),
        (asks(20.0), 0, 1.0, 30.0, 20.0),
        (asks(2 * HOUR), 0, 1.0, 2 * HOUR, 2 * HOUR),
        (asks(1e9), 0, 1.0, 6 * HOUR, 6 * HOUR),
        (asks(None, Remedy.EDIT), 9, 1.0, 300.0, 0.0),
        (asks(299.0, Remedy.CREDENTIALS), 0, 1.0, 300.0, 0.0),
        (asks(6 * HOUR, Remedy.CREDENTIALS), 0, 1.0, 6 * HOUR, 0.0),
    ],
)
def test_how_long_the_next_run_waits_after_a_failure(
    failure: Failure, before: int, share: float, wait: float, blocked: float
) -> None:
    """`blocked`: an edit or the annotation waits so long, too."""
    state = after_run(failures=before)
    ran_for = replace(DESIRED, generation=7, sync_request="a")
    creation = creation_ended(state, ran_for, failure, NOW, share).creation
    kept = creation.failure
    assert kept is not None
    assert kept is not failure
    assert (kept.reason, kept.message, kept.remedy) == (failure.reason, failure.message, failure.remedy)
    now = NOW.monotonic
    assert creation == Creation(7, "a", kept, before + 1, due_at=now + wait, blocked_until=now + blocked)


def test_after_a_run_that_succeeds_the_next_is_due_in_five_seconds() -> None:
    ended = creation_ended(after_run(failure=AWAY, failures=3), ANNOTATED.desired, None, NOW, 0.5)
    assert ended.creation == Creation(1, "now", due_at=NOW.monotonic + 5.0)


SHOWN = {"shown": C1State(), "observed_at": NOW.wall, "forced_for": SyncID("sync1")}
READ = Check(1, read_at=900.0, read_wait=60.0, forced_due=2000.0)


@pytest.mark.parametrize("before", [None, CREDENTIAL, replace(CREDENTIAL, id="credential2")])
def test_a_record_leaves_what_c1_shows_and_the_secret_is_read_for_a_new_credential(
    before: C1CredentialRecord | None,
) -> None:
    old = replace(C1Record(creating=C1Step.APP, credential=before), **SHOWN)  # type: ignore[arg-type]  # by its fields
    state = replace(of_record(old), check=READ)
    new = replace(RECORD, creating=C1Step.CONNECTOR, creating_since=NOW.wall)
    after = recorded(state, new)
    assert after.records.c1 == replace(new, **SHOWN)  # type: ignore[arg-type]  # by its fields
    inf = float("inf")
    at_once = replace(READ, read_at=-inf, read_wait=0.0, forced_due=-inf)
    assert after.check == (READ if before is CREDENTIAL else at_once)


@pytest.mark.parametrize(
    "state", [of_record(None), replace(IDLE, desired=replace(DESIRED, spec=replace(DESIRED.spec, c1=C1Spec())))]
)
def test_a_record_comes_too_late_where_nothing_is_created_any_more(state: ConnectorState) -> None:
    assert recorded(state, C1Record("app9")) is state


def test_progress_is_the_same_whatever_c1_shows() -> None:
    assert same_progress(replace(RECORD, **SHOWN), RECORD)  # type: ignore[arg-type]  # by its fields
    assert not same_progress(None, RECORD)
    others: list[dict[str, object]] = [
        {"app_id": "app9"},
        {"connector_id": ""},
        {"creating": C1Step.APP},
        {"creating_since": NOW.wall},
        {"credential": None},
    ]
    for other in others:
        assert not same_progress(replace(RECORD, **other), RECORD)  # type: ignore[arg-type]  # by its fields
