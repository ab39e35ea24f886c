"""A watch that runs, what it told, and what it logged."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.handlers import operate
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.kubernetes.schema import (
    API_VERSION,
    GROUP,
    KIND,
    PLURAL,
    SYNC_REQUESTED_AT,
)
from buildkite_connector.kubernetes.watch import Pulse
from simulators.kubernetes.server import KubernetesSimulator

DEADLINE = 20.0


class EventHandler:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.there: dict[str, ObservedResource] = {}
        self.forgotten: list[tuple[str, str, str]] = []
        self.observations = 0
        self.broken: set[str] = set()
        self._told = asyncio.Event()

    def observe(self, resource: ObservedResource) -> None:
        if resource.name in self.broken:
            raise RuntimeError("a bug")
        self.there[resource.key] = resource
        self.observations += 1
        self._told.set()

    def forget(self, namespace: str, name: str, uid: str) -> None:
        self.there.pop(f"{namespace}.{name}", None)
        self.forgotten.append((namespace, name, uid))
        self._told.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                self._told.clear()
                await self._told.wait()

    def request(self, key: str) -> str | None:
        seen = self.there.get(key)
        return seen.sync_request if seen is not None else None


async def _nothing() -> None: ...


class Watching:
    """A watch under way, and how to start one."""

    def __init__(self, hub: EventHandler, api: KubernetesApi) -> None:
        self._api = api
        self.ready = asyncio.Event()
        self.informer = Informer(hub.observe, hub.forget, self.ready)
        self.ended = 0
        self.ending: Callable[[], Awaitable[None]] = _nothing

    def begin(self, settings: WatchSettings | None = None) -> asyncio.Task[None]:
        watch = settings or WatchSettings()
        return asyncio.create_task(operate(self._api, self.informer, watch, Pulse(), self._end))

    async def _end(self) -> None:
        await self.ending()
        self.ended += 1

    async def until_ready(self, task: asyncio.Task[None]) -> None:
        becoming = asyncio.create_task(self.ready.wait())
        await asyncio.wait((task, becoming), timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        becoming.cancel()
        assert self.ready.is_set(), task

    @asynccontextmanager
    async def running(self, settings: WatchSettings | None = None) -> AsyncIterator[None]:
        task = self.begin(settings)
        try:
            await self.until_ready(task)
            yield
        finally:
            await stop(task)


async def stop(task: asyncio.Task[None], seconds: float = DEADLINE) -> None:
    """End it by a signal, as the kubelet does."""
    if not task.done():
        os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(seconds):
        await asyncio.shield(task)


NAME = f"{PLURAL}.{GROUP}"


def severe(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning or worse, but by the simulator's server; none of it may carry a traceback."""
    found = [each for each in caplog.records if each.levelno >= logging.WARNING and each.name != "aiohttp.server"]
    assert [each.getMessage() for each in found if each.exc_info] == []
    return [each.getMessage() for each in found]


async def until_logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(DEADLINE):
        while text not in caplog.text:  # noqa: ASYNC110 - the log gives no event
            await asyncio.sleep(0.01)


def asked(simulator: KubernetesSimulator) -> int:
    """How often the resources were listed or watched."""
    return sum(each.path.endswith(PLURAL) for each in simulator.transcript)


def apply(
    simulator: KubernetesSimulator, name: str = "acme", namespace: str = "default", request: str = "", tier: str = ""
) -> str:
    """Make or change a resource; returns its uid."""
    labels, annotations = {"tier": tier}, {SYNC_REQUESTED_AT: request}
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "spec": {"credentialsSecretRef": {"name": "s"}},
    }
    uid: str = simulator.apply(manifest)["metadata"]["uid"]
    return uid
