"""The bench's own client of the API server: applies and changes objects, and watches what becomes of the resources."""

import asyncio
import contextlib
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from buildkite_connector.kubernetes.schema import API_VERSION, KIND, PLURAL

Manifest = dict[str, Any]
AT_ONCE = 16
"""Objects that are applied at once."""
WELL = frozenset(
    {
        *("Ready", "Valid", "SyncSucceeded", "Delivered", "Pending", "Syncing", "AwaitingSync", "AwaitingTask"),
        *("C1AwaitingSync", "C1Syncing", "C1Synced"),
    }
)
"""The reasons that a condition goes through when nothing fails."""


@dataclass(slots=True)
class Seen:
    """What was seen of one resource. Times in monotonic seconds; `writes_until_ready`: that made it Ready included.

    `failures`: reasons that no condition has when all is well. `status` is the newest.
    """

    ready_at: float | None = None
    writes_until_ready: int = 0
    writes: int = 0
    failures: set[str] = field(default_factory=set)
    status: Manifest = field(default_factory=dict)

    def take(self, status: Manifest, now: float) -> None:
        conditions = status.get("conditions", [])
        self.status = status
        self.writes += 1
        self.failures |= {each["reason"] for each in conditions} - WELL
        if self.ready_at is None and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
            self.ready_at, self.writes_until_ready = now, self.writes


class FleetCluster:
    """Made by `open_cluster`. `seen`: by the resource's name; all are in one namespace."""

    def __init__(self, client: httpx.AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.seen: dict[str, Seen] = {}
        self._changed = asyncio.Event()

    async def apply_all(self, manifests: Iterable[Manifest]) -> None:
        """By server-side apply. Raises httpx.HTTPStatusError."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def apply(manifest: Manifest) -> None:
            async with slots:
                await self._patch(manifest, "application/apply-patch+yaml", {"fieldManager": "bench", "force": "true"})

        async with asyncio.TaskGroup() as group:
            for manifest in manifests:
                group.create_task(apply(manifest))

    async def merge(self, manifest: Manifest) -> Manifest:
        """Change an object by a merge patch. Gives the object. Raises httpx.HTTPStatusError."""
        return await self._patch(manifest, "application/merge-patch+json", {})

    async def _patch(self, manifest: Manifest, kind: str, query: dict[str, str]) -> Manifest:
        plural = PLURAL if manifest["kind"] == KIND else "secrets"
        path = f"{self._collection(manifest['apiVersion'], plural)}/{manifest['metadata']['name']}"
        answer = await self._client.patch(
            path, params=query, content=json.dumps(manifest), headers={"Content-Type": kind}
        )
        return dict(answer.raise_for_status().json())

    async def events(self) -> list[Manifest]:
        answer = await self._client.get(self._collection("events.k8s.io/v1", "events"))
        return list(answer.raise_for_status().json()["items"])

    async def watch(self) -> None:
        """Take what is reported of the resources, until cancelled. Raises httpx.HTTPError."""
        path = self._collection(API_VERSION, PLURAL)
        listed = (await self._client.get(path)).raise_for_status().json()
        for each in listed["items"]:
            self.seen.setdefault(each["metadata"]["name"], Seen())
        version = listed["metadata"]["resourceVersion"]
        while True:
            query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3600"}
            async with self._client.stream("GET", path, params=query, timeout=None) as stream:
                async for line in stream.aiter_lines():
                    event = json.loads(line)
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event["object"])

    def _take(self, resource: Manifest) -> None:
        seen = self.seen.setdefault(resource["metadata"]["name"], Seen())
        status = resource.get("status", {})
        if status != seen.status:  # else only metadata or spec changed
            seen.take(status, time.monotonic())
            self._changed.set()

    async def until(self, predicate: Callable[[], bool], timeout: float) -> None:  # noqa: ASYNC109
        """Returns once it holds; it is asked whenever a status changed. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not predicate():
                self._changed.clear()
                await self._changed.wait()

    def reasons(self) -> Counter[str]:
        """What the resources say of themselves now: the reason of Ready."""
        return Counter(_ready_reason(seen.status) for seen in self.seen.values())

    def _collection(self, version: str, plural: str) -> str:
        root = "api" if version == "v1" else "apis"
        return f"/{root}/{version}/namespaces/{self._namespace}/{plural}"


def _ready_reason(status: Manifest) -> str:
    return next((each["reason"] for each in status.get("conditions", []) if each["type"] == "Ready"), "no status")


@contextlib.asynccontextmanager
async def open_cluster(url: str, tls: ssl.SSLContext, namespace: str) -> AsyncIterator[FleetCluster]:
    async with httpx.AsyncClient(base_url=url, verify=tls, timeout=60.0, trust_env=False) as client:
        yield FleetCluster(client, namespace)
