"""From resources to sessions: what the watch tells becomes a session's orders, what a session tells a status.

One session a resource. A resource that is deleted, or replaced by another of its name, ends its session.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from buildkite_connector.connector.connector import Session
from buildkite_connector.connector.desired import Order, Tools
from buildkite_connector.kubernetes.client import KubernetesApi, Written
from buildkite_connector.kubernetes.events import draft_events
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector, SecretRef
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConnectorStatus

logger = logging.getLogger(__name__)

Resource = ObservedConnector | BrokenConnector


@dataclass(frozen=True, slots=True)
class SecretCredentials:
    """The credentials of one resource."""

    api: KubernetesApi
    namespace: str
    secret: SecretRef

    async def read(self) -> Credentials:
        return await read_credentials(self.api, self.namespace, self.secret)


@dataclass(frozen=True, slots=True)
class BrokenVault:
    """Where a spec that cannot be read leaves the credentials."""

    failure: Failure

    async def read(self) -> Credentials:
        raise self.failure


class StatusPatcher:
    """Writes one resource's status, and events on its transitions."""

    def __init__(self, api: KubernetesApi, resource: Resource, when_gone: Callable[[Resource], None]) -> None:
        self._api = api
        self.resource = resource
        self._when_gone = when_gone

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        written = await self._api.apply_status(self.resource, after)
        if written is Written.GONE:
            self._when_gone(self.resource)
        elif written is Written.WRITTEN:
            for draft in draft_events(before, after):
                await self._api.post_event(self.resource, draft)


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    session: Session
    reporter: StatusPatcher


class Controller:
    """All connectors of this process; fed by the watch. `group` owns the closing of sessions."""

    def __init__(self, api: KubernetesApi, tools: Tools, group: asyncio.TaskGroup) -> None:
        self._api = api
        self._tools = tools
        self._group = group
        self._entries: dict[ConnectorKey, _Entry] = {}
        self._closing: dict[ConnectorKey, asyncio.Task[None]] = {}
        self._closed = False

    def observe(self, resource: Resource) -> None:
        """A resource as it is now; the same again costs nothing."""
        if self._closed:
            return
        if resource.deleting:
            self.forget(resource.namespace, resource.name, resource.uid)
            return
        entry = self._entries.get(resource.key)
        if entry is not None and entry.uid != resource.uid:
            self._end(resource.key, entry)
            entry = None
        if entry is None:
            self._begin(resource)
        else:
            entry.reporter.resource = resource
            entry.session.update(self._order(resource))

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """A resource is gone. Nothing of it stays but what C1 was given."""
        key = ConnectorKey(f"{namespace}.{name}")
        entry = self._entries.get(key)
        if entry is not None and entry.uid == uid:
            self._end(key, entry)

    async def prune_snapshots(self) -> None:
        """Once all resources have been told: what is staged for others is of connectors that are no more."""
        try:
            if removed := await self._tools.store.prune(self._entries):
                logger.info("snapshots of connectors that are gone were removed", extra={"files": removed})
        except Failure as failure:
            logger.warning("a staged file stayed behind", extra={"error": failure.message})

    async def close(self) -> None:
        """At shutdown, after the scheduler stopped: the conversations with C1 end, the staged files stay."""
        self._closed = True
        entries = list(self._entries.values())
        self._entries.clear()
        await asyncio.gather(*(entry.session.close(discard=False) for entry in entries))

    def _begin(self, resource: Resource) -> None:
        reporter = StatusPatcher(self._api, resource, lambda gone: self.forget(gone.namespace, gone.name, gone.uid))
        session = Session(resource.key, self._order(resource), resource.status, reporter, self._tools)
        self._entries[resource.key] = _Entry(resource.uid, session, reporter)
        logger.info("connector found", extra={"connector": resource.key})
        closing = self._closing.get(resource.key)
        if closing is None:
            self._tools.scheduler.add(session)
        else:
            closing.add_done_callback(lambda _: self._tools.scheduler.add(session))

    def _end(self, key: ConnectorKey, entry: _Entry) -> None:
        del self._entries[key]
        self._api.forget(entry.uid)
        logger.info("connector gone", extra={"connector": key})
        before = self._closing.get(key)
        task = self._closing[key] = self._group.create_task(self._close(key, entry.session, before))
        task.add_done_callback(lambda done: self._closing.pop(key) if self._closing.get(key) is done else None)

    async def _close(self, key: ConnectorKey, session: Session, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            await session.close(discard=True)
        except Failure as failure:
            logger.warning("a staged file stayed behind", extra={"connector": key, "error": failure.message})
        except Exception:
            logger.exception("a connector did not close in order", extra={"connector": key})

    def _order(self, resource: Resource) -> Order:
        if isinstance(resource, BrokenConnector):
            spec = ConnectorSpec(host_id=resource.key)
            return Order(resource.generation, spec, BrokenVault(resource.failure), problem=resource.failure)
        return Order(
            resource.generation,
            resource.spec,
            SecretCredentials(self._api, resource.namespace, resource.secret),
            resource.sync_request,
            resource.accept_shrink,
        )
