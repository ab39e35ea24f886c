"""A Secret with a token exchange app, in place of an API token or beside one."""

import json
from collections.abc import Mapping

import pytest

from buildkite_connector.buildkite import SigningKey
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.model.failure import Reason, Remedy
from buildkite_connector.model.spec import TokenExchange
from fakes.exchange_setup import ec_pem, rsa_pem
from fakes.one_secret import OneSecret
from unit.kubernetes.test_kubernetes_secrets import GOOD, REF, failure_of, secret_ref

CLIENT_ID, KEY, SUBJECT = (f"BUILDKITE_TOKEN_EXCHANGE_{name}" for name in ("CLIENT_ID", "PRIVATE_KEY", "SUBJECT"))
NO_TOKEN = {key: value for key, value in GOOD.items() if key != "BATON_API_TOKEN"}
APP = {CLIENT_ID: b"0123456789abcdef0123", KEY: ec_pem().encode(), SUBJECT: b"c1-sync@example.com"}


@pytest.mark.parametrize("pem", [ec_pem(), rsa_pem(), ec_pem().replace("\n", "\r\n")], ids=["EC", "RSA", "CRLF"])
@pytest.mark.parametrize("token", [{}, {"BATON_API_TOKEN": b" \n"}], ids=["no API token", "an empty one"])
async def test_an_app_takes_the_place_of_the_api_token(pem: str, token: Mapping[str, bytes]) -> None:
    secrets = OneSecret({**NO_TOKEN, **token, **APP, KEY: pem.encode()})
    credentials = await read_credentials(secrets.read_secret, "default", REF)
    assert credentials.token_exchange == TokenExchange("0123456789abcdef0123", pem.strip(), "c1-sync@example.com")
    assert (credentials.api_token, credentials.exchanges) == ("", True)


async def test_a_key_on_one_line_is_read_and_neither_form_of_it_is_repeated() -> None:
    """Where \\n stands for each line break, as in many env files."""
    on_one_line = rsa_pem().replace("\n", "\\n")
    secrets = OneSecret({**NO_TOKEN, **APP, KEY: on_one_line.encode()})
    credentials = await read_credentials(secrets.read_secret, "default", REF)
    assert credentials.token_exchange is not None
    assert SigningKey.parse(credentials.token_exchange.private_key) == SigningKey.parse(rsa_pem())
    for sent in (on_one_line, rsa_pem(), json.dumps({"error": rsa_pem()})):
        shown = credentials.redactor.redact(f"No {sent} here")
        assert not {shown[at : at + 12] for at in range(len(shown) - 11)} & pieces_of(rsa_pem())


def pieces_of(pem: str) -> set[str]:
    body = "".join(pem.splitlines()[1:-1])
    return {body[at : at + 12] for at in range(len(body) - 11)}


async def test_beside_an_api_token_any_value_will_do() -> None:
    secrets = OneSecret({**GOOD, KEY: b"not a key"})
    credentials = await read_credentials(secrets.read_secret, "default", REF)
    assert (credentials.api_token, credentials.exchanges) == ("bkua_hunter2", False)
    assert credentials.token_exchange == TokenExchange("", "not a key", "")


async def test_keys_of_another_name_are_read_when_the_resource_names_them() -> None:
    ref = secret_ref("s", tokenExchangeClientID="id", tokenExchangePrivateKey="key", tokenExchangeSubject="who")
    values = {**NO_TOKEN, "id": b"x", "key": ec_pem().encode(), "who": b"5acb99cf-d349-4189-b361-d1b9f36d70d7"}
    credentials = await read_credentials(OneSecret(values).read_secret, "default", ref)
    assert credentials.token_exchange is not None
    assert credentials.token_exchange.subject == "5acb99cf-d349-4189-b361-d1b9f36d70d7"


@pytest.mark.parametrize("key", APP)
@pytest.mark.parametrize("blank", [False, True])
async def test_each_part_of_an_app_is_required(key: str, blank: bool) -> None:
    values = {**NO_TOKEN, **APP, key: b" "} if blank else {**NO_TOKEN, **{k: v for k, v in APP.items() if k != key}}
    failure = await failure_of(values)
    assert failure.reason is (Reason.SECRET_KEY_EMPTY if blank else Reason.SECRET_KEY_MISSING)
    assert (failure.remedy, key in failure.message) == (Remedy.CREDENTIALS, True)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (KEY, ec_pem().replace("\n", " ").encode(), "has lost its line breaks"),
        (KEY, b"-----BEGIN PUBLIC KEY-----\nhunter2\n-----END PUBLIC KEY-----", "is a public key"),
        (KEY, b"bkua_hunter2", "holds a Buildkite API token"),
        (SUBJECT, b"hunter2", "is neither an e-mail address nor a UUID"),
        (CLIENT_ID, b"c1-sync@example.com", "holds the e-mail address"),
    ],
)
async def test_a_value_that_cannot_be_right_is_named(key: str, value: bytes, says: str) -> None:
    failure = await failure_of({**NO_TOKEN, **APP, key: value})
    assert (failure.reason, failure.remedy) == (Reason.SECRET_KEY_INVALID, Remedy.CREDENTIALS)
    assert f"Key {key} of Secret buildkite-credentials in namespace default {says}" in failure.message


async def test_without_either_the_api_token_is_what_is_missing() -> None:
    failure = await failure_of(NO_TOKEN)
    assert (failure.reason, "BATON_API_TOKEN" in failure.message) == (Reason.SECRET_KEY_MISSING, True)
