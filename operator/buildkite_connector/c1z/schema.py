"""The tables of a snapshot's database, as every reader of `.c1z` files expects them.

All tables must be there. Indexes are built after the rows are in: sorting once is faster than keeping
order row by row.
"""

from collections.abc import Iterator, Sequence

from buildkite_connector.model.directory import ResourceKind, SyncScope

_ROW = "sync_id text not null, discovered_at datetime not null"

TABLES = (
    """create table v1_sync_runs (
        id integer primary key,
        sync_id text not null,
        started_at datetime not null,
        ended_at datetime,
        sync_token text not null,
        sync_type text not null default 'full',
        parent_sync_id text not null default '',
        linked_sync_id text not null default '',
        supports_diff integer not null default 0,
        grants_backfilled integer not null default 0,
        stats text,
        ingest_invariant_generation text not null default '',
        ingest_invariant_coverage text not null default '',
        ingest_invariant_mode text not null default ''
    )""",
    f"""create table v1_resource_types (
        id integer primary key,
        external_id text not null,
        data blob not null,
        {_ROW}
    )""",
    f"""create table v1_resources (
        id integer primary key,
        resource_type_id text not null,
        external_id text not null,
        parent_resource_type_id text,
        parent_resource_id text,
        data blob not null,
        {_ROW}
    )""",
    f"""create table v1_entitlements (
        id integer primary key,
        resource_type_id text not null,
        resource_id text not null,
        external_id text not null,
        data blob not null,
        {_ROW}
    )""",
    f"""create table v1_grants (
        id integer primary key,
        resource_type_id text not null,
        resource_id text not null,
        entitlement_id text not null,
        principal_resource_type_id text not null,
        principal_resource_id text not null,
        external_id text not null,
        expansion blob,
        needs_expansion integer not null default 0,
        data blob not null,
        {_ROW}
    )""",
    f"""create table v1_assets (
        id integer primary key,
        external_id text not null,
        content_type text not null,
        data blob not null,
        {_ROW}
    )""",
    """create table v1_connector_sessions (
        id integer primary key,
        sync_id text not null,
        key text not null,
        value blob not null
    )""",
)

Row = tuple[object, ...]
TableRows = tuple[str, Iterator[Row]]
"""A table's insert statement and the rows for it."""

COLUMNS = {
    "resource_types": ("external_id", "data"),
    "resources": ("resource_type_id", "external_id", "data"),
    "entitlements": ("resource_type_id", "resource_id", "external_id", "data"),
    "grants": (
        "resource_type_id",
        "resource_id",
        "entitlement_id",
        "principal_resource_type_id",
        "principal_resource_id",
        "external_id",
        "expansion",
        "needs_expansion",
        "data",
    ),
}
"""The columns that a snapshot of Buildkite fills in each table of rows, before `sync_id` and `discovered_at`.

The first says of which resource type a row is.
"""


def rows_in(scope: SyncScope, table: str) -> tuple[str, tuple[str, ...]]:
    """What is true of a row of `table` (its name without `v1_`) that is of a kind in `scope`, and its parameters.

    A grant is where the kind of its principal is too; memberships alone are there for accounts that are not listed.
    """
    kinds = tuple(kind.value for kind in ResourceKind if kind in scope.kinds)
    places = ", ".join("?" * len(kinds))
    which = f"{COLUMNS[table][0]} in ({places})"
    if table != "grants":
        return which, kinds
    team = ResourceKind.TEAM.value
    return f"{which} and (resource_type_id = '{team}' or principal_resource_type_id in ({places}))", kinds * 2


def insert(table: str, columns: Sequence[str] = ()) -> str:
    """The statement that inserts a row of `table` (its name without `v1_`), one parameter a column.

    Without `columns` it fills the table's COLUMNS, then `sync_id` and `discovered_at`.
    """
    columns = columns or (*COLUMNS[table], "sync_id", "discovered_at")
    places = ", ".join("?" * len(columns))
    return f"insert into v1_{table} ({', '.join(columns)}) values ({places})"  # noqa: S608


EMPTY_INDEXES = (
    "create index idx_grants_sync_expansion_v1 on v1_grants (sync_id) where expansion is not null",
    "create index idx_grants_sync_needs_expansion_v1 on v1_grants (sync_id) where needs_expansion = 1",
)
"""Indexes that only grants to teams enter: made before the rows, where they cost next to nothing."""

INDEXES = (
    "create unique index idx_sync_runs_sync_id_v1 on v1_sync_runs (sync_id)",
    "create unique index idx_resource_types_external_sync_v1 on v1_resource_types (external_id, sync_id)",
    "create index idx_resources_resource_type_id_v1 on v1_resources (resource_type_id)",
    # The next two names are crossed in every reader's schema: a reader makes what it misses by name.
    "create index idx_resources_external_sync_v1 on v1_resources (parent_resource_type_id, parent_resource_id)",
    "create unique index idx_resources_parent_resource_id_v1 on v1_resources (external_id, sync_id)",
    "create index idx_entitlements_resource_id_v1 on v1_entitlements (resource_type_id, resource_id)",
    "create unique index idx_entitlements_external_sync_v1 on v1_entitlements (external_id, sync_id)",
    "create index idx_grants_resource_type_id_resource_id_v1 on v1_grants (resource_type_id, resource_id)",
    "create index idx_grants_principal_id_v1 on v1_grants (principal_resource_type_id, principal_resource_id)",
    """create index idx_grants_entitlement_id_principal_id_v1
        on v1_grants (entitlement_id, principal_resource_type_id, principal_resource_id)""",
    "create unique index idx_grants_external_sync_v1 on v1_grants (external_id, sync_id)",
    "create index idx_grants_entitlement_sync_grant_v1 on v1_grants (entitlement_id, sync_id, id)",
    "create unique index idx_assets_external_sync_v1 on v1_assets (external_id, sync_id)",
    "create unique index idx_session_store_sync_key_v1 on v1_connector_sessions (sync_id, key)",
)
