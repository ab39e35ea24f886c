"""The operator's calls against a real API server, with the rights that deploy/ gives and no others."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from buildkite_connector.kubernetes.client import KubernetesApi, Written, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.events import EventDraft, EventType
from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector, read_resource
from buildkite_connector.kubernetes.schema.status import status_from_json
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.kubernetes.watch import WatchSettings, run_watch
from buildkite_connector.model.directory import Counts, Organization, OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    HistoryEntry,
    Phase,
    SyncRecord,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import SystemClock
from harness.control_plane import Cluster

DEPLOY = Path(__file__).parents[2] / "deploy"
DEADLINE = 20.0
NOW = datetime.now(UTC).replace(microsecond=0)
COUNTS = Counts(42, 7, 99)


def condition(
    kind: ConditionType, reason: Reason, message: str, status: ConditionStatus = ConditionStatus.TRUE
) -> Condition:
    return Condition(kind, status, reason, message, 1, NOW)


FULL = ConnectorStatus(
    observed_generation=1,
    phase=Phase.CONNECTED,
    conditions=(
        condition(ConditionType.READY, Reason.READY, "42 accounts, 7 teams and 99 memberships."),
        condition(ConditionType.CREDENTIALS_VALID, Reason.VALID, "Both are accepted."),
        condition(ConditionType.SYNCED, Reason.SYNC_SUCCEEDED, "42 accounts."),
        condition(ConditionType.DELIVERED, Reason.DELIVERED, "C1 took it."),
    ),
    organization=Organization("o-1", OrganizationSlug("acme-inc"), "Acme-Inc"),
    token_expires_at="2027-01-01T00:00:00Z",
    missing_scopes=("read_teams",),
    last_sync_time=NOW - timedelta(minutes=10),
    last_successful_sync_time=NOW - timedelta(minutes=10),
    next_sync_time=NOW + timedelta(minutes=50),
    last_sync=SyncRecord(SyncID("s1"), Trigger.SCHEDULE, NOW, NOW, COUNTS, 8, 1.5, "ab" * 32, 4096),
    last_delivery=DeliveryRecord(NOW, TaskID("t1"), SyncID("s1"), "ab" * 32, 4096, COUNTS),
    last_handled_sync_request="then",
    history=(HistoryEntry(SyncID("s1"), Trigger.SCHEDULE, NOW, NOW, True, Reason.SYNC_SUCCEEDED, COUNTS),),
)


def rights(directory: str, namespace: str) -> str:
    """The service account and its rights as deploy/ has them, moved to a namespace of the test's own."""
    moved = []
    for path in (DEPLOY / "base" / "serviceaccount.yaml", DEPLOY / directory / "rights.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            document["metadata"]["name"] = f"buildkite-connector-{namespace}"
            if "namespace" in document["metadata"]:
                document["metadata"]["namespace"] = namespace
            if "roleRef" in document:
                document["roleRef"]["name"] = f"buildkite-connector-{namespace}"
                document["subjects"][0].update(name=f"buildkite-connector-{namespace}", namespace=namespace)
            moved.append(document)
    return yaml.safe_dump_all(moved)


@dataclass(frozen=True)
class Operator:
    """What the operator is in the cluster: a service account."""

    cluster: Cluster
    namespace: str
    login: KubeconfigLogin

    def may(self, *what: str) -> bool:
        """Whether the API server lets it."""
        asked = ("--kubeconfig", self.login.path, "auth", "can-i", *what, "--namespace", self.namespace)
        return self.cluster.kubectl(*asked, check=False).stdout.startswith("yes")

    def until(self, *what: str, may: bool) -> None:
        """Rights take effect a moment after they were given or taken."""
        end = time.monotonic() + DEADLINE
        while self.may(*what) is not may:
            assert time.monotonic() < end, what


@pytest.fixture
def operator(request: pytest.FixtureRequest, control_plane: Cluster, namespace: str) -> Iterator[Operator]:
    """With the rights of deploy/namespace, unless a test asks for others."""
    documents = rights(getattr(request, "param", "namespace"), namespace)
    control_plane.kubectl("apply", "--filename", "-", input=documents)
    path = control_plane.service_account_kubeconfig(namespace, f"buildkite-connector-{namespace}")
    made = Operator(control_plane, namespace, KubeconfigLogin(str(path)))
    made.until("list", "bkc", may=True)
    yield made
    control_plane.kubectl("delete", "--filename", "-", "--wait=false", "--ignore-not-found", input=documents)


@pytest.fixture
async def api(operator: Operator) -> AsyncIterator[KubernetesApi]:
    async with connect(operator.login, SystemClock(), "pod-1") as connected:
        yield connected


def create(operator: Operator, name: str = "acme", **spec: Any) -> None:
    document = {
        "apiVersion": "connectors.c1.ai/v1alpha1",
        "kind": "BuildkiteConnector",
        "metadata": {"name": name, "namespace": operator.namespace},
        "spec": {"credentialsSecretRef": {"name": "buildkite-credentials"}, **spec},
    }
    operator.cluster.kubectl("apply", "--filename", "-", input=json.dumps(document))


def get(operator: Operator) -> Any:
    return operator.cluster.kubectl_json("get", "bkc/acme", "--namespace", operator.namespace)


def observe(operator: Operator) -> ObservedConnector:
    seen = read_resource(get(operator))
    assert isinstance(seen, ObservedConnector)
    return seen


class TestStatus:
    async def test_it_is_stored_whole_and_reads_back_equal(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        assert await api.apply_status(observe(operator), FULL) is Written.WRITTEN
        assert status_from_json(get(operator)["status"]) == FULL

    async def test_the_columns_show_it(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        await api.apply_status(observe(operator), FULL)
        table = operator.cluster.kubectl("get", "bkc", "--namespace", operator.namespace).stdout.splitlines()
        assert table[0].split() == [
            "NAME", "ORGANIZATION", "READY", "STATUS", "ACCOUNTS", "TEAMS", "LAST", "SYNC", "AGE",
        ]  # fmt: skip
        *row, age = table[1].split()[:7]
        assert row == ["acme", "acme-inc", "True", "Ready", "42", "7"]
        assert age.endswith("m")

    async def test_the_wide_columns_show_when_it_syncs_next_and_why(
        self, operator: Operator, api: KubernetesApi
    ) -> None:
        create(operator)
        await api.apply_status(observe(operator), FULL)
        wide = operator.cluster.kubectl("get", "bkc", "--namespace", operator.namespace, "--output", "wide").stdout
        row = wide.splitlines()[1]
        next_sync = (NOW + timedelta(minutes=50)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert row.endswith("42 accounts, 7 teams and 99 memberships.")
        assert row.split()[8:10] == [next_sync, "True"]
        assert "<invalid>" not in wide

    async def test_the_same_status_again_leaves_the_object_untouched(
        self, operator: Operator, api: KubernetesApi
    ) -> None:
        create(operator)
        seen = observe(operator)
        await api.apply_status(seen, FULL)
        before = get(operator)["metadata"]["resourceVersion"]
        assert await api.apply_status(seen, FULL) is Written.UNCHANGED
        assert await api.apply_status(observe(operator), FULL) is Written.UNCHANGED
        assert get(operator)["metadata"]["resourceVersion"] == before

    async def test_writing_it_starts_no_new_generation_and_changes_nothing_else(
        self, operator: Operator, api: KubernetesApi
    ) -> None:
        create(operator)
        before = get(operator)
        await api.apply_status(observe(operator), FULL)
        after = get(operator)
        assert after["spec"] == before["spec"]
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
        assert "finalizers" not in after["metadata"]

    async def test_conditions_merge_by_type_and_those_of_others_stay(
        self, operator: Operator, api: KubernetesApi
    ) -> None:
        create(operator)
        seen = observe(operator)
        stalled = condition(ConditionType.STALLED, Reason.CRON_INVALID, "The cron is wrong.")
        await api.apply_status(seen, replace(FULL, conditions=(*FULL.conditions, stalled)))
        foreign = {
            "apiVersion": "connectors.c1.ai/v1alpha1",
            "kind": "BuildkiteConnector",
            "metadata": {"name": "acme", "namespace": operator.namespace},
            "status": {
                "conditions": [
                    {
                        "type": "Audited",
                        "status": "True",
                        "reason": "ByHand",
                        "message": "Seen.",
                        "lastTransitionTime": "2026-03-02T09:00:00Z",
                    }
                ]
            },
        }
        operator.cluster.kubectl(
            "apply", "--server-side", "--subresource=status", "--field-manager=auditor", "--filename", "-",
            input=json.dumps(foreign),
        )  # fmt: skip
        assert await api.apply_status(seen, FULL) is Written.WRITTEN
        kinds = {each["type"] for each in get(operator)["status"]["conditions"]}
        assert kinds == {"Ready", "CredentialsValid", "Synced", "Delivered", "Audited"}

    async def test_an_edit_meanwhile_does_not_stop_it(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        seen = observe(operator)
        create(operator, suspend=True)
        assert await api.apply_status(seen, FULL) is Written.WRITTEN
        assert get(operator)["spec"]["suspend"] is True

    async def test_an_object_that_is_gone_is_told_and_no_error(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        seen = observe(operator)
        operator.cluster.kubectl("delete", "bkc/acme", "--namespace", operator.namespace)
        assert await api.apply_status(seen, FULL) is Written.GONE

    async def test_another_object_of_the_same_name_never_gets_it(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        seen = observe(operator)
        await api.apply_status(seen, FULL)
        operator.cluster.kubectl("delete", "bkc/acme", "--namespace", operator.namespace)
        create(operator)
        assert await api.apply_status(seen, replace(FULL, phase=Phase.SYNCING)) is Written.GONE
        assert "status" not in get(operator)

    async def test_kubectl_can_wait_for_it(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        await api.apply_status(observe(operator), FULL)
        operator.cluster.kubectl(
            "wait", "--for=condition=Ready", "--timeout=10s", "bkc/acme", "--namespace", operator.namespace
        )


class TestSecret:
    async def test_it_becomes_credentials(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        operator.cluster.kubectl(
            "create", "secret", "generic", "buildkite-credentials", "--namespace", operator.namespace,
            "--from-literal=BATON_CLIENT_ID=otter@acme.conductor.one/ccc",
            "--from-literal=BATON_CLIENT_SECRET=hunter2", "--from-literal=BATON_API_TOKEN=hunter3\n",
        )  # fmt: skip
        credentials = await read_credentials(api, operator.namespace, observe(operator).secret)
        assert (credentials.client_id, credentials.api_token) == ("otter@acme.conductor.one/ccc", "hunter3")

    async def test_one_that_is_not_there_is_told_as_such(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        with pytest.raises(Failure) as caught:
            await read_credentials(api, operator.namespace, observe(operator).secret)
        assert caught.value.reason is Reason.SECRET_NOT_FOUND

    async def test_without_the_right_it_is_told_as_forbidden(self, operator: Operator, api: KubernetesApi) -> None:
        create(operator)
        name = f"buildkite-connector-{operator.namespace}"
        operator.cluster.kubectl("delete", "clusterrolebinding", name, "--ignore-not-found")
        operator.cluster.kubectl("delete", "rolebinding", name, "--ignore-not-found", "--namespace", operator.namespace)
        operator.until("get", "secrets", may=False)
        with pytest.raises(Failure) as caught:
            await read_credentials(api, operator.namespace, observe(operator).secret)
        assert caught.value.reason is Reason.SECRET_FORBIDDEN


class TestEvents:
    async def test_they_are_shown_by_describe_and_counted_when_they_come_again(
        self, operator: Operator, api: KubernetesApi
    ) -> None:
        create(operator)
        draft = EventDraft(EventType.WARNING, Reason.TOKEN_REJECTED, "Buildkite refuses the token.")
        for _ in range(3):
            await api.post_event(observe(operator), draft)
        told = operator.cluster.kubectl("describe", "bkc/acme", "--namespace", operator.namespace).stdout
        event = next(line for line in told.splitlines() if "TokenRejected" in line)
        assert event.split()[0] == "Warning"
        assert "(x3 over" in event
        assert event.endswith("Buildkite refuses the token.")


both_deployments = pytest.mark.parametrize("operator", ["cluster", "namespace"], indirect=True)


class TestRights:
    @both_deployments
    def test_no_more_is_allowed_than_is_needed(self, operator: Operator) -> None:
        for allowed in (
            ("list", "bkc"),
            ("watch", "bkc"),
            ("patch", "bkc", "--subresource=status"),
            ("get", "secrets"),
            ("create", "events.events.k8s.io"),
        ):
            assert operator.may(*allowed), allowed
        for denied in (
            ("list", "secrets"),
            ("watch", "secrets"),
            ("update", "secrets"),
            ("patch", "bkc"),
            ("delete", "bkc"),
            ("create", "bkc"),
            ("list", "namespaces"),
            ("list", "customresourcedefinitions"),
            ("create", "pods"),
        ):
            assert not operator.may(*denied), denied

    def test_listing_secrets_is_forbidden(self, operator: Operator) -> None:
        asked = ("--kubeconfig", operator.login.path, "get", "secrets", "--namespace", operator.namespace)
        assert "cannot list resource" in operator.cluster.kubectl(*asked, check=False).stderr

    async def test_another_namespace_is_out_of_reach_with_the_rights_of_one(self, api: KubernetesApi) -> None:
        with pytest.raises(ApiError) as caught:
            await api.list_connectors(("default",))
        assert caught.value.status == 403

    @pytest.mark.parametrize("operator", ["cluster"], indirect=True)
    async def test_every_namespace_is_within_reach_with_the_rights_of_the_cluster(
        self, operator: Operator, api: KubernetesApi
    ) -> None:
        create(operator)
        assert (operator.namespace, "acme") in {(each.namespace, each.name) for each in await api.list_connectors(())}


class EventHandler:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.requests: dict[str, str | None] = {}
        self.told = asyncio.Event()

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        assert isinstance(resource, ObservedConnector)
        self.requests[resource.name] = resource.sync_request
        self.told.set()

    def forget(self, namespace: str, name: str, uid: str) -> None:
        del self.requests[name]
        self.told.set()

    async def until(self, requests: dict[str, str | None]) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.requests != requests:
                self.told.clear()
                await self.told.wait()


async def test_the_watch_tells_what_happens(operator: Operator, api: KubernetesApi) -> None:
    create(operator)
    hub, ready, stop = EventHandler(), asyncio.Event(), asyncio.Event()
    settings = WatchSettings((operator.namespace,))
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(run_watch(hub, api, operator.login, settings, ready=ready, stop=stop))
        await ready.wait()
        assert hub.requests == {"acme": None}
        await asyncio.to_thread(create, operator, "second")
        await hub.until({"acme": None, "second": None})
        await asyncio.to_thread(
            operator.cluster.kubectl, "annotate", "bkc/second", "connectors.c1.ai/sync-requested-at=now",
            "--namespace", operator.namespace,
        )  # fmt: skip
        await hub.until({"acme": None, "second": "now"})
        await asyncio.to_thread(operator.cluster.kubectl, "delete", "bkc/acme", "--namespace", operator.namespace)
        await hub.until({"second": "now"})
        stop.set()


@pytest.mark.parametrize("directory", ["cluster", "namespace"])
def test_what_is_to_be_deployed_is_accepted(control_plane: Cluster, directory: str) -> None:
    rendered = control_plane.kubectl("kustomize", str(DEPLOY / directory)).stdout
    documents = list(yaml.safe_load_all(rendered))
    home = next(each for each in documents if each["kind"] == "Namespace")
    for document in documents:
        if document["metadata"].get("namespace") == home["metadata"]["name"]:
            document["metadata"]["namespace"] = "default"  # a dry run makes no namespace for the others to be in
    done = control_plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "--filename", "-", input=yaml.safe_dump_all(documents)
    )
    assert done.stdout.count("(server dry run)") == len(documents)
