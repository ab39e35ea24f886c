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
from buildkite_connector.kubernetes.connection import REQUESTS_AT_ONCE, ApiError
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.timing.clock import SystemClock
from simulators.kubernetes.server import KubernetesDouble
from unit.kubernetes.client_calls import (
    READY,
    create,
    request_in,
    serving,
)


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


@pytest.mark.parametrize("what", ["read", "write"])
async def test_a_crowd_of_connectors_asks_no_more_than_sixteen_times_at_once(
    double: KubernetesDouble, tmp_path: Path, what: str
) -> None:
    resource, server, path = create(double), Counter(REQUESTS_AT_ONCE), tmp_path / "kubeconfig-of-server"
    async with serving(server, path), connect(KubeconfigLogin(str(path)), SystemClock(), "pod-1") as api:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "read": lambda: api.read_secret("default", "s"),
            "write": lambda: api.apply_status(resource, READY),
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
