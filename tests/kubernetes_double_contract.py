"""What this project relies on of a Kubernetes API, as tests that the double and a real API server both pass.

A test class inherits `KubernetesContract` and gives the fixture `api`, on a namespace of its own and with
`WIDGETS` applied: `tests/unit/test_kubernetes_double.py` on the double, `tests/e2e/test_control_plane.py` on
kube-apiserver.
"""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

GROUP = "contract.test"
WIDGETS_PATH = f"/apis/{GROUP}/v1/namespaces/{{}}/widgets"
DEADLINE = 20.0

_STRING = {"type": "string"}
WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"widgets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wg"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "string", "jsonPath": ".spec.size"},
                    {
                        "name": "Ready",
                        "type": "string",
                        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
                    },
                    {"name": "Count", "type": "integer", "jsonPath": ".status.count"},
                    {"name": "Last Sync", "type": "date", "jsonPath": ".status.lastSync"},
                    {"name": "Open", "type": "boolean", "jsonPath": ".spec.open"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    {
                        "name": "Message",
                        "type": "string",
                        "priority": 1,
                        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
                    },
                ],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "string", "default": "medium"},
                                    "color": _STRING,
                                    "open": {"type": "boolean"},
                                    "tags": {"type": "array", "items": _STRING},
                                    "limits": {
                                        "type": "object",
                                        "default": {},
                                        "properties": {
                                            "most": {"type": "integer", "default": 10},
                                            "least": {"type": "integer"},
                                        },
                                    },
                                    "labels": {"type": "object", "additionalProperties": _STRING},
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "count": {"type": "integer"},
                                    "lastSync": {"type": "string", "format": "date-time"},
                                    "conditions": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["type"],
                                        "items": {
                                            "type": "object",
                                            "required": ["type"],
                                            "properties": {"type": _STRING, "status": _STRING, "message": _STRING},
                                        },
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class Api:
    """A thin client of a Kubernetes API: what goes over the wire is what the test says."""

    def __init__(self, http: httpx.AsyncClient, namespace: str) -> None:
        self.http = http
        self.widgets = WIDGETS_PATH.format(namespace)
        self.namespace = namespace

    async def create(self, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
        """Create a widget, which must succeed."""
        name = f"w-{uuid4().hex[:8]}"
        response = await self.http.post(self.widgets, json=widget({"name": name, **metadata}, spec=spec or {}))
        return accepted(response, 201)

    async def patch(
        self, name: str, body: Any, content_type: str = MERGE, *, subresource: str = "", **query: str
    ) -> httpx.Response:
        """Patch a widget, or its status."""
        return await self.http.patch(
            f"{self.widgets}/{name}/{subresource}".rstrip("/"),
            content=json.dumps(body),
            headers={"Content-Type": content_type},
            params=query,
        )

    async def apply(
        self, name: str, manager: str, body: dict[str, Any], *, subresource: str = "", force: bool = False
    ) -> httpx.Response:
        """Server-side apply, as this field manager."""
        query = {"fieldManager": manager} | ({"force": "true"} if force else {})
        return await self.patch(name, widget({"name": name}, **body), APPLY, subresource=subresource, **query)

    async def read(self, name: str) -> dict[str, Any]:
        """The widget as it is."""
        return accepted(await self.http.get(f"{self.widgets}/{name}"), 200)

    async def list(self) -> dict[str, Any]:
        """The list of the namespace's widgets."""
        return accepted(await self.http.get(self.widgets), 200)

    @asynccontextmanager
    async def watch(self, since: str, **query: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a watch on the namespace's widgets."""
        params = {"watch": "true", "resourceVersion": since, **query}
        async with self.http.stream("GET", self.widgets, params=params) as response:
            assert response.status_code == 200
            yield (json.loads(line) async for line in response.aiter_lines())


def widget(metadata: dict[str, Any], **body: Any) -> dict[str, Any]:
    """The manifest of a widget."""
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": metadata, **body}


def accepted(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The body of an answer with one of these statuses (200 when none is given)."""
    assert response.status_code in (statuses or (200,)), response.text
    body: dict[str, Any] = response.json()
    return body


def refused(response: httpx.Response, status: int, reason: str) -> str:
    """The message of a refusal, which must be a proper `Status` object."""
    body = response.json()
    assert response.status_code == status, response.text
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert (body["code"], body["reason"]) == (status, reason)
    message: str = body["message"]
    return message


class KubernetesContract:
    """The tests. Every name goes on from "a Kubernetes API"."""

    # Creation and deletion

    async def test_gives_a_new_object_its_identity(self, api: Api) -> None:
        metadata = (await api.create())["metadata"]
        assert metadata["generation"] == 1
        assert metadata["namespace"] == api.namespace
        assert metadata["uid"]
        assert metadata["resourceVersion"]
        assert metadata["creationTimestamp"].endswith("Z")

    async def test_ignores_a_status_given_at_creation(self, api: Api) -> None:
        created = accepted(
            await api.http.post(api.widgets, json=widget({"name": "with-status"}, spec={}, status={"count": 3})), 201
        )
        assert "status" not in created

    async def test_makes_a_name_from_a_prefix(self, api: Api) -> None:
        created = accepted(await api.http.post(api.widgets, json=widget({"generateName": "made-"})), 201)
        assert created["metadata"]["name"].startswith("made-")
        assert len(created["metadata"]["name"]) == len("made-") + 5

    async def test_fills_in_defaults_and_drops_unknown_fields(self, api: Api) -> None:
        created = await api.create({"unknown": 1, "limits": {"unknown": 2}, "labels": {"any": "label"}})
        assert created["spec"] == {"size": "medium", "limits": {"most": 10}, "labels": {"any": "label"}}

    async def test_fills_in_the_defaults_of_a_default(self, api: Api) -> None:
        assert (await api.create())["spec"] == {"size": "medium", "limits": {"most": 10}}

    async def test_refuses_a_second_object_of_the_same_name(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        response = await api.http.post(api.widgets, json=widget({"name": name}))
        assert refused(response, 409, "AlreadyExists") == f'widgets.{GROUP} "{name}" already exists'

    async def test_refuses_an_object_in_a_namespace_that_does_not_exist(self, api: Api) -> None:
        response = await api.http.post(WIDGETS_PATH.format("nowhere"), json=widget({"name": "lost"}))
        assert refused(response, 404, "NotFound") == 'namespaces "nowhere" not found'

    async def test_refuses_an_object_for_another_namespace_than_the_paths(self, api: Api) -> None:
        response = await api.http.post(api.widgets, json=widget({"name": "lost", "namespace": "default"}))
        refused(response, 400, "BadRequest")

    @pytest.mark.parametrize(
        ("field", "value", "status", "reason"),
        [("kind", "Gadget", 422, "Invalid"), ("apiVersion", "contract.test/v2", 400, "BadRequest")],
    )
    async def test_refuses_an_object_of_another_kind_than_the_paths(
        self, api: Api, field: str, value: str, status: int, reason: str
    ) -> None:
        response = await api.http.post(api.widgets, json={**widget({"name": "odd"}), field: value})
        refused(response, status, reason)

    async def test_says_what_was_not_found(self, api: Api) -> None:
        response = await api.http.get(f"{api.widgets}/absent")
        assert refused(response, 404, "NotFound") == f'widgets.{GROUP} "absent" not found'

    async def test_does_not_know_a_resource_without_a_definition(self, api: Api) -> None:
        response = await api.http.get(api.widgets.replace("widgets", "gadgets"))
        assert response.status_code == 404

    async def test_deletes_an_object_at_once_without_finalizers(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        accepted(await api.http.delete(f"{api.widgets}/{name}"))
        refused(await api.http.get(f"{api.widgets}/{name}"), 404, "NotFound")

    async def test_keeps_a_deleted_object_until_its_finalizers_are_gone(self, api: Api) -> None:
        name = (await api.create(finalizers=["contract.test/hold"]))["metadata"]["name"]
        accepted(await api.http.delete(f"{api.widgets}/{name}"))
        held = (await api.read(name))["metadata"]
        assert held["deletionTimestamp"].endswith("Z")
        assert held["generation"] == 2
        accepted(await api.patch(name, {"metadata": {"finalizers": []}}))
        refused(await api.http.get(f"{api.widgets}/{name}"), 404, "NotFound")

    async def test_refuses_to_delete_another_object_than_was_meant(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        body = {"preconditions": {"uid": str(uuid4())}}
        refused(await api.http.request("DELETE", f"{api.widgets}/{name}", json=body), 409, "Conflict")

    # Updates

    async def test_counts_a_generation_for_a_change_of_spec_only(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        labelled = accepted(await api.patch(name, {"metadata": {"labels": {"a": "b"}}}))
        assert labelled["metadata"]["generation"] == 1
        reported = accepted(await api.patch(name, {"status": {"count": 1}}, subresource="status"))
        assert reported["metadata"]["generation"] == 1
        changed = accepted(await api.patch(name, {"spec": {"size": "large"}}))
        assert changed["metadata"]["generation"] == 2

    async def test_gives_every_change_a_version_and_a_no_op_none(self, api: Api) -> None:
        created = await api.create({"size": "small"})
        name, version = created["metadata"]["name"], created["metadata"]["resourceVersion"]
        same = accepted(await api.patch(name, {"spec": {"size": "small"}}))
        assert same["metadata"]["resourceVersion"] == version
        changed = accepted(await api.patch(name, {"spec": {"size": "large"}}))
        assert int(changed["metadata"]["resourceVersion"]) > int(version)

    async def test_ignores_the_status_in_a_change_of_the_object(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        accepted(await api.patch(name, {"status": {"count": 1}}, subresource="status"))
        changed = accepted(await api.patch(name, {"spec": {"size": "large"}, "status": {"count": 2}}))
        assert (changed["spec"]["size"], changed["status"]) == ("large", {"count": 1})

    async def test_ignores_all_but_the_status_in_a_change_of_the_status(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        body = {"metadata": {"labels": {"a": "b"}}, "spec": {"size": "large"}, "status": {"count": 1}}
        changed = accepted(await api.patch(name, body, subresource="status"))
        assert (changed["spec"]["size"], changed["status"]) == ("medium", {"count": 1})
        assert "labels" not in changed["metadata"]

    async def test_keeps_what_only_it_may_set(self, api: Api) -> None:
        created = await api.create()
        name = created["metadata"]["name"]
        forged = {"generation": 99, "creationTimestamp": "2001-01-01T00:00:00Z"}
        metadata = accepted(await api.patch(name, {"metadata": forged}))["metadata"]
        assert {key: metadata[key] for key in forged} == {key: created["metadata"][key] for key in forged}

    async def test_replaces_an_object_that_has_not_changed_since_it_was_read(self, api: Api) -> None:
        created = await api.create({"size": "small", "color": "red"})
        replaced = accepted(
            await api.http.put(
                f"{api.widgets}/{created['metadata']['name']}", json={**created, "spec": {"size": "large"}}
            )
        )
        assert replaced["spec"] == {"size": "large", "limits": {"most": 10}}
        assert replaced["metadata"]["uid"] == created["metadata"]["uid"]

    @pytest.mark.parametrize("subresource", ["", "/status"])
    async def test_refuses_a_replacement_of_a_stale_version(self, api: Api, subresource: str) -> None:
        created = await api.create()
        name = created["metadata"]["name"]
        accepted(await api.patch(name, {"spec": {"size": "large"}}))
        response = await api.http.put(f"{api.widgets}/{name}{subresource}", json=created)
        assert "the object has been modified; please apply your changes" in refused(response, 409, "Conflict")

    async def test_refuses_a_replacement_that_names_no_version(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        response = await api.http.put(f"{api.widgets}/{name}", json=widget({"name": name}))
        assert "must be specified for an update" in refused(response, 422, "Invalid")

    async def test_refuses_a_patch_of_a_stale_version(self, api: Api) -> None:
        created = await api.create()
        name, version = created["metadata"]["name"], created["metadata"]["resourceVersion"]
        accepted(await api.patch(name, {"spec": {"size": "large"}}))
        refused(await api.patch(name, {"metadata": {"resourceVersion": version}, "spec": {}}), 409, "Conflict")

    async def test_removes_with_a_merge_patch_what_is_null(self, api: Api) -> None:
        name = (await api.create({"color": "red", "tags": ["a", "b"]}))["metadata"]["name"]
        changed = accepted(await api.patch(name, {"spec": {"color": None, "tags": ["c"]}}))
        assert changed["spec"] == {"size": "medium", "limits": {"most": 10}, "tags": ["c"]}

    async def test_follows_a_json_patch(self, api: Api) -> None:
        name = (await api.create({"tags": ["a"]}))["metadata"]["name"]
        steps = [
            {"op": "test", "path": "/spec/tags/0", "value": "a"},
            {"op": "add", "path": "/spec/tags/-", "value": "b"},
        ]
        assert accepted(await api.patch(name, steps, JSON_PATCH))["spec"]["tags"] == ["a", "b"]

    async def test_refuses_a_json_patch_whose_test_fails(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        steps = [{"op": "test", "path": "/spec/size", "value": "small"}]
        refused(await api.patch(name, steps, JSON_PATCH), 422, "Invalid")

    async def test_refuses_a_strategic_merge_patch_of_a_custom_resource(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        response = await api.patch(name, {"spec": {}}, "application/strategic-merge-patch+json")
        refused(response, 415, "UnsupportedMediaType")

    async def test_refuses_to_change_what_is_not_there(self, api: Api) -> None:
        refused(await api.patch("absent", {"status": {"count": 1}}, subresource="status"), 404, "NotFound")

    # Server-side apply

    async def test_creates_by_apply_what_is_not_there(self, api: Api) -> None:
        created = accepted(await api.apply("new", "one", {"spec": {"size": "small"}}), 201)
        assert created["spec"]["size"] == "small"
        accepted(await api.apply("new", "one", {"spec": {"size": "small"}}), 200)

    async def test_does_not_create_by_apply_of_a_status(self, api: Api) -> None:
        refused(await api.apply("absent", "one", {"status": {"count": 1}}, subresource="status"), 404, "NotFound")

    async def test_refuses_an_apply_without_a_field_manager(self, api: Api) -> None:
        response = await api.patch("new", widget({"name": "new"}), APPLY)
        assert "PatchOptions.meta.k8s.io" in refused(response, 422, "Invalid")

    async def test_merges_the_conditions_of_two_managers_by_type(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        await self._report(api, name, "one", Ready="True", Synced="True")
        await self._report(api, name, "two", Delivered="False")
        reported = await self._report(api, name, "one", Ready="False", Synced="True")
        assert list(reported.items()) == [("Ready", "False"), ("Synced", "True"), ("Delivered", "False")]

    async def test_removes_what_a_manager_applied_before_and_applies_no_more(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        await self._report(api, name, "one", Ready="True", Stalled="True")
        await self._report(api, name, "two", Delivered="False")
        assert await self._report(api, name, "one", Ready="True") == {"Ready": "True", "Delivered": "False"}

    async def test_keeps_what_another_manager_applied_as_well(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        await self._report(api, name, "one", Ready="True", Synced="True")
        await self._report(api, name, "two", Synced="True")
        assert await self._report(api, name, "one", Ready="True") == {"Ready": "True", "Synced": "True"}

    async def test_removes_a_whole_map_with_the_last_field_that_had_an_owner(self, api: Api) -> None:
        accepted(await api.apply("bare", "one", {"spec": {"color": "red"}}), 201)
        assert "spec" not in accepted(await api.apply("bare", "one", {}))

    async def test_counts_a_new_owner_as_a_change(self, api: Api) -> None:
        first = accepted(await api.apply("shared", "one", {"spec": {"size": "small"}}), 201)["metadata"]
        second = accepted(await api.apply("shared", "two", {"spec": {"size": "small"}}))["metadata"]
        assert second["generation"] == first["generation"]
        assert int(second["resourceVersion"]) > int(first["resourceVersion"])

    async def test_refuses_to_apply_a_field_that_the_schema_does_not_know(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        response = await api.apply(name, "one", {"status": {"accounts": 3}}, subresource="status")
        assert response.status_code == 500, response.text
        assert response.json()["message"].endswith(".status.accounts: field not declared in schema")

    async def test_replaces_a_plain_list_by_apply(self, api: Api) -> None:
        accepted(await api.apply("lists", "one", {"spec": {"tags": ["a", "b"]}}), 201)
        assert accepted(await api.apply("lists", "one", {"spec": {"tags": ["c"]}}))["spec"]["tags"] == ["c"]

    async def test_merges_maps_by_apply_and_removes_single_keys(self, api: Api) -> None:
        accepted(await api.apply("maps", "one", {"spec": {"labels": {"a": "1", "b": "1"}}}), 201)
        accepted(await api.apply("maps", "two", {"spec": {"labels": {"c": "2"}}}))
        changed = accepted(await api.apply("maps", "one", {"spec": {"labels": {"b": "1"}}}))
        assert changed["spec"]["labels"] == {"b": "1", "c": "2"}

    async def test_removes_an_annotation_that_is_applied_no_more(self, api: Api) -> None:
        annotated = widget({"name": "noted", "annotations": {"contract.test/a": "1"}}, spec={"size": "small"})
        accepted(await api.patch("noted", annotated, APPLY, fieldManager="one"), 201)
        changed = accepted(await api.apply("noted", "one", {"spec": {"size": "small"}}))
        assert "annotations" not in changed["metadata"]

    async def test_refuses_to_apply_over_another_managers_field(self, api: Api) -> None:
        accepted(await api.apply("contested", "one", {"spec": {"size": "small"}}), 201)
        message = refused(await api.apply("contested", "two", {"spec": {"size": "large"}}), 409, "Conflict")
        assert "one" in message

    async def test_hands_a_field_over_to_the_one_who_forces(self, api: Api) -> None:
        accepted(await api.apply("contested", "one", {"spec": {"size": "small", "color": "red"}}), 201)
        forced = accepted(await api.apply("contested", "two", {"spec": {"size": "large"}}, force=True))
        assert forced["spec"]["size"] == "large"
        left = accepted(await api.apply("contested", "one", {"spec": {"color": "red"}}))
        assert (left["spec"]["size"], left["spec"]["color"]) == ("large", "red")

    async def test_lets_an_update_take_a_field_from_its_applier(self, api: Api) -> None:
        accepted(await api.apply("edited", "one", {"spec": {"size": "small"}}), 201)
        accepted(await api.patch("edited", {"spec": {"size": "large"}}, fieldManager="a-person"))
        message = refused(await api.apply("edited", "one", {"spec": {"size": "small"}}), 409, "Conflict")
        assert "a-person" in message

    async def test_writes_nothing_when_the_same_is_applied_again(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        await self._report(api, name, "one", Ready="True")
        before = (await api.read(name))["metadata"]["resourceVersion"]
        await self._report(api, name, "one", Ready="True")
        assert (await api.read(name))["metadata"]["resourceVersion"] == before

    async def test_refuses_to_apply_to_a_stale_version(self, api: Api) -> None:
        created = await api.create()
        name, version = created["metadata"]["name"], created["metadata"]["resourceVersion"]
        accepted(await api.patch(name, {"spec": {"size": "large"}}))
        body = widget({"name": name, "resourceVersion": version}, status={"count": 1})
        refused(await api.patch(name, body, APPLY, subresource="status", fieldManager="one"), 409, "Conflict")

    async def _report(self, api: Api, name: str, manager: str, **conditions: str) -> dict[str, str]:
        status = {"conditions": [{"type": kind, "status": value} for kind, value in conditions.items()]}
        stored = accepted(await api.apply(name, manager, {"status": status}, subresource="status", force=True))
        return {condition["type"]: condition["status"] for condition in stored["status"]["conditions"]}

    # Lists and watches

    async def test_lists_the_objects_of_a_namespace_with_a_version(self, api: Api) -> None:
        names = sorted([(await api.create())["metadata"]["name"] for _ in range(3)])
        listed = await api.list()
        assert listed["kind"] == "WidgetList"
        assert [item["metadata"]["name"] for item in listed["items"]] == names
        assert int(listed["metadata"]["resourceVersion"]) > 0

    async def test_lists_one_object_by_its_name(self, api: Api) -> None:
        names = [(await api.create())["metadata"]["name"] for _ in range(2)]
        response = await api.http.get(api.widgets, params={"fieldSelector": f"metadata.name={names[0]}"})
        assert [item["metadata"]["name"] for item in accepted(response)["items"]] == names[:1]

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

    async def test_starts_a_watch_without_a_version_with_what_is_there(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        async with api.watch("") as events:
            assert await self._next(events) == ("ADDED", name, "medium")

    async def test_tells_a_watch_the_version_of_a_deletion(self, api: Api) -> None:
        created = await api.create()
        version = created["metadata"]["resourceVersion"]
        async with api.watch(version) as events:
            accepted(await api.http.delete(f"{api.widgets}/{created['metadata']['name']}"))
            event = await anext(events)
        assert event["type"] == "DELETED"
        assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)

    async def test_watches_one_object_by_its_name(self, api: Api) -> None:
        since = (await api.list())["metadata"]["resourceVersion"]
        names = [(await api.create())["metadata"]["name"] for _ in range(2)]
        async with api.watch(since, fieldSelector=f"metadata.name={names[1]}") as events:
            assert await self._next(events) == ("ADDED", names[1], "medium")

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
        return event["type"], event["object"]["metadata"]["name"], event["object"]["spec"]["size"]

    # Kinds that are built in

    async def test_stores_a_secret_with_its_plain_strings_encoded(self, api: Api) -> None:
        secrets = f"/api/v1/namespaces/{api.namespace}/secrets"
        body = {"metadata": {"name": "s"}, "data": {"a": "b25l"}, "stringData": {"b": "two"}}
        accepted(await api.http.post(secrets, json=body), 201)
        secret = accepted(await api.http.get(f"{secrets}/s"))
        assert (secret["kind"], secret["type"]) == ("Secret", "Opaque")
        assert secret["data"] == {"a": "b25l", "b": base64.b64encode(b"two").decode()}
        assert "stringData" not in secret
        assert "generation" not in secret["metadata"]

    async def test_refuses_a_secret_that_is_not_base64(self, api: Api) -> None:
        body = {"metadata": {"name": "s"}, "data": {"a": "no base64!"}}
        refused(await api.http.post(f"/api/v1/namespaces/{api.namespace}/secrets", json=body), 400, "BadRequest")

    async def test_records_an_event_about_an_object(self, api: Api) -> None:
        body = self._event(api, namespace=api.namespace)
        created = accepted(await api.http.post(f"/api/v1/namespaces/{api.namespace}/events", json=body), 201)
        assert created["metadata"]["name"].startswith("w.")
        assert (created["reason"], created["type"]) == ("Synced", "Normal")

    async def test_refuses_an_event_about_an_object_of_another_namespace(self, api: Api) -> None:
        body = self._event(api, namespace="default")
        refused(await api.http.post(f"/api/v1/namespaces/{api.namespace}/events", json=body), 422, "Invalid")

    def _event(self, api: Api, *, namespace: str) -> dict[str, Any]:
        return {
            "metadata": {"generateName": "w.", "namespace": api.namespace},
            "involvedObject": {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "name": "w", "namespace": namespace},
            "reason": "Synced",
            "message": "3 accounts",
            "type": "Normal",
        }

    async def test_lets_only_one_of_two_take_a_lease(self, api: Api) -> None:
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases"
        body = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "nobody"}}
        lease = accepted(await api.http.post(leases, json=body), 201)
        refused(await api.http.post(leases, json=body), 409, "AlreadyExists")
        first, second = ({**lease, "spec": {"holderIdentity": holder}} for holder in ("one", "two"))
        accepted(await api.http.put(f"{leases}/leader", json=first))
        refused(await api.http.put(f"{leases}/leader", json=second), 409, "Conflict")
        assert accepted(await api.http.get(f"{leases}/leader"))["spec"]["holderIdentity"] == "one"

    # Discovery

    async def test_tells_of_the_resources_that_a_definition_made(self, api: Api) -> None:
        groups = accepted(await api.http.get("/apis"))["groups"]
        assert [group["preferredVersion"]["version"] for group in groups if group["name"] == GROUP] == ["v1"]
        resources = {item["name"]: item for item in accepted(await api.http.get(f"/apis/{GROUP}/v1"))["resources"]}
        assert set(resources) == {"widgets", "widgets/status"}
        widgets = resources["widgets"]
        assert (widgets["kind"], widgets["singularName"], widgets["shortNames"]) == ("Widget", "widget", ["wg"])
        assert widgets["namespaced"] is True
        assert {"get", "list", "watch", "patch", "create"} <= set(widgets["verbs"])

    async def test_tells_of_the_resources_that_are_built_in(self, api: Api) -> None:
        core = {item["name"] for item in accepted(await api.http.get("/api/v1"))["resources"]}
        assert {"secrets", "events", "namespaces"} <= core
        assert "gitVersion" in accepted(await api.http.get("/version"))

    async def test_says_that_a_definition_is_established(self, api: Api) -> None:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{GROUP}"
        conditions = accepted(await api.http.get(path))["status"]["conditions"]
        assert {condition["type"]: condition["status"] for condition in conditions}["Established"] == "True"
