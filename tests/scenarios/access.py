"""Pipelines, clusters and organization roles: from a resource that asks for them to what C1 has ingested."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.c1z.archive import unpack
from fakes.organization_api import REST_KINDS
from harness.command import invoke
from harness.kubernetes_apis import Manifest
from harness.organization import ACCESS_ORG
from harness.rig import OperatorProcess, Rig, condition
from harness.service_rig import ServiceRig
from scenarios.delivery import TABLES
from scenarios.observed import scrape
from scenarios.secrecy import find_leaks
from scenarios.tenant import NewTenant, Tenant
from simulators.buildkite.access_records import PIPELINE_SECRETS, WEBHOOK_SECRET
from simulators.buildkite.api import ACCESS_SCOPES, ALL_SCOPES
from simulators.buildkite.listing import LARGEST_PAGE
from simulators.buildkite.organization import Organization
from simulators.c1.uploads import Received

ALL_TYPES = sorted(kind.value for kind in REST_KINDS)
"""Those that need no portal."""
WITHOUT_PIPELINES = [kind for kind in ALL_TYPES if kind != "pipeline"]
COUNTS = {
    "accounts": 6,
    "teams": 3,
    "memberships": 6,
    "organizationRoles": 5,
    "pipelines": 4,
    "pipelineAccess": 4,
    "clusters": 2,
    "clusterMaintainers": 2,
    "clusterTeamMaintainers": 1,
}
"""Of the whole golden organization."""
SENTENCE = (
    "6 accounts, 3 teams, 6 memberships, 5 organization roles, 4 pipelines, 4 pipeline access grants, 2 clusters,"
    " 2 cluster maintainers and 1 cluster team maintainer"
)
SECRETS = (*PIPELINE_SECRETS, WEBHOOK_SECRET)
HIDDEN_PIPELINE = "54a17ff8-ff2c-5e7e-8a0f-f50a433e5ea7"
"""One that only a team's list has."""


def access_organization(rig: Rig | ServiceRig, slug: str) -> Organization:
    """A copy of the golden organization with pipelines and clusters, served under this slug."""
    organization = Organization.load(ACCESS_ORG)
    organization.slug = slug
    rig.buildkite.api.organizations[slug] = organization
    return organization


def types(*chosen: str) -> dict[str, Any]:
    """The part of a spec that chooses these resource types."""
    return {"sync": {"resourceTypes": list(chosen)}}


def counts(record: Mapping[str, Any]) -> dict[str, int]:
    """What a record of the status counts."""
    return {name: record[name] for name in COUNTS if name in record}


def rows(received: Received, scratch: Path) -> Mapping[str, list[tuple[object, ...]]]:
    """Every row by table, without the id and the times of the sync."""
    scratch.write_bytes(b"".join(unpack(received.path)))
    with contextlib.closing(sqlite3.connect(scratch)) as connection:
        connection.row_factory = sqlite3.Row
        read = {table: connection.execute(f"select * from {table} order by id") for table in TABLES}  # noqa: S608
        return {table: [_without_sync(row) for row in cursor] for table, cursor in read.items()}


def _without_sync(row: sqlite3.Row) -> tuple[object, ...]:
    return tuple(row[name] for name in row.keys() if name not in {"sync_id", "discovered_at"})  # noqa: SIM118


async def respecified(tenant: Tenant, *chosen: str) -> Manifest:
    """The connector after the sync that choosing other resource types caused."""
    before = (await tenant.get())["status"]["lastSync"]["id"]
    await tenant.apply(tenant.connector(**types(*chosen)))
    return await tenant.until(lambda status: status["lastSync"]["id"] != before and status["phase"] != "Syncing")


class TestAccess:
    async def test_c1_gets_every_type_in_the_form_that_its_task_asks_for(
        self, new_tenant: NewTenant, tmp_path: Path
    ) -> None:
        tenant, usual = new_tenant("whole", "whole", scopes=ACCESS_SCOPES), new_tenant("usual", "whole")
        minimum = access_organization(tenant.rig, "whole").requests_at(LARGEST_PAGE, ALL_TYPES)
        await usual.become_ready()
        status = (await tenant.become_ready(**types(*ALL_TYPES)))["status"]
        assert counts(status["lastSync"]) == COUNTS
        assert [counts(each) for each in status["history"]] == [COUNTS]

        plain, expanded, narrow, default = await asyncio.gather(
            tenant.deliver(skip_expand_grants=True),
            tenant.deliver(),
            tenant.deliver(sync_resource_type_ids=["user", "team"]),
            usual.deliver(),
        )
        direct = {"organization": 5, "team": 6, "pipeline": 4, "cluster": 3}
        assert plain.sha256 == status["lastSync"]["snapshot"]["sha256"]
        assert plain.summary()["resources"] == {"organization": 1, "user": 6, "team": 3, "pipeline": 4, "cluster": 2}
        assert plain.summary()["grants"] == direct
        assert expanded.summary()["grants"] == {**direct, "pipeline": 4 + 10, "cluster": 3 + 2}
        assert rows(narrow, tmp_path / "narrow") == rows(default, tmp_path / "default")

        connector = await tenant.until(lambda status: "lastDelivery" in status)
        assert counts(connector["status"]["lastDelivery"]) == COUNTS
        assert SENTENCE in condition(connector, "Ready")["message"]
        assert len(tenant.collecting) == minimum, "three files, one sync"

    @pytest.mark.thorough
    async def test_a_type_that_is_switched_off_is_no_shrink_and_is_compared_when_it_is_on_again(
        self, new_tenant: NewTenant
    ) -> None:
        tenant = new_tenant("switched", "switched", scopes=ACCESS_SCOPES)
        organization = access_organization(tenant.rig, "switched")
        await tenant.become_ready(**types(*ALL_TYPES))
        await tenant.deliver()

        off = await respecified(tenant, *WITHOUT_PIPELINES)
        without = {name: count for name, count in COUNTS.items() if not name.startswith("pipeline")}
        assert counts(off["status"]["lastSync"]) == without
        assert "pipeline" not in (await tenant.deliver()).summary()["resources"]

        teams = organization.access.team_pipelines
        for team in [team for team, pipelines in teams.items() if not pipelines.find(HIDDEN_PIPELINE)]:
            del teams[team]
        [pipelines] = teams.values()
        pipelines.remove(HIDDEN_PIPELINE)
        on = await respecified(tenant, *ALL_TYPES)
        held = await tenant.until_condition("Delivered", "False", "ShrinkHeld")
        assert "has 1 pipeline access grant, the last delivered one had 4 (75 % fewer" in held["message"]
        await respecified(tenant, *WITHOUT_PIPELINES)
        await tenant.until_condition("Delivered", "False", "AwaitingTask")

        on = await respecified(tenant, *ALL_TYPES)
        await tenant.until_condition("Delivered", "False", "ShrinkHeld")
        await tenant.accept_shrink(on["status"]["lastSync"]["id"])
        await tenant.until_condition("Delivered", "False", "AwaitingTask")
        assert (await tenant.deliver(skip_expand_grants=True)).summary()["grants"]["pipeline"] == 1

    async def test_without_the_scope_of_one_type_none_is_read_until_there_is_a_better_token(
        self, new_tenant: NewTenant
    ) -> None:
        tenant = new_tenant("scoped", "scoped", scopes=(*ALL_SCOPES, "read_clusters"))
        access_organization(tenant.rig, "scoped")
        await tenant.apply(tenant.secret(), tenant.connector(**types(*ALL_TYPES)))
        told = await tenant.until_condition("Ready", "False", "TokenScopeMissing")
        assert "but lacks read_pipelines." in told["message"]
        status = (await tenant.get())["status"]
        assert status["token"]["missingScopes"] == ["read_pipelines"]
        assert (tenant.collecting, "lastSync" in status) == ([], False)

        tenant.renew_token(ACCESS_SCOPES)
        await tenant.apply(tenant.secret())
        await tenant.request_sync()  # look again at once
        assert counts((await tenant.until_ready())["status"]["lastSync"]) == COUNTS
        warnings = [each for each in await tenant.events() if each["type"] == "Warning"]
        assert [(each["reason"], each["note"]) for each in warnings] == [("TokenScopeMissing", told["message"])]

    async def test_a_type_whose_grants_cannot_exist_is_synced_and_the_condition_says_so(
        self, new_tenant: NewTenant
    ) -> None:
        tenant = new_tenant("ungranted", "ungranted", scopes=ACCESS_SCOPES)
        access_organization(tenant.rig, "ungranted")
        connector = await tenant.become_ready(**types("user", "pipeline"))
        assert condition(connector, "Ready")["message"].endswith(
            " Check spec.sync.resourceTypes: pipeline has no grants without team."
        )
        assert counts(connector["status"]["lastSync"]) == {"accounts": 6, "teams": 0, "memberships": 0, "pipelines": 3}

    async def test_what_pipelines_keep_secret_is_told_to_nobody(
        self, new_tenant: NewTenant, operator: OperatorProcess, tmp_path: Path
    ) -> None:
        """What Buildkite tells a token that may write pipelines: environments, steps and the webhooks' addresses."""
        tenant = new_tenant("discreet", "discreet", scopes=(*ACCESS_SCOPES, "write_pipelines"))
        organization = access_organization(tenant.rig, "discreet")
        tenant.rig.confided.update(SECRETS)
        await tenant.become_ready(**types(*ALL_TYPES))
        received = await tenant.deliver()
        plain = b"".join(unpack(received.path))
        assert b"nightly-report" in plain
        assert [secret for secret in SECRETS if secret.encode() in plain] == []
        told = [
            *(invoke(*command).out for command in commands(received.path, organization)),
            *map(json.dumps, [await tenant.get(), *await tenant.events()]),
            *operator.lines,
            await scrape(operator),
        ]
        assert find_leaks(tenant.rig, told) == []


def commands(file: Path, organization: Organization) -> Iterator[Sequence[str]]:
    """Those that tell what is in a file."""
    for output in ("table", "json"):
        yield "inspect", str(file), "-o", output
        for pipeline in organization.access.pipelines.records:
            yield "access", str(file), "--pipeline", pipeline["slug"], "-o", output
