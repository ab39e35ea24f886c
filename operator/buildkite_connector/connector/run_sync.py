"""One sync: collect the organization, stage the snapshot, log it. All or nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.sight import sight_of
from buildkite_connector.connector.state import SyncRun
from buildkite_connector.connector.transitions import SyncResult
from buildkite_connector.model.directory import Collection, Directory, SyncScope, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Result, Work
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import SnapshotFile, SyncRecord
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
    name: str, key: ConnectorKey, run: SyncRun, env: Environment, changed: ChangedTeams, slot: Slot
) -> SyncResult:
    """Collect, stage and log. `slot` is given back while the sync waits for Buildkite.

    Raises Failure, SYNC_TIMEOUT among others; the failure is logged.
    """
    trigger = run.trigger.value
    with env.observer.operation(Work.SYNC, connector=name, sync_id=run.id, trigger=trigger) as operation:
        try:
            collection, staged, covered = await _collect(key, run, env, changed, slot)
        except Failure as failure:
            operation.tell(result=Result.FAILED.value, reason=failure.reason.value)
            fields = {"connector": name, "sync_id": run.id, "reason": failure.reason.value, "error": failure.message}
            logger.warning("sync failed", extra=fields)
            raise
        report, counts, throttled = collection.report, staged.counts, round(collection.report.throttled_seconds, 1)
        facts: dict[str, int | float] = {
            "accounts": counts.accounts,
            "teams": counts.teams,
            "memberships": counts.memberships,
            "requests": report.requests,
            "throttled_seconds": throttled,
        }
        operation.tell(result=Result.SUCCESS.value, reason=Reason.SYNC_SUCCEEDED.value, **facts)
        more = {
            "teams_gone": report.teams_gone,
            "accounts_added": report.accounts_added,
            "seconds": round(env.clock.monotonic() - run.started.monotonic, 2),
            "bytes": staged.size,
        }
        fields = {"connector": name, "sync_id": run.id, "trigger": trigger}
        logger.info("sync succeeded", extra={**fields, **facts, **more})
    file = SnapshotFile(staged.sha256, staged.size)
    record = SyncRecord(
        run.id, run.trigger, run.started.wall, env.clock.now(), counts, report.requests, throttled, file
    )
    return SyncResult(record, staged, covered, sight_of(collection.directory, run.preflight.token))


async def _collect(
    key: ConnectorKey, run: SyncRun, env: Environment, changed: ChangedTeams, slot: Slot
) -> tuple[Collection, StagedSnapshot, int]:
    """What was read, its snapshot, and the number of changes up to which that shows all of them."""
    spec, organization = run.spec, run.preflight.organization
    client = env.buildkite(
        run.credentials.api_token,
        run.credentials.redactor.without(organization.slug),  # public by now
        quota_percent=spec.quota_percent,
        slot=slot,
    )

    def stage(directory: Directory) -> Awaitable[StagedSnapshot]:
        return env.store.stage(key, directory, sync_id=run.id, started_at=run.started.wall)

    try:
        async with asyncio.timeout(spec.sync_timeout):
            collected = await collect(client, organization, SyncScope(spec.kinds))
            return await _seal(collected, client, stage, env.store.remove, changed)
    except TimeoutError:
        raise Failure(
            Reason.SYNC_TIMEOUT,
            f"The sync took longer than spec.sync.timeout ({spec.sync_timeout:.0f} s): increase it, or increase"
            " spec.sync.quotaPercent if the sync waited for Buildkite's rate limit.",
        ) from None


async def _seal(
    collection: Collection,
    client: BuildkiteAPI,
    stage: Callable[[Directory], Awaitable[StagedSnapshot]],
    remove: Callable[[StagedSnapshot], None],
    changed: ChangedTeams,
) -> tuple[Collection, StagedSnapshot, int]:
    """Write the snapshot with all that was changed through this connector before.

    Teams that were changed since the sync began are read again; also when that happens while the file is written, a
    few times. Nothing is awaited after the last look at the changes.
    """
    covered = 0
    staged: StagedSnapshot | None = None
    try:
        for _ in range(MOST_SEALS):
            await changed.settled()
            number, teams = changed.changed_since(covered)
            if staged is not None and not teams:
                return collection, staged, number
            covered = number
            if teams:
                collection = await reread(client, collection, teams)
            staged = await stage(collection.directory)
    except BaseException:
        if staged is not None:
            with suppress(Failure):  # it is removed at the next start
                remove(staged)
        raise
    if staged is None:
        raise RuntimeError("a snapshot is written at least once")
    return collection, staged, covered
