"""From an applied resource to what C1 has ingested."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from buildkite_connector.c1z.archive import unpack
from buildkite_connector.model.tasks import Code
from harness.organization import ACME_REFERENCE
from harness.rig import condition
from scenarios.tenant import NewTenant, Tenant
from simulators.buildkite.organization import Organization

TABLES = ("v1_resource_types", "v1_resources", "v1_entitlements", "v1_grants")


def ids(snapshot: Path, scratch: Path) -> Mapping[str, set[str]]:
    """Every id in a `.c1z` file, by table."""
    scratch.write_bytes(b"".join(unpack(snapshot)))
    with sqlite3.connect(scratch) as connection:
        rows = {table: connection.execute(f"select external_id from {table}") for table in TABLES}  # noqa: S608
        found = {table: {each for (each,) in cursor} for table, cursor in rows.items()}
    connection.close()
    return found


def link(path: Path) -> None:
    other = path.parent.with_name(f"elsewhere-{path.name}")
    path.replace(other)
    path.symlink_to(other)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


class TestDelivery:
    async def test_an_applied_connector_becomes_ready_and_c1_gets_the_whole_organization(
        self, tenant: Tenant, tmp_path: Path
    ) -> None:
        connector = await tenant.become_ready()
        assert condition(connector, "Delivered")["reason"] == "AwaitingTask"
        assert connector["status"]["organization"]["slug"] == "acme-inc"

        received = await tenant.deliver()

        status = (await tenant.until(lambda status: "lastDelivery" in status))["status"]
        sync, delivery = status["lastSync"], status["lastDelivery"]
        summary = received.summary()
        golden = tenant.rig.buildkite.organization
        assert summary["resources"] == {"user": len(golden.members), "team": len(golden.teams)}
        assert sum(summary["grants"].values()) == golden.memberships
        assert ids(received.path, tmp_path / "ours") == ids(ACME_REFERENCE, tmp_path / "reference")
        assert received.who.host_id == tenant.host_id
        assert (sync["accounts"], sync["teams"], sync["memberships"]) == (230, 9, 450)
        assert (sync["id"], sync["snapshot"]["sha256"]) == (summary["sync_id"], received.sha256)
        assert (delivery["taskID"], delivery["syncID"]) == (received.task_id, sync["id"])
        assert (delivery["sha256"], delivery["bytes"]) == (received.sha256, received.size)
        assert [each["reason"] for each in await tenant.events()].count("Ready") == 1

    @pytest.mark.parametrize("put", [link, pytest.param(fifo, marks=pytest.mark.thorough)])
    async def test_what_took_a_staged_snapshots_place_stays_and_the_next_task_gets_a_new_snapshot(
        self, tenant: Tenant, put: Callable[[Path], None]
    ) -> None:
        """Nothing but the link gives the file behind it away: it is the same; the FIFO would block for ever."""
        before = (await tenant.become_ready())["status"]["lastSync"]
        (staged,) = [path for path in tenant.rig.staged if before["id"] in path.name]
        put(staged)
        refused = await tenant.answer()
        assert (refused.success, refused.non_retryable) == (False, False)
        assert "has changed since it was staged" in refused.message
        received = await tenant.deliver()
        assert received.summary()["sync_id"] != before["id"]
        assert [each for each in tenant.c1.received if each.who.host_id == tenant.host_id] == [received]

    async def test_an_annotation_starts_a_sync_within_two_seconds_and_is_echoed(self, tenant: Tenant) -> None:
        before = (await tenant.become_ready())["status"]["lastSync"]["id"]
        value = await tenant.request_sync()
        await tenant.until(lambda status: status.get("lastHandledSyncRequest") == value, timeout=2)
        after = await tenant.until(lambda status: status["lastSync"]["id"] != before)
        assert after["status"]["lastSync"]["trigger"] == "Request"
        assert tenant.syncs == 2

    async def test_a_snapshot_that_lost_most_accounts_is_held_until_somebody_lets_it_go(
        self, new_tenant: NewTenant
    ) -> None:
        organization = Organization.from_document(new_tenant().rig.buildkite.organization.document())
        organization.slug = "shrinking"
        tenant = new_tenant("shrinking", "shrinking")
        tenant.rig.buildkite.api.organizations["shrinking"] = organization
        await tenant.become_ready()
        await tenant.deliver()
        for member in organization.members.records[30:]:
            organization.remove_member(member["id"])

        shrunk = (await tenant.sync())["status"]["lastSync"]
        held = await tenant.until_condition("Delivered", "False", "ShrinkHeld")
        assert shrunk["accounts"] == 30
        assert "30 accounts, the last delivered one had 230" in held["message"]
        assert f"accept-shrink={shrunk['id']}" in held["message"]
        refused = await tenant.answer()
        assert (refused.code, refused.non_retryable) == (Code.FAILED_PRECONDITION, False)
        assert "ShrinkHeld" in refused.message

        await tenant.accept_shrink(shrunk["id"])
        await tenant.until_condition("Delivered", "False", "AwaitingTask")
        await tenant.until_ready()
        received = await tenant.deliver()
        assert received.summary()["resources"]["user"] == 30
        assert received.summary()["sync_id"] == shrunk["id"]

    async def test_a_suspended_connector_leaves_c1_and_buildkite_alone_until_it_is_resumed(
        self, new_tenant: NewTenant
    ) -> None:
        tenant, witness = new_tenant(), new_tenant("witness")
        await witness.become_ready()
        await tenant.become_ready()
        await tenant.apply(tenant.connector(suspend=True))
        await tenant.until_condition("Ready", "False", "Suspended")
        syncs, calls = tenant.syncs, len(tenant.calls)
        task_id = tenant.add_task()
        await witness.until_polled(2)
        assert (tenant.syncs, len(tenant.calls)) == (syncs, calls)

        await tenant.apply(tenant.connector(suspend=False))
        await tenant.until_condition("Ready", "True")
        assert (await tenant.finished(task_id)).success
        assert tenant.syncs > syncs
