"""The part of the contract about lists and watches."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from simulators.kubernetes.client import Api, accepted


class WatchContract:
    """Every name goes on from "a Kubernetes API"."""

    async def test_lists_the_objects_of_a_namespace_with_a_version(self, api: Api) -> None:
        names = sorted([(await api.create())["metadata"]["name"] for _ in range(3)])
        listed = await api.list()
        assert listed["kind"] == "WidgetList"
        assert [item["metadata"]["name"] for item in listed["items"]] == names
        assert int(listed["metadata"]["resourceVersion"]) > 0

    @pytest.mark.parametrize(
        ("selector", "found"),
        [
            ("tier=gold", {"gold"}),
            ("tier", {"gold", "tin"}),
            ("!tier", {"bare"}),
            ("tier!=gold", {"tin", "bare"}),
            ("tier in (gold, tin),zone=eu", {"gold"}),
            ("tier notin (gold)", {"tin", "bare"}),
        ],
    )
    async def test_lists_the_objects_that_a_selector_of_labels_matches(
        self, api: Api, selector: str, found: set[str]
    ) -> None:
        kinds = {"gold": {"tier": "gold", "zone": "eu"}, "tin": {"tier": "tin", "zone": "us"}, "bare": {}}
        names = {}
        for kind, labels in kinds.items():
            created = await api.create()
            accepted(await api.patch(created["metadata"]["name"], {"metadata": {"labels": labels}}))
            names[created["metadata"]["name"]] = kind
        response = await api.http.get(api.widgets, params={"labelSelector": selector})
        assert {names[item["metadata"]["name"]] for item in accepted(response)["items"]} == found

    async def test_tells_a_watch_what_comes_into_its_selection_and_what_leaves_it(self, api: Api) -> None:
        created = await api.create()
        name, version = created["metadata"]["name"], created["metadata"]["resourceVersion"]
        async with api.watch(version, labelSelector="tier=gold") as events:
            accepted(await api.patch(name, {"metadata": {"labels": {"tier": "gold"}}}))
            assert await self._next(events) == ("ADDED", name, "medium")
            accepted(await api.patch(name, {"spec": {"size": "large"}}))
            assert await self._next(events) == ("MODIFIED", name, "large")
            accepted(await api.patch(name, {"metadata": {"labels": {"tier": "tin"}}}))
            assert await self._next(events) == ("DELETED", name, "large")

    async def test_lists_nothing_but_metadata_on_request(self, api: Api) -> None:
        created = await api.create()
        accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
        listed = accepted(await api.http.get(api.widgets, headers={"Accept": accept}))
        assert listed["kind"] == "PartialObjectMetadataList"
        assert [item["metadata"]["uid"] for item in listed["items"]] == [created["metadata"]["uid"]]
        assert "spec" not in listed["items"][0]

    async def test_tells_a_watch_what_happened_since_the_list(self, api: Api) -> None:
        since = (await api.list())["metadata"]["resourceVersion"]
        name = (await api.create())["metadata"]["name"]
        async with api.watch(since) as events:
            assert await self._next(events) == ("ADDED", name, "medium")
            accepted(await api.patch(name, {"spec": {"size": "large"}}))
            assert await self._next(events) == ("MODIFIED", name, "large")
            accepted(await api.http.delete(f"{api.widgets}/{name}"))
            assert await self._next(events) == ("DELETED", name, "large")

    async def test_resumes_a_watch_where_it_broke(self, api: Api) -> None:
        created = await api.create()
        name, version = created["metadata"]["name"], created["metadata"]["resourceVersion"]
        async with api.watch(version):
            pass
        for size in ("small", "large"):
            accepted(await api.patch(name, {"spec": {"size": size}}))
        async with api.watch(version) as events:
            assert [await self._next(events) for _ in range(2)] == [
                ("MODIFIED", name, "small"),
                ("MODIFIED", name, "large"),
            ]

    async def test_tells_a_watch_the_version_of_a_deletion(self, api: Api) -> None:
        created = await api.create()
        version = created["metadata"]["resourceVersion"]
        async with api.watch(version) as events:
            accepted(await api.http.delete(f"{api.widgets}/{created['metadata']['name']}"))
            event = await anext(events)
        assert event["type"] == "DELETED"
        assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)

    async def test_tells_a_watch_from_a_forgotten_version_that_it_is_gone(self, api: Api) -> None:
        async with api.watch("1") as events:
            event = await anext(events)
        assert event["type"] == "ERROR"
        assert (event["object"]["kind"], event["object"]["code"], event["object"]["reason"]) == (
            "Status",
            410,
            "Expired",
        )

    async def test_ends_a_watch_after_the_time_that_it_asked_for(self, api: Api) -> None:
        since = (await api.list())["metadata"]["resourceVersion"]
        async with api.watch(since, timeoutSeconds="1") as events:
            assert [event async for event in events if event["type"] != "BOOKMARK"] == []

    async def _next(self, events: AsyncIterator[dict[str, Any]]) -> tuple[str, str, str]:
        event = await anext(events)
        assert event["type"] != "ERROR", event
        return event["type"], event["object"]["metadata"]["name"], event["object"]["spec"]["size"]
