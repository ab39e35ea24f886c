"""The golden case of a portal: what it adds to a snapshot, and that nothing else of a snapshot is touched.

`data/portal-snapshot.json` has the rows. The ids, which are a contract with C1, are written down here once more.
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from buildkite_connector.c1z import StoredSync, read_snapshot
from buildkite_connector.c1z.derive import derive_snapshot
from buildkite_connector.c1z.messages import api_token_resource
from buildkite_connector.c1z.writer import verify
from buildkite_connector.model.directory import (
    ALL_KINDS,
    AccessTokenID,
    Directory,
    ResourceKind,
    SyncScope,
)
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.proto.connector_pb2 import Resource, SecretTrait, UserTrait
from harness.organization import access, acme, with_portal
from simulators.c1.ingest import Expected, ingest
from unit.c1z.access_golden import ALL, DEFAULT, MESSAGES, NOW, SYNC, database
from unit.c1z.altered_files import altered
from unit.c1z.portal_golden import GOLDEN, TOKENS, golden

Write = Callable[..., StagedSnapshot]

ADA, PAT, LI = (
    "984aeecf-70ba-51ae-8c12-3d64d3ed9536",
    "1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057",
    "f23ee699-71b3-5bc4-bf5f-43bffc7c38f1",
)
ZOE, KIM = "94868c2e-c2d9-5234-93bd-922e6a7ca43d", "516d9309-0064-562d-91dc-3d80cc086c17"
IDS = {
    "accounts": {
        "v1_resource_types": [],
        "v1_resources": [f"user:{each}" for each in (ADA, PAT, LI, ZOE, KIM)],
        "v1_entitlements": [],
        "v1_grants": [],
    },
    "api_token": {
        "v1_resource_types": ["api_token"],
        "v1_resources": [
            "api_token:5b7e1c5e-8a0f-4c1e-9d2b-1f0a6c3e7d11",
            "api_token:0c9b5a0e-3d57-4a83-8f5e-2a7d1b9c4e22",
            "api_token:e1f4d2a7-6b38-4e0d-b5c9-3c8e2d0f5f33",
            "api_token:a8d6f3b1-9c42-4f7a-8e15-4d9f3e1a6044",
        ],
        "v1_entitlements": [],
        "v1_grants": [],
    },
}
EVERYTHING = SyncScope(ALL_KINDS)


@pytest.mark.parametrize("part", IDS)
def test_a_portal_adds_exactly_these_rows(part: str) -> None:
    found = golden()[part]
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))[part]
    assert {table: list(those) for table, those in found.items()} == IDS[part]


OF_ACCESS = "205bbbf11baf5cc928cc1e475888a1f28753d612fd4c3d277837f2ea4c599588"
OF_ACME = "cb29236ff35d6192bbfb998f0de70124f6d41d844172cacbe0e9d8c57eafdde5"
"""Digests of all rows, by the last commit without portals."""


@pytest.mark.parametrize(
    ("directory", "digest"),
    [
        (access(ALL), OF_ACCESS),
        (replace(with_portal(access(EVERYTHING)), accounts=access(ALL).accounts, scope=ALL), OF_ACCESS),
        (acme(), OF_ACME),
    ],
    ids=["access", "tokens that are not in scope", "acme"],
)
def test_without_a_portal_every_byte_is_as_before_there_were_portals(
    monkeypatch: pytest.MonkeyPatch, directory: Directory, digest: str
) -> None:
    found = sha256()
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        with closing(database(directory)) as connection:
            for table in ("v1_sync_runs", *MESSAGES):
                for row in connection.execute(f"select * from {table} order by id"):  # noqa: S608
                    found.update(repr(row).encode())
    time.tzset()
    assert found.hexdigest() == digest


@pytest.mark.parametrize(
    "scope",
    [
        EVERYTHING,
        replace(EVERYTHING, expanded=True),
        replace(EVERYTHING, entitlements=False),
        TOKENS,
        DEFAULT,
        SyncScope(frozenset({ResourceKind.API_TOKEN})),
        SyncScope(frozenset({ResourceKind.TEAM, ResourceKind.API_TOKEN})),
    ],
    ids=lambda scope: f"{'+'.join(sorted(scope.kinds))}-{scope.entitlements}-{scope.expanded}",
)
def test_of_every_scope_the_file_is_derived_read_back_and_taken_by_c1(
    tmp_path: Path, write: Write, scope: SyncScope
) -> None:
    everything = with_portal(access(EVERYTHING))
    whole = write(tmp_path / "whole", everything)
    expected = write(tmp_path / "expected", replace(everything, scope=scope))
    derived = derive_snapshot(whole, tmp_path / "derived", scope=scope, sync_id=SYNC)
    assert derived.path.read_bytes() == expected.path.read_bytes()
    assert derived.counts.api_tokens == (4 if scope.wants_api_tokens else None)
    found = read_snapshot(derived.path)
    assert derived.counts == expected.counts == found.directory.counts
    assert derived.counts.last_logins == (4 if scope.wants_accounts else None)
    assert (found.run.scope, found.run.counts) == (scope, replace(derived.counts, last_logins=None))
    summary = ingest(derived.path, Expected(None, scope.kinds, scope.wants_grants, scope.expanded))
    assert summary.resources.get("api_token", 0) == (4 if scope.wants_api_tokens else 0)
    assert {"api_token"}.isdisjoint({*summary.entitlements, *summary.grants})


def test_accounts_and_tokens_read_back_as_they_were(tmp_path: Path, write: Write) -> None:
    written = with_portal(access(TOKENS))
    found = read_snapshot(write(tmp_path / "x", written).path).directory
    assert found.api_tokens == written.api_tokens
    before, after = ([each.details for each in directory.accounts] for directory in (written, found))
    assert before[3] is not None
    assert before[3].machine is None
    before[3] = replace(before[3], machine=False)
    assert after == before
    assert after[4] is None


def test_an_owner_is_the_account_with_that_row(tmp_path: Path, write: Write) -> None:
    """C1 joins a secret with its owner by the id; one that means nothing leaves a token that nobody reviews."""
    written = with_portal(access(TOKENS))
    accounts = {f"user:{each.id}" for each in written.accounts}
    owners = []
    for token in written.api_tokens:
        resource, trait = Resource.FromString(api_token_resource(token)), SecretTrait()
        assert resource.annotations[0].Unpack(trait)
        assert trait.created_by_id == trait.identity_id
        assert trait.HasField("identity_id") is (token.owner is not None)
        owners.append(f"{trait.identity_id.resource_type}:{trait.identity_id.resource}")
    assert owners[:3] == [f"user:{ADA}", f"user:{PAT}", ":"]
    assert accounts.issuperset(owners[:2])


def test_a_token_that_is_lost_on_the_way_is_noticed() -> None:
    directory = with_portal(access(TOKENS))
    run = StoredSync(SYNC, NOW, NOW, TOKENS, directory.counts)
    with closing(database(directory)) as connection:
        verify(connection, run)
        connection.execute("delete from v1_resources where external_id = ?", (IDS["api_token"]["v1_resources"][1],))
        with pytest.raises(Failure, match="holds 3 API tokens, expected 4"):
            verify(connection, run)


def test_a_token_whose_id_c1_cannot_hold_is_not_written(tmp_path: Path, write: Write) -> None:
    directory = with_portal(access(TOKENS))
    odd = replace(directory.api_tokens[0], id=AccessTokenID("é"))
    with pytest.raises(Failure, match="gave one API token the id 'é'"):
        write(tmp_path / "x", replace(directory, api_tokens=(odd,)))


def test_the_statistics_count_tokens_among_the_resources() -> None:
    with closing(database(with_portal(access(TOKENS)))) as connection:
        ((told,),) = connection.execute("select stats from v1_sync_runs").fetchall()
    assert json.loads(told)["resources_by_resource_type"] == {"user": 6, "team": 3, "api_token": 4}
    assert "api_token" not in json.loads(told)["entitlements_by_resource_type"]


def account_seen_in(seconds: int) -> Resource:
    trait = UserTrait(mfa_status=UserTrait.MFAStatus(), login="x")
    trait.last_login.seconds = seconds
    resource = Resource()
    resource.annotations.add().Pack(trait)
    return resource


def token_made_in(seconds: int) -> Resource:
    resource = Resource()
    resource.created_at.seconds = seconds
    return resource


@pytest.mark.parametrize("message", [account_seen_in, token_made_in])
@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253_402_300_800, -62_135_596_801])
def test_a_time_that_is_none_makes_the_file_unreadable(
    tmp_path: Path, write: Write, message: Callable[[int], Resource], seconds: int
) -> None:
    kind = "user" if message is account_seen_in else "api_token"
    data = message(seconds).SerializeToString().hex()
    damaging = f"update v1_resources set data = x'{data}' where resource_type_id = '{kind}'"  # noqa: S608
    sound = write(tmp_path / "sound", with_portal(access(TOKENS))).path
    with pytest.raises(Failure, match="is not that of a snapshot"):
        read_snapshot(altered(tmp_path / "damaged", damaging, of=sound))


def test_times_are_read_in_utc(tmp_path: Path, write: Write) -> None:
    found = read_snapshot(write(tmp_path / "x", with_portal(access(TOKENS))).path).directory.accounts[0].details
    assert found is not None
    assert found.last_seen_at == datetime(2026, 11, 22, 22, 10, 5, 123456, UTC)
    assert found.last_seen_at.tzinfo is UTC
