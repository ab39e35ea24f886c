"""The cache of the resources that exist: hands events to the handler, and finds what the watch does not report.

Level-triggered: the handler gets an object's whole state, as often as it changes. Two things a watch does not report:
what was deleted while it was interrupted, and that it is stale, that is, that it reports nothing any more. A regular
relist finds both.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import kopf

from buildkite_connector.kubernetes.client import KubernetesApi, Listed, is_at_least
from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector, read_resource
from buildkite_connector.kubernetes.schema.names import PLURAL
from buildkite_connector.model.failure import Failure, Reason

_logger = logging.getLogger(__name__)


class EventHandler(Protocol):
    """Receives what happens to resources, in the event loop of `Informer.run`. Neither method may take long."""

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        """An object as it is now; often one that is known already, and sometimes unchanged."""
        ...

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """The object does not exist any more. A new one may have its name already: the uid tells them apart."""
        ...


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """`namespaces` empty: all of the cluster. `selector`: of labels, as kubectl has it; a resource that it does not
    match, or not any more, does not exist for this process. Times in seconds."""

    namespaces: tuple[str, ...] = ()
    selector: str = ""
    request_seconds: float = 30.0
    connect_seconds: float = 10.0
    stream_seconds: int = 600
    relist_seconds: float = 300.0
    poll_seconds: float = 5.0


class Pulse:
    """When the watch was last seen alive, in monotonic seconds; set by kopf's thread, read by the process's."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def beat(self) -> None:
        self.last = time.monotonic()


def watch_lost(why: str) -> Failure:
    return Failure(Reason.KUBERNETES_UNAVAILABLE, f"The watch of {PLURAL} is lost, the operator must start anew: {why}")


class Informer:
    """Made in the event loop that `run` and the handler run in. `ready` is set once all expected objects were seen."""

    def __init__(self, handler: EventHandler, ready: asyncio.Event, pulse: Pulse | None = None) -> None:
        self.pulse = pulse or Pulse()
        self._handler = handler
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[kopf.RawEvent] = asyncio.Queue()
        self._expected: set[str] = set()
        self._known: dict[str, Listed] = {}
        self._not_seen: dict[str, Listed] = {}

    def begin(self, listed: Iterable[Listed]) -> None:
        """A watch begins, and these objects exist. What an earlier watch reported beside them is forgotten."""
        self._handle_waiting()
        self._expected = {each.uid for each in listed}
        for uid in self._known.keys() - self._expected:
            self._forget(self._known[uid])
        self._not_seen = {}
        self._check_ready()

    def on_event(self, event: kopf.RawEvent) -> None:
        """Called in kopf's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def run(self) -> None:
        """Hand events to the handler until cancelled."""
        while True:
            self._handle(await self._events.get())

    def forget_all(self) -> None:
        """The definition is not there, and no object is without it."""
        self._handle_waiting()
        for known in list(self._known.values()):
            self._forget(known)

    async def relist_regularly(self, api: KubernetesApi, settings: WatchSettings) -> None:
        """Relist until cancelled. Raises Failure when the watch is stale, ApiError when there is no definition."""
        while True:
            await asyncio.sleep(settings.relist_seconds)
            known_before = frozenset(self._known)
            try:
                listed = await api.list_connectors(settings.namespaces, settings.selector)
            except (ApiError, Failure) as error:
                if isinstance(error, ApiError) and error.status == 404:
                    raise
                _logger.warning("the resources could not be listed again", extra={"error": str(error)})
                continue
            self._relist(listed, known_before)

    def _handle_waiting(self) -> None:
        while not self._events.empty():
            self._handle(self._events.get_nowait())

    def _handle(self, event: kopf.RawEvent) -> None:
        body: Mapping[str, Any] = event["object"]
        metadata = body["metadata"]
        seen = Listed(metadata["namespace"], metadata["name"], metadata["uid"], metadata.get("resourceVersion", ""))
        self._expected.discard(seen.uid)
        if event["type"] == "DELETED":
            self._known.setdefault(seen.uid, seen)
            self._forget(seen)
        else:
            self._known[seen.uid] = seen
            self._handler.observe(read_resource(body))
        self._check_ready()

    def _relist(self, listed: Iterable[Listed], known_before: frozenset[str]) -> None:
        """Forget what was known before the list was asked for and is not in it; raise Failure if the watch is stale.

        It is stale when an object still was not reported in the version that the relist before this one had.
        """
        existing = {each.uid: each for each in listed}
        self._expected &= existing.keys()
        for uid in known_before - existing.keys():
            if uid in self._known:
                self._forget(self._known[uid])
        for uid, earlier in self._not_seen.items():
            if uid in existing and not self._has_seen(earlier):
                raise watch_lost(f"{earlier.namespace}/{earlier.name} changed, and the watch did not report it")
        self._not_seen = {uid: each for uid, each in existing.items() if not self._has_seen(each)}
        self._check_ready()

    def _has_seen(self, listed: Listed) -> bool:
        known = self._known.get(listed.uid)
        return known is not None and is_at_least(known.resource_version, listed.resource_version)

    def _forget(self, gone: Listed) -> None:
        del self._known[gone.uid]
        self._handler.forget(gone.namespace, gone.name, gone.uid)

    def _check_ready(self) -> None:
        if not self._expected:
            self._ready.set()
