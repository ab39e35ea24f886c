"""The opt-in resource types, from the resource to what C1 has ingested; one that is switched off and on again."""

from dataclasses import replace

import pytest

from harness.organization import ACCESS_ORG
from harness.rig import condition
from scenarios.tenant import NewTenant, Tenant
from simulators.buildkite.api import ACCESS_SCOPES
from simulators.buildkite.made_access import give_access
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization

DEFAULT = ["user", "team"]
ALL = [*DEFAULT, "organization", "pipeline", "cluster"]
COUNTS = ("organizationRoles", "pipelines", "pipelineAccess", "clusters", "clusterMaintainers")


def with_access(new_tenant: NewTenant, organization: Organization, scopes: tuple[str, ...] = ACCESS_SCOPES) -> Tenant:
    """A tenant of an organization of its own."""
    tenant = new_tenant(organization.slug, organization.slug, scopes=scopes)
    tenant.rig.buildkite.api.organizations[organization.slug] = organization
    return tenant


def types(*kinds: str) -> dict[str, list[str]]:
    return {"resourceTypes": list(kinds)}


class TestAccess:
    async def test_all_types_are_counted_in_the_status_and_c1_gets_what_it_asks_for(
        self, new_tenant: NewTenant
    ) -> None:
        tenant = with_access(new_tenant, replace(Organization.load(ACCESS_ORG), slug="access"))
        connector = await tenant.become_ready(sync=types(*ALL))
        sync = connector["status"]["lastSync"]
        message = condition(connector, "Synced")["message"]
        for amount, what in (
            (sync["pipelines"], "pipelines"),
            (sync["pipelineAccess"], "pipeline access grants"),
            (sync["clusters"], "clusters"),
            (sync["clusterMaintainers"], "cluster maintainers"),
        ):
            assert amount > 0
            assert f"{amount} {what}" in message

        expandable = (await tenant.deliver(skip_expand_grants=True)).summary()
        assert expandable["resources"] == {
            "user": sync["accounts"],
            "team": sync["teams"],
            "organization": 1,
            "pipeline": sync["pipelines"],
            "cluster": sync["clusters"],
        }
        assert expandable["grants"]["pipeline"] == sync["pipelineAccess"]
        expanded = (await tenant.deliver()).summary()
        assert expanded["resources"] == expandable["resources"]
        assert expanded["grants"]["pipeline"] > sync["pipelineAccess"], "one for each person in a team, too"
        fewer = (await tenant.deliver(sync_resource_type_ids=["user", "team", "cluster"])).summary()
        assert fewer["resources"].keys() == {"user", "team", "cluster"}
        delivery = await tenant.until(lambda status: status["lastDelivery"]["sha256"] != sync["snapshot"]["sha256"])
        assert {name: delivery["status"]["lastDelivery"][name] for name in COUNTS} == {
            name: sync[name] for name in COUNTS
        }
        assert tenant.syncs == 1

    async def test_a_type_that_is_switched_off_is_no_shrink_and_its_loss_is_held_when_it_comes_back(
        self, new_tenant: NewTenant
    ) -> None:
        organization = give_access(make_organization(12, 4, 20, slug="switched"), pipelines=30, clusters=2)
        tenant = with_access(new_tenant, organization)
        plain = (await tenant.become_ready())["status"]
        assert not set(COUNTS) & plain["lastSync"].keys()
        await tenant.deliver()

        await tenant.apply(tenant.connector(sync=types(*DEFAULT, "pipeline")))
        on = (await tenant.until(lambda status: "pipelines" in status["lastSync"]))["status"]["lastSync"]
        assert on["pipelines"] == 30
        assert (await tenant.deliver()).summary()["resources"]["pipeline"] == 30

        await tenant.apply(tenant.connector(sync=types(*DEFAULT)))
        await tenant.until(lambda status: "pipelines" not in status["lastSync"])
        received = (await tenant.deliver()).summary()
        assert received["resources"].keys() == {"user", "team"}
        off = await tenant.until(lambda status: status["lastDelivery"]["syncID"] == received["sync_id"])
        assert off["status"]["lastDelivery"]["pipelines"] == 30, "what was left out counts as it did"

        for record in list(organization.access.pipelines.records)[5:]:
            organization.access.remove_pipeline(record["id"])
        await tenant.apply(tenant.connector(sync=types(*DEFAULT, "pipeline")))
        held = await tenant.until_condition("Delivered", "False", "ShrinkHeld")
        assert "5 pipelines, the last delivered one had 30" in held["message"]
        refused = await tenant.answer()
        assert "ShrinkHeld" in refused.message

        await tenant.apply(tenant.connector(sync=types(*DEFAULT)))
        await tenant.until_condition("Delivered", "False", "AwaitingTask")
        assert (await tenant.deliver()).summary()["resources"].keys() == {"user", "team"}

    @pytest.mark.parametrize(("kind", "scope"), [("pipeline", "read_pipelines"), ("cluster", "read_clusters")])
    async def test_a_missing_scope_is_named_in_the_status(self, new_tenant: NewTenant, kind: str, scope: str) -> None:
        scopes = tuple(each for each in ACCESS_SCOPES if each != scope)
        tenant = with_access(new_tenant, make_organization(3, 1, 3, slug=f"without-{kind}"), scopes)
        await tenant.apply(tenant.secret(), tenant.connector(sync=types(*DEFAULT, kind)))
        failed = await tenant.until_condition("Ready", "False", "TokenScopeMissing")
        assert f"but lacks {scope}." in failed["message"]
        assert (await tenant.get())["status"]["token"]["missingScopes"] == [scope]
        assert tenant.syncs == 0

    async def test_a_type_whose_grants_cannot_exist_is_synced_and_the_condition_says_so(
        self, new_tenant: NewTenant
    ) -> None:
        organization = give_access(make_organization(3, 2, 3, slug="ungranted"), pipelines=4)
        tenant = with_access(new_tenant, organization)
        connector = await tenant.become_ready(sync=types("user", "pipeline"))
        assert condition(connector, "Ready")["message"].endswith(
            " Check spec.sync.resourceTypes: pipeline has no grants without team."
        )
        received = (await tenant.deliver()).summary()
        assert received["resources"] == {"user": 3, "pipeline": 4}
        assert not received["grants"]
