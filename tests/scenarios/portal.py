"""A portal in Buildkite: last logins and API tokens reach C1, and what a person sees and does when it fails."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from buildkite_connector.buildkite.portal_document import MARK, portal_document
from buildkite_connector.proto import connector_pb2 as pb
from harness.kubernetes_apis import Manifest
from harness.rig import Rig, condition
from harness.service_rig import ServiceRig
from scenarios.access import access_organization, rows, types
from scenarios.tenant import NewTenant, Tenant
from simulators.buildkite.portal import Portal
from simulators.buildkite.portal_view import PortalView
from simulators.c1.uploads import Received

SLUG = "c1-connector"
WITH_TOKENS = ("user", "team", "api_token")


@dataclass
class Seen:
    """An organization of six people, and the portal that shows when they were last seen. One of them is a machine."""

    rig: Rig | ServiceRig
    slug: str
    portal: Portal = field(init=False)

    def __post_init__(self) -> None:
        access_organization(self.rig, self.slug)
        self.portal = self.rig.buildkite.portals.create(SLUG, portal_document(), organization=self.slug)
        self.rig.confided.add(self.token)
        next(iter(self.view.members())).machine = True

    @property
    def token(self) -> str:
        assert self.portal.token is not None
        return self.portal.token

    @property
    def view(self) -> PortalView:
        return self.rig.buildkite.portals.view(self.slug)

    @property
    def calls(self) -> list[str]:
        """The operations that the portal ran."""
        return [each.operation for each in self.rig.buildkite.portals.calls if each.organization == self.slug]

    def check(self, received: Received, scratch: Path) -> None:
        """What C1 ingested is what the portal shows: no more, no less."""
        found = resources(received, scratch)
        people = {each.user_id: each for each in self.view.members() if not each.bot}
        assert found["user"].keys() == people.keys()
        for user_id, shown in people.items():
            resource = found["user"][user_id]
            trait = trait_of(resource, pb.UserTrait)
            assert moment(trait, "last_login") == shown.last_seen_at
            assert moment(resource, "created_at") == shown.since
            assert trait.mfa_status.mfa_enabled is shown.two_factor
            expected = pb.UserTrait.ACCOUNT_TYPE_SERVICE if shown.machine else pb.UserTrait.ACCOUNT_TYPE_HUMAN
            assert trait.account_type == expected
        tokens = {each.uuid: each for each in self.view.tokens()}
        assert found["api_token"].keys() == tokens.keys()
        for uuid, token in tokens.items():
            secret = trait_of(found["api_token"][uuid], pb.SecretTrait)
            assert secret.identity_id.resource == (token.owner or "")
            assert moment(secret, "expires_at") == token.expires_at
            assert moment(secret, "last_used_at") == token.last_used_at
        whole = scratch.read_bytes()
        assert [token for token in tokens.values() if token.address and token.address.encode() in whole] == []


def resources(received: Received, scratch: Path) -> Mapping[str, dict[str, pb.Resource]]:
    """Every resource by type and ID; the database is left in `scratch`."""
    found: dict[str, dict[str, pb.Resource]] = {}
    for row in rows(received, scratch)["v1_resources"]:
        [data] = [each for each in row if isinstance(each, bytes)]
        resource = pb.Resource.FromString(data)
        found.setdefault(resource.id.resource_type, {})[resource.id.resource] = resource
    return found


def trait_of(resource: pb.Resource, kind: type[Any]) -> Any:
    trait = kind()
    assert any(each.Unpack(trait) for each in resource.annotations), f"{resource.id} has no {kind.__name__}"
    return trait


def moment(message: Message, name: str) -> datetime | None:
    """None for a field that is absent."""
    return getattr(message, name).ToDatetime(UTC) if message.HasField(name) else None


def secret_of(tenant: Tenant, token: str | None) -> Manifest:
    return tenant.secret(BUILDKITE_PORTAL_TOKEN=token)


def spec_of(*chosen: str, slug: str = SLUG) -> dict[str, Any]:
    return {"portal": {"slug": slug}, **types(*chosen)}


class TestPortal:
    async def test_last_logins_machine_users_and_api_tokens_reach_c1(
        self, new_tenant: NewTenant, tmp_path: Path
    ) -> None:
        tenant, plain = new_tenant("seen", "seen"), new_tenant("unseen", "seen")
        seen = Seen(tenant.rig, "seen")
        await plain.apply(secret_of(plain, "bkpat_which-nobody-reads"), plain.connector())
        await plain.until_ready()
        assert seen.calls == []
        await tenant.apply(secret_of(tenant, seen.token), tenant.connector(**spec_of(*WITH_TOKENS)))
        status = (await tenant.until_ready())["status"]
        assert (status["lastSync"]["accounts"], status["lastSync"]["apiTokens"]) == (6, len(seen.view.tokens()))
        assert sorted(seen.calls) == sorted(2 * ["BuildkiteConnectorApiTokens", "BuildkiteConnectorMembers"])
        assert f"{len(seen.view.tokens())} API tokens" in condition({"status": status}, "Ready")["message"]
        received = await tenant.deliver()
        seen.check(received, tmp_path / "seen")
        unseen = resources(await plain.deliver(), tmp_path / "unseen")
        assert unseen.keys() == {"user", "team"}
        assert not any(trait_of(each, pb.UserTrait).HasField("last_login") for each in unseen["user"].values())

    @pytest.mark.thorough
    async def test_each_thing_that_is_wrong_is_named_and_fixed_where_the_condition_says(
        self, new_tenant: NewTenant, tmp_path: Path
    ) -> None:
        """The Secret without the token, with another kind, with a wrong one; another document; another slug."""
        tenant = new_tenant("fixed", "fixed")
        seen = Seen(tenant.rig, "fixed")
        await tenant.apply(tenant.secret(), tenant.connector(**spec_of(*WITH_TOKENS)))
        missing = await tenant.until_condition("CredentialsValid", "False", "SecretKeyMissing")
        assert "has no key BUILDKITE_PORTAL_TOKEN" in missing["message"]
        await tenant.apply(secret_of(tenant, "bkpat_0123456789abcdef0123456789"))
        await tenant.request_sync()  # look again at once, here and below
        wrong = await tenant.until_condition("CredentialsValid", "False", "SecretKeyInvalid")
        assert "expires within hours: create a long-lived service token" in wrong["message"]
        assert (seen.calls, tenant.collecting) == ([], [])
        await tenant.apply(secret_of(tenant, "portal-token-of-somebody-else"))
        await tenant.request_sync()
        rejected = await tenant.until_condition("CredentialsValid", "False", "PortalRejected")
        ready = await tenant.until_condition("Ready", "False", "PortalRejected")
        assert ready["message"] == rejected["message"]
        assert "lastSync" not in (await tenant.get())["status"]
        await tenant.apply(secret_of(tenant, seen.token))  # and nothing else
        before = (await tenant.until_ready())["status"]["lastSync"]

        seen.portal.document = portal_document().replace(MARK, "buildkiteConnectorDocument0")
        await tenant.request_sync()
        outdated = await tenant.until_condition("CredentialsValid", "False", "PortalDocumentInvalid")
        assert "buildkite-connector portal" in outdated["message"]
        status = (await tenant.get())["status"]
        assert status["lastSync"]["id"] == before["id"], "no account is staged without its last login"
        seen.portal.document = portal_document()
        await tenant.request_sync()
        await tenant.until_ready()

        await tenant.apply(tenant.connector(**spec_of(*WITH_TOKENS, slug="another")))
        lost = await tenant.until_condition("Ready", "False", "PortalNotFound")
        assert "another" in lost["message"]
        await tenant.apply(tenant.connector(**spec_of(*WITH_TOKENS)))
        await tenant.until_ready()
        seen.check(await tenant.deliver(), tmp_path / "fixed")
        reasons = [each["reason"] for each in await tenant.events() if each["type"] == "Warning"]
        assert {"SecretKeyMissing", "PortalRejected", "PortalDocumentInvalid", "PortalNotFound"} <= {*reasons}
        assert not any(seen.token in json.dumps(each) for each in await tenant.events())

    @pytest.mark.thorough
    async def test_a_token_that_is_removed_stops_the_syncs_until_the_secret_has_another(
        self, new_tenant: NewTenant, tmp_path: Path
    ) -> None:
        tenant = new_tenant("removed", "removed")
        seen = Seen(tenant.rig, "removed")
        await tenant.apply(secret_of(tenant, seen.token), tenant.connector(**spec_of("user")))
        await tenant.until_ready()
        staged = tenant.staged
        seen.portal.token = "another-long-lived-service-token"
        seen.rig.confided.add(seen.token)
        await tenant.request_sync()
        await tenant.until_condition("CredentialsValid", "False", "PortalRejected")
        await tenant.until_condition("Ready", "False", "PortalRejected")
        assert tenant.staged == staged, "what was read with the portal stays"
        await tenant.apply(secret_of(tenant, seen.token))
        await tenant.until_ready()
        users = resources(await tenant.deliver(), tmp_path / "removed")["user"].values()
        assert any(trait_of(each, pb.UserTrait).HasField("last_login") for each in users)

    @pytest.mark.thorough
    async def test_an_account_without_its_details_is_not_delivered(self, new_tenant: NewTenant) -> None:
        tenant = new_tenant("omitted", "omitted")
        seen = Seen(tenant.rig, "omitted")
        await tenant.apply(secret_of(tenant, seen.token), tenant.connector(**spec_of("user")))
        before = (await tenant.until_ready())["status"]["lastSync"]["id"]
        seen.view.omitted.add(next(each.user_id for each in seen.view.members() if not each.bot))
        await tenant.request_sync()
        incomplete = await tenant.until_condition("Synced", "False", "ListIncomplete")
        assert "C1 would treat these accounts as never used" in incomplete["message"]
        assert (await tenant.get())["status"]["lastSync"]["id"] == before
        seen.view.omitted.clear()
        await tenant.sync()
        await tenant.until_ready()
