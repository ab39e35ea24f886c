"""The vendor's health endpoints, from what is known of the connector."""

import asyncio
from datetime import UTC, datetime

import pytest

from buildkite_connector.model.directory import Organization, OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import Condition, ConditionStatus, ConditionType, ConnectorStatus
from buildkite_connector.service.health import Health, HealthAddress, ask_health, serve_health
from harness.trust import plain_client

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LOOPBACK = HealthAddress("127.0.0.1", 0)
ACME = Organization("0f7d", OrganizationSlug("acme-inc"), "Acme Inc")


def status(valid: ConditionStatus, reason: Reason, organization: Organization | None = None) -> ConnectorStatus:
    condition = Condition(ConditionType.CREDENTIALS_VALID, valid, reason, "what is so", 1, last_transition_time=NOW)
    return ConnectorStatus(conditions=(condition,), organization=organization)


def health(found: ConnectorStatus | None, stuck: str | None = None) -> Health:
    return Health(lambda: found, lambda: stuck, lambda: NOW)


TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@pytest.mark.parametrize(
    ("found", "well"),
    [
        (None, False),
        (ConnectorStatus(), False),
        (status(TRUE, Reason.VALID), True),
        (status(FALSE, Reason.TOKEN_REJECTED), False),
        (status(FALSE, Reason.C1_CLIENT_REJECTED), False),
        (status(UNKNOWN, Reason.BUILDKITE_UNAVAILABLE), False),
        (status(UNKNOWN, Reason.C1_UNREACHABLE), True),
        (status(UNKNOWN, Reason.C1_UNAVAILABLE), True),
        (status(UNKNOWN, Reason.PENDING), False),
        (status(UNKNOWN, Reason.PENDING, ACME), True),
    ],
)
def test_health_is_of_the_credentials_as_far_as_they_are_known(found: ConnectorStatus | None, well: bool) -> None:
    assert (health(found).unhealthy() is None) is well


def test_ready_is_a_connector_that_moves() -> None:
    assert health(None).not_ready() is not None
    assert health(ConnectorStatus(), "the event loop last reported 61 s ago").not_ready() is not None
    assert health(ConnectorStatus()).not_ready() is None


async def test_the_bodies_are_the_vendors() -> None:
    rejected = status(FALSE, Reason.TOKEN_REJECTED)
    async with serve_health(LOOPBACK, health(rejected)) as port, plain_client() as probe:
        answers = [await probe.get(f"http://127.0.0.1:{port}/{path}") for path in ("health", "ready", "live", "x")]
    assert [answer.status_code for answer in answers] == [503, 200, 200, 404]
    assert answers[0].json() == {
        "status": "unhealthy",
        "timestamp": "2026-11-28T12:00:00Z",
        "details": {"validation_error": "what is so"},
    }
    assert answers[1].json() == {"status": "ready", "timestamp": "2026-11-28T12:00:00Z"}
    assert answers[2].json()["status"] == "alive"
    assert answers[0].headers["content-type"].startswith("application/json")


async def test_before_the_connector_has_begun_it_lives_and_is_not_ready() -> None:
    async with serve_health(LOOPBACK, health(None)) as port, plain_client() as probe:
        ready = await probe.get(f"http://127.0.0.1:{port}/ready")
        live = await probe.get(f"http://127.0.0.1:{port}/live")
    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
    assert live.status_code == 200


async def test_no_server_where_none_is_wanted() -> None:
    async with serve_health(None, health(None)) as port:
        assert port is None


async def test_all_addresses_may_be_asked_for_with_brackets_and_without() -> None:
    for host in ("", "::", "[::]", "0.0.0.0"):  # noqa: S104 - what is tested
        async with serve_health(HealthAddress(host, 0), health(ConnectorStatus())) as port:
            assert port is not None
            well, _ = await asyncio.to_thread(ask_health, host, port, "ready", 5.0)
            assert well


async def test_a_port_that_is_taken_names_the_flags() -> None:
    async with serve_health(LOOPBACK, health(None)) as port:
        assert port is not None
        with pytest.raises(Failure, match="--health-check-port or --health-check-bind-address"):
            async with serve_health(HealthAddress("127.0.0.1", port), health(None)):
                pass
