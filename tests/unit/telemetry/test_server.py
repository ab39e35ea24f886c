"""The operator's HTTP server."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import httpx
import pytest

from buildkite_connector.model.failure import Failure
from buildkite_connector.telemetry import server
from buildkite_connector.telemetry.server import LoopMonitor, heard_lately, parse_address, serve
from fakes.virtual_time import VirtualClock, virtual_time
from harness.trust import plain_client

LOOPBACK = "127.0.0.1:0"


def fine() -> None:
    return None


async def get(port: int | None, path: str) -> httpx.Response:
    async with plain_client(f"http://127.0.0.1:{port}") as http:
        return await http.get(path)


async def test_a_probe_names_each_check_and_fails_with_any_of_them() -> None:
    async with serve(LOOPBACK, {"loop": fine, "watch": lambda: "it is stuck"}, {"resources": fine}, None) as port:
        alive, ready = await get(port, "/healthz"), await get(port, "/readyz")
    assert (alive.status_code, alive.text) == (503, "loop: ok\nwatch: it is stuck\n")
    assert (ready.status_code, ready.text) == (200, "resources: ok\n")


@pytest.mark.parametrize(("scrape", "status"), [(lambda: b"up 1\n", 200), (None, 404)])
async def test_metrics_are_served_where_there_are_any(scrape: Callable[[], bytes] | None, status: int) -> None:
    async with serve(LOOPBACK, {}, {}, scrape) as port:
        answer = await get(port, "/metrics")
    assert answer.status_code == status
    if scrape is not None:
        assert answer.content == b"up 1\n"
        assert answer.headers["Content-Type"].startswith("text/plain; version=")


async def test_however_many_ask_for_metrics_they_are_collected_once_and_then_there_is_a_pause() -> None:
    """A second collection begins no sooner than the first one's time after its end."""
    times: list[tuple[float, float]] = []

    def scrape() -> bytes:
        began = time.monotonic()
        gate.wait()
        times.append((began, time.monotonic()))
        return b"up 1\n"

    gate = threading.Event()
    async with serve(LOOPBACK, {}, {}, scrape) as port, asyncio.TaskGroup() as group:
        asked = [group.create_task(get(port, "/metrics")) for _ in range(20)]
        await get(port, "/healthz")  # while one is collected, probes are answered
        group.create_task(asyncio.to_thread(gate.set))
        assert {(await each).content for each in asked} == {b"up 1\n"}
        collected = len(times)
        await get(port, "/metrics")
    assert collected < 20
    for (began, ended), (next_began, _) in pairwise(times):
        assert next_began - ended >= (ended - began) * 0.9


async def test_an_empty_address_serves_nothing() -> None:
    async with serve("", {}, {}, None) as port:
        assert port is None


@pytest.mark.parametrize(
    "address", ["8080", ":port", "127.0.0.1:65536", "127.0.0.1:-1", ":", "::", "[::]", "::1", "::1:8080", ":::8080"]
)
async def test_an_address_that_is_none_is_refused_by_the_variables_name(address: str) -> None:
    with pytest.raises(Failure, match=r"BUILDKITE_CONNECTOR_HTTP_ADDRESS.*host:port"):
        async with serve(address, {}, {}, None):
            pass


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        (":8080", ("", 8080)),
        ("[::]:8080", ("::", 8080)),
        ("[::1]:9", ("::1", 9)),
        ("[fe80::1%eth0]:9", ("fe80::1%eth0", 9)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:80", ("localhost", 80)),
        (" :8080\n", ("", 8080)),
    ],
)
def test_addresses(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


async def test_an_address_that_is_taken_ends_the_start_unless_it_is_the_default(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Failure, match=r"HTTP_ADDRESS cannot be used: Address already in use\. Set another"):
            async with serve(address, {}, {}, None):
                pass
        monkeypatch.setattr(server, "DEFAULT_ADDRESS", address)
        with caplog.at_level(logging.WARNING):
            async with serve(None, {}, {}, None) as port:
                assert port is None
    assert "health and metrics are not served" in caplog.text


class Late(VirtualClock):
    """A clock whose readings are `late`, as after a step that took so long."""

    late = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.late


@virtual_time
async def test_a_part_that_was_not_heard_of_lately_is_named_with_its_age() -> None:
    check = heard_lately("the watch", lambda: 0.0, VirtualClock(), longest=60.0)
    await asyncio.sleep(59.9)
    assert check() is None
    await asyncio.sleep(0.3)
    assert check() == "the watch last reported 60 s ago"


@virtual_time
async def test_the_longest_delay_of_the_loop_is_told_once() -> None:
    clock = Late()
    monitor = LoopMonitor(clock)
    running = asyncio.create_task(monitor.run())
    await asyncio.sleep(2.5)
    clock.late = 0.25
    await asyncio.sleep(1.0)
    running.cancel()
    assert monitor.take_longest() == pytest.approx(0.25, abs=0.001)
    assert monitor.take_longest() == 0.0
