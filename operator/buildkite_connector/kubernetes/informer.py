"""The cache of the resources that exist: hands events to the controller, and finds what the watch does not report.

Level-triggered: the controller gets an object's whole state, as often as it changes. A watch does not report three
things: deletions while it was interrupted; that it is stale and reports nothing any more; and a restore of etcd, after
which it reports nothing until the resource versions have caught up. A regular relist finds all three.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import kopf

from buildkite_connector.kubernetes.client import KubernetesApi, Listed, Listing, listed
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.resource import (
    ObservedResource,
    is_at_least,
    is_lower,
    read_resource,
)
from buildkite_connector.kubernetes.schema import PLURAL
from buildkite_connector.model.failure import Failure, Reason

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """`namespaces` empty: all of the cluster. `selector`: of labels, as kubectl has it; a resource that it does not
    match, or not any more, does not exist for this process. Times in seconds."""

    namespaces: tuple[str, ...] = ()
    selector: str = ""
    relist_seconds: float = 300.0
    poll_seconds: float = 5.0


class Informer:
    """`ready` is set once every object of the first relist, which follows kopf's own list, was seen.

    `observe` gets an object in its current state; it may be known already, or unchanged. `forget` gets the namespace,
    name and uid of one that does not exist any more; a new one may have its name already. Neither may take long.
    """

    def __init__(
        self,
        observe: Callable[[ObservedResource], None],
        forget: Callable[[str, str, str], None],
        ready: asyncio.Event,
    ) -> None:
        self._observe = observe
        self._on_forgotten = forget
        self._ready = ready
        self._expected: set[str] | None = None
        self._known: dict[str, Listed] = {}
        self._not_seen: dict[str, tuple[Listed, float]] = {}
        self._newest = ""
        self._gone: set[str] | None = None
        self._relist_due = asyncio.Event()
        self._news = asyncio.Event()

    def on_event(self, event: kopf.RawEvent) -> None:
        """Hand an event of the watch to the controller. kopf logs what this raises, and goes on."""
        body: Mapping[str, Any] = event["object"]
        seen = listed(body)
        if not is_at_least(self._newest, seen.resource_version):
            self._newest = seen.resource_version
        if self._expected is not None:
            self._expected.discard(seen.uid)
        self._known[seen.uid] = seen
        if event["type"] == "DELETED":
            self._forget(seen)
        self._wake()
        if event["type"] != "DELETED":  # at the end, as it may raise
            self._observe(read_resource(body))

    def forget_all(self) -> None:
        """The CRD is gone and its objects with it: forget them."""
        for known in list(self._known.values()):
            self._forget(known)
        self._not_seen = {}
        self._wake()

    def relist_soon(self) -> None:
        """kopf has listed the objects again: some may have been deleted while its watch was interrupted."""
        self._relist_due.set()

    async def relist_regularly(
        self, api: KubernetesApi, settings: WatchSettings, begin_anew: Callable[[], None]
    ) -> None:
        """Relist until cancelled. `begin_anew` makes kopf list all objects and report them again.

        Raises Failure when the watch is stale.
        """
        failed = False
        while True:
            try:
                async with asyncio.timeout(settings.relist_seconds):
                    await self._relist_due.wait()
            except TimeoutError:
                pass
            self._relist_due.clear()
            newest_before, known_before = self._newest, dict(self._known)
            try:
                listing = await api.list_connectors(settings.namespaces, settings.selector)
            except (ApiError, Failure) as error:
                ready = self._ready.is_set()
                if ready and isinstance(error, ApiError) and error.status == 404:
                    begin_anew()  # whether the CRD is gone is then found by kopf's own list
                    continue
                if ready and not failed:
                    _logger.warning("the resources could not be listed again", extra={"error": str(error)})
                failed = ready
                await asyncio.sleep(settings.poll_seconds)
                self._relist_due.set()
                continue
            failed = False
            if _went_back(listing, newest_before, known_before):
                _logger.warning(
                    "the cluster was set back, as by a restore of etcd: every resource starts again",
                    extra={"version": listing.version},
                )
                self.forget_all()
                self._newest = listing.version
                begin_anew()
                continue
            if not is_at_least(self._newest, listing.version):
                self._newest = listing.version
            self._relist(listing, known_before.keys(), settings.relist_seconds)

    async def catch_up(self, list_now: Callable[[], Awaitable[Listing]], seconds: float) -> bool:
        """Whether all that is listed now was seen, in that version or a newer one, within `seconds`.

        A new leader waits for this, as a standby's watch may be behind: begun from an older status, a connector would
        sync again what the former leader synced. Raises what `list_now` raises.
        """
        self._gone = set()
        try:
            async with asyncio.timeout(seconds):
                waiting: Iterable[Listed] = (await list_now()).objects
                while waiting := [each for each in waiting if each.uid not in self._gone and not self._has_seen(each)]:
                    await self._news.wait()
        except TimeoutError:
            return False
        finally:
            self._gone = None
        return True

    def _relist(self, listing: Listing, known_before: Set[str], longest: float) -> None:
        """Forget what was known before the list was asked for and is not in it; raise Failure if the watch is stale.

        It is stale when the version of an object that a list had `longest` seconds ago is still not reported.
        """
        existing = {each.uid: each for each in listing.objects}
        if self._expected is None:
            self._expected = {uid for uid, each in existing.items() if uid not in self._known}
        self._expected &= existing.keys()
        for uid in known_before - existing.keys():
            if uid in self._known:
                self._forget(self._known[uid])
        now, before = asyncio.get_running_loop().time(), self._not_seen
        self._not_seen = {}
        for uid, each in existing.items():
            earlier, since = before.get(uid, (each, now))
            if self._has_seen(earlier):
                earlier, since = each, now
            if self._has_seen(earlier):
                continue
            if now - since >= longest:
                raise watch_lost(f"{each.namespace}/{each.name} changed, and the watch did not report it")
            self._not_seen[uid] = (earlier, since)
        self._wake()

    def _has_seen(self, found: Listed) -> bool:
        known = self._known.get(found.uid)
        return known is not None and is_at_least(known.resource_version, found.resource_version)

    def _forget(self, gone: Listed) -> None:
        del self._known[gone.uid]
        if self._gone is not None:
            self._gone.add(gone.uid)
        self._on_forgotten(gone.namespace, gone.name, gone.uid)

    def _wake(self) -> None:
        """Wake what waits for the informer to have seen something."""
        if self._expected is not None and not self._expected:
            self._ready.set()
        self._news.set()
        self._news = asyncio.Event()


def watch_lost(why: str) -> Failure:
    return Failure(Reason.KUBERNETES_UNAVAILABLE, f"The watch of {PLURAL} is lost, the operator must restart: {why}")


def _went_back(listing: Listing, newest: str, known: Mapping[str, Listed]) -> bool:
    """Whether the list, or an object in it, is older than what was known before it was asked for: versions only grow.

    The cluster's own version may have grown past `newest` since it was set back.
    """
    return is_lower(listing.version, newest) or any(
        each.uid in known and is_lower(each.resource_version, known[each.uid].resource_version)
        for each in listing.objects
    )
