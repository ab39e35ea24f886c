"""Requests to the API: deadlines, renewed tokens, how many at once, and what is logged."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.requests import REQUESTS_AT_ONCE, ApiError
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.timing.clock import SystemClock
from simulators.kubernetes.server import KubernetesDouble
from unit.kubernetes.client_calls import (
    DRAFT,
    READY,
    create,
    request_in,
    serving,
    write_kubeconfig,
)


class Doorkeeper:
    """An API server that knows one token, and answers every request with an empty Secret."""

    def __init__(self) -> None:
        self.token = "first"
        self.refused = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            known = f"Bearer {self.token}".encode() in head
            self.refused += not known
            line = b"200 OK" if known else b"401 Unauthorized"
            writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % line)
            await writer.drain()


async def test_a_token_that_has_expired_is_replaced_by_the_one_that_is_there_now(tmp_path: Path) -> None:
    door, path = Doorkeeper(), tmp_path / "kubeconfig"
    async with serving(door, path) as port, connect(KubeconfigLogin(str(path)), SystemClock(), "pod-1") as api:
        assert await api.read_secret("default", "s") == {}
        door.token = "second"
        write_kubeconfig(path, port, "second")
        assert await api.read_secret("default", "s") == {}
        assert door.refused == 1
        door.token = "third"
        with pytest.raises(ApiError) as caught:
            await api.read_secret("default", "s")
        assert caught.value.status == 401


async def test_requests_go_through_the_environments_proxy_with_its_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()

    async with serving(proxy, tmp_path / "unused") as port:
        for name in ("NO_PROXY", "no_proxy", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://me:word@127.0.0.1:{port}")
        write_kubeconfig(tmp_path / "kubeconfig", 1, "first")  # nobody listens there
        async with connect(KubeconfigLogin(str(tmp_path / "kubeconfig")), SystemClock(), "pod-1") as api:
            assert await api.read_secret("default", "s") == {}
    [head] = heads
    assert head.startswith(b"GET http://127.0.0.1:1/api/v1/namespaces/default/secrets/s HTTP/1.1")
    assert b"Proxy-Authorization: Basic bWU6d29yZA==" in head


async def test_a_server_that_never_answers_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    path = tmp_path / "kubeconfig"
    async with (
        serving(listen, path),
        connect(KubeconfigLogin(str(path)), SystemClock(), "pod-1", request_seconds=0.1) as api,
    ):
        with pytest.raises(Failure) as caught:
            await api.read_secret("default", "s")
    assert (caught.value.reason, caught.value.remedy) == (Reason.KUBERNETES_UNAVAILABLE, Remedy.RETRY)


class Counter:
    """An API server that answers once it was asked `most` times at once, and keeps that it was asked more often."""

    def __init__(self, most: int) -> None:
        self.most_at_once = 0
        self._most = most
        self._at_once = 0
        self._full = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while method := (await reader.readuntil(b"\r\n\r\n")).split(b" ", 1)[0]:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            if self._at_once >= self._most:
                self._full.set()
            await self._full.wait()
            await asyncio.sleep(0.05)  # for one request too many, which would come now
            self._at_once -= 1
            code = b"409 Conflict" if method == b"POST" else b"404 Not Found"
            writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % code)
            await writer.drain()


@pytest.mark.parametrize("what", ["read", "write", "event"])
async def test_a_crowd_of_connectors_asks_no_more_than_sixteen_times_at_once(
    double: KubernetesDouble, tmp_path: Path, what: str
) -> None:
    resource, server, path = create(double), Counter(REQUESTS_AT_ONCE), tmp_path / "kubeconfig-of-server"
    async with serving(server, path), connect(KubeconfigLogin(str(path)), SystemClock(), "pod-1") as api:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "read": lambda: api.read_secret("default", "s"),
            "write": lambda: api.apply_status(resource, READY),
            "event": lambda: api.post_event(resource, DRAFT),
        }
        await asyncio.gather(*(calls[what]() for _ in range(3 * REQUESTS_AT_ONCE)), return_exceptions=True)
    assert server.most_at_once == REQUESTS_AT_ONCE


class TestDebugLog:
    """What the operator asks of the API, at debug level: never a body, a query or a header."""

    async def test_each_request_is_a_line_with_its_path_status_and_time(
        self, double: KubernetesDouble, api: KubernetesApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = create(double)
        with caplog.at_level(logging.DEBUG, "buildkite_connector"):
            await api.list_connectors(())
            await api.apply_status(seen, READY)
            with suppress(ApiError):
                await api.read_secret("default", "absent")
            with double.failing(None), suppress(Failure):
                await api.read_secret("default", "absent")
        assert [request_in(record) for record in caplog.records] == [
            ("GET", "/apis/connectors.c1.ai/v1alpha1/buildkiteconnectors", 200),
            ("PATCH", "/apis/connectors.c1.ai/v1alpha1/namespaces/default/buildkiteconnectors/acme/status", 200),
            ("GET", "/api/v1/namespaces/default/secrets/absent", 404),
            ("GET", "/api/v1/namespaces/default/secrets/absent", "ServerDisconnectedError"),
        ]
        assert {record.levelno for record in caplog.records} == {logging.DEBUG}

    async def test_no_value_of_a_secret_is_in_it(
        self, double: KubernetesDouble, api: KubernetesApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        value = base64.b64encode(b"hunter2").decode()
        double.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": value}})
        with caplog.at_level(logging.DEBUG, "buildkite_connector"):
            assert await api.read_secret("default", "s") == {"key": value}
        [record] = caplog.records
        assert value not in str(vars(record))
