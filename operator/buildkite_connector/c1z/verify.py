"""What must hold of a snapshot's database before it may be staged.

The counts and references are asked of the database itself, by its indexes: a row that was lost between the
directory and the disk, or a grant that points nowhere, would end in C1 as access that someone lost.
"""

import sqlite3

from buildkite_connector.c1z.sync_run import SyncRun
from buildkite_connector.model.failure import Failure, Reason

_COUNTS = {
    "sync runs": "select count(*) from v1_sync_runs where ended_at is not null",
    "resource types": "select count(*) from v1_resource_types",
    "accounts": "select count(*) from v1_resources where resource_type_id = 'user'",
    "teams": "select count(*) from v1_resources where resource_type_id = 'team'",
    "entitlements": "select count(*) from v1_entitlements",
    "grants": "select count(*) from v1_grants",
}

_DANGLING = {
    "entitlements without their team": """
        select count(*) from v1_entitlements e where not exists (
            select 1 from v1_resources r
            where r.external_id = e.resource_type_id || ':' || e.resource_id and r.sync_id = e.sync_id)""",
    "entitlements with grants that do not exist": """
        select count(*) from (select distinct entitlement_id, sync_id from v1_grants) g where not exists (
            select 1 from v1_entitlements e
            where e.external_id = g.entitlement_id and e.sync_id = g.sync_id)""",
}
_DANGLING_PRINCIPALS = {
    "accounts with grants that do not exist": """
        select count(*) from (
            select distinct principal_resource_type_id as type, principal_resource_id as id from v1_grants
        ) g where not exists (select 1 from v1_resources r where r.external_id = g.type || ':' || g.id)""",
}


def verify(connection: sqlite3.Connection, run: SyncRun) -> None:
    """Raise Failure unless the database holds what `run` says, every reference resolved. Takes its indexes.

    Principals are among the resources only where accounts are in scope.
    """
    expected = {
        "sync runs": 1,
        "resource types": len(run.scope.kinds),
        "accounts": run.counts.accounts,
        "teams": run.counts.teams,
        "entitlements": run.entitlements,
        "grants": run.counts.memberships,
    }
    for what, query in _COUNTS.items():
        _expect(connection, what, query, expected[what])
    references = _DANGLING | (_DANGLING_PRINCIPALS if run.scope.wants_accounts else {})
    for what, query in references.items():
        _expect(connection, what, query, 0)


def _expect(connection: sqlite3.Connection, what: str, query: str, expected: int) -> None:
    (found,) = connection.execute(query).fetchone()
    if found != expected:
        raise Failure(
            Reason.SNAPSHOT_INVALID,
            f"The snapshot of this sync holds {found} {what}, expected {expected}. "
            "It was not staged and the previous one is untouched; the next sync takes a new one.",
        )
