"""Nothing begins after the time for which a process may act, and a process that cannot stop acting ends."""

import threading

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.fence import Fence, watchdog
from buildkite_connector.kubernetes.resource import ObservedConnector, read_resource
from buildkite_connector.kubernetes.schema import KIND
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import SystemClock
from simulators.kubernetes.server import KubernetesDouble

TASK = TaskID("t")


class HandClock(SystemClock):
    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


def test_it_is_open_until_its_time_and_closed_at_it() -> None:
    clock = HandClock()
    fence = Fence(clock)
    assert not fence.open
    fence.extend(115.0)
    clock.seconds = 114.9
    fence.check()
    clock.seconds = 115.0
    assert fence.seconds_left == 0
    with pytest.raises(Failure, match="not the leader"):
        fence.check()


def test_closed_early_it_lets_nothing_begin_but_gives_time_to_end() -> None:
    fence = Fence(HandClock())
    fence.extend(115.0)
    fence.close(105.0)
    assert (fence.open, fence.seconds_left) == (False, 5.0)
    fence.ended()
    assert (fence.open, fence.seconds_left) == (False, float("inf"))


async def test_no_secret_is_read_and_no_status_or_event_written_behind_a_closed_fence(
    double: KubernetesDouble, login: KubeconfigLogin
) -> None:
    fence = Fence(SystemClock())
    metadata = {"namespace": "default", "name": "acme"}
    spec = {"credentialsSecretRef": {"name": "s"}}
    double.apply(
        {"apiVersion": "connectors.c1.ai/v1alpha1", "kind": "BuildkiteConnector", "metadata": metadata, "spec": spec}
    )
    resource = read_resource(double.get(KIND, "default", "acme"))
    assert isinstance(resource, ObservedConnector)
    async with connect(login, SystemClock(), "pod-1", may_act=fence.check) as api:
        for call in (lambda: api.read_secret("default", "s"), lambda: api.apply_status(resource, ConnectorStatus(1))):
            with pytest.raises(Failure, match="not the leader"):
                await call()
        assert await lease_is_made(api), "Leases are what the fence depends on"
    assert {exchange.resource for exchange in double.transcript} == {"leases"}


async def lease_is_made(api: KubernetesApi) -> bool:
    return await api.leases("default", "bkc").read("bkc", 5.0) is None


def test_the_watchdog_ends_a_process_whose_event_loop_is_stuck() -> None:
    fence, ended = Fence(SystemClock()), threading.Event()
    with watchdog(fence, lambda _: ended.set()):
        fence.extend(SystemClock().monotonic() + 0.2)
        assert ended.wait(10)


def test_the_watchdog_leaves_a_process_alone_that_renews_or_does_not_act() -> None:
    clock = HandClock()
    fence, ended = Fence(clock), threading.Event()
    fence.extend(clock.seconds + 0.01)
    with watchdog(fence, lambda _: ended.set()):
        for _ in range(10):
            fence.extend(clock.seconds + 0.01)
            clock.seconds += 0.009
            assert not ended.wait(0.03)  # the watchdog looks each 0.01 s at the latest
        fence.ended()
        clock.seconds += 3600
        assert not ended.wait(0.03)
