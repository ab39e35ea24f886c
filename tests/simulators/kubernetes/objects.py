"""The objects of the Kubernetes simulator as they are read: by key, by resource, and as a history of changes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from buildkite_connector.timing.clock import Clock, SystemClock
from simulators.kubernetes.fields import (
    Manifest,
    Ownership,
)
from simulators.kubernetes.resources import (
    BUILT_IN,
    ApiError,
    Resource,
    refusal,
)

FIRST_VERSION = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history: what a watch tells. Its objects are shared: never changed in place."""

    version: int
    type: str
    resource: Resource
    manifest: Manifest
    before: Manifest | None


Key = tuple[str, str, str, str]


class Objects:
    """The objects that there are, the resources that they are of, and what changed; `Store` writes them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[Key, Manifest] = {}
        self._owners: dict[Key, Ownership] = {}
        self._moved = asyncio.Event()
        self.resources = list(BUILT_IN)
        self.history: list[Change] = []
        self.version = FIRST_VERSION
        self.oldest_version = FIRST_VERSION
        self.on_definition: Callable[[Resource], None] = lambda _: None
        self.on_definition_gone: Callable[[Resource], None] = lambda _: None

    # Reading

    def resource(self, group: str, version: str, plural: str) -> Resource:
        """The resource behind a URL; ApiError 404 when none is defined."""
        for resource in self.resources:
            if (resource.group, resource.version, resource.plural) == (group, version, plural):
                return resource
        raise ApiError(404, "NotFound", "the server could not find the requested resource")

    def resource_of_kind(self, kind: str) -> Resource:
        """The resource with this kind; LookupError names those that there are."""
        for resource in self.resources:
            if resource.kind == kind:
                return resource
        known = ", ".join(sorted(resource.kind for resource in self.resources))
        raise LookupError(f"The Kubernetes simulator knows no kind {kind}; it knows {known}. Apply its CRD first.")

    def read(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """The object as it is now, not to be changed in place; ApiError 404 when there is none."""
        try:
            return self._objects[object_key(resource, namespace, name)]
        except KeyError:
            raise refusal(404, "NotFound", resource, name, "not found") from None

    def objects(self, resource: Resource, namespace: str = "") -> list[Manifest]:
        """All objects of a resource, of one namespace or of all, in the order of their names."""
        return [
            manifest
            for key, manifest in sorted(self._objects.items(), key=lambda entry: entry[0])
            if key[:2] == (resource.group, resource.plural) and namespace in {"", key[2]}
        ]

    def has(self, resource: Resource, namespace: str, name: str) -> bool:
        """Whether there is such an object."""
        return object_key(resource, namespace, name) in self._objects

    def changes(self, since: int) -> list[Change]:
        """What came after this version, oldest first."""
        return self.history[max(since - FIRST_VERSION, 0) :]  # each version is one change

    async def moved(self) -> None:
        """Wait for the next change (or `wake`)."""
        await self._moved.wait()

    def wake(self) -> None:
        """Let all that wait in `moved` look again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def object_key(resource: Resource, namespace: str, name: str) -> Key:
    return resource.group, resource.plural, namespace, name
