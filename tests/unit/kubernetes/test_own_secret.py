"""The operator's own Secret: what is written, what is left alone, and how the credentials are read from it."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from buildkite_connector.connector.ports import Kept
from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.own_secret import OwnSecretOf
from buildkite_connector.kubernetes.schema.spec import SecretRefModel
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.model.failure import Failure, Reason, Remedy
from contracts.own_secret import CONTENT, NEWER, OwnSecretContract
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.test_kubernetes_client import SimulatorPlace


class TestOwnSecret(OwnSecretContract):
    """What a real API server shows too."""

    @pytest.fixture
    def place(self, simulator: KubernetesSimulator) -> SimulatorPlace:
        return SimulatorPlace(simulator)


@pytest.fixture
def own(api: KubernetesApi) -> OwnSecretOf:
    return OwnSecretOf(api.connection, "default", "acme", "acme-c1")


# Refusals


async def test_without_the_permission_to_write_the_sentence_names_the_charts_value(
    simulator: KubernetesSimulator, own: OwnSecretOf
) -> None:
    with simulator.failing(403, methods=frozenset({"POST", "PATCH"}), path="/secrets"):
        for there in (None, CONTENT):
            with pytest.raises(
                Failure, match=r"set the chart's value c1\.create\.enabled to true\. Its Role"
            ) as failed:
                await own.check_writable(there)
            assert (failed.value.reason, failed.value.remedy) == (Reason.SECRET_FORBIDDEN, Remedy.CREDENTIALS)


async def test_without_the_permission_to_read_the_sentence_says_so(
    simulator: KubernetesSimulator, own: OwnSecretOf
) -> None:
    with simulator.failing(403, path="/secrets"), pytest.raises(Failure, match="not allowed to read Secret acme-c1"):
        await own.read()


@pytest.mark.parametrize(("status", "remedy"), [(422, Remedy.EDIT), (500, Remedy.RETRY), (429, Remedy.RETRY)])
async def test_what_passes_is_tried_again_and_what_the_server_rejects_is_not(
    simulator: KubernetesSimulator, own: OwnSecretOf, status: int, remedy: Remedy
) -> None:
    with simulator.failing(status, path="/secrets"), pytest.raises(Failure) as failed:
        await own.write(CONTENT, None)
    assert failed.value.remedy is remedy


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_an_admission_webhook_that_repeats_what_was_sent_shows_no_value(
    simulator: KubernetesSimulator, own: OwnSecretOf, status: int
) -> None:
    encoded = base64.b64encode(CONTENT.client_secret.encode()).decode()
    body = f'{{"message": "denied: {encoded} and {CONTENT.client_secret}"}}'
    with simulator.failing(status, path="/secrets", body=body), pytest.raises(Failure) as failed:
        await own.write(CONTENT, None)
    assert "denied:" in failed.value.message
    assert encoded not in failed.value.message
    assert "hunter2" not in failed.value.message


# The credentials


async def given(values: Mapping[str, str]) -> Mapping[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


async def read(own: OwnSecretOf, **values: str) -> Any:
    return await read_credentials(lambda *_: given(values), "default", SecretRefModel(name="buildkite"), own)


async def test_the_client_comes_from_the_own_secret_and_all_else_from_the_users(own: OwnSecretOf) -> None:
    await own.write(CONTENT, None)
    found = await read(own, BATON_API_TOKEN="bkua_1", BATON_CLIENT_ID="ignored", BATON_CLIENT_SECRET="ignored")
    assert (found.client_id, found.client_secret) == (CONTENT.client_id, CONTENT.client_secret)
    assert found.api_token == "bkua_1"
    await own.write(NEWER, await own.read())
    assert (await read(own, BATON_API_TOKEN="bkua_1")).client_id == NEWER.client_id


@pytest.mark.parametrize("there", [None, Kept("2app", "2connector", "2credential", "", "")])
async def test_until_it_is_there_the_connector_is_not_created(own: OwnSecretOf, there: Kept | None) -> None:
    if there is not None:
        await own.write(there, None)
    with pytest.raises(Failure) as failed:
        await read(own, BATON_API_TOKEN="bkua_1")
    assert (failed.value.reason, failed.value.remedy) == (Reason.C1_NOT_CREATED, Remedy.RETRY)


async def test_the_users_secret_still_needs_the_token(own: OwnSecretOf) -> None:
    await own.write(CONTENT, None)
    with pytest.raises(Failure, match="has no key BATON_API_TOKEN"):
        await read(own)
