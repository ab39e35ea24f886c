"""One sync: collect the organization, stage the snapshot, log it. All or nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.sight import Sight, sight_of
from buildkite_connector.connector.state import SyncRun
from buildkite_connector.model.directory import Collection, Directory, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Operation, Result, Work
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import SyncRecord
from buildkite_connector.sync.collect import collect, reread
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.timing.slots import Slot

logger = logging.getLogger(__name__)


MOST_SEALS = 5
"""How often a snapshot is written again because memberships were changed through this connector meanwhile."""


class ChangedTeams(Protocol):
    """What is changed through this connector while a sync runs."""

    async def settled(self) -> None:
        """Until no write is under way."""
        ...

    def changed_since(self, number: int) -> tuple[int, frozenset[TeamID]]:
        """The number of changes now, and the teams changed after `number`."""
        ...


async def run_sync(
    name: str, key: ConnectorKey, run: SyncRun, environment: Environment, changed: ChangedTeams, slot: Slot
) -> tuple[SyncRecord, StagedSnapshot, int, Sight]:
    """The record, the snapshot, the number of changes up to which it shows all of them, and what else was seen.

    The sync gives `slot` back while it waits for Buildkite.

    Raises Failure, SYNC_TIMEOUT among others; the failure is logged.
    """
    with environment.observer.operation(
        Work.SYNC, connector=name, sync_id=run.id or "", trigger=run.trigger.value
    ) as operation:
        try:
            record, staged, covered, sight = await _run(name, key, run, environment, changed, slot)
        except Failure as failure:
            operation.tell(result=Result.FAILED.value, reason=failure.reason.value)
            fields = {"connector": name, "sync_id": run.id, "reason": failure.reason.value, "error": failure.message}
            logger.warning("sync failed", extra=fields)
            raise
        _tell(operation, record)
        return record, staged, covered, sight


async def _run(
    name: str, key: ConnectorKey, run: SyncRun, env: Environment, changed: ChangedTeams, slot: Slot
) -> tuple[SyncRecord, StagedSnapshot, int, Sight]:
    spec, preflight, started = run.spec, run.preflight, run.started
    credentials = run.inputs.credentials if run.inputs is not None else None
    sync_id = run.id
    if sync_id is None or spec is None or preflight is None or started is None or credentials is None:
        raise RuntimeError("a sync starts only after a successful check")
    organization = preflight.organization
    client = env.buildkite(
        credentials.api_token,
        credentials.redactor.without(organization.slug),  # public by now
        quota_percent=spec.quota_percent,
        slot=slot,
    )
    try:
        async with asyncio.timeout(spec.sync_timeout):
            collected = await collect(client, organization, SyncScope(spec.kinds))

            def stage(directory: Directory) -> Awaitable[StagedSnapshot]:
                return env.store.stage(key, directory, sync_id=sync_id, started_at=started.wall)

            collection, staged, covered = await _seal(collected, client, stage, changed)
    except TimeoutError:
        raise Failure(
            Reason.SYNC_TIMEOUT,
            f"The sync took longer than spec.sync.timeout ({spec.sync_timeout:.0f} s): raise it, or raise"
            " spec.sync.quotaPercent when Buildkite's rate limit is what it waited for.",
        ) from None
    report, finished = collection.report, env.clock.now()
    record = SyncRecord(
        sync_id,
        run.trigger,
        started.wall,
        finished,
        staged.counts,
        report.requests,
        round(report.throttled_seconds, 1),
        staged.sha256,
        staged.size,
    )
    _log(name, record, collection, env.clock.monotonic() - started.monotonic)
    return record, staged, covered, sight_of(collection.directory, preflight.token)


async def _seal(
    collection: Collection,
    client: BuildkiteAPI,
    stage: Callable[[Directory], Awaitable[StagedSnapshot]],
    changed: ChangedTeams,
) -> tuple[Collection, StagedSnapshot, int]:
    """Write the snapshot with all that was changed through this connector before.

    Teams that were changed since the sync began are read again; also when that happens while the file is written, a
    few times. Nothing is awaited after the last look at the changes.
    """
    covered = 0
    staged: StagedSnapshot | None = None
    for _ in range(MOST_SEALS):
        await changed.settled()
        number, teams = changed.changed_since(covered)
        if staged is not None and not teams:
            return collection, staged, number
        covered = number
        if teams:
            collection = await reread(client, collection, teams)
        staged = await stage(collection.directory)
    if staged is None:
        raise RuntimeError("a snapshot is written at least once")
    return collection, staged, covered


def _tell(operation: Operation, record: SyncRecord) -> None:
    operation.tell(
        result=Result.SUCCESS.value,
        reason=Reason.SYNC_SUCCEEDED.value,
        accounts=record.counts.accounts,
        teams=record.counts.teams,
        memberships=record.counts.memberships,
        requests=record.requests,
        throttled_seconds=record.throttled_seconds,
    )


def _log(name: str, record: SyncRecord, collection: Collection, seconds: float) -> None:
    report = collection.report
    logger.info(
        "sync succeeded",
        extra={
            "connector": name,
            "sync_id": record.id,
            "trigger": record.trigger.value,
            "accounts": record.counts.accounts,
            "teams": record.counts.teams,
            "memberships": record.counts.memberships,
            "requests": report.requests,
            "throttled_seconds": record.throttled_seconds,
            "teams_gone": report.teams_gone,
            "accounts_added": report.accounts_added,
            "seconds": round(seconds, 2),
            "bytes": record.snapshot_bytes,
        },
    )
