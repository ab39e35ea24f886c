"""A Kubernetes API over real HTTP on loopback, for tests and for the demo where no kube-apiserver is.

kmock gives the server and the discovery; what it lacks is added here and in `simulators.kubernetes`:
versions, generations, server-side apply, conflicts, watches that resume, faults on demand, and a record of
all requests. `simulators.kubernetes` says what it does as a real API server does. What it does not do:
authentication and RBAC, validation (types, patterns, CEL), `managedFields` in objects, lists in chunks, tables and
OpenAPI (so kubectl does not work on it), and what the product does not use: PUT, JSON Patch and finalizers.
"""

import asyncio
import copy
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kmock
import yaml
from aiohttp.test_utils import RawTestServer

from buildkite_connector.timing.clock import Clock
from simulators.kubernetes.exchange import Exchange, Fault
from simulators.kubernetes.fields import Manager, Manifest
from simulators.kubernetes.http import ObjectsHandler
from simulators.kubernetes.resources import NAMESPACES
from simulators.kubernetes.store import Backup, Store

HELPERS = "kubernetes-simulator"
WRITING_METHODS = frozenset({"POST", "PATCH", "DELETE"})


class KubernetesSimulator:
    """The API as an asynchronous context manager; its helpers are called from the same event loop."""

    def __init__(self, clock: Clock | None = None, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: of the server; without it, plain http."""
        self._tls = tls
        self._store = Store(clock)
        self._handler = ObjectsHandler(self._store)
        self._serving = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._serving.enter_async_context(self._handler)
        self._server = await self._serving.enter_async_context(
            kmock.Server(self._handler, server_cls=_server_class(self._tls))
        )
        self._serving.callback(self.drop_watches)  # else the server would wait for them to end
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._serving.aclose()

    @property
    def server_url(self) -> str:
        """Where it listens, once entered."""
        return f"{'https' if self._tls else 'http'}://{self._server.host}:{self._server.port}"

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig file that leads here; gives its path back."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "simulator",
            "clusters": [{"name": "simulator", "cluster": {"server": self.server_url}}],
            "users": [{"name": "simulator", "user": {}}],
            "contexts": [{"name": "simulator", "context": {"cluster": "simulator", "user": "simulator"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    @property
    def transcript(self) -> list[Exchange]:
        """Every request so far, in the order of the answers; a watch as soon as it starts."""
        return self._handler.transcript

    def apply(self, manifest: Manifest, *, subresource: str = "") -> Manifest:
        """Server-side apply by a manager of our own, taking over what others own; makes the namespace too."""
        resource = self._store.resource_of_kind(manifest["kind"])
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "default") if resource.namespaced else ""
        if namespace and namespace not in {home["metadata"]["name"] for home in self._store.objects(NAMESPACES)}:
            self._store.create(NAMESPACES, "", {"metadata": {"name": namespace}}, Manager(HELPERS, True, ""))
        manager = Manager(HELPERS, True, subresource)
        stored = self._store.apply(resource, (namespace, metadata["name"]), manifest, manager, force=True)
        return copy.deepcopy(stored)

    def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """The object as it is now; ApiError 404 when there is none. `namespace` is "" where kinds have none."""
        return copy.deepcopy(self._store.read(self._store.resource_of_kind(kind), namespace, name))

    def objects(self, kind: str, namespace: str = "") -> list[Manifest]:
        """All objects of a kind, in one namespace or in all, by name."""
        return copy.deepcopy(self._store.objects(self._store.resource_of_kind(kind), namespace))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, a namespace with all that is in it."""
        self._store.delete(self._store.resource_of_kind(kind), namespace, name)

    def versions(self, kind: str, namespace: str, name: str) -> list[Manifest]:
        """Every state that the object has had, oldest first."""
        resource = self._store.resource_of_kind(kind)
        return [
            copy.deepcopy(change.manifest)
            for change in self._store.history
            if change.resource == resource and _is_named(change.manifest, namespace, name)
        ]

    async def wait_for(
        self,
        kind: str,
        namespace: str,
        name: str,
        predicate: Callable[[Manifest], bool],
        timeout: float,  # noqa: ASYNC109 - a deadline that every caller must name
    ) -> Manifest:
        """The first state, from now on, that satisfies the predicate: driven by changes, none is missed.

        The predicate gets an empty manifest while there is no object. Raises TimeoutError, with the state
        that it ended in, after `timeout` seconds.
        """
        resource, seen = self._store.resource_of_kind(kind), self._store.version
        present = (item for item in self._store.objects(resource, namespace) if _is_named(item, namespace, name))
        state = next(present, Manifest())
        try:
            async with asyncio.timeout(timeout):
                while not predicate(state):
                    while not (changes := self._store.changes(seen)):
                        await self._store.moved()
                    seen = changes[0].version
                    if changes[0].resource == resource and _is_named(changes[0].manifest, namespace, name):
                        state = Manifest() if changes[0].type == "DELETED" else changes[0].manifest
        except TimeoutError:
            told = json.dumps(state, indent=2) if state else "absent"
            message = f"{kind} {namespace}/{name} was not as expected in {timeout:g} s; it is {told}"
            raise TimeoutError(message) from None
        return copy.deepcopy(state)

    async def wait_until(self, predicate: Callable[[], bool], timeout: float) -> None:  # noqa: ASYNC109 - as above
        """Wait until the predicate holds: asked again at each change, request, and watch that comes or goes."""
        async with asyncio.timeout(timeout):
            while not predicate():
                await self._store.moved()

    def writes(self, since: int = 0, *, resource: str = "", name: str = "") -> list[Exchange]:
        """Writing requests that succeeded, from this index of the transcript on, of one plural or object."""
        return [
            exchange
            for exchange in self.transcript[since:]
            if exchange.method in WRITING_METHODS and exchange.status in {200, 201}
            if resource in {"", exchange.resource} and name in {"", exchange.name}
        ]

    def watches(self, kind: str) -> int:
        """How many watches of this kind are open."""
        return self._handler.watches(self._store.resource_of_kind(kind))

    def drop_watches(self) -> None:
        """Cut the connection of every watch, as a network does."""
        self._handler.drop_watches()

    def expire_watches(self) -> None:
        """Forget the history and cut all watches: who resumes from an older version is told 410 Gone."""
        self._store.forget_history()
        self.drop_watches()

    @contextmanager
    def failing(
        self,
        status: int | None,
        *,
        methods: frozenset[str] = frozenset(),
        path: str = "",
        watches: bool | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Iterator[None]:
        """Answer with this HTTP status, or with None cut the connection, while the block lasts.

        Only requests of these methods (all, when empty) whose path has a match of the expression `path`; see `Fault`.
        """
        extra = tuple((headers or {}).items())
        with self._handler.failing(Fault(status, methods, re.compile(path), watches, extra, body)):
            yield

    def backup(self) -> Backup:
        """What `restore` goes back to."""
        return self._store.backup()

    def restore(self, backup: Backup) -> None:
        """Set everything back, as a restore of etcd does: objects, uids and versions are as they were then.

        Watches are cut. One that resumes from a version that is still to come hears nothing until that has come.
        """
        self._store.restore(backup)
        self.drop_watches()

    @contextmanager
    def outage(self, status: int | None = 503) -> Iterator[None]:
        """The API is down while the block lasts: watches are cut, every request fails as `failing` says."""
        with self.failing(status):
            self.drop_watches()
            yield


def _is_named(manifest: Manifest, namespace: str, name: str) -> bool:
    metadata = manifest["metadata"]
    return bool(metadata["name"] == name and metadata.get("namespace", "") == namespace)


def _server_class(tls: ssl.SSLContext | None) -> type[RawTestServer]:
    class Listening(RawTestServer):
        async def start_server(self, loop: asyncio.AbstractEventLoop | None = None, **options: Any) -> None:
            await super().start_server(loop, ssl=tls, **options)

    return Listening
