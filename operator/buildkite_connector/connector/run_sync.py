"""One sync: collect the organization, stage the snapshot, log it. All or nothing."""

import asyncio
import logging

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.state import SyncRun
from buildkite_connector.model.directory import Collection
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Operation, Result, Work
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import SyncRecord

logger = logging.getLogger(__name__)


async def run_sync(
    name: str, key: ConnectorKey, run: SyncRun, environment: Environment
) -> tuple[SyncRecord, StagedSnapshot]:
    """Raises Failure, SYNC_TIMEOUT among others; the failure is logged."""
    with environment.observer.operation(
        Work.SYNC, connector=name, sync_id=run.id or "", trigger=run.trigger.value
    ) as operation:
        try:
            record, staged = await _run(name, key, run, environment)
        except Failure as failure:
            operation.tell(result=Result.FAILED.value, reason=failure.reason.value)
            fields = {"connector": name, "sync_id": run.id, "reason": failure.reason.value, "error": failure.message}
            logger.warning("sync failed", extra=fields)
            raise
        _tell(operation, record)
        return record, staged


async def _run(name: str, key: ConnectorKey, run: SyncRun, env: Environment) -> tuple[SyncRecord, StagedSnapshot]:
    spec, preflight, started = run.spec, run.preflight, run.started
    credentials = run.inputs.credentials if run.inputs is not None else None
    sync_id = run.id
    if sync_id is None or spec is None or preflight is None or started is None or credentials is None:
        raise RuntimeError("a sync starts only after a successful check")
    source = env.clients.source(credentials, spec)
    try:
        async with asyncio.timeout(spec.sync_timeout):
            collection = await source.collect(preflight.organization, SyncScope(spec.kinds))
            staged = await env.store.stage(key, collection.directory, sync_id=sync_id, started_at=started.wall)
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
    return record, staged


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
