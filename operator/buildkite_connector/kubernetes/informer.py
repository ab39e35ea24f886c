"""The cache of the resources that exist: hands events to the handler, and finds what the watch does not report.

Level-triggered: the handler gets an object's whole state, as often as it changes. Three things a watch does not report:
what was deleted while it was interrupted; that it is stale, that is, that it reports nothing any more; and that the
cluster was set back, as by a restore of etcd, after which it is deaf until the versions have caught up. A regular
relist finds all three.

An object that breaks the handler is logged and costs no other object anything.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol

import kopf

from buildkite_connector.kubernetes.client import KubernetesApi, Listed, Listing, listed
from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.resource import (
    BrokenConnector,
    ObservedConnector,
    is_at_least,
    is_lower,
    read_resource,
)
from buildkite_connector.kubernetes.schema import PLURAL
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


class VersionsWentBack(Exception):  # noqa: N818
    """The cluster was set back: the watch must begin anew."""


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
        self._newest = ""
        self._broken: set[str] = set()

    def begin(self, listing: Listing) -> None:
        """A watch begins, and these objects exist. What an earlier watch reported beside them is forgotten.

        So is everything when the cluster was set back: each object is taken as a new one then.
        """
        self._handle_waiting()
        if _went_back(listing, self._newest, self._known):
            _logger.warning(
                "the cluster was set back, as by a restore of etcd: every resource begins anew",
                extra={"version": listing.version},
            )
            self.forget_all()
        self._newest = listing.version
        self._expected = {each.uid for each in listing.objects}
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
        """Relist until cancelled.

        Raises Failure when the watch is stale, VersionsWentBack, and ApiError when there is no definition.
        """
        while True:
            await asyncio.sleep(settings.relist_seconds)
            newest_before, known_before = self._newest, dict(self._known)
            try:
                listing = await api.list_connectors(settings.namespaces, settings.selector)
            except (ApiError, Failure) as error:
                if isinstance(error, ApiError) and error.status == 404:
                    raise
                _logger.warning("the resources could not be listed again", extra={"error": str(error)})
                continue
            if _went_back(listing, newest_before, known_before):
                raise VersionsWentBack
            self._note(listing.version)
            self._relist(listing, known_before.keys())

    def _handle_waiting(self) -> None:
        while not self._events.empty():
            self._handle(self._events.get_nowait())

    def _handle(self, event: kopf.RawEvent) -> None:
        body: Mapping[str, Any] = event["object"]
        try:
            seen = listed(body)
        except (LookupError, TypeError):
            _logger.exception("an object without name and uid is passed over")
            return
        self._note(seen.resource_version)
        self._expected.discard(seen.uid)
        if event["type"] == "DELETED":
            self._known.setdefault(seen.uid, seen)
            self._forget(seen)
        else:
            self._known[seen.uid] = seen
            self._observe(seen, body)
        self._check_ready()

    def _observe(self, seen: Listed, body: Mapping[str, Any]) -> None:
        try:
            self._handler.observe(read_resource(body))
        except Exception:
            if seen.uid not in self._broken:
                self._broken.add(seen.uid)
                _logger.exception(
                    "a resource could not be taken in; the others are served", extra={"connector": _name(seen)}
                )
        else:
            self._broken.discard(seen.uid)

    def _note(self, version: str) -> None:
        if not is_at_least(self._newest, version):
            self._newest = version

    def _relist(self, listing: Listing, known_before: Set[str]) -> None:
        """Forget what was known before the list was asked for and is not in it; raise Failure if the watch is stale.

        It is stale when an object still was not reported in the version that the relist before this one had.
        """
        existing = {each.uid: each for each in listing.objects}
        self._expected &= existing.keys()
        for uid in known_before - existing.keys():
            if uid in self._known:
                self._forget(self._known[uid])
        for uid, earlier in self._not_seen.items():
            if uid in existing and not self._has_seen(earlier):
                raise watch_lost(f"{earlier.namespace}/{earlier.name} changed, and the watch did not report it")
        self._not_seen = {uid: each for uid, each in existing.items() if not self._has_seen(each)}
        self._check_ready()

    def _has_seen(self, found: Listed) -> bool:
        known = self._known.get(found.uid)
        return known is not None and is_at_least(known.resource_version, found.resource_version)

    def _forget(self, gone: Listed) -> None:
        del self._known[gone.uid]
        self._broken.discard(gone.uid)
        try:
            self._handler.forget(gone.namespace, gone.name, gone.uid)
        except Exception:
            _logger.exception("a resource that is gone could not be let go", extra={"connector": _name(gone)})

    def _check_ready(self) -> None:
        if not self._expected:
            self._ready.set()


def _went_back(listing: Listing, newest: str, known: Mapping[str, Listed]) -> bool:
    """Whether the list, or an object in it, is older than what was known before it was asked for: versions only grow.

    The cluster's own version may have grown past `newest` since it was set back.
    """
    return is_lower(listing.version, newest) or any(
        each.uid in known and is_lower(each.resource_version, known[each.uid].resource_version)
        for each in listing.objects
    )


def _name(each: Listed) -> str:
    return f"{each.namespace}.{each.name}"
