"""Every answer of the API server to `get secret`, over a real socket, and what it means for the connector."""

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.resource import SecretKeys, SecretRef
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.model.failure import Failure, Reason, Remedy
from simulators.kubernetes.server import KubernetesDouble

REF = SecretRef("s", SecretKeys("BATON_CLIENT_ID", "BATON_CLIENT_SECRET", "BATON_API_TOKEN", "BATON_ORGANIZATION"))
TOKEN = "aHVudGVyMmh1bnRlcjI="
REFUSED, AWAY = Reason.KUBERNETES_REFUSED, Reason.KUBERNETES_UNAVAILABLE

STATUSES = {
    400: (REFUSED, Remedy.RETRY),
    401: (REFUSED, Remedy.RETRY),
    403: (Reason.SECRET_FORBIDDEN, Remedy.CREDENTIALS),
    404: (Reason.SECRET_NOT_FOUND, Remedy.CREDENTIALS),
    405: (REFUSED, Remedy.RETRY),
    409: (REFUSED, Remedy.RETRY),
    410: (REFUSED, Remedy.RETRY),
    422: (REFUSED, Remedy.RETRY),
    429: (AWAY, Remedy.RETRY),
    500: (AWAY, Remedy.RETRY),
    502: (AWAY, Remedy.RETRY),
    503: (AWAY, Remedy.RETRY),
    504: (AWAY, Remedy.RETRY),
    None: (AWAY, Remedy.RETRY),
}
GARBAGE = {
    "nothing": "",
    "no JSON": f"<html>{TOKEN}</html>",
    "cut short": f'{{"data": {{"BATON_API_TOKEN": "{TOKEN}',
    "a list": f'["{TOKEN}"]',
    "null": "null",
    "data is a list": f'{{"data": ["{TOKEN}"]}}',
    "data is a text": f'{{"data": "{TOKEN}"}}',
    "a value is a number": '{"data": {"BATON_API_TOKEN": 5}}',
    "a value is null": '{"data": {"BATON_API_TOKEN": null}}',
    "a value is an object": f'{{"data": {{"BATON_API_TOKEN": {{"{TOKEN}": 1}}}}}}',
    "nested without an end": "[" * 200_000,
    "a number without an end": f'{{"data": {"9" * 10_000}}}',
}


async def failure_of(api: KubernetesApi) -> Failure:
    with pytest.raises(Failure) as caught:
        await read_credentials(api, "default", REF)
    told: list[BaseException | None] = [caught.value]
    while told[-1] is not None:
        assert TOKEN not in f"{told[-1]!r} {told[-1]}"
        told.append(told[-1].__cause__ or told[-1].__context__)
    return caught.value


@pytest.mark.parametrize("status", STATUSES)
async def test_each_status_has_its_reason_and_remedy(
    double: KubernetesDouble, api: KubernetesApi, status: int | None
) -> None:
    with double.failing(status):
        failure = await failure_of(api)
    assert (failure.reason, failure.remedy) == STATUSES[status]
    assert failure.retry_after is None


@pytest.mark.parametrize("title", GARBAGE)
async def test_an_answer_that_is_no_secret_is_trouble_and_not_repeated(
    double: KubernetesDouble, api: KubernetesApi, title: str
) -> None:
    with double.failing(200, body=GARBAGE[title]):
        failure = await failure_of(api)
    assert (failure.reason, failure.remedy) == (AWAY, Remedy.RETRY)
    assert "read a Secret" in failure.message


async def test_a_secret_that_is_deleted_is_said_to_be_missing(double: KubernetesDouble, api: KubernetesApi) -> None:
    double.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"BATON_API_TOKEN": TOKEN}})
    assert (await failure_of(api)).reason is Reason.SECRET_KEY_MISSING
    double.delete("Secret", "default", "s")
    assert (await failure_of(api)).reason is Reason.SECRET_NOT_FOUND
