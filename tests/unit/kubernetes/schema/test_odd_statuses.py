"""A status that anybody may have written: it breaks neither its connector, nor the metrics, nor the next status."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import next_look
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.kubernetes.events import draft_events
from buildkite_connector.kubernetes.schema.status_json import status_from_json, status_to_json
from buildkite_connector.model.status import HISTORY_LENGTH, ConnectorStatus
from buildkite_connector.telemetry.gauges import Report, StatusCollector
from fakes.connector_states import DOWN, SHARE, START, after, checked, due, greeted, restored, running
from harness.examples import examples, some
from unit.kubernetes.schema.test_status_json import FULL

ODD: list[Any] = [
    *(None, True, "", "x", [], {}, [{}]),
    *(0, -1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400, -(10**400)),
    *(0.5, -0.5, 1e308, float("inf"), float("-inf"), float("nan"), "nan", "1e400"),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"),
    *("1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-02-30T25:61:61Z", "2026-03-02T09:00:00", "yesterday"),
    *("\ud800", "\x00", 'a\nb"c\\', "é" * 100_000),
]
PATHS = (
    *("observedGeneration", "phase", "conditions.0.type", "conditions.0.status", "conditions.0.reason"),
    *("conditions.0.message", "conditions.0.observedGeneration", "conditions.0.lastTransitionTime"),
    *("organization.slug", "organization.name", "organization.id", "token.expiresAt", "token.missingScopes"),
    *("lastSyncTime", "lastSuccessfulSyncTime", "nextSyncTime", "consecutiveFailures"),
    *(f"lastSync.{name}" for name in ("id", "trigger", "startedAt", "finishedAt", "accounts", "teams", "memberships")),
    *("lastSync.requests", "lastSync.throttledSeconds", "lastSync.snapshot.sha256", "lastSync.snapshot.bytes"),
    *(f"lastDelivery.{name}" for name in ("time", "taskID", "syncID", "sha256", "bytes")),
    *(f"lastDelivery.{name}" for name in ("accounts", "teams", "memberships", "pipelines", "clusterMaintainers")),
    *("lastHandledSyncRequest", "provisioning.granted", "provisioning.lastChange.time"),
    *(f"history.0.{name}" for name in ("id", "trigger", "startedAt", "finishedAt", "succeeded", "reason", "accounts")),
)


def status_with(odd: Mapping[str, object]) -> Any:
    """The JSON of a full status, with these values at these paths."""
    status = json.loads(json.dumps(status_to_json(FULL)))
    for path, value in odd.items():
        node: Any = status
        *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in above:
            node = node[part]
        node[last] = value
    return status


def live_with(found: ConnectorStatus) -> None:
    """What a connector that begins from it goes through, to a sync that fails."""
    state, told = restored(found, START), found
    for seconds, step in enumerate((_nothing, checked, greeted, _failing)):
        now = after(seconds)
        state = step(state)
        due(state, now)
        next_look(state, now)
        assert now.monotonic >= state.status_held_until
        before, told = told, derive_status(state, now)
        draft_events(before, told)
        json.dumps(status_to_json(told), allow_nan=False).encode()


def scraped(found: ConnectorStatus) -> bytes:
    return generate_latest(StatusCollector(lambda: [Report("ns", "odd", found, suspended=False)]))


def _nothing(state: ConnectorState) -> ConnectorState:
    return state


def _failing(state: ConnectorState) -> ConnectorState:
    state = running(state, after(2))
    return state if state.sync is None else transitions.sync_failed(state, state.sync, DOWN, after(3), SHARE)


@pytest.mark.parametrize("path", some(PATHS, one_in=3))
def test_a_field_with_anything_in_it_breaks_nothing(path: str) -> None:
    for value in ODD:
        found = status_from_json(status_with({path: value}))
        assert found is not None, value
        assert b'suspended{name="odd",namespace="ns"} 0.0' in scraped(found), value
        live_with(found)


@settings(max_examples=examples(200))
@given(st.dictionaries(st.sampled_from(PATHS), st.sampled_from(ODD), min_size=2, max_size=8))
def test_nor_do_several_fields_together(odd: dict[str, Any]) -> None:
    found = status_from_json(status_with(odd))
    assert found is not None
    live_with(found)


def test_a_history_without_an_end_is_cut() -> None:
    status = status_with({})
    status["history"] *= 1000
    found = status_from_json(status)
    assert found is not None
    assert len(found.history) == HISTORY_LENGTH
