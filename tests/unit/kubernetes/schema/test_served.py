"""A CRD that is older than the operator: what it lacks is said, and a status without that is written."""

import copy
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from buildkite_connector.kubernetes.client import AppliedStatus, KubernetesApi, Written, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.schema import GROUP, KIND
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.schema.status_json import status_to_json
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.timing.clock import SystemClock
from harness.definition import definition
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.client_calls import SYNCING, create, status_of
from unit.kubernetes.schema.test_status_json import FULL


def older(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> dict[str, Any]:
    """This version's CRD, with the properties of its spec and status changed."""
    crd = copy.deepcopy(definition())
    properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    change(properties["spec"]["properties"], properties["status"]["properties"])
    return crd


def openapi(crd: dict[str, Any]) -> dict[str, Any]:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    ours = {**schema, "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1alpha1", "kind": KIND}]}
    other = {"properties": {}, "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}]}
    return {"components": {"schemas": {"a": other, "b": ours, "c": {"type": "string"}}}}


LACKS_MUCH = older(
    lambda spec, status: (
        spec.pop("provisioning"),
        spec["delivery"]["properties"].pop("hostID"),
        spec["sync"]["properties"]["resourceTypes"]["items"]["enum"].remove("team"),
        status.pop("provisioning"),
        status["lastDelivery"]["properties"].pop("bytes"),
        status["history"]["items"]["properties"].pop("teams"),
    )
)


def test_all_that_it_lacks_is_found_and_the_first_are_named() -> None:
    schema = ServedSchema()
    schema.learn(openapi(LACKS_MUCH))
    assert "lacks spec.sync.resourceTypes[]: team, spec.delivery.hostID, spec.provisioning, " in schema.outdated
    assert schema.outdated.count("status.") == 2
    assert "and 1 more: run `kubectl apply -f crds/`" in schema.outdated


def test_a_status_is_fitted_to_it_and_to_the_whole_crd_not_at_all() -> None:
    schema, status = ServedSchema(), status_to_json(FULL)
    assert schema.fit(status) == status
    schema.learn(openapi(definition()))
    assert (schema.fit(status), schema.outdated) == (status, "")
    schema.learn(openapi(LACKS_MUCH))
    expected = json.loads(json.dumps(status))
    del expected["provisioning"], expected["lastDelivery"]["bytes"], expected["history"][0]["teams"]
    assert schema.fit(status) == expected


def test_a_crd_from_before_c1s_side_is_told_and_gets_the_status_without_it() -> None:
    schema, status = ServedSchema(), status_to_json(FULL)
    assert "c1" in status
    schema.learn(openapi(older(lambda spec, status: (spec.pop("c1"), status.pop("c1")))))
    assert "lacks spec.c1, status.c1: run `kubectl apply -f crds/`" in schema.outdated
    assert schema.fit(status) == {name: value for name, value in status.items() if name != "c1"}


def test_a_crd_that_takes_anything_lacks_nothing() -> None:
    schema = ServedSchema()
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    crd = copy.deepcopy(definition())
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] |= {"spec": anything, "status": anything}
    schema.learn(openapi(crd))
    assert (schema.outdated, schema.fit(status_to_json(FULL))) == ("", status_to_json(FULL))


def test_it_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    schema = ServedSchema()
    with caplog.at_level(logging.INFO):
        for crd in (LACKS_MUCH, LACKS_MUCH, definition(), definition()):
            schema.learn(openapi(crd))
    assert [each.levelname for each in caplog.records] == ["ERROR", "INFO"]
    assert schema.outdated == ""


class TestOnTheApiServer:
    @pytest.fixture
    def schema(self) -> ServedSchema:
        return ServedSchema()

    @pytest.fixture
    async def api(self, bare_simulator: KubernetesSimulator, login: KubeconfigLogin, schema: ServedSchema) -> Any:
        bare_simulator.apply(older(lambda _, status: status.pop("phase")))
        async with connect(login, SystemClock(), "pod-1", schema=schema) as connected:
            yield connected

    async def test_a_status_that_is_refused_is_written_without_the_field(
        self, bare_simulator: KubernetesSimulator, api: KubernetesApi, schema: ServedSchema
    ) -> None:
        seen, applied = create(bare_simulator), AppliedStatus()
        assert await api.apply_status(seen, SYNCING, applied) is Written.WRITTEN
        assert status_of(bare_simulator) == {
            name: value for name, value in status_to_json(SYNCING).items() if name != "phase"
        }
        assert "lacks status.phase" in schema.outdated
        assert await api.apply_status(seen, SYNCING, applied) is Written.UNCHANGED

    async def test_the_whole_status_is_written_once_the_crd_has_it(
        self, bare_simulator: KubernetesSimulator, api: KubernetesApi, schema: ServedSchema
    ) -> None:
        seen = create(bare_simulator)
        await api.apply_status(seen, SYNCING)
        bare_simulator.apply(definition())
        await api.look_at_schema()
        assert schema.outdated == ""
        assert await api.apply_status(seen, SYNCING) is Written.WRITTEN
        assert status_of(bare_simulator)["phase"] == "Syncing"

    @pytest.mark.parametrize(("status", "body"), [(403, None), (404, None), (500, None), (200, "[]"), (200, "no JSON")])
    async def test_where_the_schema_cannot_be_read_a_refused_status_says_it(
        self,
        bare_simulator: KubernetesSimulator,
        api: KubernetesApi,
        schema: ServedSchema,
        status: int,
        body: str | None,
    ) -> None:
        seen = create(bare_simulator)
        with bare_simulator.failing(status, path="^/openapi", body=body):
            await api.look_at_schema()
            assert schema.outdated == ""
            with pytest.raises(Failure, match="Apply the crds/ of this version") as caught:
                await api.apply_status(seen, SYNCING)
            assert caught.value.reason is Reason.KUBERNETES_REFUSED
            assert "lacks a field of the status" in schema.outdated
            bare_simulator.apply(definition())
            assert await api.apply_status(seen, SYNCING) is Written.WRITTEN
            assert schema.outdated == ""
