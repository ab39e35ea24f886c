"""The part of the contract about server-side apply."""

from simulators.kubernetes.client import APPLY, Api, accepted, refused, widget


class ApplyContract:
    """Every name goes on from "a Kubernetes API"."""

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
