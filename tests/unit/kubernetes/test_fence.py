"""Nothing begins after the time for which a process may act, and a process that cannot stop acting is ended."""

import faulthandler
import subprocess
import sys

import pytest

from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.election import Fence, end_process_after
from buildkite_connector.kubernetes.resource import read_resource
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.timing.clock import SystemClock
from simulators.kubernetes.server import KubernetesSimulator


class HandClock(SystemClock):
    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


def test_it_says_why_it_lets_nothing_begin() -> None:
    with pytest.raises(Failure) as caught:
        Fence(HandClock(), lambda _: None).check()
    assert caught.value.reason is Reason.KUBERNETES_UNAVAILABLE
    assert caught.value.message == "This process is no longer the leader and does not act."


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [(4.5, [("later", 4.5, {"exit": True})]), (-3.0, [("later", 0.001, {"exit": True})]), (None, [("cancel",)])],
)
def test_the_process_is_ended_after_so_many_seconds_or_at_once(
    seconds: float | None, calls: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[tuple[object, ...]]()
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: made.append(("cancel",)))
    monkeypatch.setattr(
        faulthandler, "dump_traceback_later", lambda after, **options: made.append(("later", after, options))
    )
    end_process_after(seconds)
    assert made == calls


@pytest.mark.parametrize(("second", "acts"), [(100.0, True), (114.9, True), (115.0, False), (3600.0, False)])
def test_it_is_open_until_its_time_and_closed_at_it(second: float, acts: bool) -> None:
    clock, ends = HandClock(), list[float | None]()
    fence = Fence(clock, ends.append)
    with pytest.raises(Failure, match="no longer the leader"):
        fence.check()
    fence.extend(115.0)
    clock.seconds = second
    if acts:
        fence.check()
    else:
        with pytest.raises(Failure, match="no longer the leader"):
            fence.check()
    assert ends == [15.0]


def test_closed_early_it_lets_nothing_begin_but_gives_time_to_end() -> None:
    ends = list[float | None]()
    fence = Fence(HandClock(), ends.append)
    fence.extend(115.0)
    fence.close(5.0)
    with pytest.raises(Failure, match="no longer the leader"):
        fence.check()
    fence.extend(115.0)
    fence.ended()
    with pytest.raises(Failure, match="no longer the leader"):
        fence.check()
    assert ends == [15.0, 5.0, 15.0, None]


async def test_behind_it_no_secret_is_read_and_no_status_written_but_leases_are(
    simulator: KubernetesSimulator, login: KubeconfigLogin
) -> None:
    metadata, spec = {"namespace": "default", "name": "acme"}, {"credentialsSecretRef": {"name": "s"}}
    simulator.apply({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})
    resource = read_resource(simulator.get(KIND, "default", "acme"))
    assert resource.failure is None
    async with connect(login, SystemClock(), "pod-1", may_act=Fence(SystemClock()).check) as api:
        for call in (
            lambda: api.read_secret("default", "s"),
            lambda: api.apply_status(resource, ConnectorStatus(1)),
        ):
            with pytest.raises(Failure, match="no longer the leader"):
                await call()
        assert await api.leases("default", "bkc").read() is None
    assert {exchange.resource for exchange in simulator.transcript} == {"leases"}


def test_a_process_whose_event_loop_is_stuck_is_ended() -> None:
    """And not one that renews, or does not act any more."""
    program = """if True:
        import time
        from buildkite_connector.kubernetes.election import Fence
        from buildkite_connector.timing.clock import SystemClock
        clock = SystemClock()
        fence = Fence(clock)
        fence.extend(clock.monotonic() + 0.3)
        for _ in range(3):
            fence.extend(clock.monotonic() + 0.3)
            time.sleep(0.15)
        fence.ended()
        time.sleep(0.4)
        print("goes on", flush=True)
        fence.extend(clock.monotonic() + 0.1)
        while True:
            pass
    """
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "goes on\n")
    assert "Timeout" in ended.stderr
