"""What this project relies on of a Kubernetes API, as tests that the simulator and a real API server both pass.

A test class inherits `KubernetesContract` and gives the fixture `api`, on a namespace of its own and with
`WIDGETS` applied: `tests/unit/simulators/test_kubernetes_simulator.py` on the
simulator, `tests/e2e/test_contracts.py` on kube-apiserver.
"""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from simulators.kubernetes.client import APPLY, GROUP, MERGE, WIDGETS_PATH, Api, accepted, refused, widget


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

    async def test_deletes_an_object_at_once(self, api: Api) -> None:
        name = (await api.create())["metadata"]["name"]
        accepted(await api.http.delete(f"{api.widgets}/{name}"))
        refused(await api.http.get(f"{api.widgets}/{name}"), 404, "NotFound")

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

    async def test_refuses_a_patch_of_a_stale_version(self, api: Api) -> None:
        created = await api.create()
        name, version = created["metadata"]["name"], created["metadata"]["resourceVersion"]
        accepted(await api.patch(name, {"spec": {"size": "large"}}))
        refused(await api.patch(name, {"metadata": {"resourceVersion": version}, "spec": {}}), 409, "Conflict")

    async def test_removes_with_a_merge_patch_what_is_null(self, api: Api) -> None:
        name = (await api.create({"color": "red", "tags": ["a", "b"]}))["metadata"]["name"]
        changed = accepted(await api.patch(name, {"spec": {"color": None, "tags": ["c"]}}))
        assert changed["spec"] == {"size": "medium", "limits": {"most": 10}, "tags": ["c"]}

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

    async def test_stores_nothing_in_a_dry_run_and_refuses_what_it_would_refuse(self, api: Api) -> None:
        secrets, dry = f"/api/v1/namespaces/{api.namespace}/secrets", {"dryRun": "All"}
        body = {"metadata": {"name": "dry"}, "data": {"a": "b25l"}}
        accepted(await api.http.post(secrets, json=body, params=dry), 201)
        refused(await api.http.get(f"{secrets}/dry"), 404, "NotFound")
        created = accepted(await api.http.post(secrets, json=body), 201)
        refused(await api.http.post(secrets, json=body, params=dry), 409, "AlreadyExists")
        merge = {"headers": {"Content-Type": MERGE}, "params": dry}
        patch = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "data": {"a": "dHdv"}}
        accepted(await api.http.patch(f"{secrets}/dry", content=json.dumps(patch), **merge))  # type: ignore[arg-type]
        assert accepted(await api.http.get(f"{secrets}/dry")) == created
        stale = {**patch, "metadata": {"resourceVersion": "1"}}
        refused(await api.http.patch(f"{secrets}/dry", content=json.dumps(stale), **merge), 409, "Conflict")  # type: ignore[arg-type]

    async def test_refuses_a_secret_that_is_not_base64(self, api: Api) -> None:
        body = {"metadata": {"name": "s"}, "data": {"a": "no base64!"}}
        refused(await api.http.post(f"/api/v1/namespaces/{api.namespace}/secrets", json=body), 400, "BadRequest")

    async def test_records_an_event_and_counts_it_up(self, api: Api) -> None:
        events = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
        created = accepted(await api.http.post(events, json=self._event(api)), 201)
        assert (created["reason"], created["type"], created["note"]) == ("Synced", "Normal", "3 accounts")
        series = {"count": 2, "lastObservedTime": "2026-03-01T12:05:00.000000Z"}
        counted = accepted(
            await api.http.patch(f"{events}/w.1", json={"series": series}, headers={"Content-Type": MERGE})
        )
        assert counted["series"] == series
        refused(await api.http.post(events, json=self._event(api)), 409, "AlreadyExists")

    @pytest.mark.parametrize(
        "change",
        [
            {"type": "Error"},
            {"reason": ""},
            {"action": ""},
            {"reportingController": ""},
            {"reportingInstance": ""},
            {"eventTime": None},
        ],
        ids=lambda change: next(iter(change)),
    )
    async def test_refuses_an_event_that_is_not_complete(self, api: Api, change: dict[str, Any]) -> None:
        events = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
        refused(await api.http.post(events, json={**self._event(api), **change}), 422, "Invalid")

    def _event(self, api: Api) -> dict[str, Any]:
        return {
            "metadata": {"name": "w.1", "namespace": api.namespace},
            "regarding": {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "name": "w", "namespace": api.namespace},
            "reason": "Synced",
            "note": "3 accounts",
            "type": "Normal",
            "action": "Reconcile",
            "eventTime": "2026-03-01T12:00:00.000000Z",
            "reportingController": "contract.test/widgets",
            "reportingInstance": "one",
        }

    async def test_lets_only_one_of_two_take_a_lease(self, api: Api) -> None:
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases"
        body = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "nobody"}}
        lease = accepted(await api.http.post(leases, json=body), 201)
        refused(await api.http.post(leases, json=body), 409, "AlreadyExists")
        version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        first, second = ({"metadata": version, "spec": {"holderIdentity": holder}} for holder in ("one", "two"))
        header = {"Content-Type": MERGE}
        accepted(await api.http.patch(f"{leases}/leader", json=first, headers=header))
        refused(await api.http.patch(f"{leases}/leader", json=second, headers=header), 409, "Conflict")
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
        assert {"secrets", "namespaces"} <= core
        assert "gitVersion" in accepted(await api.http.get("/version"))

    async def test_says_that_a_definition_is_established(self, api: Api) -> None:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{GROUP}"
        conditions = accepted(await api.http.get(path))["status"]["conditions"]
        assert {condition["type"]: condition["status"] for condition in conditions}["Established"] == "True"
