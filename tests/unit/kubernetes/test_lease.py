"""A Lease as the client reads and writes it, on an API over HTTP."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.connection import ApiError, Connection
from buildkite_connector.kubernetes.lease import Lease, LeaseClient
from buildkite_connector.model.failure import Failure
from simulators.kubernetes.server import KubernetesSimulator

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HELD = Lease("pod-1_ab", 15, NOW, NOW, 3)


@pytest.fixture
def leases(api: KubernetesApi) -> LeaseClient:
    return api.leases("default", "bkc")


async def made(leases: LeaseClient) -> Lease:
    written = await leases.write(HELD)
    assert written is not None
    return written


async def test_what_is_written_is_read(leases: LeaseClient) -> None:
    assert await leases.read() is None
    written = await made(leases)
    found = await leases.read()
    assert found is not None
    assert (found, found.version) == (written, written.version)
    assert (found.holder, found.duration, found.transitions) == ("pod-1_ab", 15, 3)
    times = (found.acquired, found.renewed)
    assert times == (written.acquired, written.renewed) == (NOW.replace(microsecond=1),) * 2


async def test_a_lease_without_times_is_written_without_them(
    leases: LeaseClient, simulator: KubernetesSimulator
) -> None:
    await leases.write(Lease("pod-1_ab", 15))
    assert not {"acquireTime", "renewTime"} & simulator.get("Lease", "default", "bkc")["spec"].keys()


async def test_what_is_written_says_whose_it_is_and_what_kind_of_object(
    leases: LeaseClient, simulator: KubernetesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[Any, Any]]()
    call = Connection.call

    async def recorded(self: Connection, *args: Any, **options: Any) -> Any:
        asked.append((options["query"], options["body"]))
        return await call(self, *args, **options)

    monkeypatch.setattr(Connection, "call", recorded)
    await leases.write(replace(HELD, version=(await made(leases)).version))
    assert [(query, body.api_version, body.kind) for query, body in asked] == [
        ({"fieldManager": "buildkite-connector"}, "coordination.k8s.io/v1", "Lease")
    ] * 2


async def test_the_times_have_microseconds_even_when_there_are_none(
    leases: LeaseClient, simulator: KubernetesSimulator
) -> None:
    await leases.write(replace(HELD, version=(await made(leases)).version))
    for lease in simulator.versions("Lease", "default", "bkc"):
        for time in (lease["spec"]["acquireTime"], lease["spec"]["renewTime"]):
            assert datetime.fromisoformat(time).replace(microsecond=0) == NOW
            assert len(time.split(".")[1].rstrip("Z").split("+")[0]) == 6


async def test_only_one_of_two_makes_it(leases: LeaseClient) -> None:
    await made(leases)
    assert await leases.write(HELD) is None


async def test_only_the_newest_version_can_be_replaced(leases: LeaseClient) -> None:
    first = await made(leases)
    assert await leases.write(replace(first, holder="")) is not None
    assert await leases.write(first) is None
    found = await leases.read()
    assert found is not None
    assert found.holder == ""


async def test_one_that_is_gone_cannot_be_replaced(leases: LeaseClient, simulator: KubernetesSimulator) -> None:
    written = await made(leases)
    simulator.delete("Lease", "default", "bkc")
    assert await leases.write(written) is None


async def test_labels_of_others_stay_and_make_no_other_lease_of_it(
    leases: LeaseClient, simulator: KubernetesSimulator
) -> None:
    written = await made(leases)
    there = simulator.get("Lease", "default", "bkc")
    simulator.apply({**there, "metadata": {**there["metadata"], "labels": {"team": "a"}}})
    found = await leases.read()
    assert found is not None
    assert (found, found.version != written.version) == (written, True)
    await leases.write(replace(found, holder="pod-2_cd"))
    assert simulator.get("Lease", "default", "bkc")["metadata"]["labels"] == {"team": "a"}


async def test_a_lease_that_says_nothing_is_free(leases: LeaseClient, simulator: KubernetesSimulator) -> None:
    metadata = {"namespace": "default", "name": "bkc"}
    simulator.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}})
    assert await leases.read() == Lease("", 0)


async def test_a_namespace_that_is_not_there_is_an_error(api: KubernetesApi) -> None:
    with pytest.raises(ApiError, match="404"):
        await api.leases("nowhere", "bkc").write(HELD)


CALLS: list[tuple[Callable[[LeaseClient], Awaitable[object]], str]] = [
    (lambda leases: leases.read(), "read its Lease"),
    (lambda leases: leases.write(HELD), "create its Lease"),
    (lambda leases: leases.write(replace(HELD, version="1")), "renew its Lease"),
]


@pytest.mark.parametrize("call", [call for call, _ in CALLS], ids=["read", "create", "renew"])
async def test_a_refusal_is_an_error(
    leases: LeaseClient,
    simulator: KubernetesSimulator,
    call: Callable[[LeaseClient], Awaitable[object]],
) -> None:
    with simulator.failing(403, path="leases"), pytest.raises(ApiError, match="403"):
        await call(leases)


@pytest.mark.parametrize("status", [503, None])
@pytest.mark.parametrize(("call", "what"), CALLS, ids=["read", "create", "renew"])
async def test_trouble_is_an_error_that_says_what_could_not_be_done(
    leases: LeaseClient,
    simulator: KubernetesSimulator,
    status: int | None,
    call: Callable[[LeaseClient], Awaitable[object]],
    what: str,
) -> None:
    with simulator.failing(status, path="leases"), pytest.raises(Failure, match=f" {what};"):
        await call(leases)
