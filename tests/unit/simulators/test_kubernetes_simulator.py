import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from contracts.kubernetes_api import KubernetesContract
from harness.trust import plain_client
from simulators.kubernetes import exchange
from simulators.kubernetes.client import DEADLINE, WIDGETS, Api, accepted, refused, widget
from simulators.kubernetes.exchange import Exchange
from simulators.kubernetes.resources import ApiError
from simulators.kubernetes.server import KubernetesSimulator


@pytest.fixture
async def simulator() -> AsyncIterator[KubernetesSimulator]:
    async with KubernetesSimulator() as running:
        running.apply(WIDGETS)
        yield running


@pytest.fixture
async def http(simulator: KubernetesSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with plain_client(simulator.server_url, timeout=DEADLINE) as client:
        yield client


class TestSimulator(KubernetesContract):
    @pytest.fixture
    def api(self, simulator: KubernetesSimulator, http: httpx.AsyncClient) -> Api:
        simulator.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here"}})
        return Api(http, "here")


class TestHelpers:
    """What the simulator offers beside the API."""

    async def test_waits_for_a_state_that_lasted_only_a_moment(self, simulator: KubernetesSimulator) -> None:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(simulator.wait_for("Widget", "default", "w", sized("small"), DEADLINE))
            await asyncio.sleep(0)
            for size in ("small", "large"):
                simulator.apply(widget({"name": "w"}, spec={"size": size}))
        assert waiting.result()["spec"]["size"] == "small"
        assert simulator.get("Widget", "default", "w")["spec"]["size"] == "large"

    async def test_waits_for_an_object_to_go(self, simulator: KubernetesSimulator) -> None:
        simulator.apply(widget({"name": "w"}))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(simulator.wait_for("Widget", "default", "w", lambda manifest: not manifest, DEADLINE))
            await asyncio.sleep(0)
            simulator.delete("Widget", "default", "w")

    async def test_says_what_it_waited_for_in_vain(self, simulator: KubernetesSimulator) -> None:
        simulator.apply(widget({"name": "w"}, spec={"size": "small"}))
        with pytest.raises(TimeoutError, match=r'Widget default/w was not as expected in 0 s; it is \{(.|\n)*"small"'):
            await simulator.wait_for("Widget", "default", "w", sized("large"), timeout=0)

    async def test_tells_every_state_of_an_object(self, simulator: KubernetesSimulator) -> None:
        for size in ("small", "medium", "large"):
            simulator.apply(widget({"name": "w"}, spec={"size": size}))
        states = simulator.versions("Widget", "default", "w")
        assert [state["spec"]["size"] for state in states] == ["small", "medium", "large"]
        assert [state["metadata"]["generation"] for state in states] == [1, 2, 3]

    async def test_gives_copies_of_what_it_holds(self, simulator: KubernetesSimulator) -> None:
        simulator.apply(widget({"name": "w"}, spec={"size": "medium"}))["spec"]["size"] = "changed"
        simulator.get("Widget", "default", "w")["spec"]["size"] = "changed"
        simulator.objects("Widget")[0]["spec"]["size"] = "changed"
        assert simulator.get("Widget", "default", "w")["spec"]["size"] == "medium"

    async def test_applies_a_status_on_request(self, simulator: KubernetesSimulator) -> None:
        simulator.apply(widget({"name": "w"}))
        simulator.apply(widget({"name": "w"}, status={"count": 3}), subresource="status")
        assert simulator.get("Widget", "default", "w")["status"] == {"count": 3}

    async def test_makes_the_namespace_of_what_it_applies(self, simulator: KubernetesSimulator) -> None:
        simulator.apply(widget({"name": "w", "namespace": "fresh"}))
        assert simulator.get("Namespace", "", "fresh")["status"] == {"phase": "Active"}
        assert [item["metadata"]["name"] for item in simulator.objects("Widget", "fresh")] == ["w"]

    async def test_names_the_kinds_that_it_knows(self, simulator: KubernetesSimulator) -> None:
        with pytest.raises(LookupError, match=r"no kind Gadget; it knows .*Secret, Widget"):
            simulator.apply({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "g"}})

    async def test_deletes_a_namespace_with_all_that_is_in_it(self, simulator: KubernetesSimulator) -> None:
        simulator.apply(widget({"name": "w", "namespace": "brief"}))
        simulator.delete("Namespace", "", "brief")
        assert simulator.objects("Widget") == []
        with pytest.raises(ApiError, match='namespaces "brief" not found'):
            simulator.get("Namespace", "", "brief")


class TestRecord:
    """The transcript, which tests count writes in."""

    async def test_counts_the_writes_that_succeeded(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient
    ) -> None:
        api = Api(http, "default")
        name = (await api.create())["metadata"]["name"]
        since = len(simulator.transcript)
        await api.read(name)
        await api.patch(name, {"status": {"count": 1}}, subresource="status")
        await api.patch("absent", {"status": {"count": 1}}, subresource="status")
        path = f"/apis/contract.test/v1/namespaces/default/widgets/{name}"
        assert simulator.writes(since) == [
            Exchange("PATCH", f"{path}/status", 200, "widgets", "default", name),
        ]
        assert [exchange.status for exchange in simulator.transcript[since:]] == [200, 200, 404]
        assert simulator.writes(resource="secrets") == []
        assert len(simulator.writes(resource="widgets", name=name)) == 1

    async def test_keeps_no_body_of_a_request(self, simulator: KubernetesSimulator, http: httpx.AsyncClient) -> None:
        body = {"metadata": {"name": "s"}, "stringData": {"key": "very secret"}}
        accepted(await http.post("/api/v1/namespaces/default/secrets", json=body), 201)
        accepted(await http.get("/api/v1/namespaces/default/secrets/s"))
        assert len(simulator.transcript) == 2
        assert "very secret" not in repr(simulator.transcript)
        assert b64encode(b"very secret").decode() not in repr(simulator.transcript)

    async def test_counts_the_watches_that_are_open(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient
    ) -> None:
        async with Api(http, "default").watch("") as _:
            assert simulator.watches("Widget") == 1
            assert simulator.watches("Secret") == 0
        await simulator.wait_until(lambda: simulator.watches("Widget") == 0, DEADLINE)


class TestBookmarks:
    """Not in the contract: kube-apiserver sends none on an etcd without progress notifications (before 3.4.31)."""

    async def test_tell_a_watch_how_far_it_is_before_it_ends(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "BOOKMARK_BEFORE_END", 0.5)
        api = Api(http, "default")
        version = (await api.create())["metadata"]["resourceVersion"]
        async with api.watch(version, timeoutSeconds="1", allowWatchBookmarks="true") as events:
            assert [(event["type"], event["object"]) async for event in events] == [
                ("BOOKMARK", widget({"resourceVersion": version}))
            ]


class TestStarts:
    """Not in the contract: kube-apiserver serves such a watch from a cache that may answer with an error; no client
    of this project begins one."""

    async def test_a_watch_without_a_version_with_what_is_there(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient
    ) -> None:
        api = Api(http, "default")
        created = await api.create()
        async with api.watch("") as events:
            assert await anext(events) == {"type": "ADDED", "object": created}


class TestFaults:
    """Failures on demand."""

    async def test_fails_the_requests_that_it_is_told_to(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient
    ) -> None:
        api = Api(http, "default")
        name = (await api.create())["metadata"]["name"]
        with simulator.failing(403, methods=frozenset({"PATCH"}), path="/status$"):
            refused(await api.patch(name, {"status": {"count": 1}}, subresource="status"), 403, "Forbidden")
            accepted(await api.patch(name, {"spec": {"size": "large"}}))
        accepted(await api.patch(name, {"status": {"count": 1}}, subresource="status"))

    async def test_cuts_the_connections_that_it_is_told_to(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient
    ) -> None:
        with simulator.failing(None), pytest.raises(httpx.RemoteProtocolError):
            await http.get("/version")
        assert [exchange.status for exchange in simulator.transcript] == [None]
        accepted(await http.get("/version"))

    async def test_cuts_the_watches_when_an_outage_begins(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient
    ) -> None:
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - it is the end of the stream that raises
            async with Api(http, "default").watch("") as events:
                with simulator.outage():
                    refused(await http.get("/version"), 503, "ServiceUnavailable")
                    await anext(events)

    async def test_tells_a_watch_from_before_an_expiry_that_its_version_is_gone(
        self, simulator: KubernetesSimulator, http: httpx.AsyncClient
    ) -> None:
        api = Api(http, "default")
        version = (await api.create())["metadata"]["resourceVersion"]
        await api.create()
        simulator.expire_watches()
        async with api.watch(version) as events:
            assert (await anext(events))["object"]["code"] == 410

    @pytest.mark.parametrize("query", [{"labelSelector": "a=b=c"}, {"fieldSelector": "spec.size=small"}])
    async def test_refuses_a_selector_that_it_does_not_understand(
        self, http: httpx.AsyncClient, query: dict[str, str]
    ) -> None:
        response = await http.get("/apis/contract.test/v1/widgets", params=query)
        refused(response, 400, "BadRequest")

    async def test_stops_with_watches_open(self) -> None:
        async with KubernetesSimulator() as simulator, plain_client(simulator.server_url) as http:
            events = http.stream("GET", "/api/v1/secrets", params={"watch": "true"})
            async with events as response, asyncio.timeout(DEADLINE):
                assert response.status_code == 200
                await simulator.__aexit__(None, None, None)


def sized(size: str) -> Callable[[dict[str, Any]], bool]:
    return lambda manifest: manifest.get("spec", {}).get("size") == size
