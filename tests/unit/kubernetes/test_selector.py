"""A process with a selector of labels sees the resources that it matches, and no others."""

import asyncio
from typing import Any

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.kubernetes.watch import WatchSettings, run_watch
from simulators.kubernetes.server import KubernetesDouble

DEADLINE = 20.0


class Handler:
    """`known`: by name, as of now."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.changed = asyncio.Event()

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        self.known.add(resource.name)
        self.changed.set()

    def forget(self, namespace: str, name: str, uid: str) -> None:
        self.known.discard(name)
        self.changed.set()

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.known != set(names):
                self.changed.clear()
                await self.changed.wait()


def connector(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"namespace": "default", "name": name, "labels": labels}
    spec = {"credentialsSecretRef": {"name": "s"}}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


async def test_a_resource_comes_and_goes_with_its_labels(
    double: KubernetesDouble, api: KubernetesApi, login: KubeconfigLogin
) -> None:
    for manifest in (connector("gold", tier="gold"), connector("tin", tier="tin"), connector("bare")):
        double.apply(manifest)
    handler, ready, stop = Handler(), asyncio.Event(), asyncio.Event()
    settings = WatchSettings(("default",), "tier in (gold, silver)")
    watching = asyncio.create_task(run_watch(handler, api, login, settings, ready=ready, stop=stop))
    async with asyncio.timeout(DEADLINE):
        await ready.wait()
    assert handler.known == {"gold"}
    double.apply(connector("bare", tier="silver"))
    await handler.until("gold", "bare")
    double.apply(connector("gold", tier="tin"))
    await handler.until("bare")
    stop.set()
    await watching


async def test_a_selector_that_makes_no_sense_is_told(double: KubernetesDouble, api: KubernetesApi) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement"):
        await api.list_connectors((), "tier=gold=tin")
