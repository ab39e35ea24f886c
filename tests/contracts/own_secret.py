"""What the operator does with its own Secret, on the simulator and on a real API server.

A test class inherits `OwnSecretContract` and gives the fixtures `api` and `place` as for `ClientContract`.
"""

import base64
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from buildkite_connector.connector.ports import Kept
from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.own_secret import OwnSecretOf
from buildkite_connector.model.failure import Failure, Reason, Remedy
from contracts.kubernetes_client import Place

CONTENT = Kept("2app", "2connector", "2credential", "calm-heron@acme.conductor.one/ccc", "secret-token:hunter2")
NEWER = replace(CONTENT, credential_id="2newer", client_id="new-heron@acme.conductor.one/ccc", client_secret="hunter3")
LABEL = "app.kubernetes.io/managed-by"


class OwnSecretContract:
    """The tests."""

    @pytest.fixture
    def own(self, api: KubernetesApi, place: Place) -> OwnSecretOf:
        return OwnSecretOf(api.connection, place.namespace, "acme", f"own-{uuid4().hex[:8]}")

    async def test_what_is_written_is_read_again(self, own: OwnSecretOf) -> None:
        assert await own.read() is None
        await own.write(CONTENT, None)
        there = await own.read()
        assert there == CONTENT
        await own.write(NEWER, there)
        assert await own.read() == NEWER

    async def test_it_is_a_plain_secret_with_its_mark_and_without_an_owner(self, own: OwnSecretOf) -> None:
        await own.write(CONTENT, None)
        secret = await raw(own, "GET")
        assert secret["type"] == "Opaque"
        assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == {
            "BATON_CLIENT_ID": CONTENT.client_id,
            "BATON_CLIENT_SECRET": CONTENT.client_secret,
        }
        metadata = secret["metadata"]
        assert metadata["labels"] == {LABEL: "buildkite-connector"}
        assert metadata["annotations"] == {
            "connectors.c1.ai/connector": "acme",
            "connectors.c1.ai/c1-app-id": "2app",
            "connectors.c1.ai/c1-connector-id": "2connector",
            "connectors.c1.ai/c1-credential-id": "2credential",
        }
        assert "ownerReferences" not in metadata

    async def test_looking_whether_it_may_be_written_changes_nothing(self, own: OwnSecretOf) -> None:
        await own.check_writable(None)
        assert await own.read() is None
        await own.write(CONTENT, None)
        there, before = await own.read(), await raw(own, "GET")
        await own.check_writable(there)
        assert await raw(own, "GET") == before

    @pytest.mark.parametrize(
        "marks",
        [
            {},
            {"labels": {LABEL: "buildkite-connector"}},
            {"labels": {LABEL: "buildkite-connector"}, "annotations": {"connectors.c1.ai/connector": "acme2"}},
        ],
    )
    async def test_a_secret_of_somebody_else_is_not_touched(self, own: OwnSecretOf, marks: dict[str, Any]) -> None:
        await raw(own, "POST", {"metadata": {"name": own.name, **marks}, "data": {"a": "b25l"}})
        before = await raw(own, "GET")
        with pytest.raises(Failure, match="The operator does not change it") as failed:
            await own.read()
        assert (failed.value.reason, failed.value.remedy) == (Reason.SECRET_NOT_OWN, Remedy.EDIT)
        for attempt in (own.write(CONTENT, None), own.check_writable(None)):
            with pytest.raises(Failure, match="changed meanwhile") as failed:
                await attempt
            assert failed.value.reason is Reason.KUBERNETES_UNAVAILABLE
        assert await raw(own, "GET") == before

    async def test_a_secret_that_lost_its_label_gets_it_again_when_it_is_written(self, own: OwnSecretOf) -> None:
        await own.write(CONTENT, None)
        for label in (None, "Helm"):
            await raw(own, "PATCH", {"metadata": {"labels": {LABEL: label}}})
            there = await own.read()
            assert there == CONTENT
            await own.write(CONTENT, there)
            assert (await raw(own, "GET"))["metadata"]["labels"] == {LABEL: "buildkite-connector"}

    async def test_the_secret_of_another_connector_is_somebody_elses(self, own: OwnSecretOf) -> None:
        await own.write(CONTENT, None)
        with pytest.raises(Failure) as failed:
            await replace(own, connector="other").read()
        assert failed.value.reason is Reason.SECRET_NOT_OWN

    async def test_what_changed_meanwhile_is_not_overwritten(self, own: OwnSecretOf) -> None:
        await own.write(CONTENT, None)
        there = await own.read()
        await raw(own, "PATCH", {"data": {"mine": "b25l"}})
        with pytest.raises(Failure, match="changed meanwhile") as failed:
            await own.write(NEWER, there)
        assert failed.value.remedy is Remedy.RETRY
        assert await own.read() == CONTENT
        await own.write(NEWER, await own.read())
        assert (await raw(own, "GET"))["data"]["mine"] == "b25l"

    async def test_a_secret_that_was_deleted_and_created_again_is_not_overwritten(self, own: OwnSecretOf) -> None:
        await own.write(CONTENT, None)
        there = await own.read()
        await raw(own, "DELETE")
        with pytest.raises(Failure, match="changed meanwhile"):
            await own.write(NEWER, there)
        assert await own.read() is None
        await own.write(NEWER, None)
        with pytest.raises(Failure, match="changed meanwhile"):
            await own.write(CONTENT, there)
        assert await own.read() == NEWER

    async def test_values_that_somebody_removed_or_spoiled_are_missing(self, own: OwnSecretOf) -> None:
        await own.write(CONTENT, None)
        await raw(own, "PATCH", {"data": {"BATON_CLIENT_ID": None, "BATON_CLIENT_SECRET": "/w=="}})
        assert await own.read() == replace(CONTENT, client_id="", client_secret="")


async def raw(own: OwnSecretOf, method: str, body: Any = None) -> Any:
    """What somebody else does with the Secret."""
    name = "" if method == "POST" else f"/{own.name}"
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    path = f"/api/v1/namespaces/{own.namespace}/secrets{name}"
    return await own.connection.call("test", method, path, lambda answer: answer, body=body, content_type=kind)
