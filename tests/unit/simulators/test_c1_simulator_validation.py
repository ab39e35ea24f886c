"""What the simulated C1 finds wrong with a snapshot."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from simulators.c1.ingest import MAGIC
from simulators.c1.probe import Probe
from simulators.c1.server import C1Simulator
from simulators.c1.tiny_snapshot import (
    entitlement,
    grant,
    replace_message,
    team,
    tiny_snapshot,
    user,
)
from unit.simulators.c1_uploads import Alteration, refusal, running_task, sql


async def test_without_validation_anything_is_taken(sim: C1Simulator, host: Probe) -> None:
    sim.policy.validate = False
    task_id = await running_task(sim, host)
    await host.upload(task_id, b"whatever")
    await host.finish(task_id)
    assert len(sim.ingested) == 1


def unpacked(data: bytes) -> bytes:
    return zstandard.decompress(data[len(MAGIC) :])


def wal(data: bytes) -> bytes:
    plain = bytearray(unpacked(data))
    plain[18:20] = b"\2\2"
    return MAGIC + zstandard.compress(bytes(plain))


@pytest.mark.parametrize(
    ("break_", "says"),
    [
        (lambda data: data[5:], "the file begins with"),
        (lambda data: data[:5] + b"not zstd", "not a zstd stream"),
        (lambda data: data[:-10], "cut short"),
        (lambda data: data + b"more", "bytes follow"),
        (lambda _: MAGIC + zstandard.compress(b"no database"), "holds no SQLite 3 database"),
        (lambda data: MAGIC + zstandard.compress(unpacked(data)[:6000]), "malformed"),
        (wal, "WAL mode"),
    ],
)
async def test_a_file_of_another_form_is_refused(
    sim: C1Simulator, host: Probe, break_: Callable[[bytes], bytes], says: str
) -> None:
    task_id = await running_task(sim, host)
    assert says in await refusal(host.upload(task_id, break_(tiny_snapshot())))


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (sql("drop table v1_assets"), "table v1_assets is missing"),
        (sql("alter table v1_grants drop column expansion"), "v1_grants: columns missing: expansion"),
        (sql("update v1_sync_runs set ended_at = null"), "has no ended_at"),
        (sql("update v1_sync_runs set ended_at = '2020-01-01'"), "ended before it started"),
        (sql("delete from v1_sync_runs"), "expected one sync, got 0"),
        (sql("update v1_sync_runs set sync_type = 'partial'"), "the task asks for full"),
        (sql("update v1_sync_runs set sync_id = 'x'"), "is not a KSUID"),
        (sql("update v1_grants set sync_id = 'another'"), "v1_grants: 1 rows of another sync"),
        (sql("""update v1_sync_runs set stats = '{"resources":4}'"""), "stats: resources is 4, the rows make 3"),
        (
            sql("""update v1_sync_runs set stats = '{"grants_by_resource_type":{"user":1}}'"""),
            "stats: grants_by_resource_type",
        ),
        (sql("update v1_resources set external_id = 'user:u1'"), "v1_resources: user:u1 comes twice"),
        (sql("update v1_resources set data = x'ff' where id = 1"), "data is not a c1.connector.v2.Resource"),
        (sql("delete from v1_resource_types where external_id = 'team'"), "resource type team is not in"),
        (sql("update v1_resources set external_id = 'user:u9' where id = 1"), "the columns say 'user:u9'"),
        (replace_message("v1_resources", "user:u1", user("")), "display_name: expected 1 to 1024 bytes, got 0"),
        (
            replace_message("v1_resources", "user:u1", user("é" * 513)),
            "display_name: expected 1 to 1024 bytes, got 1026",
        ),
        (replace_message("v1_resources", "user:u1", user(email="no email")), "'no email' is not an email"),
        (replace_message("v1_resources", "team:t1", team(description="x" * 2049)), "description: expected 0 to 2048"),
        (
            sql("update v1_resources set parent_resource_type_id = 'team', parent_resource_id = 't1' where id = 1"),
            "parent_resource_id: the columns say",
        ),
        (sql("update v1_entitlements set resource_id = 't9'"), "resource.id: the columns say ('team', 't9')"),
        (sql("delete from v1_resources where external_id = 'team:t1'"), "resource team:t1 is not in v1_resources"),
        (sql("delete from v1_entitlements"), "entitlement team:t1:member is not in v1_entitlements"),
        (sql("update v1_grants set principal_resource_id = 'u2'"), "principal.id: the columns say ('user', 'u2')"),
        (sql("update v1_grants set entitlement_id = 'other'"), "entitlement.id: the columns say 'other'"),
        (replace_message("v1_grants", grant().id, entitlement()), "team:t1:member:user:u1"),
    ],
)
async def test_a_snapshot_that_is_not_sound_is_refused_with_the_reason(
    sim: C1Simulator, host: Probe, alter: Alteration, says: str
) -> None:
    task_id = await running_task(sim, host)
    told = await refusal(host.upload(task_id, tiny_snapshot(alter)))
    assert "the snapshot was rejected" in told
    assert says in told
    assert not sim.received
    assert says in sim.violations[0]


EMPTY = "delete from {}"


def cleared(*tables: str, sync_type: str = "full") -> Alteration:
    def alter(database: sqlite3.Connection) -> None:
        for table in tables:
            database.execute(EMPTY.format(table))
        database.execute("update v1_sync_runs set sync_type = ?", (sync_type,))

    return alter


@pytest.mark.parametrize(
    ("options", "right", "wrong"),
    [
        ({"skip_grants": True}, cleared("v1_grants"), None),
        (
            {"skip_entitlements_and_grants": True},
            cleared("v1_grants", "v1_entitlements", sync_type="resources_only"),
            cleared("v1_grants", "v1_entitlements"),
        ),
        (
            {"skip_entitlements_and_grants": True},
            cleared("v1_grants", "v1_entitlements", sync_type="resources_only"),
            cleared("v1_grants", sync_type="resources_only"),
        ),
        (
            {"sync_resource_type_ids": ["team"]},
            sql("delete from v1_resources where resource_type_id = 'user'"),
            None,
        ),
    ],
)
async def test_a_snapshot_holds_what_the_tasks_options_ask_for_and_no_more(
    sim: C1Simulator, host: Probe, options: dict[str, Any], right: Alteration, wrong: Alteration | None
) -> None:
    task_id = await running_task(sim, host, **options)
    await refusal(host.upload(task_id, tiny_snapshot(wrong)))
    await host.upload(task_id, tiny_snapshot(right))
    await host.finish(task_id)
    assert len(sim.ingested) == 1
