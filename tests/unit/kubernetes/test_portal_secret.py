"""A Secret with a portal's token: required with spec.portal, and not even looked at without it."""

from collections.abc import Mapping

import pytest

from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.controller import SecretOf
from buildkite_connector.kubernetes.resource import read_resource
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_SECRET
from fakes.c1_creation import FakeSecret, Surroundings
from fakes.one_secret import OneSecret
from unit.kubernetes.test_kubernetes_resource import SECRET, body
from unit.kubernetes.test_kubernetes_secrets import GOOD, REF, secret_ref

KEY = "BUILDKITE_PORTAL_TOKEN"
TOKEN = "portal-hunter2-0f8e7d6c5b4a"
WITH_APP = {
    **{key: value for key, value in GOOD.items() if key != "BATON_API_TOKEN"},
    "BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID": b"0123456789abcdef0123",
}


async def failure_of(values: Mapping[str, bytes]) -> Failure:
    with pytest.raises(Failure) as caught:
        await read_credentials(OneSecret(values).read_secret, "default", REF, portal=True)
    assert "hunter2" not in f"{caught.value!r} {caught.value}"
    return caught.value


async def test_the_token_is_read_for_a_portal_and_shown_nowhere() -> None:
    secrets = OneSecret({**GOOD, KEY: f" {TOKEN}\n".encode()})
    credentials = await read_credentials(secrets.read_secret, "default", REF, portal=True)
    assert credentials.portal_token == TOKEN
    assert "hunter2" not in repr(credentials)
    assert "hunter2" not in credentials.redactor.redact(f"the portal has no {TOKEN}")


@pytest.mark.parametrize("portal", [{}, {"portal": {"slug": "c1-connector"}}], ids=["without", "with"])
async def test_the_resource_says_whether_it_is_needed(portal: Mapping[str, object]) -> None:
    resource = read_resource(body({**SECRET, **portal}))
    credentials = await SecretOf(OneSecret({**GOOD, KEY: TOKEN.encode()}).read_secret, resource).read()
    assert credentials.portal_token == (TOKEN if portal else "")


async def test_it_has_the_key_that_the_resource_names() -> None:
    secrets = OneSecret({**GOOD, "portal": TOKEN.encode(), KEY: b"bkpat_other"})
    credentials = await read_credentials(secrets.read_secret, "d", secret_ref("s", portalToken="portal"), portal=True)
    assert credentials.portal_token == TOKEN


@pytest.mark.parametrize(
    "value", [b"bkpat_hunter2", b"two words", b"\xff", b"x" * (LONGEST_SECRET + 1), b"", b"bkua_hunter2"]
)
async def test_without_a_portal_whatever_is_there_breaks_nothing_and_changes_nothing(value: bytes) -> None:
    credentials = await read_credentials(OneSecret({**GOOD, KEY: value}).read_secret, "default", REF)
    without = await read_credentials(OneSecret(GOOD).read_secret, "default", REF)
    assert (credentials, credentials.fingerprint()) == (without, without.fingerprint())


@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        (
            None,
            Reason.SECRET_KEY_MISSING,
            f"has no key {KEY}, which should hold the service token of a Buildkite portal",
        ),
        (b" \n", Reason.SECRET_KEY_EMPTY, "is empty: set it to the service token of a Buildkite portal"),
        (b"bkua_hunter2", Reason.SECRET_KEY_INVALID, "holds a Buildkite API token"),
        (b"bktx_hunter2", Reason.SECRET_KEY_INVALID, "holds a Buildkite API token"),
        (b"bkct_hunter2", Reason.SECRET_KEY_INVALID, "is an agent token"),
        (b"bkpat_hunter2", Reason.SECRET_KEY_INVALID, "expires within hours: create a long-lived service token"),
        (b"secret-token:hunter2", Reason.SECRET_KEY_INVALID, "holds C1's client secret"),
        (b"hunter2 hunter2", Reason.SECRET_KEY_INVALID, "has a space"),
        (b"\xffhunter2", Reason.SECRET_KEY_INVALID, "is not text"),
        (b"hunter2" * LONGEST_SECRET, Reason.SECRET_KEY_INVALID, "more than any credential"),
    ],
)
async def test_with_a_portal_what_cannot_be_its_token_is_named(value: bytes | None, reason: Reason, says: str) -> None:
    failure = await failure_of(GOOD if value is None else {**GOOD, KEY: value})
    assert (failure.reason, failure.remedy) == (reason, Remedy.CREDENTIALS)
    assert says in failure.message
    assert KEY in failure.message


async def test_a_portals_token_takes_no_part_of_a_token_for_the_rest_api() -> None:
    failure = await failure_of({**WITH_APP, KEY: TOKEN.encode()})
    assert "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY" in failure.message
    failure = await failure_of({**GOOD, "BATON_API_TOKEN": b"bkpat_hunter2", KEY: TOKEN.encode()})
    assert "Key BATON_API_TOKEN of Secret buildkite-credentials in namespace default is a portal's token" in str(
        failure
    )


@pytest.mark.parametrize(
    ("own", "portal", "keys"),
    [
        (False, True, f"keys BATON_CLIENT_ID, BATON_CLIENT_SECRET, BATON_API_TOKEN and {KEY}"),
        (True, True, f"keys BATON_API_TOKEN and {KEY}"),
        (True, False, "key BATON_API_TOKEN"),
    ],
)
async def test_a_secret_that_is_not_there_is_to_have_what_is_needed(own: bool, portal: bool, keys: str) -> None:
    gone = OneSecret({}, ApiError(404, "secrets not found"))
    client = FakeSecret(Surroundings()) if own else None
    with pytest.raises(Failure) as caught:
        await read_credentials(gone.read_secret, "default", REF, client, portal=portal)
    assert caught.value.message.endswith(f"create it there with the {keys}.")
