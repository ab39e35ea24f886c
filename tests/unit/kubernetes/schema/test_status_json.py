"""The status both ways: what is written reads back, and whatever is there never breaks the reading."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.kubernetes.schema.status_json import LONGEST_TEXT, status_from_json, status_to_json
from buildkite_connector.model.directory import Counts, Organization, OrganizationSlug, Role, TeamID
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    C1CredentialRecord,
    C1Record,
    C1State,
    C1Step,
    C1SyncState,
    ChangeAction,
    ChangeRecord,
    ChangeResult,
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    HistoryEntry,
    Phase,
    ProtectedTeam,
    ProvisioningRecord,
    SnapshotFile,
    SyncRecord,
    TokenAccess,
    TokenStatus,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID

T0 = datetime(2026, 3, 2, 9, 0, 0, tzinfo=UTC)
CHANGE = ChangeRecord(
    T0,
    ChangeAction.GRANT,
    "Platform",
    Role.MAINTAINER,
    "Ada Lovelace",
    TaskID("t2"),
    ChangeResult.REFUSED,
    "The team platform is protected.",
)
FULL = ConnectorStatus(
    observed_generation=4,
    phase=Phase.CONNECTED,
    conditions=(
        Condition(ConditionType.READY, ConditionStatus.TRUE, Reason.READY, "12 accounts.", 4, last_transition_time=T0),
    ),
    organization=Organization("o-1", OrganizationSlug("acme-inc"), "Acme-Inc"),
    token=TokenStatus(datetime(2027, 1, 1, tzinfo=UTC), ("read_teams",)),
    last_sync_time=T0,
    last_successful_sync_time=T0,
    next_sync_time=T0 + timedelta(hours=1),
    consecutive_failures=0,
    last_sync=SyncRecord(
        SyncID("s1"), Trigger.REQUEST, T0, T0, Counts(12, 5, 30), 8, 1.5, SnapshotFile("ab" * 32, 4096)
    ),
    last_delivery=DeliveryRecord(T0, TaskID("t1"), SyncID("s1"), "ab" * 32, 4096, Counts(12, 5, 30)),
    last_handled_sync_request="now",
    history=(
        HistoryEntry(SyncID("s1"), Trigger.REQUEST, T0, T0, True, Reason.SYNC_SUCCEEDED, Counts(12, 5, 30)),
        HistoryEntry(SyncID("s0"), Trigger.SCHEDULE, T0, T0, False, Reason.BUILDKITE_UNREACHABLE),
    ),
    provisioning=ProvisioningRecord(3, 1, 2, CHANGE),
    c1=C1Record(
        "2app",
        "2connector",
        C1State(C1SyncState.DISABLED, T0, T0, "no data", T0, "half is gone", "0 * * * * UTC"),
        T0,
        SyncID("s1"),
        C1Step.CREDENTIAL,
        T0,
        C1CredentialRecord("2credential", T0, T0, ("2older", "2oldest")),
    ),
)


def test_the_organizations_web_url_is_no_part_of_the_status() -> None:
    assert FULL.organization is not None
    linked = replace(FULL, organization=replace(FULL.organization, web_url="https://buildkite.com/acme-inc"))
    assert status_to_json(linked) == status_to_json(FULL)
    assert linked == FULL, "so nothing is written"


def test_the_json_is_that_of_the_design() -> None:
    assert status_to_json(FULL) == {
        "observedGeneration": 4,
        "phase": "Connected",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "12 accounts.",
                "observedGeneration": 4,
                "lastTransitionTime": "2026-03-02T09:00:00Z",
            }
        ],
        "organization": {"slug": "acme-inc", "name": "Acme-Inc", "id": "o-1"},
        "token": {"expiresAt": "2027-01-01T00:00:00Z", "missingScopes": ["read_teams"]},
        "lastSyncTime": "2026-03-02T09:00:00Z",
        "lastSuccessfulSyncTime": "2026-03-02T09:00:00Z",
        "nextSyncTime": "2026-03-02T10:00:00Z",
        "consecutiveFailures": 0,
        "lastSync": {
            "id": "s1",
            "trigger": "Request",
            "startedAt": "2026-03-02T09:00:00Z",
            "finishedAt": "2026-03-02T09:00:00Z",
            "accounts": 12,
            "teams": 5,
            "memberships": 30,
            "requests": 8,
            "throttledSeconds": 1.5,
            "snapshot": {"sha256": "ab" * 32, "bytes": 4096},
        },
        "lastDelivery": {
            "time": "2026-03-02T09:00:00Z",
            "taskID": "t1",
            "syncID": "s1",
            "sha256": "ab" * 32,
            "bytes": 4096,
            "accounts": 12,
            "teams": 5,
            "memberships": 30,
        },
        "lastHandledSyncRequest": "now",
        "history": [
            {
                "id": "s1",
                "trigger": "Request",
                "startedAt": "2026-03-02T09:00:00Z",
                "finishedAt": "2026-03-02T09:00:00Z",
                "succeeded": True,
                "reason": "SyncSucceeded",
                "accounts": 12,
                "teams": 5,
                "memberships": 30,
            },
            {
                "id": "s0",
                "trigger": "Schedule",
                "startedAt": "2026-03-02T09:00:00Z",
                "finishedAt": "2026-03-02T09:00:00Z",
                "succeeded": False,
                "reason": "BuildkiteUnreachable",
            },
        ],
        "provisioning": {
            "granted": 3,
            "revoked": 1,
            "refused": 2,
            "lastChange": {
                "time": "2026-03-02T09:00:00Z",
                "action": "grant",
                "team": "Platform",
                "role": "maintainer",
                "user": "Ada Lovelace",
                "taskID": "t2",
                "result": "Refused",
                "reason": "The team platform is protected.",
            },
        },
        "c1": {
            "appID": "2app",
            "connectorID": "2connector",
            "state": "DISABLED",
            "startedAt": "2026-03-02T09:00:00Z",
            "completedAt": "2026-03-02T09:00:00Z",
            "lastError": "no data",
            "pausedAt": "2026-03-02T09:00:00Z",
            "pausedReason": "half is gone",
            "schedule": "0 * * * * UTC",
            "observedAt": "2026-03-02T09:00:00Z",
            "forcedFor": "s1",
            "creating": "Credential",
            "creatingSince": "2026-03-02T09:00:00Z",
            "credential": {
                "id": "2credential",
                "expiresAt": "2026-03-02T09:00:00Z",
                "rotatesAt": "2026-03-02T09:00:00Z",
                "retiring": ["2older", "2oldest"],
            },
        },
    }


def test_a_full_status_reads_back_equal() -> None:
    assert status_from_json(status_to_json(FULL)) == FULL


OPT_IN = {"organizationRoles": 12, "pipelines": 7, "pipelineAccess": 9, "clusters": 2, "clusterMaintainers": 0}
OPT_IN |= {"clusterTeamMaintainers": 3, "apiTokens": 21}


def test_counts_of_opt_in_types_are_written_where_they_are_known() -> None:
    counts = Counts(12, 5, 30, 12, 7, 9, 2, 0, 3, 21)
    assert FULL.last_sync is not None
    assert FULL.last_delivery is not None
    status = replace(
        FULL,
        last_sync=replace(FULL.last_sync, counts=counts),
        last_delivery=replace(FULL.last_delivery, counts=counts),
        history=(replace(FULL.history[0], counts=counts), FULL.history[1]),
    )
    written, before = status_to_json(status), status_to_json(FULL)
    for record, plain in (
        (written["lastSync"], before["lastSync"]),
        (written["lastDelivery"], before["lastDelivery"]),
        (written["history"][0], before["history"][0]),
    ):
        assert record == {**plain, **OPT_IN}
    assert status_from_json(written) == status
    del written["lastDelivery"]["pipelines"]
    read = status_from_json(written)
    assert read is not None
    assert read.last_delivery is not None
    assert read.last_delivery.counts == replace(counts, pipelines=None), "one that is absent costs no other"


def test_an_empty_status_is_written_without_what_is_not_known() -> None:
    written = status_to_json(ConnectorStatus())
    assert written == {"observedGeneration": 0, "phase": "Pending", "consecutiveFailures": 0}
    assert status_from_json(written) == ConnectorStatus()


@pytest.mark.parametrize("nothing", [None, {}, [], "x", 7])
def test_no_status_is_none(nothing: object) -> None:
    assert status_from_json(nothing) is None


def test_times_are_whole_seconds_in_utc() -> None:
    time = datetime(2026, 3, 2, 10, 30, 15, 999_999, tzinfo=UTC).astimezone(tz=None)
    assert status_to_json(ConnectorStatus(next_sync_time=time))["nextSyncTime"] == "2026-03-02T10:30:15Z"


def test_a_long_text_is_cut() -> None:
    condition = Condition(
        ConditionType.READY, ConditionStatus.FALSE, Reason.INTERNAL_ERROR, "x" * 5000, 1, last_transition_time=T0
    )
    refused = replace(CHANGE, reason="x" * 5000)
    written = status_to_json(
        ConnectorStatus(conditions=(condition,), provisioning=ProvisioningRecord(0, 0, 1, refused))
    )
    for text in (written["conditions"][0]["message"], written["provisioning"]["lastChange"]["reason"]):
        assert len(text) == LONGEST_TEXT
        assert text.endswith("x…")


def test_changes_that_wait_for_their_events_are_not_in_the_status() -> None:
    reported = ProvisioningRecord(1, 2, 0, CHANGE)
    waiting = replace(reported, last_change=replace(CHANGE, number=7), recent=(CHANGE, CHANGE))
    assert status_to_json(ConnectorStatus(provisioning=waiting)) == status_to_json(
        ConnectorStatus(provisioning=reported)
    )


def test_seconds_have_one_decimal_and_what_was_not_lost_is_left_out() -> None:
    assert FULL.last_sync is not None
    status = replace(
        FULL, last_sync=replace(FULL.last_sync, throttled_seconds=1.26), token=TokenStatus(access=TokenAccess(False, 0))
    )
    written = status_to_json(status)
    assert written["lastSync"]["throttledSeconds"] == 1.3
    assert written["token"] == {"administrator": False, "secretTeams": 0}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"observedGeneration": True}, ConnectorStatus()),
        ({"consecutiveFailures": 1.5}, ConnectorStatus()),
        ({"nextSyncTime": "2026-03-02T09:00:00"}, ConnectorStatus()),
        ({"nextSyncTime": "2026-03-02T10:00:00.9+01:00"}, ConnectorStatus(next_sync_time=T0)),
        (
            {"lastHandledSyncRequest": "x" * 5000},
            ConnectorStatus(last_handled_sync_request=f"{'x' * (LONGEST_TEXT - 1)}…"),
        ),
        ({"token": {"missingScopes": ["a", 7]}}, ConnectorStatus(token=TokenStatus(missing_scopes=("a",)))),
    ],
)
def test_what_cannot_be_is_not_read(written: dict[str, Any], read: ConnectorStatus) -> None:
    assert status_from_json(written) == read


def test_conditions_and_reasons_of_others_are_passed_over_one_by_one() -> None:
    written = status_to_json(FULL)
    known = written["conditions"][0]
    written["conditions"] = [{**known, "type": "Foreign"}, {**known, "reason": "OfALaterVersion"}, known, "junk", {}]
    assert status_from_json(written) == FULL


@pytest.mark.parametrize("field", status_to_json(FULL))
@pytest.mark.parametrize("junk", [None, 7, "junk", [], [1], {}, {"slug": 1, "id": [], "time": "yesterday"}, True])
def test_junk_in_one_field_costs_that_field_at_most(field: str, junk: Any) -> None:
    written = {**status_to_json(FULL), field: junk}
    read = status_from_json(written)
    assert read is not None
    rest = {key: value for key, value in status_to_json(FULL).items() if key != field}
    assert rest.items() <= status_to_json(read).items()


def test_a_record_that_lacks_something_is_none_rather_than_half() -> None:
    written = status_to_json(FULL)
    del written["lastDelivery"]["accounts"]
    read = status_from_json(written)
    assert read is not None
    assert read.last_delivery is None
    assert read.last_sync == FULL.last_sync


_TIMES = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
_COUNTS = st.builds(
    Counts,
    st.integers(0, 10**7),
    st.integers(0, 10**6),
    st.integers(0, 10**8),
    *[st.none() | st.integers(0, 10**6)] * 5,
)
_TEXT = st.text(max_size=60)
_AMOUNTS = st.integers(0, 2**53)
_STATUSES = st.builds(
    ConnectorStatus,
    observed_generation=st.integers(0, 2**53),
    phase=st.sampled_from(Phase),
    conditions=st.lists(
        st.builds(
            Condition,
            st.sampled_from(ConditionType),
            st.sampled_from(ConditionStatus),
            st.sampled_from(Reason),
            _TEXT,
            st.integers(0, 2**53),
            last_transition_time=_TIMES,
        ),
        unique_by=lambda condition: condition.type,
    ).map(tuple),
    organization=st.none() | st.builds(Organization, _TEXT, _TEXT.map(OrganizationSlug), _TEXT),
    token=st.builds(
        TokenStatus,
        st.none() | _TIMES,
        st.lists(_TEXT, max_size=3).map(tuple),
        st.none() | st.builds(TokenAccess, st.none() | st.booleans(), _AMOUNTS, _AMOUNTS),
    ),
    last_sync_time=st.none() | _TIMES,
    next_sync_time=st.none() | _TIMES,
    consecutive_failures=st.integers(0, 1000),
    last_sync=st.none()
    | st.builds(
        SyncRecord,
        _TEXT.map(SyncID),
        st.sampled_from(Trigger),
        _TIMES,
        _TIMES,
        _COUNTS,
        st.integers(0, 10**6),
        st.integers(0, 10**5).map(lambda tenths: tenths / 10),
        st.builds(SnapshotFile, _TEXT, _AMOUNTS),
    ),
    last_delivery=st.none()
    | st.builds(DeliveryRecord, _TIMES, _TEXT.map(TaskID), _TEXT.map(SyncID), _TEXT, st.integers(0, 2**53), _COUNTS),
    last_handled_sync_request=st.none() | _TEXT,
    provisioning=st.none()
    | st.builds(
        ProvisioningRecord,
        _AMOUNTS,
        _AMOUNTS,
        _AMOUNTS,
        st.none()
        | st.builds(
            ChangeRecord,
            _TIMES,
            st.sampled_from(ChangeAction),
            _TEXT,
            st.sampled_from(Role),
            _TEXT,
            _TEXT.map(TaskID),
            st.sampled_from(ChangeResult),
            _TEXT,
        ),
        protected_teams=st.lists(st.builds(ProtectedTeam, _TEXT, _TEXT.map(TeamID), _TEXT), max_size=2).map(tuple),
    ),
    history=st.lists(
        st.builds(
            HistoryEntry,
            _TEXT.map(SyncID),
            st.sampled_from(Trigger),
            _TIMES,
            _TIMES,
            st.booleans(),
            st.sampled_from(Reason),
            st.none() | _COUNTS,
        ),
        max_size=3,
    ).map(tuple),
)


@given(_STATUSES)
def test_any_status_reads_back_equal(status: ConnectorStatus) -> None:
    over_the_wire = json.loads(json.dumps(status_to_json(status)))
    assert status_from_json(over_the_wire) == status


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*status_to_json(FULL), "x"]), inner),
    max_leaves=20,
)


@given(_JSON)
def test_no_json_whatever_breaks_the_reading(junk: Any) -> None:
    read = status_from_json(junk)
    if read is not None:
        assert status_from_json(status_to_json(read)) == read
