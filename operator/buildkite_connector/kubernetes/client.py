"""The few calls that the operator makes to the Kubernetes API: Secrets, statuses, events, and what exists."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from kubernetes.aio.client import (
    ApiException,
    ApisApi,
    CustomObjectsApi,
)

from buildkite_connector.kubernetes.client_config import ClientConfig
from buildkite_connector.kubernetes.event_writer import EventWriter
from buildkite_connector.kubernetes.events import EventDraft
from buildkite_connector.kubernetes.lease import LeaseClient
from buildkite_connector.kubernetes.requests import (
    UNKNOWN_FIELD,
    ApiError,
    Connection,
    always,
    open_connection,
)
from buildkite_connector.kubernetes.resource import ObservedResource, is_at_least
from buildkite_connector.kubernetes.schema.names import API_VERSION, FIELD_MANAGER, GROUP, KIND, PLURAL, VERSION
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.schema.status_json import status_to_json
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.timing.clock import Clock

_APPLY = "application/apply-patch+yaml"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_PAGE = 500
_CONFLICTS = 3

_logger = logging.getLogger(__name__)


class Written(Enum):
    """What became of a status: written, not needed, or its object is there no more."""

    WRITTEN = auto()
    UNCHANGED = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Listed:
    """An object that exists, by what tells it apart."""

    namespace: str
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Every object that there was at some moment. `version`: the cluster's at that time, "" where it is not known."""

    objects: tuple[Listed, ...] = ()
    version: str = ""


class KubernetesApi:
    """Made by `connect`, for one event loop. Statuses of one object are written one after the other."""

    def __init__(self, connection: Connection, clock: Clock, instance: str, schema: ServedSchema | None = None) -> None:
        self.schema = schema or ServedSchema()
        self._connection = connection
        self._objects = CustomObjectsApi(connection.client)
        self._written: dict[str, tuple[str | None, dict[str, Any]]] = {}
        self._event_writer = EventWriter(connection, clock, instance)

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """A Secret's data: values in base64 by key. Raises ApiError and Failure, neither with a value in it."""

        async def send() -> Mapping[str, str]:
            # Without the typed model, whose errors would repeat the values, and without CoreV1Api, for whose models
            # every start of the operator would take another second of processor time.
            client = self._connection.client
            request = await client.param_serialize(
                "GET",
                "/api/v1/namespaces/{namespace}/secrets/{name}",
                path_params={"namespace": namespace, "name": name},
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
            answer = await client.call_api(
                *request, _preload_content=False, _request_timeout=self._connection.request_seconds
            )
            response = answer.response
            body = await response.read()
            if response.status >= 400:
                text = body.decode(errors="replace")
                refused = ApiException(status=response.status, reason=response.reason, body=text)
                refused.headers = response.headers
                raise refused
            return _secret_data(body)

        return await self._connection.call_in_turn("read a Secret", send)

    async def look_at_schema(self) -> None:
        """Learn by which schema the cluster serves the resource. What cannot be read now changes nothing."""

        async def send() -> None:
            client = self._connection.client
            request = await client.param_serialize(
                "GET",
                f"/openapi/v3/apis/{GROUP}/{VERSION}",
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
            answer = await client.call_api(
                *request, _preload_content=False, _request_timeout=self._connection.request_seconds
            )
            body = await answer.response.read()
            if answer.response.status == 200:
                self.schema.learn(json.loads(body))

        try:
            await self._connection.call("read the resource's schema", send)
        except (ApiError, Failure) as error:
            _logger.debug("the schema of the resource cannot be read", extra={"error": str(error)})

    def leases(self, namespace: str, name: str) -> LeaseClient:
        """The Lease of this name."""
        return LeaseClient(self._connection, namespace, name)

    async def list_connectors(self, namespaces: tuple[str, ...], selector: str = "") -> Listing:
        """Every resource that `selector` (of labels) matches, in these namespaces or (none given) in all.

        Raises ApiError and Failure.
        """
        found: list[Listed] = []
        version = ""
        for namespace in namespaces or (None,):
            token: str | None = None
            while token != "":
                page, token, listed_at = await self._list_page(namespace, token, selector)
                found += page
                version = version or listed_at
        return Listing(tuple(found), version)

    async def is_discoverable(self) -> bool:
        """Whether discovery names the resource, as kopf needs it; after a change of definitions it lags behind lists.

        Raises ApiError and Failure.
        """
        options: dict[str, Any] = {"_request_timeout": self._connection.request_seconds}
        groups = await self._connection.call(
            "read the API groups", lambda: ApisApi(self._connection.client).get_api_versions(**options)
        )
        if GROUP not in {group.name for group in groups.groups}:
            return False
        try:
            found = await self._connection.call(
                f"read the resources of {GROUP}", lambda: self._objects.get_api_resources(GROUP, VERSION, **options)
            )
        except ApiError as refused:
            if refused.status == 404:
                return False
            raise
        return PLURAL in {resource.name for resource in found.resources}

    async def apply_status(self, resource: ObservedResource, status: ConnectorStatus) -> Written:
        """Write the status by server-side apply, unless it is what is there already.

        Conditions merge by type: those of other managers stay. A field that an older CRD lacks is left out.
        Raises Failure when it could not be written.
        """
        version, current = self._latest(resource)
        desired = self.schema.fit(status_to_json(status))
        if current == desired:
            return Written.UNCHANGED
        for _ in range(_CONFLICTS):
            try:
                version = await self._apply_status(resource, desired, version)
            except ApiError as refused:
                if UNKNOWN_FIELD in refused.message:
                    await self.look_at_schema()
                    whole, desired = desired, self.schema.fit(desired)
                    if desired != whole:
                        continue
                    self.schema.refused()
                if refused.status == 409:
                    version = await self._version_of(resource)
                    if version is not None:
                        continue
                if refused.status in {404, 409}:
                    self.forget(resource.uid)
                    return Written.GONE
                raise self._not_written(resource, refused) from None
            self.schema.accepted()
            self._written[resource.uid] = (version, desired)
            return Written.WRITTEN
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"The status of {resource.namespace}/{resource.name} changes faster than it can be written.",
        )

    async def post_event(self, resource: ObservedResource, draft: EventDraft) -> None:
        """See `EventWriter.post`."""
        await self._event_writer.post(resource, draft)

    def forget(self, uid: str) -> None:
        """The object is gone: nothing of it is remembered."""
        self._written.pop(uid, None)

    def _latest(self, resource: ObservedResource) -> tuple[str | None, dict[str, Any] | None]:
        """The newer of what was seen and what was written: the watch may lag behind a write."""
        written = self._written.get(resource.uid)
        if written is None or is_at_least(resource.resource_version, written[0]):
            status = resource.status
            return resource.resource_version, None if status is None else self.schema.fit(status_to_json(status))
        return written

    async def _apply_status(
        self, resource: ObservedResource, desired: dict[str, Any], version: str | None
    ) -> str | None:
        """Gives the object's new version.

        `version` makes sure that it is still the same object: the API server ignores a uid in a status.
        """
        metadata = {"name": resource.name, "namespace": resource.namespace}
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata if version is None else {**metadata, "resourceVersion": version},
            "status": desired,
        }

        async def send() -> str | None:
            answer: Any = await self._objects.patch_namespaced_custom_object_status(
                GROUP,
                VERSION,
                resource.namespace,
                PLURAL,
                resource.name,
                body,
                field_manager=FIELD_MANAGER,
                force=True,
                _content_type=_APPLY,
                _request_timeout=self._connection.request_seconds,
            )
            found: str | None = answer["metadata"].get("resourceVersion")
            return found

        return await self._connection.call_in_turn("write a status", send)

    async def _version_of(self, resource: ObservedResource) -> str | None:
        """The object's version now; None when it is gone, or another has its name."""

        async def send() -> Listed:
            found = await self._objects.get_namespaced_custom_object(
                GROUP,
                VERSION,
                resource.namespace,
                PLURAL,
                resource.name,
                _request_timeout=self._connection.request_seconds,
            )
            return listed(found)

        try:
            there = await self._connection.call_in_turn("read a resource", send)
        except ApiError as refused:
            if refused.status == 404:
                return None
            raise self._not_written(resource, refused) from None
        return there.resource_version if there.uid == resource.uid else None

    async def _list_page(
        self, namespace: str | None, token: str | None, selector: str
    ) -> tuple[list[Listed], str, str]:
        """The objects, the token of the next page ("" after the last) and the version of the list."""
        options: dict[str, Any] = {
            "label_selector": selector or None,
            "limit": _PAGE,
            "_continue": token,
            "_headers": {"Accept": _METADATA_ONLY},
            "_request_timeout": self._connection.request_seconds,
        }

        async def send() -> tuple[list[Listed], str, str]:
            page: Any = (
                await self._objects.list_cluster_custom_object(GROUP, VERSION, PLURAL, **options)
                if namespace is None
                else await self._objects.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, **options)
            )
            objects = [listed(item) for item in page["items"] or ()]  # null when empty
            metadata = page.get("metadata") or {}
            return objects, metadata.get("continue") or "", metadata.get("resourceVersion") or ""

        return await self._connection.call("list resources", send)

    def _not_written(self, resource: ObservedResource, refused: ApiError) -> Failure:
        advice = (
            "Apply the crds/ of this version."
            if UNKNOWN_FIELD in refused.message
            else "Give the operator's service account the verbs get on buildkiteconnectors and patch on"
            " buildkiteconnectors/status."
        )
        return Failure(
            Reason.KUBERNETES_REFUSED,
            f"The status of {resource.namespace}/{resource.name} was refused: {refused}. {advice}",
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
    async with open_connection(login, request_seconds, may_act) as connection:
        yield KubernetesApi(connection, clock, instance, schema)


def listed(body: Any) -> Listed:
    """What tells an object apart, from its JSON. Raises what reading JSON of another shape raises."""
    metadata = body["metadata"]
    return Listed(metadata["namespace"], metadata["name"], metadata["uid"], metadata.get("resourceVersion") or "")


def _secret_data(body: bytes) -> dict[str, str]:
    data = json.loads(body).get("data") or {}
    if not all(isinstance(value, str) for value in data.values()):
        raise TypeError("a value of the Secret is not text")
    return dict(data)
