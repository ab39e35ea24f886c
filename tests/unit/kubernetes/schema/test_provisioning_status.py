"""`status.provisioning` both ways: what is written reads back, but for what waits for its events."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.kubernetes.schema.status_json import LONGEST_TEXT, status_from_json, status_to_json
from buildkite_connector.model.directory import Role
from buildkite_connector.model.provisioning import ChangeAction, ChangeRecord, ChangeResult, ProvisioningRecord
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.model.tasks import TaskID

CHANGE = ChangeRecord(
    datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
    ChangeAction.REVOKE,
    "Platform",
    Role.MEMBER,
    "Ada",
    TaskID("t1"),
    ChangeResult.REVOKED,
)
_TEXT = st.text(max_size=60)
_CHANGES = st.builds(
    ChangeRecord,
    st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(ChangeAction),
    _TEXT,
    st.sampled_from(Role),
    _TEXT,
    _TEXT.map(TaskID),
    st.sampled_from(ChangeResult),
    _TEXT,
)
_COUNT = st.integers(0, 2**53)


@settings(deadline=None)
@given(st.builds(ProvisioningRecord, _COUNT, _COUNT, _COUNT, st.none() | _CHANGES))
def test_any_record_of_changes_reads_back_equal(record: ProvisioningRecord) -> None:
    status = ConnectorStatus(provisioning=record)
    assert status_from_json(json.loads(json.dumps(status_to_json(status)))) == status


def test_changes_that_wait_for_their_events_are_not_in_the_status() -> None:
    told = ProvisioningRecord(1, 2, 0, CHANGE)
    waiting = replace(told, recent=(CHANGE, CHANGE))
    assert status_to_json(ConnectorStatus(provisioning=waiting)) == status_to_json(ConnectorStatus(provisioning=told))


def test_a_long_reason_is_cut() -> None:
    refused = replace(CHANGE, result=ChangeResult.REFUSED, reason="x" * 2 * LONGEST_TEXT)
    written = status_to_json(ConnectorStatus(provisioning=ProvisioningRecord(0, 0, 1, refused)))
    assert len(written["provisioning"]["lastChange"]["reason"]) <= LONGEST_TEXT
