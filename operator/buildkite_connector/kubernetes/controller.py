"""Starts, updates and closes a connector for each resource that this process acts for.

What is observed is kept apart from what is acted on: a process that starts to act later (a standby that becomes
leader) starts each connector from the newest status, not from the first one that it saw.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.ports import OwnSecret
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.kubernetes.client import AppliedStatus, KubernetesApi, Written
from buildkite_connector.kubernetes.events import EventDraft, EventType, draft_events, log_event
from buildkite_connector.kubernetes.own_secret import OwnSecretOf
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.kubernetes.schema.c1_spec import C1SecretRefModel, C1WorkloadIdentityModel
from buildkite_connector.kubernetes.schema.status_json import bounded_message, status_to_json
from buildkite_connector.kubernetes.secrets import ReadSecret, read_c1_access, read_credentials
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import C1Access, ConnectorKey, Credentials
from buildkite_connector.model.status import ConnectorStatus

logger = logging.getLogger(__name__)

RETRY_SECONDS = 300.0
"""Interval between two tries to serve a resource that breaks its connector, although it did not change."""
EVENT_SECONDS = 2.0
"""How long the last events are waited for when this process stops acting."""


@dataclass(frozen=True, slots=True)
class SecretOf:
    """The credentials that one version of a resource names. An edit comes with others: a check never mixes the two."""

    read_secret: ReadSecret
    resource: ObservedResource
    own: OwnSecret | None = None

    async def read(self) -> Credentials:
        resource = self.resource
        if resource.failure is not None:
            raise resource.failure.without_traceback()
        return await read_credentials(
            self.read_secret, resource.namespace, resource.secret, self.own, portal=bool(resource.spec.portal)
        )


@dataclass(frozen=True, slots=True)
class C1AccessOf:
    """The access to C1's REST API that one version of a resource names."""

    read_secret: ReadSecret
    namespace: str
    auth: C1SecretRefModel | C1WorkloadIdentityModel

    async def read(self) -> C1Access:
        if isinstance(self.auth, C1WorkloadIdentityModel):
            return C1Access(self.auth.client_id)
        return await read_c1_access(self.read_secret, self.namespace, self.auth)


class ServedResource:
    """A resource as it was last observed, and its connector while this process acts for it.

    It writes the connector's status; on each transition it posts and logs an event.
    """

    def __init__(self, api: KubernetesApi, resource: ObservedResource, forget: Callable[[str, str, str], None]) -> None:
        self._api = api
        self.resource = resource
        self.connector: Connector | None = None
        self._forget = forget
        self._applied = AppliedStatus()
        self._outdated = ""

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        try:
            await self._require_creation_in_schema(after)
            written = await self._api.apply_status(self.resource, after, self._applied)
        finally:
            self._report_outdated()
        if written is Written.GONE:
            self._forget(self.resource.namespace, self.resource.name, self.resource.uid)
        elif written is Written.WRITTEN:
            try:
                for draft in draft_events(before, after):
                    log_event(self.resource.key, draft)
                    self._api.post_event(self.resource, draft)
            except Exception:  # the status is written: an error here must not write it again
                logger.exception("no event could be made of a change", extra={"connector": self.resource.key})

    async def _require_creation_in_schema(self, status: ConnectorStatus) -> None:
        """A call that creates something in C1 must be in the status before it is made. Raises Failure."""
        if status.c1 is None or status.c1.creating is None:
            return
        schema, whole = self._api.schema, status_to_json(status)
        if schema.fit(whole).get("c1") != whole["c1"]:
            await self._api.look_at_schema()
            if schema.fit(whole).get("c1") != whole["c1"]:
                raise Failure(Reason.KUBERNETES_REFUSED, schema.outdated)

    def _report_outdated(self) -> None:
        """One event for each connector, when the CRD lacks what this operator needs."""
        outdated, reported = self._api.schema.outdated, self._outdated
        self._outdated = outdated
        if outdated and outdated != reported:
            draft = EventDraft(EventType.WARNING, Reason.KUBERNETES_REFUSED, bounded_message(outdated))
            self._api.post_event(self.resource, draft)


class Controller:
    """All resources that this process sees, and the connectors of those that it acts for.

    `acting` False: a standby, which observes only. `group` owns the closing of connectors. A resource that breaks its
    connector is logged once and tried again, when it changes and every RETRY_SECONDS; the others are served.
    """

    def __init__(
        self, api: KubernetesApi, environment: Environment, group: asyncio.TaskGroup, *, acting: bool = True
    ) -> None:
        self._api = api
        self._env = environment
        self._group = group
        self._acting = acting
        self._entries: dict[ConnectorKey, ServedResource] = {}
        self._closing: dict[ConnectorKey, asyncio.Task[None]] = {}
        self._broken: dict[ConnectorKey, ObservedResource] = {}
        self._retrying: asyncio.Task[None] | None = None
        self._closed = False

    def start_acting(self) -> None:
        """Begin each connector from the newest status."""
        self._acting = True
        for entry in list(self._entries.values()):
            if entry.connector is None:
                self.observe(entry.resource)

    async def stop_acting(self) -> None:
        """Close each connector and go on observing; the staged files stay."""
        self._acting = False
        connectors = list(self.connectors())
        for entry in self._entries.values():
            entry.connector = None
        await self._close_all(connectors)
        if self._closing:  # of resources that were deleted a moment ago
            await asyncio.wait(self._closing.values())

    def observe(self, resource: ObservedResource) -> None:
        """A resource as it is now; the same again costs nothing."""
        if self._closed:
            return
        try:
            self._observe(resource)
        except Exception:
            if resource.key not in self._broken:
                logger.exception("a resource could not be served; it is tried again", extra={"connector": resource.key})
            self._broken[resource.key] = resource
            if self._retrying is None or self._retrying.done():
                self._retrying = self._group.create_task(self._retry())
        else:
            self._broken.pop(resource.key, None)

    def _observe(self, resource: ObservedResource) -> None:
        if resource.deleting:
            self.forget(resource.namespace, resource.name, resource.uid)
            return
        entry = self._entries.get(resource.key)
        if entry is not None and entry.resource.uid != resource.uid:
            self._end(resource.key, entry)
            entry = None
        if entry is None:  # what is staged for it stays, though it may not begin
            logger.info("connector found", extra={"connector": resource.key})
            entry = self._entries[resource.key] = ServedResource(self._api, resource, self.forget)
        entry.resource = resource
        if entry.connector is not None:
            entry.connector.update(self._desired(resource))
        elif self._acting:
            entry.connector = self._begin(entry)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """A resource is gone. Nothing of it stays but what C1 was given."""
        key = ConnectorKey(f"{namespace}.{name}")
        if key in self._broken and self._broken[key].uid == uid:
            del self._broken[key]
        entry = self._entries.get(key)
        if entry is not None and entry.resource.uid == uid:
            try:
                self._end(key, entry)
            except Exception:  # others are forgotten all the same
                logger.exception("a resource that is gone could not be closed", extra={"connector": key})

    def connectors(self) -> Iterator[Connector]:
        """Those that this process acts for."""
        return (entry.connector for entry in self._entries.values() if entry.connector is not None)

    def reports(self) -> Iterator[tuple[ObservedResource, ConnectorStatus]]:
        """Each resource that this process acts for, with its newest status; safe to call in another thread."""
        for entry in list(self._entries.values()):
            if (connector := entry.connector) is not None:
                yield entry.resource, connector.status

    async def prune_snapshots(self) -> None:
        """Once all resources were observed: the files of any other connector are of resources that are gone."""
        try:
            if removed := await self._env.store.prune(self._entries):
                logger.info("snapshots of deleted connectors were removed", extra={"files": removed})
        except Failure as failure:
            logger.warning("a staged file was not removed", extra={"error": failure.message})
        except Exception:
            logger.exception("old snapshots could not be removed")

    async def close(self) -> None:
        """At shutdown: the sessions with C1 end, the staged files stay."""
        self._closed = True
        if self._retrying is not None:
            self._retrying.cancel()
        connectors = list(self.connectors())
        self._entries.clear()
        await self._close_all(connectors)

    async def _close_all(self, connectors: Iterable[Connector]) -> None:
        closing = (each.close(discard=False) for each in connectors)
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, Exception):
                logger.error("a connector did not close cleanly", exc_info=result)
        await self._api.drain_events(EVENT_SECONDS)

    async def _retry(self) -> None:
        while self._broken:
            await self._env.clock.sleep(RETRY_SECONDS)
            for resource in list(self._broken.values()):
                self.observe(resource)

    def _begin(self, entry: ServedResource) -> Connector:
        resource = entry.resource
        key = resource.key
        connector = Connector(key, self._desired(resource), resource.status, entry, self._env, created=resource.created)
        closing = self._closing.get(key)
        if closing is None:
            connector.start()
        else:
            closing.add_done_callback(lambda _: connector.start())
        return connector

    def _desired(self, resource: ObservedResource) -> DesiredState:
        own, create = None, resource.spec.c1.create if resource.spec.c1 is not None else None
        if create is not None:
            own = OwnSecretOf(self._api.connection, resource.namespace, resource.name, create.secret_name)
        return DesiredState(
            resource.generation,
            resource.spec,
            SecretOf(self._api.read_secret, resource, own),
            resource.sync_request,
            resource.accept_shrink,
            resource.failure,
            C1AccessOf(self._api.read_secret, resource.namespace, resource.c1_auth) if resource.c1_auth else None,
            own,
            resource.uid,
        )

    def _end(self, key: ConnectorKey, entry: ServedResource) -> None:
        del self._entries[key]
        logger.info("connector gone", extra={"connector": key})
        if entry.connector is None:
            return
        entry.connector.stop()
        before = self._closing.get(key)
        task = self._closing[key] = self._group.create_task(self._close(key, entry.connector, before))
        task.add_done_callback(lambda done: self._closing.pop(key) if self._closing.get(key) is done else None)

    async def _close(self, key: ConnectorKey, connector: Connector, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            await connector.close(discard=True)
        except Failure as failure:
            logger.warning("a staged file was not removed", extra={"connector": key, "error": failure.message})
        except Exception:
            logger.exception("a connector did not close cleanly", extra={"connector": key})
