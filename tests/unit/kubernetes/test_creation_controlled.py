"""What creates something in C1 is in the status before: also where the CRD is old, or the resource is gone."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.ports import C1Rest
from buildkite_connector.kubernetes.connection import ApiError, Connection
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.kubernetes.schema import GROUP, KIND
from buildkite_connector.kubernetes.schema.crd import definition
from buildkite_connector.model.spec import C1Access, ConnectorKey
from buildkite_connector.model.status import ConnectorStatus
from contracts.c1_spec import WORKLOAD
from fakes.connector_setup import Setup
from fakes.virtual_time import virtual_time
from unit.kubernetes import controlled
from unit.kubernetes.controlled import Cluster, process

C1 = {"create": {"appName": "Buildkite"}, "auth": {"workloadIdentity": {"clientID": WORKLOAD}}}


class NoSecretYet:
    """The API server for the own Secret: there is none, and it may be created."""

    async def call(self, what: str, method: str, *_: Any, **__: Any) -> None:
        if method == "GET":
            raise ApiError(404, "not found")


class Rest:
    """C1 without anything; `created` are the apps."""

    def __init__(self) -> None:
        self.created: list[str] = []

    async def find_apps(self, marker: str) -> tuple[str, ...]:
        return ()

    async def create_app(self, name: str, owners: tuple[str, ...], marker: str) -> str:
        self.created.append(marker)
        await asyncio.Event().wait()
        return ""

    async def aclose(self) -> None:
        pass


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Rest:
    rest = Rest()

    class CreatingSetup(Setup):
        def environment(self) -> Environment:
            def connect(access: C1Access) -> C1Rest:
                return cast(C1Rest, rest)

            return replace(super().environment(), c1_rest=connect)

    monkeypatch.setattr(controlled, "Setup", CreatingSetup)
    return rest


class CreatingCluster(Cluster):
    """`on_write` is called for each status before it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = cast(Connection, NoSecretYet())
        self.on_write: Callable[[ObservedResource, ConnectorStatus], None] = lambda *_: None
        self.looks = 0
        self.served: dict[str, Any] = definition()

    async def apply_status(self, resource: ObservedResource, status: ConnectorStatus, *args: Any) -> Any:
        self.on_write(resource, status)
        return await super().apply_status(resource, status, *args)

    async def look_at_schema(self) -> None:
        self.looks += 1
        self.serve(self.served)

    def serve(self, crd: dict[str, Any]) -> None:
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        kinds = [{"group": GROUP, "version": "v1alpha1", "kind": KIND}]
        self.schema.learn({"components": {"schemas": {"k": {**schema, "x-kubernetes-group-version-kind": kinds}}}})


def creating(status: ConnectorStatus) -> bool:
    return status.c1 is not None and status.c1.creating is not None


@virtual_time
async def test_the_status_names_the_call_and_the_resource_marks_the_app(rest: Rest) -> None:
    cluster = CreatingCluster()
    async with process(cluster) as operator:
        operator.observe("acme", c1=C1)
        await asyncio.sleep(5)
        assert rest.created == ["buildkite-connector/default/acme/uid-acme"]
        assert creating(cluster.statuses["acme"])


@pytest.mark.parametrize("closing", [False, True], ids=["first", "while another closes"])
@virtual_time
async def test_nothing_is_created_when_the_resource_is_gone_as_its_status_is_written(rest: Rest, closing: bool) -> None:
    cluster = CreatingCluster()

    def gone(resource: ObservedResource, status: ConnectorStatus) -> None:
        if creating(status):
            cluster.gone.add(resource.uid)

    cluster.on_write = gone
    async with process(cluster) as operator:
        if closing:
            controller: Controller = operator.controller
            controller._closing[ConnectorKey("default.acme")] = asyncio.create_task(asyncio.sleep(30))
        operator.observe("acme", c1=C1)
        await asyncio.sleep(60)
        assert cluster.gone == {"uid-acme"}
        assert rest.created == []


@virtual_time
async def test_nothing_is_created_while_the_crd_lacks_the_fields_for_it(
    rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    """An API server drops them, and says nothing: the status would be written without the call."""
    cluster = CreatingCluster()
    old = json.loads(json.dumps(definition()))
    status = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    del status["properties"]["c1"]["properties"]["creating"]
    cluster.served = old
    cluster.serve(old)
    async with process(cluster) as operator:
        operator.observe("acme", c1=C1)
        await asyncio.sleep(60)
        assert rest.created == []
        assert "is older than this operator and lacks status.c1.creating" in caplog.text
        cluster.served = definition()
        await asyncio.sleep(300)
        assert rest.created
