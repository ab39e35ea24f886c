"""An app for token exchange in place of an API token: Connected, its key rotated, the app deleted and made again."""

import json

import pytest

from fakes.exchange_setup import Registered, ec_pem, jwk_of, register
from harness.kubernetes_apis import Manifest
from harness.rig import Rig, condition
from scenarios.secrecy import everything_told, find_leaks
from scenarios.tenant import Tenant


def secret_of(tenant: Tenant, registered: Registered, pem: str) -> Manifest:
    return tenant.secret(
        BATON_API_TOKEN=None,
        BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID=registered.app.client_id,
        BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY=pem,
        BUILDKITE_TOKEN_EXCHANGE_SUBJECT=registered.exchange.subject,
    )


class TestTokenExchange:
    @pytest.mark.thorough
    async def test_from_the_first_token_over_a_new_key_and_a_deleted_app_to_ready_again(self, rig: Rig) -> None:
        tenant, old, new = Tenant(rig, "exchanging"), ec_pem(), ec_pem(1)
        exchanges, organization = rig.buildkite.exchanges, rig.buildkite.organization.slug
        registered = register(rig.buildkite, old)
        async with rig.operator("--log-level", "debug") as operator:
            await tenant.apply(secret_of(tenant, registered, old), tenant.connector())
            refused = await tenant.until_condition("Ready", "False", "SpecInvalid")
            await tenant.apply(tenant.connector(organization=organization))
            await tenant.until_ready()
            connected = await tenant.get()

            registered.app.jwks[:] = [jwk_of(new)]
            exchanges.revoke_tokens(registered.app.client_id)
            await tenant.request_sync()
            unsigned = await tenant.until_condition("CredentialsValid", "False", "TokenExchangeRejected")
            await tenant.apply(secret_of(tenant, registered, new))  # and nothing else
            await tenant.until_ready()
            assert exchanges.minted[-1].kid == jwk_of(new)["kid"]

            app = exchanges.revoke(registered.app.client_id)
            await tenant.request_sync()
            rejected = await tenant.until_condition("CredentialsValid", "False", "TokenExchangeRejected")
            exchanges.register(app)
            await tenant.request_sync()
            await tenant.until_ready()

            app.grantable = ("read_organizations",)
            exchanges.revoke_tokens(app.client_id)
            await tenant.apply(tenant.connector(organization=organization, sync={"timeout": "1h"}))
            await tenant.until_condition("CredentialsValid", "False", "TokenScopeMissing")
            lacking = await tenant.get()
            assert await operator.stop() == 0
        assert "spec.organization is required with token exchange" in refused["message"]
        assert "by token exchange" in condition(connected, "CredentialsValid")["message"]
        assert connected["status"]["organization"]["slug"] == organization
        assert connected["status"]["phase"] == "Connected"
        assert "expiresAt" not in connected["status"].get("token", {})
        assert "lacks the public key" in unsigned["message"]
        assert "Check that the app still exists" in rejected["message"]
        assert lacking["status"]["token"]["missingScopes"] == ["read_teams"]
        rig.confided |= {line for pem in (old, new) for line in pem.splitlines()[1:-1]}
        rig.confided |= {text for each in exchanges.minted for text in (each.token, each.assertion)}
        told = [*await everything_told(rig), json.dumps(lacking), json.dumps(connected)]
        assert find_leaks(rig, told) == []
        assert not any(registered.exchange.subject in text for text in told)
