"""What each opt-in resource type adds to the snapshot of `data/access-org.json`, row by row, as `data` keeps it.

`PYTHONPATH=tests python -m unit.c1z.access_golden` writes it anew: every difference is one that C1 will see.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from buildkite_connector.c1z import StoredSync
from buildkite_connector.c1z.writer import fill, rows_of
from buildkite_connector.model.directory import DEFAULT_KINDS, Directory, ResourceKind, SyncScope
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.proto.connector_pb2 import Entitlement, Grant, GrantExpandable, Resource, ResourceType
from harness.organization import DATA, access

GOLDEN = DATA / "access-snapshot.json"
SYNC = SyncID("3MU2vTiRPq8SdRnLeLr03nEgvMK")
NOW = datetime(2026, 11, 22, 23, 28, tzinfo=UTC)
OPT_IN = [kind for kind in ResourceKind if kind not in DEFAULT_KINDS | {ResourceKind.API_TOKEN}]
"""Those that have entitlements; `portal_golden` has API tokens."""
DEFAULT, ALL = SyncScope(DEFAULT_KINDS), SyncScope(DEFAULT_KINDS | set(OPT_IN))
EXPANDED = SyncScope(ALL.kinds, expanded=True)

MESSAGES: dict[str, Callable[[bytes], Message]] = {
    "v1_resource_types": ResourceType.FromString,
    "v1_resources": Resource.FromString,
    "v1_entitlements": Entitlement.FromString,
    "v1_grants": Grant.FromString,
}

Rows = dict[str, dict[str, dict[str, Any]]]
"""By table and external id: the columns, the messages in them as JSON."""


def with_kind(kind: ResourceKind) -> SyncScope:
    return SyncScope(DEFAULT_KINDS | {kind})


def database(directory: Directory) -> sqlite3.Connection:
    """The database of the directory's snapshot, in memory."""
    run = StoredSync(SYNC, NOW, NOW, directory.scope, directory.counts)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    fill(connection, rows_of(directory, run), run)
    return connection


def rows(scope: SyncScope) -> Rows:
    """All rows of the organization's snapshot of that scope."""
    return rows_of_directory(access(scope))


def rows_of_directory(directory: Directory) -> Rows:
    found: Rows = {}
    with closing(database(directory)) as connection:
        connection.row_factory = sqlite3.Row
        for table, read in MESSAGES.items():
            found[table] = {}
            for row in connection.execute(f"select * from {table} order by id"):  # noqa: S608
                columns = {key: row[key] for key in row.keys() if key not in ("id", "sync_id", "discovered_at")}  # noqa: SIM118
                columns["data"] = as_json(read(columns["data"]))
                if columns.get("expansion") is not None:
                    columns["expansion"] = as_json(GrantExpandable.FromString(columns["expansion"]))
                found[table][columns.pop("external_id")] = columns
    return found


def as_json(message: Message) -> dict[str, Any]:
    pool = descriptor_pool.Default()
    return dict(MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool))


def added(more: SyncScope, less: SyncScope) -> Rows:
    """The rows of one scope that another lacks, or has otherwise."""
    return changed_rows(rows(less), rows(more))


def changed_rows(before: Rows, after: Rows) -> Rows:
    """Those of `after` that `before` lacks, or has otherwise."""
    return {
        table: {id_: row for id_, row in those.items() if before[table].get(id_) != row}
        for table, those in after.items()
    }


def golden() -> dict[str, Rows]:
    return {
        **{kind.value: added(with_kind(kind), DEFAULT) for kind in OPT_IN},
        "expanded": added(EXPANDED, ALL),
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
