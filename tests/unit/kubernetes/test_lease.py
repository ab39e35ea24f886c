"""Leases as the client reads and writes them, on an API over HTTP."""

from datetime import UTC, datetime

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.lease import LeaseClient, LeaseRecord
from buildkite_connector.model.failure import Failure
from simulators.kubernetes.server import KubernetesDouble

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
RECORD = LeaseRecord("pod-1_ab", 15, NOW, NOW, 3)
SECONDS = 5.0


@pytest.fixture
def leases(api: KubernetesApi) -> LeaseClient:
    return api.leases("default", "bkc")


async def test_there_is_none_before_one_is_made(leases: LeaseClient) -> None:
    assert await leases.read("bkc", SECONDS) is None
    assert await leases.list_related(SECONDS) == []


async def test_what_is_written_is_read(leases: LeaseClient) -> None:
    made = await leases.create("bkc-0-of-2", RECORD, 2, SECONDS)
    assert made is not None
    found = await leases.read("bkc-0-of-2", SECONDS)
    assert found == made
    assert (found.name, found.shards) == ("bkc-0-of-2", 2)
    assert (found.record.holder, found.record.duration, found.record.transitions) == ("pod-1_ab", 15, 3)
    assert await leases.list_related(SECONDS) == [made]


async def test_the_times_have_microseconds_even_when_there_are_none(
    leases: LeaseClient, double: KubernetesDouble
) -> None:
    made = await leases.create("bkc", RECORD, 1, SECONDS)
    assert made is not None
    await leases.replace("bkc", RECORD, made.version, 1, SECONDS)
    for lease in double.versions("Lease", "default", "bkc"):
        for time in (lease["spec"]["acquireTime"], lease["spec"]["renewTime"]):
            assert datetime.fromisoformat(time).replace(microsecond=0) == NOW
            assert len(time.split(".")[1].rstrip("Z").split("+")[0]) == 6


async def test_only_one_of_two_makes_it(leases: LeaseClient) -> None:
    assert await leases.create("bkc", RECORD, 1, SECONDS) is not None
    assert await leases.create("bkc", RECORD, 1, SECONDS) is None


async def test_only_the_newest_version_can_be_replaced(leases: LeaseClient) -> None:
    made = await leases.create("bkc", RECORD, 1, SECONDS)
    assert made is not None
    assert await leases.replace("bkc", LeaseRecord("", 15, NOW, NOW, 3), made.version, 1, SECONDS) is not None
    assert await leases.replace("bkc", RECORD, made.version, 1, SECONDS) is None
    found = await leases.read("bkc", SECONDS)
    assert found is not None
    assert found.record.holder == ""


async def test_one_that_is_gone_cannot_be_replaced(leases: LeaseClient, double: KubernetesDouble) -> None:
    made = await leases.create("bkc", RECORD, 1, SECONDS)
    assert made is not None
    double.delete("Lease", "default", "bkc")
    assert await leases.replace("bkc", RECORD, made.version, 1, SECONDS) is None


async def test_labels_of_others_stay_and_ours_come_back(leases: LeaseClient, double: KubernetesDouble) -> None:
    made = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": "default", "name": "bkc"},
    }
    made["metadata"] = {**made["metadata"], "labels": {"team": "a"}}  # type: ignore[dict-item]
    double.apply({**made, "spec": {}})
    found = await leases.read("bkc", SECONDS)
    assert found is not None
    assert found.record == LeaseRecord("", 0)
    await leases.replace("bkc", RECORD, found.version, 1, SECONDS)
    labels = double.get("Lease", "default", "bkc")["metadata"]["labels"]
    assert labels == {"team": "a", "connectors.c1.ai/lease": "bkc"}


async def test_leases_of_another_operator_are_not_listed(api: KubernetesApi, leases: LeaseClient) -> None:
    await api.leases("default", "other").create("other", RECORD, 1, SECONDS)
    assert await leases.list_related(SECONDS) == []


async def test_a_namespace_that_is_not_there_is_told(api: KubernetesApi) -> None:
    with pytest.raises(ApiError, match="404"):
        await api.leases("nowhere", "bkc").create("bkc", RECORD, 1, SECONDS)


@pytest.mark.parametrize("status", [403, 503, None])
async def test_trouble_is_told(leases: LeaseClient, double: KubernetesDouble, status: int | None) -> None:
    with double.failing(status, path="leases"), pytest.raises((ApiError, Failure)):
        await leases.read("bkc", SECONDS)
