"""Everything around an operator process: the simulators of Buildkite and C1, and a Kubernetes API, double or real.

The integration tests, the end-to-end suite and the demo all run the operator as a process of its own on this.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import yaml
from kubernetes.aio import watch as watching
from kubernetes.aio.client import ApiClient, ApiException, Configuration, CoreV1Api, CustomObjectsApi
from kubernetes.aio.config import load_kube_config

from buildkite_connector.kubernetes.crd import definition
from buildkite_connector.kubernetes.names import GROUP, KIND, PLURAL, VERSION
from control_plane import Cluster
from kubernetes_double import KubernetesDouble
from kubernetes_double_resources import ApiError
from simulators.buildkite import BuildkiteSimulator, Config
from simulators.buildkite_api import Token
from simulators.buildkite_organization import Organization
from simulators.buildkite_quota import Limits
from simulators.c1 import C1Simulator
from simulators.c1_policy import Policy

TESTS = Path(__file__).parent
GOLDEN = TESTS / "data" / "acme-org.json"
API_TOKEN = "bkua_" + "5ec4e7" * 6 + "abcd"
"""A token of the real form; tests look for it where it must not be."""
SECRET_NAME = "acme-credentials"

Manifest = dict[str, Any]


class Kubernetes(Protocol):
    """What a scenario does to a Kubernetes API, as a person with kubectl would."""

    @property
    def kubeconfig(self) -> Path: ...

    async def apply(self, manifest: Manifest) -> None: ...

    async def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None: ...

    async def delete(self, namespace: str, name: str) -> None: ...

    async def delete_secret(self, namespace: str, name: str) -> None: ...

    async def get(self, namespace: str, name: str) -> Manifest: ...

    async def exists(self, namespace: str, name: str) -> bool: ...

    async def events(self, namespace: str) -> list[Manifest]: ...

    async def writes(self) -> int:
        """How many writes of statuses and events the API has taken so far."""
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


class DoubleApi:
    """The embedded API. Its definition is the generated one."""

    def __init__(self, double: KubernetesDouble, kubeconfig: Path) -> None:
        self.double = double
        self.kubeconfig = double.write_kubeconfig(kubeconfig)
        double.apply(definition())

    async def apply(self, manifest: Manifest) -> None:
        self.double.apply(_as_stored(manifest))

    async def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        found = self.double.get(KIND, namespace, name)
        metadata = {"namespace": namespace, "name": name}
        metadata["annotations"] = {**found["metadata"].get("annotations", {}), **annotations}  # type: ignore[assignment]
        self.double.apply({**{key: found[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})

    async def delete(self, namespace: str, name: str) -> None:
        self.double.delete(KIND, namespace, name)

    async def delete_secret(self, namespace: str, name: str) -> None:
        self.double.delete("Secret", namespace, name)

    async def get(self, namespace: str, name: str) -> Manifest:
        return self.double.get(KIND, namespace, name)

    async def exists(self, namespace: str, name: str) -> bool:
        try:
            self.double.get(KIND, namespace, name)
        except ApiError:
            return False
        return True

    async def events(self, namespace: str) -> list[Manifest]:
        return self.double.objects("Event", namespace)

    async def writes(self) -> int:
        taken = self.double.writes()
        return sum(each.resource == "events" or each.path.endswith("/status") for each in taken)

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        with self.double.outage(None):
            yield

    async def wait_for(
        self,
        namespace: str,
        name: str,
        predicate: Callable[[Manifest], bool],
        timeout: float,  # noqa: ASYNC109
    ) -> Manifest:
        return await self.double.wait_for(KIND, namespace, name, predicate, timeout)


class RealApi:
    """A real API server, through the administrator's kubeconfig."""

    def __init__(self, cluster: Cluster, client: ApiClient) -> None:
        self.cluster = cluster
        self.kubeconfig = cluster.kubeconfig
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

    async def delete_secret(self, namespace: str, name: str) -> None:
        await CoreV1Api(self._client).delete_namespaced_secret(name, namespace)

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

    async def events(self, namespace: str) -> list[Manifest]:
        found = await asyncio.to_thread(
            self.cluster.kubectl_json, "--namespace", namespace, "get", "events.events.k8s.io"
        )
        return list(found["items"])

    async def writes(self) -> int:
        metrics = (await asyncio.to_thread(self.cluster.kubectl, "get", "--raw", "/metrics")).stdout
        return sum(int(float(count)) for count in _WRITES_TAKEN.findall(metrics))

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        if not isinstance(self.cluster, ControlPlane):
            raise RuntimeError("only an API server of our own can be stopped")
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
        async with asyncio.timeout(timeout), watching.Watch() as watch:
            stream = watch.stream(
                self._objects.list_namespaced_custom_object,
                GROUP,
                VERSION,
                namespace,
                PLURAL,
                field_selector=f"metadata.name={name}",
            )
            async for event in stream:
                if event["type"] != "DELETED" and predicate(event["object"]):
                    return dict(event["object"])
        raise AssertionError("the watch never ends")


@contextlib.asynccontextmanager
async def real_api(cluster: Cluster) -> AsyncIterator[RealApi]:
    configuration = Configuration()
    await load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield RealApi(cluster, client)


@contextlib.asynccontextmanager
async def double_api() -> AsyncIterator[DoubleApi]:
    with tempfile.TemporaryDirectory(prefix="double-") as folder:
        async with KubernetesDouble() as double:
            yield DoubleApi(double, Path(folder) / "kubeconfig")


@dataclass
class OperatorProcess:
    """`buildkite-connector operator`, its logs kept in `lines`."""

    environment: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    ready_within: float = 30.0

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "buildkite-connector"),
            "operator",
            *self.arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self.environment},
        )
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait({waiting, self._reading}, timeout=self.ready_within, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._ready.is_set():
            await self.stop()
            raise AssertionError("the operator did not become ready:\n" + "\n".join(self.lines))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode().rstrip()
            self.lines.append(text)
            if "the operator is ready" in text:
                self._ready.set()

    async def stop(self, within: float = 15.0) -> int:
        """SIGTERM; gives the exit code. An operator that does not end in time is killed, and that is an error."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                await self._reading
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise AssertionError(f"the operator did not stop within {within} s:\n" + "\n".join(self.lines)) from None

    def kill(self) -> None:
        """As a node does that dies."""
        self._process.kill()

    def records(self) -> list[dict[str, Any]]:
        """The JSON log records."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]


class Rig:
    """The simulators, one registered client, and manifests that fit them."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace
        self._opened = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rig-")))
            self.buildkite = await stack.enter_async_context(
                BuildkiteSimulator(
                    Config((Organization.load(GOLDEN),), (Token(API_TOKEN),), Limits(user=None, organization=None))
                )
            )
            self.c1 = await stack.enter_async_context(
                C1Simulator(Policy(next_poll=0.5, next_heartbeat=1.0, sync_on_hello=False))
            )
            self.client = self.c1.register_client()
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def operator(self, *arguments: str, **environment: str) -> OperatorProcess:
        """The operator on this rig; enter it to start it."""
        return OperatorProcess(
            {
                "KUBECONFIG": str(self.kubernetes.kubeconfig),
                "BUILDKITE_API_URL": self.buildkite.url,
                "SSL_CERT_FILE": str(self.c1.ca_file),
                "BUILDKITE_CONNECTOR_DATA_DIR": str(self.directory / "snapshots"),
                "HOME": str(self.directory),
                **environment,
            },
            ("--namespace", self.namespace, *arguments),
        )

    def secret(self, **changes: str | None) -> Manifest:
        """The Secret with the vendor's keys; `changes` by key, None leaves a key out."""
        values = {
            "BATON_CLIENT_ID": self.client.client_id,
            "BATON_CLIENT_SECRET": self.client.client_secret,
            "BATON_API_TOKEN": API_TOKEN,
            **changes,
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET_NAME, "namespace": self.namespace},
            "type": "Opaque",
            "stringData": {key: value for key, value in values.items() if value is not None},
        }

    def connector(self, name: str = "acme", **spec: Any) -> Manifest:
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"credentialsSecretRef": {"name": SECRET_NAME}, **spec},
        }

    async def apply(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            await self.kubernetes.apply(manifest)

    async def until(
        self,
        predicate: Callable[[Manifest], bool],
        timeout: float = 20.0,  # noqa: ASYNC109
        name: str = "acme",
    ) -> Manifest:
        """The connector once the predicate holds; a failure shows its last status."""
        try:
            return await self.kubernetes.wait_for(self.namespace, name, predicate, timeout)
        except TimeoutError:
            found = await self.kubernetes.get(self.namespace, name)
            raise AssertionError(
                f"not within {timeout} s; the status is {json.dumps(found.get('status'), indent=1)}"
            ) from None

    async def until_condition(
        self,
        kind: str,
        status: str,
        reason: str | None = None,
        timeout: float = 20.0,
        name: str = "acme",  # noqa: ASYNC109
    ) -> Manifest:
        """The condition, once it is so."""

        def holds(connector: Manifest) -> bool:
            found = condition(connector, kind)
            return found.get("status") == status and reason in (None, found.get("reason"))

        return condition(await self.until(holds, timeout, name), kind)


def condition(connector: Manifest, kind: str) -> Manifest:
    """The condition of this type, or {}."""
    conditions = connector.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def is_stopped_wait(error: BaseException) -> bool:
    """Whether an API call ended because the object is not there."""
    return isinstance(error, ApiException) and error.status == 404


def _as_stored(manifest: Manifest) -> Manifest:
    """A Secret's `stringData` as the API server stores it."""
    import base64  # noqa: PLC0415

    if "stringData" not in manifest:
        return manifest
    data = {key: base64.b64encode(value.encode()).decode() for key, value in manifest["stringData"].items()}
    return {**{key: value for key, value in manifest.items() if key != "stringData"}, "data": data}
