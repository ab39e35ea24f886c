"""Which version of each resource this process has seen: a new leader waits until it has seen the newest of each.

A standby's watch may be behind. Begun from an older status, a connector would sync again what the former leader
synced.
"""

import asyncio
from collections.abc import Awaitable, Callable

from buildkite_connector.kubernetes.client import Listed, Listing
from buildkite_connector.kubernetes.informer import EventHandler
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector, is_at_least


class Sightings:
    """Hands everything on to `handler`, and remembers it."""

    def __init__(self, handler: EventHandler) -> None:
        self._handler = handler
        self._versions: dict[str, str] = {}
        self._gone: set[str] = set()
        self._news = asyncio.Event()

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        self._versions[resource.uid] = resource.resource_version or ""
        self._tell()
        self._handler.observe(resource)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        self._versions.pop(uid, None)
        self._gone.add(uid)
        self._tell()
        self._handler.forget(namespace, name, uid)

    async def catch_up(self, list_now: Callable[[], Awaitable[Listing]], seconds: float) -> bool:
        """Whether all that is listed now was seen, in that version or a newer one, within `seconds`.

        Raises what `list_now` raises.
        """
        self._gone.clear()
        try:
            async with asyncio.timeout(seconds):
                waiting = list((await list_now()).objects)
                while waiting := [each for each in waiting if not self._has_seen(each)]:
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _has_seen(self, listed: Listed) -> bool:
        version = self._versions.get(listed.uid)
        return listed.uid in self._gone or (version is not None and is_at_least(version, listed.resource_version))

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
