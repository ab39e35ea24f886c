"""The operator's calls to the Kubernetes API: Secrets, statuses, events and lists."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from buildkite_connector.kubernetes.access import ClientConfig
from buildkite_connector.kubernetes.connection import UNKNOWN_FIELD, ApiError, Connection, always
from buildkite_connector.kubernetes.event_writer import EventWriter
from buildkite_connector.kubernetes.lease import LeaseClient
from buildkite_connector.kubernetes.resource import ObservedResource, is_at_least
from buildkite_connector.kubernetes.schema import API_VERSION, FIELD_MANAGER, GROUP, KIND, PLURAL, VERSION
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.schema.status_json import status_to_json
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.timing.clock import Clock

_API = f"/apis/{GROUP}/{VERSION}"
_OBJECTS = f"{_API}/namespaces/{{namespace}}/{PLURAL}"
_OBJECT = f"{_OBJECTS}/{{name}}"
_PAGE = "500"
_CONFLICTS = 3

_logger = logging.getLogger(__name__)


class Written(Enum):
    """The result of writing a status: written, unchanged, or the object is gone."""

    WRITTEN = auto()
    UNCHANGED = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Listed:
    """The identity and version of an existing object."""

    namespace: str
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects at one moment. `version`: the cluster's resource version then, "" where it is not known."""

    objects: tuple[Listed, ...] = ()
    version: str = ""


@dataclass(slots=True)
class AppliedStatus:
    """The status of one object as this process last wrote it. The writer keeps it."""

    version: str | None = None
    content: dict[str, Any] | None = None


class KubernetesApi:
    """Made by `connect`, for one event loop. Statuses of one object are written one after the other."""

    def __init__(self, connection: Connection, events: EventWriter, schema: ServedSchema | None = None) -> None:
        self.schema = schema or ServedSchema()
        self.connection = connection
        self.post_event = events.post
        self.drain_events = events.drain

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """A Secret's data: values in base64 by key. Raises ApiError and Failure, neither with a value in it."""
        if not name:
            raise ValueError("a Secret without a name would be all Secrets of the namespace")
        path = "/api/v1/namespaces/{namespace}/secrets/{name}"
        return await self.connection.call(
            "read a Secret", "GET", path, _secret_data, for_connector=True, namespace=namespace, name=name
        )

    async def look_at_schema(self) -> None:
        """Read the schema by which the cluster serves the resource. An error changes nothing."""
        try:
            await self.connection.call("read the resource's schema", "GET", f"/openapi/v3{_API}", self.schema.learn)
        except (ApiError, Failure) as error:
            _logger.debug("the schema of the resource cannot be read", extra={"error": str(error)})

    def leases(self, namespace: str, name: str) -> LeaseClient:
        """The Lease of this name."""
        return LeaseClient(self.connection, namespace, name)

    async def list_connectors(self, namespaces: tuple[str, ...], selector: str = "") -> Listing:
        """Every resource that `selector` (of labels) matches, in these namespaces or (none given) in all.

        Raises ApiError and Failure.
        """
        found: list[Listed] = []
        version = ""
        for namespace in namespaces or ("",):
            query = {"limit": _PAGE, **({"labelSelector": selector} if selector else {})}
            while True:
                objects, listed_at, token = await self.connection.call(
                    "list resources",
                    "GET",
                    _OBJECTS if namespace else f"{_API}/{PLURAL}",
                    _page,
                    query=query,
                    accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
                    namespace=namespace,
                )
                found += objects
                version = version or listed_at
                if not token:
                    break
                query["continue"] = token
        return Listing(tuple(found), version)

    async def apply_status(
        self, resource: ObservedResource, status: ConnectorStatus, applied: AppliedStatus | None = None
    ) -> Written:
        """Write the status by server-side apply, unless it is unchanged.

        `applied` remembers the write for the next call, as the watch may lag behind it. Conditions merge by type: those
        of other managers stay. A field that an older CRD lacks is left out. Raises Failure when it could not be
        written.
        """
        applied = applied or AppliedStatus()
        version, current = applied.version, applied.content
        if current is None or is_at_least(resource.resource_version, version):
            version = resource.resource_version
            current = None if resource.status is None else self.schema.fit(status_to_json(resource.status))
        desired = self.schema.fit(status_to_json(status))
        if current == desired:
            return Written.UNCHANGED
        names = {"namespace": resource.namespace, "name": resource.name}
        for _ in range(_CONFLICTS):
            # The version ensures that it is still the same object: the API server ignores a uid in a status.
            metadata = {**names, **({} if version is None else {"resourceVersion": version})}
            try:
                version = await self.connection.call(
                    "write a status",
                    "PATCH",
                    f"{_OBJECT}/status",
                    lambda written: written["metadata"].get("resourceVersion"),
                    for_connector=True,
                    query={"fieldManager": FIELD_MANAGER, "force": "true"},
                    body={"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": desired},
                    content_type="application/apply-patch+yaml",
                    **names,
                )
            except ApiError as rejected:
                if UNKNOWN_FIELD in rejected.message:
                    await self.look_at_schema()
                    whole, desired = desired, self.schema.fit(desired)
                    if desired != whole:
                        continue
                    self.schema.rejected()
                if rejected.status == 409:
                    version = await self._version_of(resource)
                    if version is not None:
                        continue
                gone = rejected.status == 404 and f'"{resource.name}" not found' in rejected.message
                if gone or rejected.status == 409:  # another 404 is an API server that does not serve the CRD now
                    return Written.GONE
                raise self._not_written(resource, rejected) from None
            self.schema.accepted()
            applied.version, applied.content = version, desired
            return Written.WRITTEN
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"The status of {resource.namespace}/{resource.name} changes faster than it can be written.",
        )

    async def _version_of(self, resource: ObservedResource) -> str | None:
        """The object's version now; None when it is gone, or another has its name."""
        try:
            there = await self.connection.call(
                "read a resource",
                "GET",
                _OBJECT,
                listed,
                for_connector=True,
                namespace=resource.namespace,
                name=resource.name,
            )
        except ApiError as rejected:
            if rejected.status == 404:
                return None
            raise self._not_written(resource, rejected) from None
        return there.resource_version if there.uid == resource.uid else None

    def _not_written(self, resource: ObservedResource, rejected: ApiError) -> Failure:
        advice = (
            "Apply the crds/ of this version."
            if UNKNOWN_FIELD in rejected.message
            else "Give the operator's service account the verbs get on buildkiteconnectors and patch on"
            " buildkiteconnectors/status."
        )
        return Failure(
            Reason.KUBERNETES_REFUSED,
            f"The status of {resource.namespace}/{resource.name} was refused: {rejected}. {advice}",
        )


@asynccontextmanager
async def connect(
    login: ClientConfig,
    clock: Clock,
    instance: str,
    request_seconds: float = 15.0,
    *,
    may_act: Callable[[], None] = always,
    schema: ServedSchema | None = None,
) -> AsyncIterator[KubernetesApi]:
    """The API that `login` leads to. `instance` is this process's name in events; for `may_act` see `Connection`.

    Raises Failure.
    """
    connection = Connection(login, await login.load(), request_seconds, may_act)
    try:
        events = EventWriter(connection, clock, instance)
        async with events.posting():
            yield KubernetesApi(connection, events, schema)
    finally:
        await connection.close()


def listed(body: Any) -> Listed:
    """Read an object's identity from its JSON. Raises LookupError, TypeError or AttributeError for another shape."""
    metadata = body["metadata"]
    return Listed(metadata["namespace"], metadata["name"], metadata["uid"], metadata.get("resourceVersion") or "")


def _page(page: Any) -> tuple[list[Listed], str, str]:
    """The objects, the version of the list, and the token of the next page ("" after the last)."""
    metadata = page.get("metadata") or {}
    objects = [listed(item) for item in page["items"] or ()]  # null when empty
    return objects, metadata.get("resourceVersion") or "", metadata.get("continue") or ""


def _secret_data(secret: Any) -> dict[str, str]:
    data = secret.get("data") or {}
    if not all(isinstance(value, str) for value in data.values()):
        raise TypeError("a value of the Secret is not text")
    return dict(data)
