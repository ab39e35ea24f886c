"""The objects of the Kubernetes simulator, and the rules that every write to them obeys.

`http` serves them, `rules` and `fields` know schemas and server-side apply. A real API server passes the same tests
(`contracts.kubernetes_api`). What the product does not use is missing: PUT, JSON Patch, generateName and finalizers.
"""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from buildkite_connector.timing.clock import Clock, SystemClock
from simulators.kubernetes.fields import (
    Manager,
    Manifest,
    Ownership,
    Path,
    fields,
    merge_patched,
    merged,
    without,
)
from simulators.kubernetes.resources import (
    BUILT_IN,
    DEFINITIONS,
    EVENTS,
    NAMESPACES,
    ApiError,
    Resource,
    conflict,
    refusal,
)
from simulators.kubernetes.rules import (
    CLIENT_METADATA,
    check_declared,
    check_event,
    check_identity,
    ownable,
    settled,
    specified,
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


@dataclass(frozen=True, slots=True)
class Backup:
    """A snapshot of a store."""

    objects: dict[Key, Manifest]
    owners: dict[Key, Ownership]
    history: tuple[Change, ...]
    version: int


class Store:
    """Objects by resource, namespace and name, each write with a version of its own, and their history."""

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
        for name in ("default", "kube-system"):
            self.create(NAMESPACES, "", {"metadata": {"name": name}}, Manager("kube-apiserver", False, ""))

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

    # Writing

    def create(self, resource: Resource, namespace: str, manifest: Manifest, manager: Manager) -> Manifest:
        """Create an object; its namespace, where it has one, must exist."""
        metadata = manifest.get("metadata") or {}
        name = metadata["name"]
        key = object_key(resource, namespace, name)
        if key in self._objects:
            raise refusal(409, "AlreadyExists", resource, name, "already exists")
        check_identity(resource, namespace, name, manifest)
        if resource == EVENTS:
            check_event(name, manifest)
        if resource.namespaced:
            self.read(NAMESPACES, "", namespace)
        identity = {"name": name} | ({"namespace": namespace} if resource.namespaced else {})
        created: Manifest = {"uid": str(uuid4()), "creationTimestamp": self._timestamp()}
        if resource.custom:
            created["generation"] = 1
        new = settled(resource, manifest)
        if resource.status_subresource:
            new.pop("status", None)
        kept = {name: value for name, value in metadata.items() if name in CLIENT_METADATA and value}
        new["metadata"] = identity | created | kept
        if resource == NAMESPACES:
            new["status"] = {"phase": "Active"}
        self._owners[key] = Ownership()
        stored = self._store("ADDED", resource, key, new)
        self._record_owner(key, manager, resource, {}, stored, applied=ownable(resource, manifest, ""))
        if resource == DEFINITIONS:
            stored = self._define(key, stored)
        return stored

    def merge(self, resource: Resource, key_name: tuple[str, str], patch: Any, manager: Manager) -> Manifest:
        """Change an object, or its status, by an RFC 7396 merge patch."""
        current = self.read(resource, *key_name)
        return self._update(resource, current, merge_patched(current, patch), manager)

    def apply(
        self, resource: Resource, key_name: tuple[str, str], manifest: Manifest, manager: Manager, *, force: bool
    ) -> Manifest:
        """Server-side apply, of an object or its status; `force` takes over fields that others own."""
        namespace, name = key_name
        key = object_key(resource, namespace, name)
        if key not in self._objects and not manager.subresource:
            check_declared(resource, manifest)
            return self.create(
                resource,
                namespace,
                {**manifest, "metadata": {**(manifest.get("metadata") or {}), "name": name}},
                manager,
            )
        current, owners = self.read(resource, namespace, name), self._owners[key]
        check_identity(resource, namespace, name, manifest)
        check_declared(resource, manifest)
        wanted = ownable(resource, manifest, manager.subresource)
        live = ownable(resource, current, manager.subresource)
        wanted_fields, live_fields = fields(wanted, resource.schema), fields(live, resource.schema)
        if not force and (others := owners.conflicts(manager, live_fields, wanted_fields)):
            named = ", ".join(sorted(others))
            raise ApiError(409, "Conflict", f"Apply failed with 1 conflict: conflict with {named}")
        abandoned = owners.abandoned(manager, wanted_fields)
        result = without(merged(live, wanted, resource.schema), abandoned, resource.schema)
        version = (manifest.get("metadata") or {}).get("resourceVersion")
        if version:
            result.setdefault("metadata", {})["resourceVersion"] = version
        return self._update(resource, current, result, manager, applied=wanted)

    def delete(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """Delete an object, a namespace with all that is in it. Returns its last state."""
        current = self.read(resource, namespace, name)
        if resource == DEFINITIONS:
            self._undefine(Resource.defined_by(current))
        if resource == NAMESPACES:
            self._empty(name)
        return self._store("DELETED", resource, object_key(resource, namespace, name), current)

    def forget_history(self) -> None:
        """What etcd's compaction does: a watch from an older version is told 410 Gone."""
        self.oldest_version = self.version

    def backup(self) -> "Backup":
        """Everything there is, as a snapshot of etcd has it."""
        return Backup(copy.deepcopy(self._objects), copy.deepcopy(self._owners), tuple(self.history), self.version)

    def restore(self, backup: "Backup") -> None:
        """Everything as it was at the backup, versions included."""
        self._objects, self._owners = copy.deepcopy(backup.objects), copy.deepcopy(backup.owners)
        self.history, self.version = list(backup.history), backup.version
        self.wake()

    # What every update obeys

    def _update(
        self,
        resource: Resource,
        current: Manifest,
        wanted: Manifest,
        manager: Manager,
        *,
        applied: Manifest | None = None,
    ) -> Manifest:
        metadata = current["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace", "")
        sent = wanted.get("metadata") or {}
        for precondition in ("resourceVersion", "uid"):
            if sent.get(precondition) and sent[precondition] != metadata[precondition]:
                problem = "the object has been modified; please apply your changes to the latest version and try again"
                raise conflict(resource, name, problem)
        candidate = settled(resource, wanted)
        if manager.subresource:
            new = {**current, "status": candidate.get("status")}
        else:
            kept = {key: value for key, value in metadata.items() if key not in CLIENT_METADATA}
            new = {**candidate, "metadata": kept | {key: sent[key] for key in CLIENT_METADATA if sent.get(key)}}
            if resource.status_subresource:
                new["status"] = current.get("status")
        new = {key: value for key, value in new.items() if value is not None}
        key = object_key(resource, namespace, name)
        owners_changed = self._record_owner(key, manager, resource, current, new, applied=applied)
        if new != current or owners_changed:
            if "generation" in metadata and specified(resource, new) != specified(resource, current):
                new["metadata"] = {**new["metadata"], "generation": metadata["generation"] + 1}
            new = self._store("MODIFIED", resource, key, new)
        if resource == DEFINITIONS:
            return self._define(key, new)
        return new

    def _store(self, kind: str, resource: Resource, key: Key, manifest: Manifest) -> Manifest:
        self.version += 1
        metadata = {**manifest["metadata"], "resourceVersion": str(self.version)}
        stored = {**manifest, "metadata": metadata}
        before = self._objects.get(key)
        if kind == "DELETED":
            del self._objects[key], self._owners[key]
        else:
            self._objects[key] = stored
        self.history.append(Change(self.version, kind, resource, stored, before))
        self.wake()
        return stored

    def _record_owner(
        self,
        key: Key,
        manager: Manager,
        resource: Resource,
        before: Manifest,
        after: Manifest,
        *,
        applied: Manifest | None,
    ) -> bool:
        old, new = (fields(ownable(resource, state, None), resource.schema) for state in (before, after))
        paths: set[Path] = set(fields(applied, resource.schema)) if applied else set()
        return self._owners[key].record(manager, old, new, applied=paths)

    def _empty(self, namespace: str) -> None:
        for resource in list(self.resources):
            if resource.namespaced:
                for manifest in self.objects(resource, namespace):
                    self.delete(resource, namespace, manifest["metadata"]["name"])

    def _define(self, key: Key, crd: Manifest) -> Manifest:
        resource = Resource.defined_by(crd)
        self.resources = [
            known for known in self.resources if (known.group, known.plural) != (resource.group, resource.plural)
        ]
        self.resources.append(resource)
        self.on_definition(resource)
        if "status" in crd:
            return crd
        established = {"conditions": [{"type": name, "status": "True"} for name in ("NamesAccepted", "Established")]}
        return self._store("MODIFIED", DEFINITIONS, key, {**crd, "status": established})

    def _undefine(self, resource: Resource) -> None:
        """Its objects go first, as a watch tells; then nothing of it is served. (A real server takes its time.)"""
        for manifest in self.objects(resource):
            self._store(
                "DELETED",
                resource,
                object_key(resource, manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]),
                manifest,
            )
        self.resources.remove(resource)
        self.on_definition_gone(resource)

    def _timestamp(self) -> str:
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def object_key(resource: Resource, namespace: str, name: str) -> Key:
    return resource.group, resource.plural, namespace, name
