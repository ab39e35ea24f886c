"""From a Secret to credentials: each thing that can be wrong has its own reason and says what to do."""

import base64
from collections.abc import Mapping

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.schema.spec import SecretKeysModel, SecretRefModel
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_SECRET
from buildkite_connector.model.spec import OrganizationChoice
from fakes.one_secret import OneSecret
from simulators.kubernetes.server import KubernetesSimulator


def secret_ref(name: str, **keys: str) -> SecretRefModel:
    return SecretRefModel(name=name, keys=SecretKeysModel.model_validate(keys))


REF = secret_ref("buildkite-credentials")
GOOD = {
    "BATON_CLIENT_ID": b"brave-otter-12345@acme.conductor.one/ccc",
    "BATON_CLIENT_SECRET": b"secret-token:conductorone.com:v1:hunter2hunter2",
    "BATON_API_TOKEN": b"bkua_hunter2",
}


async def failure_of(values: Mapping[str, bytes], error: Exception | None = None) -> Failure:
    with pytest.raises(Failure) as caught:
        await read_credentials(OneSecret(values, error).read_secret, "default", REF)
    assert "hunter2" not in f"{caught.value!r} {caught.value}"
    return caught.value


async def test_the_vendor_s_secret_is_read_as_it_is() -> None:
    secrets = OneSecret({**GOOD, "BATON_ORGANIZATION": b"acme-inc", "OTHER": b"\xff"})
    credentials = await read_credentials(secrets.read_secret, "default", REF)
    assert secrets.asked == [("default", "buildkite-credentials")]
    assert credentials.client_id == "brave-otter-12345@acme.conductor.one/ccc"
    assert credentials.client_secret == "secret-token:conductorone.com:v1:hunter2hunter2"
    assert credentials.api_token == "bkua_hunter2"
    assert credentials.organization == OrganizationChoice("acme-inc", "BATON_ORGANIZATION")


async def test_keys_of_another_name_are_read_when_the_resource_names_them() -> None:
    ref = secret_ref(
        "s", clientID="id", clientSecret="secret", apiToken="token", organization="org", writeApiToken="writes"
    )
    credentials = await read_credentials(
        OneSecret({"id": b"a@b/c", "secret": b"s", "token": b"t", "org": b"acme"}).read_secret, "default", ref
    )
    assert (credentials.client_id, credentials.api_token) == ("a@b/c", "t")
    assert credentials.organization == OrganizationChoice("acme", "org")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ""),
        ({"BATON_WRITE_API_TOKEN": b""}, ""),
        ({"BATON_WRITE_API_TOKEN": b"bkua_writes\n"}, "bkua_writes"),
    ],
    ids=["absent", "empty", "there"],
)
async def test_the_token_that_writes_may_be_left_out(values: Mapping[str, bytes], expected: str) -> None:
    credentials = await read_credentials(OneSecret({**GOOD, **values}).read_secret, "default", REF)
    assert credentials.write_api_token == expected
    assert "bkua_writes" not in repr(credentials)


async def test_the_token_that_writes_has_the_key_that_the_resource_names() -> None:
    ref = secret_ref("s", writeApiToken="writer")
    credentials = await read_credentials(
        OneSecret({**GOOD, "writer": b"w", "BATON_WRITE_API_TOKEN": b"x"}).read_secret, "d", ref
    )
    assert credentials.write_api_token == "w"


async def test_a_token_that_writes_and_cannot_be_one_is_named_by_its_key() -> None:
    failure = await failure_of({**GOOD, "BATON_WRITE_API_TOKEN": b"hunter2 two words"})
    assert "BATON_WRITE_API_TOKEN" in failure.message


@pytest.mark.parametrize("values", [{}, {"BATON_ORGANIZATION": b""}, {"BATON_ORGANIZATION": b" \n"}])
async def test_the_organization_may_be_left_out(values: Mapping[str, bytes]) -> None:
    credentials = await read_credentials(OneSecret({**GOOD, **values}).read_secret, "default", REF)
    assert credentials.organization is None


async def test_the_line_break_that_echo_and_editors_leave_is_stripped() -> None:
    padded = {key: b" " + value + b"\r\n" for key, value in GOOD.items()}
    assert await read_credentials(OneSecret(padded).read_secret, "default", REF) == await read_credentials(
        OneSecret(GOOD).read_secret, "default", REF
    )


async def test_a_secret_that_is_not_there_says_what_to_create_and_where() -> None:
    failure = await failure_of({}, ApiError(404, "secrets not found"))
    assert (failure.reason, failure.remedy) == (Reason.SECRET_NOT_FOUND, Remedy.CREDENTIALS)
    for word in (
        "buildkite-credentials",
        "namespace default",
        "BATON_CLIENT_ID",
        "BATON_CLIENT_SECRET",
        "BATON_API_TOKEN",
    ):
        assert word in failure.message


async def test_a_secret_that_may_not_be_read_says_which_right_to_give() -> None:
    failure = await failure_of({}, ApiError(403, "forbidden"))
    assert (failure.reason, failure.remedy) == (Reason.SECRET_FORBIDDEN, Remedy.CREDENTIALS)
    assert "get on secrets" in failure.message
    assert "namespace default" in failure.message


@pytest.mark.parametrize("key", GOOD)
async def test_a_missing_key_is_named_with_the_known_keys_that_are_there(key: str) -> None:
    there = {name: value for name, value in GOOD.items() if name != key}
    failure = await failure_of({**there, "somebody-elses": b"x"})
    assert (failure.reason, failure.remedy) == (Reason.SECRET_KEY_MISSING, Remedy.CREDENTIALS)
    assert f"has no key {key}," in failure.message
    assert f"; it has {', '.join(sorted(there))} and 1 other key:" in failure.message


async def test_keys_that_neither_the_resource_nor_the_vendor_names_are_counted_and_not_told() -> None:
    failure = await failure_of({"hunter2": b"x", "password": b"y"})
    assert "; it has 2 other keys:" in failure.message


async def test_an_empty_secret_says_that_it_has_no_key_at_all() -> None:
    assert "no key at all" in (await failure_of({})).message


@pytest.mark.parametrize("key", GOOD)
@pytest.mark.parametrize("blank", [b"", b" \n\t"])
async def test_an_empty_key_is_named(key: str, blank: bytes) -> None:
    failure = await failure_of({**GOOD, key: blank})
    assert (failure.reason, failure.remedy) == (Reason.SECRET_KEY_EMPTY, Remedy.CREDENTIALS)
    assert key in failure.message


@pytest.mark.parametrize(
    "value", [b"\xff\xfehunter2", b"hunter2\nhunter2", b"hunter2 hunter2", b"\x00hunter2", "“hunter2”".encode()]
)
async def test_what_cannot_be_a_credential_is_named_and_not_shown(value: bytes) -> None:
    failure = await failure_of({**GOOD, "BATON_API_TOKEN": value})
    assert (failure.reason, failure.remedy) == (Reason.SECRET_KEY_INVALID, Remedy.CREDENTIALS)
    assert "BATON_API_TOKEN" in failure.message


@pytest.mark.parametrize("key", [*GOOD, "BATON_ORGANIZATION", "BATON_WRITE_API_TOKEN"])
async def test_a_value_longer_than_any_credential_is_refused_by_its_key(key: str) -> None:
    failure = await failure_of({**GOOD, key: b"hunter2" * LONGEST_SECRET})
    assert (failure.reason, failure.remedy) == (Reason.SECRET_KEY_INVALID, Remedy.CREDENTIALS)
    assert f"Key {key} of" in failure.message


@pytest.mark.parametrize("slug", [b"Acme", b"../users", b"acme/teams"])
async def test_an_organization_that_is_no_slug_never_becomes_part_of_an_address(slug: bytes) -> None:
    failure = await failure_of({**GOOD, "BATON_ORGANIZATION": slug})
    assert failure.reason is Reason.SECRET_KEY_INVALID
    assert "BATON_ORGANIZATION" in failure.message


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("BATON_API_TOKEN", b'"bkua_hunter2"', "quotation marks"),
        ("BATON_WRITE_API_TOKEN", b"bkct_hunter2", "agent token"),
        ("BATON_CLIENT_ID", base64.b64encode(GOOD["BATON_CLIENT_ID"]), "base64-encoded once too often"),
        ("BATON_CLIENT_SECRET", b"BATON_CLIENT_SECRET=" + GOOD["BATON_CLIENT_SECRET"], "a line of an env file"),
        ("BATON_CLIENT_SECRET", GOOD["BATON_CLIENT_ID"], "holds C1's client ID"),
    ],
)
async def test_a_value_that_cannot_be_the_credential_says_what_is_wrong_and_not_to_rotate(
    key: str, value: bytes, says: str
) -> None:
    failure = await failure_of({**GOOD, key: value})
    assert (failure.reason, failure.remedy) == (Reason.SECRET_KEY_INVALID, Remedy.CREDENTIALS)
    assert failure.message.startswith(f"Key {key} of Secret buildkite-credentials")
    assert says in failure.message
    assert "rotate" not in failure.message


async def test_a_client_secret_that_base64_wrapped_into_lines_is_read() -> None:
    wrapped = b"\n".join(GOOD["BATON_CLIENT_SECRET"][at : at + 12] for at in range(0, 60, 12))
    credentials = await read_credentials(
        OneSecret({**GOOD, "BATON_CLIENT_SECRET": wrapped}).read_secret, "default", REF
    )
    assert "".join(credentials.client_secret.split()) == GOOD["BATON_CLIENT_SECRET"].decode()


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


async def failure_over_http(api: KubernetesApi) -> Failure:
    with pytest.raises(Failure) as caught:
        await read_credentials(api.read_secret, "default", secret_ref("s"))
    told: list[BaseException | None] = [caught.value]
    while told[-1] is not None:
        assert TOKEN not in f"{told[-1]!r} {told[-1]}"
        told.append(told[-1].__cause__ or told[-1].__context__)
    return caught.value


@pytest.mark.parametrize("status", STATUSES)
async def test_each_status_has_its_reason_and_remedy(
    simulator: KubernetesSimulator, api: KubernetesApi, status: int | None
) -> None:
    with simulator.failing(status):
        failure = await failure_over_http(api)
    assert (failure.reason, failure.remedy) == STATUSES[status]
    assert failure.retry_after is None


@pytest.mark.parametrize("title", GARBAGE)
async def test_an_answer_that_is_no_secret_is_trouble_and_not_repeated(
    simulator: KubernetesSimulator, api: KubernetesApi, title: str
) -> None:
    with simulator.failing(200, body=GARBAGE[title]):
        failure = await failure_over_http(api)
    assert (failure.reason, failure.remedy) == (AWAY, Remedy.RETRY)
    assert "read a Secret" in failure.message
