"""One sync: collect the organization, stage the snapshot, log it. All or nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.sight import sight_of
from buildkite_connector.connector.state import SyncRun, TeamChanges
from buildkite_connector.connector.transitions import SyncResult
from buildkite_connector.model.directory import Collection, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Result, Work
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import SnapshotFile, SyncRecord
from buildkite_connector.sync.collect import collect, reread
from buildkite_connector.sync.preflight import required_scopes
from buildkite_connector.timing.slots import Slot

logger = logging.getLogger(__name__)


MOST_SEALS = 5
"""How often a snapshot is written again because memberships were changed through this connector meanwhile."""

Settled = Callable[[], Awaitable[TeamChanges]]
"""Waits until no write of a membership is under way; returns the changes at that moment."""


async def run_sync(
    name: str, key: ConnectorKey, run: SyncRun, env: Environment, settled: Settled, slot: Slot
) -> SyncResult:
    """Collect, stage and log. `slot` is given back while the sync waits for Buildkite.

    Raises Failure, SYNC_TIMEOUT among others; the failure is logged.
    """
    trigger = run.trigger.value
    with env.observer.operation(Work.SYNC, connector=name, sync_id=run.id, trigger=trigger) as operation:
        try:
            collection, staged, covered = await _collect(key, run, env, settled, slot)
        except Failure as failure:
            operation.tell(result=Result.FAILED.value, reason=failure.reason.value)
            fields = {"connector": name, "sync_id": run.id, "reason": failure.reason.value, "error": failure.message}
            logger.warning("sync failed", extra=fields)
            raise
        report, counts, throttled = collection.report, staged.counts, round(collection.report.throttled_seconds, 1)
        facts: dict[str, int | float] = {
            **{name: count for name, count in asdict(counts).items() if count is not None},
            "requests": report.requests,
            "throttled_seconds": throttled,
        }
        operation.tell(result=Result.SUCCESS.value, reason=Reason.SYNC_SUCCEEDED.value, **facts)
        more: dict[str, int | float] = {
            "teams_gone": report.teams_gone,
            "accounts_added": report.accounts_added,
            "seconds": round(env.clock.monotonic() - run.started.monotonic, 2),
            "bytes": staged.size,
        }
        if counts.pipeline_access is not None:
            more["pipelines_added"] = report.pipelines_added
        if counts.all_cluster_maintainers is not None:
            more["clusters_gone"] = report.clusters_gone
            more["teams_unseen"] = report.teams_unseen
        fields = {"connector": name, "sync_id": run.id, "trigger": trigger}
        logger.info("sync succeeded", extra={**fields, **facts, **more})
    file = SnapshotFile(staged.sha256, staged.size)
    record = SyncRecord(
        run.id, run.trigger, run.started.wall, env.clock.now(), counts, report.requests, throttled, file
    )
    return SyncResult(record, staged, covered, sight_of(collection.directory, run.preflight.token))


async def _collect(
    key: ConnectorKey, run: SyncRun, env: Environment, settled: Settled, slot: Slot
) -> tuple[Collection, StagedSnapshot, int]:
    """What was read, its snapshot, and the number of changes up to which that shows all of them.

    Teams that were changed through this connector since the sync began are read again, also when that happens while the
    file is written, a few times. Nothing is awaited after the last look at the changes.
    """
    spec, organization = run.spec, run.preflight.organization
    redactor = run.credentials.redactor.without(organization.slug)  # public by now
    client = env.buildkite(
        run.credentials.for_reading(organization.slug, required_scopes(spec.kinds)),
        redactor,
        quota_percent=spec.quota_percent,
        slot=slot,
    )
    portal = None
    if spec.portal:
        portal = env.portals(organization.slug, spec.portal, run.credentials.portal_token, redactor, slot=slot)
    staged: StagedSnapshot | None = None
    covered = 0
    try:
        async with asyncio.timeout(spec.sync_timeout):
            collection = await collect(client, organization, SyncScope(spec.kinds), portal)
            for _ in range(MOST_SEALS):
                changes = await settled()
                teams = changes.since(covered)
                covered = changes.number
                if staged is not None and not teams:
                    break
                if teams:
                    collection = await reread(client, collection, teams, portal)
                staged = await env.store.stage(key, collection.directory, sync_id=run.id, started_at=run.started.wall)
    except BaseException as error:
        if staged is not None:
            with suppress(Failure):  # it is removed at the next start
                env.store.remove(staged)
        if not isinstance(error, TimeoutError):
            raise
        raise Failure(
            Reason.SYNC_TIMEOUT,
            f"The sync took longer than spec.sync.timeout ({spec.sync_timeout:.0f} s): increase it, or increase"
            " spec.sync.quotaPercent if the sync waited for Buildkite's rate limit.",
        ) from None
    if staged is None:
        raise RuntimeError("a snapshot is written at least once")
    return collection, staged, covered
