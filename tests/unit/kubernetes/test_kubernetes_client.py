"""The calls to the API, over a real socket, and what becomes of what can happen to them."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import pytest

from buildkite_connector.kubernetes.client import AppliedStatus, KubernetesApi, Written, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.event_writer import MOST_WAITING
from buildkite_connector.kubernetes.resource import is_at_least, read_resource
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.timing.clock import SystemClock
from contracts.kubernetes_client import ClientContract
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.client_calls import (
    DRAFT,
    READY,
    SYNCING,
    T0,
    create,
    events,
    serving,
    status_of,
)


class SimulatorPlace:
    """The simulator's namespace `default`, for the contract."""

    namespace = "default"

    def __init__(self, simulator: KubernetesSimulator) -> None:
        self._double = simulator

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
    def place(self, simulator: KubernetesSimulator) -> SimulatorPlace:
        return SimulatorPlace(simulator)


class TestStatus:
    async def test_the_same_status_again_is_no_request_at_all(
        self, simulator: KubernetesSimulator, api: KubernetesApi
    ) -> None:
        seen, applied = create(simulator), AppliedStatus()
        await api.apply_status(seen, READY, applied)
        requests = len(simulator.transcript)
        assert await api.apply_status(seen, READY, applied) is Written.UNCHANGED
        assert len(simulator.transcript) == requests

    async def test_a_new_process_writes_nothing_when_the_status_is_there_already(
        self, simulator: KubernetesSimulator, api: KubernetesApi, login: KubeconfigLogin
    ) -> None:
        await api.apply_status(create(simulator), READY)
        seen = read_resource(simulator.get(KIND, "default", "acme"))
        requests = len(simulator.transcript)
        async with connect(login, SystemClock(), "pod-2") as another:
            assert await another.apply_status(seen, READY) is Written.UNCHANGED
        assert len(simulator.transcript) == requests

    async def test_a_second_of_difference_within_the_same_second_is_no_change(
        self, simulator: KubernetesSimulator, api: KubernetesApi
    ) -> None:
        seen, applied = create(simulator), AppliedStatus()
        await api.apply_status(seen, replace(READY, next_sync_time=T0), applied)
        later = replace(READY, next_sync_time=T0.replace(microsecond=900_000))
        assert await api.apply_status(seen, later, applied) is Written.UNCHANGED

    async def test_what_somebody_else_wrote_over_it_is_written_again(
        self, simulator: KubernetesSimulator, api: KubernetesApi
    ) -> None:
        applied = AppliedStatus()
        await api.apply_status(create(simulator), READY, applied)
        simulator.apply(
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": "acme", "namespace": "default"},
                "status": {"phase": "Error"},
            },
            subresource="status",
        )
        seen = read_resource(simulator.get(KIND, "default", "acme"))
        assert await api.apply_status(seen, READY, applied) is Written.WRITTEN
        assert status_of(simulator)["phase"] == "Connected"

    @pytest.mark.parametrize("status", [429, 500, 503, None])
    async def test_trouble_is_a_failure_to_try_again(
        self, simulator: KubernetesSimulator, api: KubernetesApi, status: int | None
    ) -> None:
        seen = create(simulator)
        with simulator.failing(status), pytest.raises(Failure) as caught:
            await api.apply_status(seen, READY)
        assert (caught.value.reason, caught.value.remedy) == (Reason.KUBERNETES_UNAVAILABLE, Remedy.RETRY)
        assert await api.apply_status(seen, READY) is Written.WRITTEN

    async def test_a_missing_right_is_named(self, simulator: KubernetesSimulator, api: KubernetesApi) -> None:
        seen = create(simulator)
        with simulator.failing(403), pytest.raises(Failure, match="patch on buildkiteconnectors/status"):
            await api.apply_status(seen, READY)

    async def test_a_resource_that_is_deleted_amid_a_write_is_not_remembered(
        self, simulator: KubernetesSimulator, api: KubernetesApi
    ) -> None:
        seen, applied = create(simulator), AppliedStatus()
        writing = asyncio.create_task(api.apply_status(seen, READY, applied))
        await simulator.wait_until(lambda: bool(simulator.writes()), timeout=10.0)
        simulator.delete(KIND, "default", "acme")
        await writing
        assert await api.apply_status(seen, SYNCING, applied) is Written.GONE
        assert seen.uid not in repr(vars(api))


class TestSecret:
    async def test_it_is_read_by_get_and_nothing_else(self, simulator: KubernetesSimulator, api: KubernetesApi) -> None:
        value = base64.b64encode(b"hunter2").decode()
        simulator.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": value}})
        assert await api.read_secret("default", "s") == {"key": value}
        assert [(each.method, each.path) for each in simulator.transcript] == [
            ("GET", "/api/v1/namespaces/default/secrets/s")
        ]

    async def test_one_without_data_is_empty(self, simulator: KubernetesSimulator, api: KubernetesApi) -> None:
        simulator.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
        assert await api.read_secret("default", "s") == {}


class TestEvent:
    async def test_another_message_is_another_event(self, simulator: KubernetesSimulator, api: KubernetesApi) -> None:
        seen = create(simulator)
        api.post_event(seen, DRAFT)
        api.post_event(seen, replace(DRAFT, message="It still does."))
        await api.drain_events(10.0)
        assert len(events(simulator)) == 2

    @pytest.mark.usefixtures("retry_after")
    async def test_its_time_is_that_of_the_change_however_late_it_is_posted(
        self, simulator: KubernetesSimulator, api: KubernetesApi
    ) -> None:
        with simulator.failing(429):
            before = datetime.now(UTC)
            api.post_event(create(simulator), DRAFT)
            posted = datetime.now(UTC)
            await simulator.wait_until(lambda: any(each.status == 429 for each in simulator.transcript), timeout=10.0)
        await api.drain_events(10.0)
        [event] = events(simulator)
        assert before <= datetime.fromisoformat(event["eventTime"]) <= posted

    async def test_a_new_process_goes_on_with_the_count(
        self, simulator: KubernetesSimulator, api: KubernetesApi, login: KubeconfigLogin
    ) -> None:
        seen = create(simulator)
        for _ in range(3):
            api.post_event(seen, DRAFT)
            await api.drain_events(10.0)
        async with connect(login, SystemClock(), "pod-2") as another:
            another.post_event(seen, DRAFT)
            await another.drain_events(10.0)
        [event] = events(simulator)
        assert event["series"]["count"] == 4

    @pytest.mark.parametrize("status", [403, 404, 429, 500, None])
    async def test_one_that_cannot_be_posted_stops_nothing(
        self, simulator: KubernetesSimulator, api: KubernetesApi, status: int | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = create(simulator)
        with simulator.failing(status):
            api.post_event(seen, DRAFT)
            await api.drain_events(10.0)
        assert "an event was not posted" in caplog.text
        assert events(simulator) == []

    async def test_what_is_too_much_to_wait_is_lost_with_a_line_of_the_log(
        self,
        simulator: KubernetesSimulator,
        api: KubernetesApi,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        seen = create(simulator)
        for number in range(MOST_WAITING + 3):
            api.post_event(seen, replace(DRAFT, message=str(number)))
        assert caplog.text.count("an event was not posted") == 3


class TestList:
    async def test_the_whole_cluster_when_no_namespace_is_given(
        self, simulator: KubernetesSimulator, api: KubernetesApi
    ) -> None:
        created = [create(simulator, "a", "one"), create(simulator, "b", "two")]
        listed = (await api.list_connectors(())).objects
        assert {(each.namespace, each.name, each.uid) for each in listed} == {
            (each.namespace, each.name, each.uid) for each in created
        }

    async def test_only_the_namespaces_that_are_given(self, simulator: KubernetesSimulator, api: KubernetesApi) -> None:
        for namespace in ("one", "two", "three"):
            create(simulator, "a", namespace)
        listed = (await api.list_connectors(("one", "three"))).objects
        assert sorted(each.namespace for each in listed) == ["one", "three"]

    async def test_each_page_of_a_long_list_is_asked_for(self) -> None:
        asked: list[str] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                asked.append(head.split(" ")[1].partition("?")[2])
                number = len(asked)
                metadata = {"namespace": "default", "name": f"c{number}", "uid": f"u{number}"}
                version, more = {"resourceVersion": str(number)}, {"continue": f"token {number}"} if number < 3 else {}
                body = json.dumps({"metadata": {**version, **more}, "items": [{"metadata": metadata}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()

        async with serving(answer) as login, connect(login, SystemClock(), "pod-1") as api:
            listing = await api.list_connectors((), "tier=gold")
        assert ([each.name for each in listing.objects], listing.version) == (["c1", "c2", "c3"], "1")
        pages = ("", "&continue=token 1", "&continue=token 2")
        assert [unquote_plus(each) for each in asked] == [f"limit=500&labelSelector=tier=gold{page}" for page in pages]

    async def test_a_cluster_without_the_definition_refuses_with_404(
        self, bare_simulator: KubernetesSimulator, api: KubernetesApi
    ) -> None:
        with pytest.raises(ApiError) as caught:
            await api.list_connectors(())
        assert caught.value.status == 404


async def test_a_definition_that_is_older_than_the_operator_is_named_as_what_stands_in_the_way(
    simulator: KubernetesSimulator,
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

    seen = create(simulator)
    async with serving(refuse) as login, connect(login, SystemClock(), "pod-1") as api:
        with pytest.raises(Failure, match="Apply the crds/ of this version") as caught:
            await api.apply_status(seen, READY)
    assert caught.value.reason is Reason.KUBERNETES_REFUSED


@pytest.mark.parametrize(
    ("version", "other", "expected"),
    [("10", "9", True), ("9", "10", False), ("9", "9", True), (None, "9", False), ("9", None, False), ("a", "a", True)],
)
def test_resource_versions_compare_as_numbers(version: str | None, other: str | None, *, expected: bool) -> None:
    assert is_at_least(version, other) is expected
