"""One operator process as its controller sees it: a cluster in memory, and Buildkite, C1 and the disk as fakes."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.kubernetes.client import AppliedStatus, KubernetesApi, Written
from buildkite_connector.kubernetes.controller import Controller
from buildkite_connector.kubernetes.events import EventDraft
from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.kubernetes.schema.served import ServedSchema
from buildkite_connector.kubernetes.schema.status_json import status_to_json
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.status import ConditionType, ConnectorStatus
from fakes.connector_setup import Setup


class Cluster:
    """The API server as a controller sees it: Secrets, and the statuses and events that were written."""

    def __init__(self) -> None:
        self.client_ids: dict[str, str] = {}
        self.statuses: dict[str, ConnectorStatus] = {}
        self.writes: list[tuple[str, ConnectorStatus]] = []
        self.events: list[tuple[str, Reason]] = []
        self.gone: set[str] = set()
        self.drains = 0
        self.secrets_read: list[str] = []
        self.schema = ServedSchema()

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        assert namespace == "default"
        self.secrets_read.append(name)
        values = {"BATON_CLIENT_ID": f"{name}@x.conductor.one/y", "BATON_CLIENT_SECRET": "s", "BATON_API_TOKEN": "t"}
        return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}

    async def apply_status(
        self, resource: ObservedResource, status: ConnectorStatus, applied: AppliedStatus | None = None
    ) -> Written:
        assert applied is not None, "what was applied is remembered, as the watch may lag behind it"
        if resource.uid in self.gone:
            return Written.GONE
        self.statuses[resource.name] = status
        self.writes.append((resource.uid, status))
        return Written.WRITTEN

    def post_event(self, resource: ObservedResource, draft: EventDraft) -> None:
        self.events.append((resource.name, draft.reason))

    async def drain_events(self, seconds: float) -> None:
        self.drains += 1

    def reason(self, name: str, kind: ConditionType = ConditionType.READY) -> Reason | None:
        found = self.statuses[name].condition(kind)
        return found.reason if found else None


class Process:
    """One operator process on a cluster. `setup` is Buildkite, C1 and the disk."""

    def __init__(self, cluster: Cluster, setup: Setup, controller: Controller) -> None:
        self.cluster = cluster
        self.setup = setup
        self.controller = controller

    def observe(self, name: str, *, uid: str = "", created: str = "2026-03-01T00:00:00Z", **spec: Any) -> None:
        """What the watch says of a resource: with the status that is in the cluster."""
        status = self.cluster.statuses.get(name)
        body = {
            "metadata": {
                "namespace": "default",
                "name": name,
                "uid": uid or f"uid-{name}",
                "generation": 1,
                "creationTimestamp": created,
            },
            "spec": {"credentialsSecretRef": {"name": "shared"}, **spec},
            "status": status_to_json(status) if status else None,
        }
        self.controller.observe(read_resource(body))


@asynccontextmanager
async def process(cluster: Cluster | None = None, *, acting: bool = True) -> AsyncIterator[Process]:
    setup, cluster = Setup(), cluster or Cluster()
    async with asyncio.TaskGroup() as group:
        controller = Controller(cast(KubernetesApi, cluster), setup.environment(), group, acting=acting)
        rereading = group.create_task(reread_secrets(controller.connectors, setup.clock))
        try:
            yield Process(cluster, setup, controller)
        finally:
            rereading.cancel()
            await controller.close()
