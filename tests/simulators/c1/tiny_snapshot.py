"""A small sound `.c1z`, written by hand: two accounts, one team, one of them in it.

For tests of what takes such files. `alter` breaks it where a test wants it broken.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache

import zstandard
from google.protobuf.message import Message

from buildkite_connector.proto import connector_pb2 as pb
from simulators.c1.ingest import MAGIC

SYNC_ID = "2Zz7mHkq0GvPp5yq0XJ1a8RkTnB"
WHEN = "2026-11-22 23:44:15.400999567"
ROW = "data blob not null, sync_id text not null, discovered_at datetime not null"
SCHEMA = f"""
create table v1_sync_runs (id integer primary key, sync_id text not null, started_at datetime not null,
  ended_at datetime, sync_token text not null, sync_type text not null default 'full',
  parent_sync_id text not null default '', linked_sync_id text not null default '',
  supports_diff integer not null default 0, grants_backfilled integer not null default 0, stats text,
  ingest_invariant_generation text not null default '', ingest_invariant_coverage text not null default '',
  ingest_invariant_mode text not null default '');
create table v1_resource_types (id integer primary key, external_id text not null, {ROW});
create table v1_resources (id integer primary key, resource_type_id text not null, external_id text not null,
  parent_resource_type_id text, parent_resource_id text, {ROW});
create table v1_entitlements (id integer primary key, resource_type_id text not null,
  resource_id text not null, external_id text not null, {ROW});
create table v1_grants (id integer primary key, resource_type_id text not null, resource_id text not null,
  entitlement_id text not null, principal_resource_type_id text not null, principal_resource_id text not null,
  external_id text not null, expansion blob, needs_expansion integer not null default 0, {ROW});
create table v1_assets (id integer primary key, external_id text not null, content_type text not null, {ROW});
create table v1_connector_sessions (id integer primary key, sync_id text not null, key text not null,
  value blob not null);
"""


def tiny_snapshot(alter: Callable[[sqlite3.Connection], object] | None = None) -> bytes:
    """The file's bytes; `alter` works on the database before it is compressed."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(_filled())
        if alter is not None:
            alter(database)
        database.commit()
        return MAGIC + zstandard.compress(database.serialize())


def replace_message(table: str, external_id: str, message: Message) -> Callable[[sqlite3.Connection], object]:
    """An alteration: that row's message becomes this one."""
    change = f"update {table} set data = ? where external_id = ?"  # noqa: S608
    return lambda database: database.execute(change, (message.SerializeToString(), external_id))


def user(name: str = "Ada", email: str = "ada@example.com", user_id: str = "u1") -> pb.Resource:
    resource = pb.Resource(id=pb.ResourceId(resource_type="user", resource=user_id), display_name=name)
    resource.status.status = pb.Status.RESOURCE_STATUS_ENABLED
    resource.annotations.add().Pack(
        pb.UserTrait(
            emails=[pb.UserTrait.Email(address=email, is_primary=True)],
            status=pb.UserTrait.Status(status=pb.UserTrait.Status.STATUS_ENABLED),
            login=email,
        )
    )
    return resource


def team(name: str = "Platform", description: str = "") -> pb.Resource:
    resource = pb.Resource(id=pb.ResourceId(resource_type="team", resource="t1"), display_name=name)
    resource.description = description
    resource.annotations.add().Pack(pb.GroupTrait())
    return resource


def entitlement() -> pb.Entitlement:
    return pb.Entitlement(id="team:t1:member", resource=team(), display_name="Member", slug="member")


def grant() -> pb.Grant:
    return pb.Grant(
        id="team:t1:member:user:u1",
        entitlement=pb.Entitlement(id="team:t1:member", resource=team()),
        principal=pb.Resource(id=pb.ResourceId(resource_type="user", resource="u1")),
    )


@cache
def _filled() -> bytes:
    """The database before any alteration: many tests take it."""
    with closing(sqlite3.connect(":memory:")) as database:
        _fill(database)
        database.commit()
        return database.serialize()


def _fill(database: sqlite3.Connection) -> None:
    database.executescript(SCHEMA)
    run = "insert into v1_sync_runs (sync_id, started_at, ended_at, sync_token) values (?, ?, ?, '')"
    database.execute(run, (SYNC_ID, WHEN, WHEN))
    kinds = (
        pb.ResourceType(id="user", display_name="User", traits=[pb.ResourceType.TRAIT_USER]),
        pb.ResourceType(id="team", display_name="Team", traits=[pb.ResourceType.TRAIT_GROUP]),
    )
    for kind in kinds:
        _insert(database, "v1_resource_types", kind, external_id=kind.id)
    for resource in (user(), user("Grace", "grace@example.com", "u2"), team()):
        kind_id = resource.id.resource_type
        external_id = f"{kind_id}:{resource.id.resource}"
        _insert(database, "v1_resources", resource, resource_type_id=kind_id, external_id=external_id)
    about = {"resource_type_id": "team", "resource_id": "t1"}
    _insert(database, "v1_entitlements", entitlement(), external_id=entitlement().id, **about)
    _insert(
        database,
        "v1_grants",
        grant(),
        external_id=grant().id,
        entitlement_id=entitlement().id,
        principal_resource_type_id="user",
        principal_resource_id="u1",
        **about,
    )


def _insert(database: sqlite3.Connection, table: str, message: Message, **columns: str) -> None:
    values = {"data": message.SerializeToString(), "sync_id": SYNC_ID, "discovered_at": WHEN, **columns}
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    database.execute(f"insert into {table} ({names}) values ({marks})", tuple(values.values()))  # noqa: S608
