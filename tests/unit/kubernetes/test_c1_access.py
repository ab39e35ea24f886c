"""From `spec.c1` to a client of C1's REST API: what the resource asks for, and what the Secret must hold."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from buildkite_connector.c1 import C1Settings, open_c1
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.controller import C1AccessOf
from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_SECRET
from buildkite_connector.model.spec import C1Access, C1Creation, C1Spec
from contracts.c1_spec import PAIR, REFUSED, SECRET_REF, WORKLOAD
from fakes.one_secret import OneSecret
from fakes.virtual_time import virtual_time
from harness.trust import DIRECT
from unit.kubernetes.controlled import process

CLIENT_ID = b"calm-heron-67890@acme.conductor.one/spc"
CLIENT_SECRET = b"secret-token:conductorone.com:v1:hunter2hunter2"
GOOD = {"C1_CLIENT_ID": CLIENT_ID, "C1_CLIENT_SECRET": CLIENT_SECRET}


def observed(c1: dict[str, Any] | None) -> ObservedResource:
    spec = {"credentialsSecretRef": {"name": "s"}, **({"c1": c1} if c1 is not None else {})}
    metadata = {"namespace": "default", "name": "acme", "uid": "u-1", "generation": 1}
    return read_resource({"metadata": metadata, "spec": spec})


def read(c1: dict[str, Any] | None) -> ObservedResource:
    resource = observed(c1)
    assert resource.failure is None
    return resource


# The spec


def test_without_the_part_nothing_is_asked_for() -> None:
    resource = read(None)
    assert (resource.spec.c1, resource.c1_auth) == (None, None)


def test_a_pair_of_ids_is_the_connector_and_c1_is_made_to_sync() -> None:
    assert read({**PAIR, "auth": SECRET_REF}).spec.c1 == C1Spec("2app", "2connector", force_sync=True)
    assert read({**PAIR, "forceSync": False, "auth": SECRET_REF}).spec.c1 == C1Spec("2app", "2connector", False)


def test_what_is_created_has_its_defaults() -> None:
    spec = read({"create": {"appName": "Buildkite (acme)"}, "auth": SECRET_REF}).spec.c1
    created = C1Creation(secret_name="acme-c1", app_name="Buildkite (acme)", display_name="Buildkite")
    assert spec == C1Spec(create=created)


def test_every_field_of_what_is_created_arrives() -> None:
    create = {
        "appID": "2app",
        "displayName": "Build",
        "owners": ["2u", "2v"],
        "secretName": "own",
        "deletionPolicy": "Retain",
    }
    spec = read({"create": create, "auth": SECRET_REF}).spec.c1
    assert spec == C1Spec(create=C1Creation("own", app_id="2app", display_name="Build", owners=("2u", "2v")))


@pytest.mark.parametrize("title", REFUSED)
def test_what_an_older_definition_let_pass_is_a_failure_that_names_the_field(title: str) -> None:
    c1, sentence = REFUSED[title]
    resource = observed(c1)
    assert resource.failure is not None
    assert (resource.failure.reason, resource.failure.remedy) == (Reason.SPEC_INVALID, Remedy.EDIT)
    assert resource.failure.message.startswith(sentence)
    assert (resource.spec.c1, resource.c1_auth) == (None, None)


# The access


def source(secrets: OneSecret, auth: dict[str, Any] = SECRET_REF) -> C1AccessOf:
    named = read({**PAIR, "auth": auth}).c1_auth
    assert named is not None
    return C1AccessOf(secrets.read_secret, "team-a", named)


async def failure_of(values: Mapping[str, bytes], error: Exception | None = None) -> Failure:
    with pytest.raises(Failure) as caught:
        await source(OneSecret(values, error)).read()
    assert "hunter2" not in f"{caught.value!r} {caught.value}"
    return caught.value


async def test_the_secret_is_read_by_its_name_in_the_resource_s_namespace() -> None:
    secrets = OneSecret({key: b" " + value + b"\n" for key, value in GOOD.items()})
    assert await source(secrets).read() == C1Access(CLIENT_ID.decode(), CLIENT_SECRET.decode())
    assert secrets.asked == [("team-a", "c1-api")]


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"C1_CLIENT_ID": b"heron@/spc"}, Reason.CLIENT_ID_INVALID, "The client ID has no host"),
        ({}, Reason.CLIENT_SECRET_INVALID, "The client secret has a key"),
    ],
)
async def test_a_client_that_cannot_be_used_is_found_in_its_secret(
    changes: dict[str, bytes], reason: Reason, message: str
) -> None:
    access = await source(OneSecret({**GOOD, **changes})).read()
    async with open_c1(C1Settings(), DIRECT) as c1:
        with pytest.raises(Failure) as caught:
            c1.rest(access)
    assert (caught.value.reason, caught.value.remedy) == (reason, Remedy.CREDENTIALS)
    assert caught.value.message.startswith(message)
    assert caught.value.message.endswith(
        " The client is in keys C1_CLIENT_ID and C1_CLIENT_SECRET of Secret c1-api in namespace team-a."
    )


async def test_the_secret_s_keys_are_those_that_the_resource_names() -> None:
    auth = {"secretRef": {"name": "shared", "keys": {"clientID": "id", "clientSecret": "secret"}}}
    secrets = OneSecret(
        {"id": CLIENT_ID, "secret": CLIENT_SECRET, "C1_CLIENT_ID": b"other@x/y", "BATON_API_TOKEN": b"t"}
    )
    assert await source(secrets, auth).read() == C1Access(CLIENT_ID.decode(), CLIENT_SECRET.decode())


async def test_a_workload_identity_reads_no_secret() -> None:
    secrets = OneSecret({})
    assert await source(secrets, {"workloadIdentity": {"clientID": WORKLOAD}}).read() == C1Access(WORKLOAD)
    assert secrets.asked == []


async def test_a_secret_that_is_not_there_says_what_to_create_and_where() -> None:
    failure = await failure_of({}, ApiError(404, "secrets not found"))
    assert (failure.reason, failure.remedy) == (Reason.SECRET_NOT_FOUND, Remedy.CREDENTIALS)
    assert failure.message == (
        "There is no Secret c1-api in namespace team-a: create it there with the keys C1_CLIENT_ID"
        " and C1_CLIENT_SECRET."
    )


@pytest.mark.parametrize(
    ("status", "reason", "remedy"),
    [(403, Reason.SECRET_FORBIDDEN, Remedy.CREDENTIALS), (410, Reason.KUBERNETES_REFUSED, Remedy.RETRY)],
)
async def test_a_refusal_of_the_api_names_the_secret(status: int, reason: Reason, remedy: Remedy) -> None:
    failure = await failure_of({}, ApiError(status, "no"))
    assert (failure.reason, failure.remedy) == (reason, remedy)
    assert "Secret c1-api in namespace team-a" in failure.message


@pytest.mark.parametrize("key", GOOD)
async def test_a_missing_key_names_the_field_that_chooses_it(key: str) -> None:
    [other] = [each for each in GOOD if each != key]
    failure = await failure_of({other: GOOD[other], "hunter2": b"x"})
    assert (failure.reason, failure.remedy) == (Reason.SECRET_KEY_MISSING, Remedy.CREDENTIALS)
    assert f"has no key {key}," in failure.message
    assert f"; it has {other} and 1 other key:" in failure.message
    assert failure.message.endswith("set the right one in spec.c1.auth.secretRef.keys.")


@pytest.mark.parametrize("key", GOOD)
@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        (b" \n", Reason.SECRET_KEY_EMPTY, "is empty"),
        (b"\xff\xfehunter2", Reason.SECRET_KEY_INVALID, "is not text"),
        (b"hunter2" * LONGEST_SECRET, Reason.SECRET_KEY_INVALID, "more than any credential"),
        (b"bkua_hunter2", Reason.SECRET_KEY_INVALID, "holds a Buildkite API token"),
    ],
    ids=["empty", "not text", "too long", "a token"],
)
async def test_a_value_that_cannot_be_used_is_named_by_its_key_and_not_shown(
    key: str, value: bytes, reason: Reason, says: str
) -> None:
    failure = await failure_of({**GOOD, key: value})
    assert (failure.reason, failure.remedy) == (reason, Remedy.CREDENTIALS)
    assert failure.message.startswith(f"Key {key} of Secret c1-api in namespace team-a ")
    assert says in failure.message


async def test_swapped_and_twice_encoded_values_are_told() -> None:
    swapped = await failure_of({"C1_CLIENT_ID": CLIENT_SECRET, "C1_CLIENT_SECRET": CLIENT_ID})
    assert "the two values are probably swapped" in swapped.message
    encoded = await failure_of({**GOOD, "C1_CLIENT_SECRET": base64.b64encode(CLIENT_SECRET)})
    assert "base64-encoded once too often" in encoded.message


# The controller


@virtual_time
async def test_a_connector_gets_its_access_with_the_part_and_loses_it_without() -> None:
    async with process() as running:
        running.observe("acme")
        [connector] = running.controller.connectors()
        assert (connector._state.desired.spec.c1, connector._state.desired.c1_access) == (None, None)
        running.observe("acme", c1={**PAIR, "auth": {"workloadIdentity": {"clientID": WORKLOAD}}})
        desired = connector._state.desired
        assert desired.spec.c1 == C1Spec("2app", "2connector")
        assert desired.c1_access is not None
        assert await desired.c1_access.read() == C1Access(WORKLOAD)
        running.observe("acme")
        assert connector._state.desired.c1_access is None
