"""What was wrong ends once it is mended, without a restart."""

from dataclasses import replace

from scenarios.conditions import MINUTE, Story, Trouble
from scenarios.tenant import NewTenant


class TestRecovery:
    async def test_a_connector_turns_ready_within_a_minute_of_the_mending(self, story: Story) -> None:
        mended = await story.mended
        print(f"{story.trouble.title}: Ready {mended.seconds:.1f} s after it was mended")
        assert mended.seconds < MINUTE
        status = mended.connector["status"]
        conditions = {each["type"]: each["status"] for each in status["conditions"]}
        assert conditions == {"Ready": "True", "CredentialsValid": "True", "Synced": "True", "Delivered": "False"}
        assert "missingScopes" not in status.get("token", {})
        warnings = [each["reason"] for each in mended.events if each["type"] == "Warning"]
        assert warnings == [story.trouble.reason]

    async def test_a_request_makes_a_connector_in_trouble_look_again_at_once(self, new_tenant: NewTenant) -> None:
        tenant = new_tenant(scopes=("read_organizations",))
        await tenant.apply()
        await tenant.until_condition("Ready", "False", "TokenScopeMissing")
        tenant.rig.buildkite.grant(replace(tenant.token, scopes=Trouble.scopes))
        value = await tenant.request_sync()
        connector = await tenant.until_ready()
        assert connector["status"]["lastHandledSyncRequest"] == value
