"""What the simulated C1 takes and refuses of traits, by the rules of the vendor's SDK."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from buildkite_connector.proto import connector_pb2 as pb
from simulators.c1.ingest import Expected, Rejected, ingest
from simulators.c1.tiny_snapshot import SYNC_ID, WHEN, replace_message, team, tiny_snapshot, user
from unit.simulators.c1_uploads import Alteration

ADA = pb.ResourceId(resource_type="user", resource="u1")
NEVER = Timestamp(seconds=253_402_300_800)
WRONG = Timestamp(nanos=10**9)
UNDEFINED: Any = 17
"""In every enum."""


def secret_type(*annotations: Message) -> pb.ResourceType:
    kind = pb.ResourceType(id="key", display_name="Key", traits=[pb.ResourceType.TRAIT_SECRET])
    for annotation in annotations or (pb.OptInRequired(), pb.SkipEntitlementsAndGrants()):
        kind.annotations.add().Pack(annotation)
    return kind


def secret(*traits: Message, **fields: Any) -> pb.Resource:
    """A secret that C1 takes, but for the fields of its trait that are given."""
    sound: dict[str, Any] = {
        "created_at": Timestamp(seconds=1),
        "created_by_id": ADA,
        "identity_id": ADA,
        "credential_type": pb.SecretTrait.CREDENTIAL_TYPE_STATIC_SECRET,
    }
    key = pb.Resource(id=pb.ResourceId(resource_type="key", resource="k1"), display_name="Deploys")
    for trait in traits or (pb.SecretTrait(**{**sound, **fields}),):
        key.annotations.add().Pack(trait)
    return key


def with_secret(
    resource: pb.Resource | None = None, kind: pb.ResourceType | None = None, entitlement: pb.Entitlement | None = None
) -> Alteration:
    rows: list[tuple[str, str, Message, dict[str, str]]] = [
        ("v1_resource_types", "key", kind or secret_type(), {}),
        ("v1_resources", "key:k1", resource or secret(), {"resource_type_id": "key"}),
    ]
    if entitlement is not None:
        rows.append(("v1_entitlements", entitlement.id, entitlement, {"resource_type_id": "key", "resource_id": "k1"}))

    def alter(database: sqlite3.Connection) -> None:
        for table, external_id, message, more in rows:
            values = {
                "external_id": external_id,
                "data": message.SerializeToString(),
                "sync_id": SYNC_ID,
                "discovered_at": WHEN,
                **more,
            }
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            database.execute(f"insert into {table} ({names}) values ({marks})", tuple(values.values()))  # noqa: S608

    return alter


def account(alter: Callable[[pb.UserTrait], object] = lambda _: None, *, times: int = 1) -> Alteration:
    resource, trait = user(), pb.UserTrait()
    assert resource.annotations[0].Unpack(trait)
    alter(trait)
    del resource.annotations[:]
    for _ in range(times):
        resource.annotations.add().Pack(trait)
    return replace_message("v1_resources", "user:u1", resource)


def without_trait(resource: pb.Resource) -> pb.Resource:
    del resource.annotations[:]
    return resource


def created(seconds: int) -> pb.Resource:
    resource = secret()
    resource.created_at.seconds = seconds
    return resource


def taken(tmp_path: Path, alter: Alteration) -> dict[str, int]:
    path = tmp_path / "x.c1z"
    path.write_bytes(tiny_snapshot(alter))
    return ingest(path, Expected()).resources


@pytest.mark.parametrize(
    "resource",
    [
        secret(),
        secret(expires_at=Timestamp(seconds=2_000_000_000), last_used_at=Timestamp(seconds=1, nanos=999_999_999)),
        secret(created_by_id=None, identity_id=None),
        secret(identity_id=pb.ResourceId(resource_type="user", resource="somebody who left")),
        secret(pb.SecretTrait()),
    ],
)
def test_a_secret_is_taken(tmp_path: Path, resource: pb.Resource) -> None:
    assert taken(tmp_path, with_secret(resource)) == {"user": 2, "team": 1, "key": 1}


def test_what_only_some_vendors_tell_of_an_account_is_taken(tmp_path: Path) -> None:
    def alter(trait: pb.UserTrait) -> None:
        trait.last_login.seconds = 1_800_000_000
        trait.mfa_status.mfa_enabled = True
        trait.account_type = pb.UserTrait.ACCOUNT_TYPE_SERVICE

    assert taken(tmp_path, account(alter))["user"] == 2


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (with_secret(secret(pb.ExternalLink(url="https://x"))), "SecretTrait: expected, as its resource type"),
        (with_secret(secret(pb.SecretTrait(), pb.UserTrait())), "UserTrait: its resource type has no such trait"),
        (with_secret(secret(pb.SecretTrait(), pb.SecretTrait())), "SecretTrait: comes twice"),
        (with_secret(secret(credential_type=UNDEFINED)), "SecretTrait.credential_type: 17 is not defined"),
        (with_secret(secret(created_at=NEVER)), "SecretTrait.created_at: not a time"),
        (with_secret(secret(expires_at=WRONG)), "SecretTrait.expires_at: not a time"),
        (with_secret(secret(last_used_at=NEVER)), "SecretTrait.last_used_at: not a time"),
        (with_secret(created(-(2**40))), "Resource.created_at: not a time"),
        (with_secret(secret(identity_id=pb.ResourceId(resource="u1"))), "SecretTrait.identity_id: expected 1 to 1024"),
        (
            with_secret(secret(created_by_id=pb.ResourceId(resource_type="user"))),
            "SecretTrait.created_by_id: expected 1 to 1024",
        ),
        (
            with_secret(secret(identity_id=pb.ResourceId(resource_type="user", resource="x" * 1025))),
            "SecretTrait.identity_id: expected 1 to 1024",
        ),
        (
            with_secret(entitlement=pb.Entitlement(id="key:k1:use", resource=secret(), display_name="Use", slug="use")),
            "resources of type key have no entitlements",
        ),
        (replace_message("v1_resources", "user:u1", without_trait(user())), "UserTrait: expected, as its resource"),
        (replace_message("v1_resources", "team:t1", without_trait(team())), "GroupTrait: expected, as its resource"),
        (account(times=2), "UserTrait: comes twice"),
        (account(lambda trait: trait.ClearField("status")), "UserTrait.status: required"),
        (
            account(lambda trait: trait.MergeFrom(pb.UserTrait(account_type=UNDEFINED))),
            "UserTrait.account_type: 17 is not",
        ),
        (
            account(lambda trait: trait.MergeFrom(pb.UserTrait(status=pb.UserTrait.Status(status=UNDEFINED)))),
            "UserTrait.status: 17 is not defined",
        ),
        (account(lambda trait: trait.last_login.CopyFrom(NEVER)), "UserTrait.last_login: not a time"),
        (account(lambda trait: trait.created_at.CopyFrom(WRONG)), "UserTrait.created_at: not a time"),
    ],
)
def test_what_breaks_the_rules_is_refused(tmp_path: Path, alter: Alteration, says: str) -> None:
    with pytest.raises(Rejected, match=says):
        taken(tmp_path, alter)
