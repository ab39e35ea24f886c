"""No secret value is told: not in a log at any level, an event, a status, or what the simulators noted."""

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from secrets import token_hex
from typing import Protocol

import pytest

from buildkite_connector.model.redactor import SHORTEST_PIECE
from harness.rig import Rig
from scenarios.tenant import Tenant

FRAGMENT = 16
"""So many characters of a secret in a row are a leak."""
JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")


class Confiding(Protocol):
    """A rig that knows the secret values in use."""

    confided: set[str]


def find_leaks(rig: Confiding, texts: Iterable[str]) -> list[str]:
    """The texts that hold a part of a secret value of this rig, plain or as it stands in a Secret, or any JWT."""
    secrets = {part for value in rig.confided for form in _forms(value) for part in _parts(form)}
    return [text for text in texts if JWT.search(text) or not secrets.isdisjoint(_parts(text))]


def _parts(text: str) -> Iterator[str]:
    return (text[start : start + FRAGMENT] for start in range(len(text) - FRAGMENT + 1))


def _forms(value: str) -> Iterator[str]:
    """The value (of a client secret what is secret in it), its base64, and the private key."""
    key = value.rpartition(":")[2]
    yield key
    yield base64.b64encode(value.encode()).decode()
    if key != value:
        with contextlib.suppress(ValueError):  # it was cut short on purpose
            yield json.loads(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))["d"]


async def everything_told(rig: Rig) -> list[str]:
    """Every log line of the rig's operators, every event in its namespace, and the simulators' transcripts."""
    return [
        *(line for operator in rig.operators for line in operator.lines),
        *map(json.dumps, await rig.kubernetes.events(rig.namespace)),
        *map(str, rig.c1.transcript),
        *map(repr, rig.buildkite.requests),
    ]


class TestSecrecy:
    @pytest.mark.parametrize("log_format", ["json", "text"])
    async def test_no_secret_is_told_at_any_level_when_all_is_well_and_when_it_is_not(
        self, rig: Rig, log_format: str
    ) -> None:
        healthy, revoked, malformed, refused = (
            Tenant(rig, name) for name in ("well", "revoked", "malformed", "refused")
        )
        rig.buildkite.revoke(revoked.token)
        rig.c1.authority.refuse(refused.client.client_id)
        async with rig.operator("--log-level", "debug", "--log-format", log_format) as operator:
            for tenant in (healthy, revoked, refused):
                await tenant.apply()
            cut = malformed.client.client_secret[:-4]
            await malformed.apply(malformed.secret(BATON_CLIENT_SECRET=cut), malformed.connector())
            await healthy.until_ready()
            await healthy.deliver()
            rig.c1.authority.expire_tokens()
            await healthy.deliver()
            reasons = {"revoked": "TokenRejected", "malformed": "ClientSecretInvalid", "refused": "C1ClientRejected"}
            for tenant in (revoked, malformed, refused):
                await tenant.until_condition("Ready", "False", reasons[tenant.name])
            connectors = [await tenant.get() for tenant in (healthy, revoked, malformed, refused)]
            assert await operator.stop() == 0
        told = [*await everything_told(rig), *map(json.dumps, connectors)]
        assert any(JWT.fullmatch(value) for value in rig.confided)
        assert any("sync succeeded" in text for text in told)
        assert find_leaks(rig, told) == []

    async def test_a_value_that_the_resource_calls_the_organization_is_told_to_nobody(self, rig: Rig) -> None:
        """Whoever may create a connector, but not read its Secret, would have it quoted as an unknown slug."""
        tenant = Tenant(rig, "curious")
        value = f"bkua_{token_hex(20)}"
        secret = tenant.secret(**{"somebody-elses": value})
        ref = {"name": tenant.secret_name, "keys": {"organization": "somebody-elses"}}
        async with rig.operator("--log-level", "debug") as operator:
            await tenant.apply(secret, tenant.connector(credentialsSecretRef=ref))
            found = await tenant.until_condition("Ready", "False", "OrganizationNotFound")
            refused = await tenant.get()
            await tenant.apply(
                secret, tenant.connector(credentialsSecretRef=ref, organization=rig.buildkite.organization.slug)
            )
            await tenant.until_ready()
            events = await tenant.events()
            assert await operator.stop() == 0
        assert "the slug in the Secret's key somebody-elses" in found["message"]
        assert "OrganizationNotFound" in {event["reason"] for event in events}
        assert any(value in request.path for request in rig.buildkite.requests), "it must have been asked for"
        told = [*operator.lines, json.dumps(refused), json.dumps(await tenant.get()), *map(json.dumps, events)]
        pieces = {value[at : at + SHORTEST_PIECE] for at in range(len(value) - SHORTEST_PIECE + 1)}
        assert [text for text in told if any(piece in text for piece in pieces)] == []
