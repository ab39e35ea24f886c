"""The two Kubernetes APIs that a scenario can run on, the embedded simulator and a real server, behind one Protocol.

What a scenario does to them is what a person does with kubectl. Waiting is driven by watches.
"""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from kubernetes.aio import watch as watching
from kubernetes.aio.client import ApiClient, ApiException, Configuration, CustomObjectsApi
from kubernetes.aio.config import load_kube_config

from buildkite_connector.kubernetes.schema import GROUP, KIND, PLURAL, VERSION
from harness.cluster import Cluster
from harness.control_plane import ControlPlane
from harness.definition import definition
from simulators.kubernetes.resources import ApiError
from simulators.kubernetes.server import KubernetesSimulator

Manifest = dict[str, Any]
RETRY_SECONDS = 0.2

_WRITES_TAKEN = re.compile(
    r'^apiserver_request_total\{code="20[01]".*'
    r'(?:resource="buildkiteconnectors".*subresource="status"|group="events\.k8s\.io").*'
    r'verb="(?:APPLY|PATCH|POST|PUT)".*\} (\S+)$',
    re.MULTILINE,
)


class Kubernetes(Protocol):
    """What a scenario does to a Kubernetes API, as a person with kubectl would."""

    @property
    def kubeconfig(self) -> Path:
        """What an operator is given to log in with."""
        ...

    async def apply(self, manifest: Manifest) -> None: ...

    async def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None: ...

    async def delete(self, namespace: str, name: str) -> None: ...

    async def get(self, namespace: str, name: str) -> Manifest: ...

    async def exists(self, namespace: str, name: str) -> bool: ...

    async def events(self, namespace: str, about: str = "") -> list[Manifest]:
        """Those of the namespace, or only those about the connector of this name."""
        ...

    async def writes(self) -> int:
        """How many writes of statuses and events the API has taken so far."""
        ...

    async def footprint(self, namespace: str, name: str) -> object:
        """Equal as long as nobody writes to the connector, its status included, or an event about it."""
        ...

    def away(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Nobody reaches the API while the context lasts; open connections are cut."""
        ...

    async def wait_for(
        self,
        namespace: str,
        name: str,
        predicate: Callable[[Manifest], bool],
        timeout: float,  # noqa: ASYNC109
    ) -> Manifest:
        """The first state of the connector that the predicate holds for, driven by a watch. Raises TimeoutError."""
        ...


class SimulatedApi:
    """The embedded API. Its definition is the generated one."""

    def __init__(self, simulator: KubernetesSimulator, kubeconfig: Path) -> None:
        self.simulator = simulator
        self.kubeconfig = simulator.write_kubeconfig(kubeconfig)
        simulator.apply(definition())

    async def apply(self, manifest: Manifest) -> None:
        self.simulator.apply(manifest)

    async def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        found = self.simulator.get(KIND, namespace, name)
        metadata = {"namespace": namespace, "name": name}
        metadata["annotations"] = {**found["metadata"].get("annotations", {}), **annotations}  # type: ignore[assignment]
        self.simulator.apply({**{key: found[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})

    async def delete(self, namespace: str, name: str) -> None:
        self.simulator.delete(KIND, namespace, name)

    async def get(self, namespace: str, name: str) -> Manifest:
        return self.simulator.get(KIND, namespace, name)

    async def exists(self, namespace: str, name: str) -> bool:
        try:
            self.simulator.get(KIND, namespace, name)
        except ApiError:
            return False
        return True

    async def events(self, namespace: str, about: str = "") -> list[Manifest]:
        return [each for each in self.simulator.objects("Event", namespace) if about in {"", each["regarding"]["name"]}]

    async def writes(self) -> int:
        taken = self.simulator.writes()
        return sum(each.resource == "events" or each.path.endswith("/status") for each in taken)

    async def footprint(self, namespace: str, name: str) -> object:
        writes = [each for each in self.simulator.writes(name=name) if each.namespace == namespace]
        return await self.get(namespace, name), await self.events(namespace, name), len(writes)

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        with self.simulator.outage(None):
            yield

    async def wait_for(
        self,
        namespace: str,
        name: str,
        predicate: Callable[[Manifest], bool],
        timeout: float,  # noqa: ASYNC109
    ) -> Manifest:
        return await self.simulator.wait_for(KIND, namespace, name, predicate, timeout)


class RealApi:
    """A real API server, through the administrator's kubeconfig. `kubeconfig` is what operators are given."""

    def __init__(self, cluster: Cluster, client: ApiClient, kubeconfig: Path) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self._client = client
        self._objects = CustomObjectsApi(client)

    async def apply(self, manifest: Manifest) -> None:
        await asyncio.to_thread(self.cluster.kubectl, "apply", "--filename", "-", input=yaml.safe_dump(manifest))

    async def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        pairs = [f"{key}={value}" for key, value in annotations.items()]
        await asyncio.to_thread(
            self.cluster.kubectl, "--namespace", namespace, "annotate", "--overwrite", PLURAL, name, *pairs
        )

    async def delete(self, namespace: str, name: str) -> None:
        await self._objects.delete_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name)

    async def get(self, namespace: str, name: str) -> Manifest:
        found: Any = await self._objects.get_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name)
        return dict(found)

    async def exists(self, namespace: str, name: str) -> bool:
        try:
            await self.get(namespace, name)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    async def events(self, namespace: str, about: str = "") -> list[Manifest]:
        found = await asyncio.to_thread(
            self.cluster.kubectl_json, "--namespace", namespace, "get", "events.events.k8s.io"
        )
        return [each for each in found["items"] if about in {"", each["regarding"]["name"]}]

    async def writes(self) -> int:
        metrics = (await asyncio.to_thread(self.cluster.kubectl, "get", "--raw", "/metrics")).stdout
        return sum(int(float(count)) for count in _WRITES_TAKEN.findall(metrics))

    async def footprint(self, namespace: str, name: str) -> object:
        return await self.get(namespace, name), await self.events(namespace, name)

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        assert isinstance(self.cluster, ControlPlane), "only an API server of our own can be stopped"
        await asyncio.to_thread(self.cluster.stop_apiserver)
        try:
            yield
        finally:
            await asyncio.to_thread(self.cluster.start_apiserver)

    async def wait_for(
        self,
        namespace: str,
        name: str,
        predicate: Callable[[Manifest], bool],
        timeout: float,  # noqa: ASYNC109
    ) -> Manifest:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    return await self._watch(namespace, name, predicate)
                except ApiException as error:
                    if error.status not in {404, 429, 503}:
                        raise
                await asyncio.sleep(RETRY_SECONDS)  # the server has only just started, and says so

    async def _watch(self, namespace: str, name: str, predicate: Callable[[Manifest], bool]) -> Manifest:
        async with watching.Watch() as watch:  # type: ignore[no-untyped-call]  # the package's watch has no types
            stream = watch.stream(
                self._objects.list_namespaced_custom_object,
                GROUP,
                VERSION,
                namespace,
                PLURAL,
                field_selector=f"metadata.name={name}",
                resource_version="0",  # else the server's cache may be behind its own answer, and it refuses
            )
            async for event in stream:
                if event["type"] != "DELETED" and predicate(event["object"]):
                    return dict(event["object"])
        raise AssertionError("the watch never ends")


@contextlib.asynccontextmanager
async def real_api(cluster: Cluster, operators: Path) -> AsyncIterator[RealApi]:
    """`operators`: the kubeconfig that they are given."""
    configuration = Configuration()
    await load_kube_config(  # type: ignore[no-untyped-call]  # the package's config has no types
        str(cluster.kubeconfig), client_configuration=configuration
    )
    async with ApiClient(configuration) as client:
        yield RealApi(cluster, client, operators)


@contextlib.asynccontextmanager
async def simulated_api() -> AsyncIterator[SimulatedApi]:
    with tempfile.TemporaryDirectory(prefix="simulator-") as folder:
        async with KubernetesSimulator() as simulator:
            yield SimulatedApi(simulator, Path(folder) / "kubeconfig")
