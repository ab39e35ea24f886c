"""The calls to the API, over a real socket, and what becomes of what can happen to them."""

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, Written, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.resource import is_at_least, read_resource
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.timing.clock import SystemClock
from contracts.kubernetes_client import ClientContract
from simulators.kubernetes.server import KubernetesDouble
from unit.kubernetes.client_calls import (
    DRAFT,
    READY,
    T0,
    create,
    events,
    serving,
    status_of,
)


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
        listed = (await api.list_connectors(())).objects
        assert {(each.namespace, each.name, each.uid) for each in listed} == {
            (each.namespace, each.name, each.uid) for each in created
        }

    async def test_only_the_namespaces_that_are_given(self, double: KubernetesDouble, api: KubernetesApi) -> None:
        for namespace in ("one", "two", "three"):
            create(double, "a", namespace)
        listed = (await api.list_connectors(("one", "three"))).objects
        assert sorted(each.namespace for each in listed) == ["one", "three"]

    async def test_a_cluster_without_the_definition_refuses_with_404(
        self, bare_double: KubernetesDouble, api: KubernetesApi
    ) -> None:
        with pytest.raises(ApiError) as caught:
            await api.list_connectors(())
        assert caught.value.status == 404


async def test_a_definition_that_is_older_than_the_operator_is_named_as_what_stands_in_the_way(
    double: KubernetesDouble, tmp_path: Path
) -> None:
    said = json.dumps(
        {"message": "failed to create typed patch object (default/acme): .status.new: field not declared"}
    )

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
            if "content-length: " in head:
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
