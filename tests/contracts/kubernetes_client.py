"""What the operator's client of the Kubernetes API does, on the simulator and on a real API server.

A test class inherits `ClientContract` and gives the fixtures `api` and `place`: the client, and a namespace that the
test changes as a user with kubectl would.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from buildkite_connector.kubernetes.client import AppliedStatus, KubernetesApi, Written
from buildkite_connector.kubernetes.events import EventDraft, EventType
from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.kubernetes.schema.status_json import status_from_json
from buildkite_connector.kubernetes.secrets import read_credentials
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
    SnapshotFile,
    SyncRecord,
    TokenStatus,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID

NAME = "acme"
SECRET = "buildkite-credentials"
NOW = datetime.now(UTC).replace(microsecond=0)
COUNTS = Counts(42, 7, 99)
DRAFT = EventDraft(EventType.WARNING, Reason.TOKEN_REJECTED, "Buildkite refuses the token.")


def condition(
    kind: ConditionType, reason: Reason, message: str, status: ConditionStatus = ConditionStatus.TRUE
) -> Condition:
    return Condition(kind, status, reason, message, 1, last_transition_time=NOW)


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
    token=TokenStatus(datetime(2027, 1, 1, tzinfo=UTC), ("read_teams",)),
    last_sync_time=NOW - timedelta(minutes=10),
    last_successful_sync_time=NOW - timedelta(minutes=10),
    next_sync_time=NOW + timedelta(minutes=50),
    last_sync=SyncRecord(SyncID("s1"), Trigger.SCHEDULE, NOW, NOW, COUNTS, 8, 1.5, SnapshotFile("ab" * 32, 4096)),
    last_delivery=DeliveryRecord(NOW, TaskID("t1"), SyncID("s1"), "ab" * 32, 4096, COUNTS),
    last_handled_sync_request="then",
    history=(HistoryEntry(SyncID("s1"), Trigger.SCHEDULE, NOW, NOW, True, Reason.SYNC_SUCCEEDED, COUNTS),),
)
"""Every field set."""


class Place(Protocol):
    """A namespace, changed and read past the client."""

    namespace: str

    def apply(self, manifest: dict[str, Any]) -> None: ...

    def apply_status_as_another(self, manifest: dict[str, Any]) -> None:
        """A server-side apply of the status by another field manager."""
        ...

    def get(self) -> dict[str, Any]:
        """The connector `acme`."""
        ...

    def delete(self) -> None: ...

    def events(self) -> list[dict[str, Any]]:
        """Those of the namespace."""
        ...


def manifest(place: Place, **body: Any) -> dict[str, Any]:
    metadata = {"name": NAME, "namespace": place.namespace}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, **body}


def create(place: Place, **spec: Any) -> ObservedResource:
    """The connector as it is once this has been applied."""
    place.apply(manifest(place, spec={"credentialsSecretRef": {"name": SECRET}, **spec}))
    return observe(place)


def observe(place: Place) -> ObservedResource:
    seen = read_resource(place.get())
    assert seen.failure is None
    return seen


class ClientContract:
    async def test_a_status_is_stored_whole_and_reads_back_equal(self, place: Place, api: KubernetesApi) -> None:
        assert await api.apply_status(create(place), FULL) is Written.WRITTEN
        assert status_from_json(place.get()["status"]) == FULL

    async def test_writing_a_status_changes_nothing_else(self, place: Place, api: KubernetesApi) -> None:
        seen = create(place)
        before = place.get()
        await api.apply_status(seen, FULL)
        after = place.get()
        assert after["spec"] == before["spec"]
        for field in ("annotations", "finalizers", "labels", "generation"):
            assert after["metadata"].get(field) == before["metadata"].get(field)

    async def test_the_same_status_again_leaves_the_object_untouched(self, place: Place, api: KubernetesApi) -> None:
        seen, applied = create(place), AppliedStatus()
        await api.apply_status(seen, FULL, applied)
        before = place.get()["metadata"]["resourceVersion"]
        assert await api.apply_status(seen, FULL, applied) is Written.UNCHANGED
        assert await api.apply_status(observe(place), FULL) is Written.UNCHANGED
        assert place.get()["metadata"]["resourceVersion"] == before

    async def test_conditions_that_are_true_no_more_go_and_those_of_others_stay(
        self, place: Place, api: KubernetesApi
    ) -> None:
        seen, applied = create(place), AppliedStatus()
        stalled = condition(ConditionType.STALLED, Reason.CRON_INVALID, "The cron is wrong.")
        await api.apply_status(seen, replace(FULL, conditions=(*FULL.conditions, stalled)), applied)
        audited = {
            "type": "Audited",
            "status": "True",
            "reason": "ByHand",
            "message": "Seen.",
            "lastTransitionTime": "2026-03-02T09:00:00Z",
        }
        place.apply_status_as_another(manifest(place, status={"conditions": [audited]}))
        assert await api.apply_status(seen, FULL, applied) is Written.WRITTEN
        kinds = {each["type"] for each in place.get()["status"]["conditions"]}
        assert kinds == {"Ready", "CredentialsValid", "Synced", "Delivered", "Audited"}

    async def test_an_edit_meanwhile_does_not_stop_a_status(self, place: Place, api: KubernetesApi) -> None:
        seen = create(place)
        create(place, suspend=True)
        assert await api.apply_status(seen, FULL) is Written.WRITTEN
        assert place.get()["spec"]["suspend"] is True
        assert place.get()["status"]["phase"] == "Connected"

    async def test_an_object_that_is_gone_is_told_and_no_error(self, place: Place, api: KubernetesApi) -> None:
        seen = create(place)
        place.delete()
        assert await api.apply_status(seen, FULL) is Written.GONE

    async def test_another_object_of_the_same_name_never_gets_a_status(self, place: Place, api: KubernetesApi) -> None:
        seen, applied = create(place), AppliedStatus()
        await api.apply_status(seen, FULL, applied)
        place.delete()
        create(place)
        assert await api.apply_status(seen, replace(FULL, phase=Phase.SYNCING), applied) is Written.GONE
        assert "status" not in place.get()

    async def test_a_secret_becomes_credentials(self, place: Place, api: KubernetesApi) -> None:
        values = {
            "BATON_CLIENT_ID": "otter@acme.conductor.one/ccc",
            "BATON_CLIENT_SECRET": "hunter2",
            "BATON_API_TOKEN": "hunter3\n",
        }
        metadata = {"name": SECRET, "namespace": place.namespace}
        place.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
        credentials = await read_credentials(api.read_secret, place.namespace, create(place).secret)
        assert (credentials.client_id, credentials.api_token) == ("otter@acme.conductor.one/ccc", "hunter3")

    async def test_a_secret_that_is_not_there_is_told_as_such(self, place: Place, api: KubernetesApi) -> None:
        with pytest.raises(Failure) as caught:
            await read_credentials(api.read_secret, place.namespace, create(place).secret)
        assert caught.value.reason is Reason.SECRET_NOT_FOUND

    async def test_an_event_is_about_the_object_and_counted_when_it_comes_again(
        self, place: Place, api: KubernetesApi
    ) -> None:
        seen = create(place)
        for _ in range(3):
            api.post_event(seen, DRAFT)
            await api.drain_events(10.0)
        (event,) = place.events()
        assert (event["type"], event["reason"], event["note"]) == (
            "Warning",
            "TokenRejected",
            "Buildkite refuses the token.",
        )
        assert event["series"]["count"] == 3
        assert event["reportingInstance"] == "pod-1"
        assert event["regarding"] == {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": place.namespace,
            "name": NAME,
            "uid": seen.uid,
        }
