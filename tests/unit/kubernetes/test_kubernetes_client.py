"""The calls to the API, over a real socket, and what becomes of what can happen to them."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, Written, connect, is_at_least
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.events import EventDraft, EventType
from buildkite_connector.kubernetes.requests import REQUESTS_AT_ONCE, ApiError
from buildkite_connector.kubernetes.resource import ObservedConnector, read_resource
from buildkite_connector.kubernetes.schema.names import API_VERSION, KIND
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import Condition, ConditionStatus, ConditionType, ConnectorStatus, Phase
from buildkite_connector.timing.clock import SystemClock
from contracts.kubernetes_client import ClientContract
from simulators.kubernetes.server import KubernetesDouble

T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)
READY = ConnectorStatus(
    observed_generation=1,
    phase=Phase.CONNECTED,
    conditions=(Condition(ConditionType.READY, ConditionStatus.TRUE, Reason.READY, "12 accounts.", 1, T0),),
)
SYNCING = replace(READY, phase=Phase.SYNCING)
DRAFT = EventDraft(EventType.WARNING, Reason.TOKEN_REJECTED, "Buildkite refuses the token.")


def create(double: KubernetesDouble, name: str = "acme", namespace: str = "default") -> ObservedConnector:
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"credentialsSecretRef": {"name": "s"}},
    }
    seen = read_resource(double.apply(manifest))
    assert isinstance(seen, ObservedConnector)
    return seen


def status_of(double: KubernetesDouble) -> Any:
    return double.get(KIND, "default", "acme").get("status")


def events(double: KubernetesDouble) -> list[dict[str, Any]]:
    return double.objects("Event", "default")


class DoublePlace:
    """The simulator's namespace `default`, for the contract."""

    namespace = "default"

    def __init__(self, double: KubernetesDouble) -> None:
        self._double = double

    def apply(self, manifest: dict[str, Any]) -> None:
        self._double.apply(manifest)

    def apply_status_as_another(self, manifest: dict[str, Any]) -> None:
        self._double.apply(manifest, subresource="status")

    def get(self) -> dict[str, Any]:
        return self._double.get(KIND, "default", "acme")

    def delete(self) -> None:
        self._double.delete(KIND, "default", "acme")

    def events(self) -> list[dict[str, Any]]:
        return events(self._double)


class TestClient(ClientContract):
    """What a real API server shows too."""

    @pytest.fixture
    def place(self, double: KubernetesDouble) -> DoublePlace:
        return DoublePlace(double)


class TestStatus:
    async def test_the_same_status_again_is_no_request_at_all(
        self, double: KubernetesDouble, api: KubernetesApi
    ) -> None:
        seen = create(double)
        await api.apply_status(seen, READY)
        requests = len(double.transcript)
        assert await api.apply_status(seen, READY) is Written.UNCHANGED
        assert len(double.transcript) == requests

    async def test_a_new_process_writes_nothing_when_the_status_is_there_already(
        self, double: KubernetesDouble, api: KubernetesApi, login: KubeconfigLogin
    ) -> None:
        await api.apply_status(create(double), READY)
        seen = read_resource(double.get(KIND, "default", "acme"))
        requests = len(double.transcript)
        async with connect(login, SystemClock(), "pod-2") as another:
            assert await another.apply_status(seen, READY) is Written.UNCHANGED
        assert len(double.transcript) == requests

    async def test_a_second_of_difference_within_the_same_second_is_no_change(
        self, double: KubernetesDouble, api: KubernetesApi
    ) -> None:
        seen = create(double)
        await api.apply_status(seen, replace(READY, next_sync_time=T0))
        later = replace(READY, next_sync_time=T0.replace(microsecond=900_000))
        assert await api.apply_status(seen, later) is Written.UNCHANGED

    async def test_what_somebody_else_wrote_over_it_is_mended(
        self, double: KubernetesDouble, api: KubernetesApi
    ) -> None:
        await api.apply_status(create(double), READY)
        double.apply(
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": "acme", "namespace": "default"},
                "status": {"phase": "Error"},
            },
            subresource="status",
        )
        seen = read_resource(double.get(KIND, "default", "acme"))
        assert await api.apply_status(seen, READY) is Written.WRITTEN
        assert status_of(double)["phase"] == "Connected"

    @pytest.mark.parametrize("status", [429, 500, 503, None])
    async def test_trouble_is_a_failure_to_try_again(
        self, double: KubernetesDouble, api: KubernetesApi, status: int | None
    ) -> None:
        seen = create(double)
        with double.failing(status), pytest.raises(Failure) as caught:
            await api.apply_status(seen, READY)
        assert (caught.value.reason, caught.value.remedy) == (Reason.KUBERNETES_UNAVAILABLE, Remedy.RETRY)
        assert await api.apply_status(seen, READY) is Written.WRITTEN

    async def test_a_missing_right_is_named(self, double: KubernetesDouble, api: KubernetesApi) -> None:
        seen = create(double)
        with double.failing(403), pytest.raises(Failure, match="patch on buildkiteconnectors/status"):
            await api.apply_status(seen, READY)

    async def test_after_a_forget_nothing_is_remembered_of_an_object(
        self, double: KubernetesDouble, api: KubernetesApi
    ) -> None:
        seen = create(double)
        await api.apply_status(seen, READY)
        api.forget(seen.uid)
        assert await api.apply_status(seen, READY) is Written.WRITTEN


class TestSecret:
    async def test_it_is_read_by_get_and_nothing_else(self, double: KubernetesDouble, api: KubernetesApi) -> None:
        value = base64.b64encode(b"hunter2").decode()
        double.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": value}})
        assert await api.read_secret("default", "s") == {"key": value}
        assert [(each.method, each.path) for each in double.transcript] == [
            ("GET", "/api/v1/namespaces/default/secrets/s")
        ]

    async def test_one_without_data_is_empty(self, double: KubernetesDouble, api: KubernetesApi) -> None:
        double.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
        assert await api.read_secret("default", "s") == {}

    @pytest.mark.parametrize("status", [403, 404])
    async def test_a_refusal_keeps_its_code(self, double: KubernetesDouble, api: KubernetesApi, status: int) -> None:
        with double.failing(status), pytest.raises(ApiError) as caught:
            await api.read_secret("default", "s")
        assert caught.value.status == status

    @pytest.mark.parametrize("status", [500, None])
    async def test_trouble_is_a_failure_to_try_again(
        self, double: KubernetesDouble, api: KubernetesApi, status: int | None
    ) -> None:
        with double.failing(status), pytest.raises(Failure) as caught:
            await api.read_secret("default", "s")
        assert (caught.value.reason, caught.value.remedy) == (Reason.KUBERNETES_UNAVAILABLE, Remedy.RETRY)


class TestEvent:
    async def test_another_message_is_another_event(self, double: KubernetesDouble, api: KubernetesApi) -> None:
        seen = create(double)
        await api.post_event(seen, DRAFT)
        await api.post_event(seen, replace(DRAFT, message="It still does."))
        assert len(events(double)) == 2

    @pytest.mark.parametrize("status", [403, 404, 429, 500, None])
    async def test_one_that_cannot_be_posted_stops_nothing(
        self, double: KubernetesDouble, api: KubernetesApi, status: int | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = create(double)
        with double.failing(status):
            await api.post_event(seen, DRAFT)
        assert "an event was not posted" in caplog.text
        assert events(double) == []


class TestList:
    async def test_the_whole_cluster_when_no_namespace_is_given(
        self, double: KubernetesDouble, api: KubernetesApi
    ) -> None:
        created = [create(double, "a", "one"), create(double, "b", "two")]
        listed = await api.list_connectors(())
        assert {(each.namespace, each.name, each.uid) for each in listed} == {
            (each.namespace, each.name, each.uid) for each in created
        }

    async def test_only_the_namespaces_that_are_given(self, double: KubernetesDouble, api: KubernetesApi) -> None:
        for namespace in ("one", "two", "three"):
            create(double, "a", namespace)
        listed = await api.list_connectors(("one", "three"))
        assert sorted(each.namespace for each in listed) == ["one", "three"]

    async def test_a_cluster_without_the_definition_refuses_with_404(
        self, bare_double: KubernetesDouble, api: KubernetesApi
    ) -> None:
        with pytest.raises(ApiError) as caught:
            await api.list_connectors(())
        assert caught.value.status == 404


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], path: Path
) -> AsyncIterator[int]:
    """A server on a free port of loopback, which it gives; every connection is closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await answer(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        write_kubeconfig(path, port, "first")
        yield port
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def write_kubeconfig(path: Path, port: int, token: str) -> None:
    path.write_text(
        f"""
        current-context: x
        contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
        clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
        users: [{{name: u, user: {{token: {token}}}}}]
        """
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


async def test_a_definition_that_is_older_than_the_operator_is_named_as_what_stands_in_the_way(
    double: KubernetesDouble, tmp_path: Path
) -> None:
    said = json.dumps(
        {"message": "failed to create typed patch object (default/acme): .status.new: field not declared"}
    )

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        kind = "Content-Type: application/json"
        writer.write(f"HTTP/1.1 500 x\r\n{kind}\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode())
        await writer.drain()

    seen, path = create(double), tmp_path / "older"
    async with serving(refuse, path), connect(KubeconfigLogin(str(path)), SystemClock(), "pod-1") as api:
        with pytest.raises(Failure, match="Apply the crds/ of this version") as caught:
            await api.apply_status(seen, READY)
    assert caught.value.reason is Reason.KUBERNETES_REFUSED


@pytest.mark.parametrize(
    ("version", "other", "expected"),
    [("10", "9", True), ("9", "10", False), ("9", "9", True), (None, "9", False), ("9", None, False), ("a", "a", True)],
)
def test_resource_versions_compare_as_numbers(version: str | None, other: str | None, *, expected: bool) -> None:
    assert is_at_least(version, other) is expected


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


def request_in(record: logging.LogRecord) -> tuple[str, str, object]:
    fields = vars(record)
    assert fields["milliseconds"] >= 0
    return fields["method"], fields["path"], fields.get("status") or fields["error"]
