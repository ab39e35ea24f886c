"""One connector's life: when it syncs, what it stages, what it may deliver, and what is told of it.

It knows nothing of Kubernetes: the operator and the tests run the same session, each with its own ports
(`ports`) and clock. The scheduler calls `run` when `due`; C1's tasks come in through `conversation`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from buildkite_connector.connector import transitions as on_record
from buildkite_connector.connector.checks import Fitness
from buildkite_connector.connector.conditions import Findings, ShrinkHold, describe
from buildkite_connector.connector.desired import Order, Tools
from buildkite_connector.connector.ports import StatusSink
from buildkite_connector.model.directory import Collection
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.schedule import next_time
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus, Phase, SyncRecord, Trigger
from buildkite_connector.model.tasks import SyncTask
from buildkite_connector.timing.backoff import BETWEEN_REPORTS, BETWEEN_SYNCS

logger = logging.getLogger(__name__)

AT_ONCE = 0.0
TELLING_SECONDS = 3.0
"""How long a status write that is under way may hold up whoever cancels."""
CHANGE_WAITS = "The resource or its Secret changed; a sync of it is to come."


@dataclass(eq=False, slots=True)
class _Want:
    """A task that waits for a sync of this scope."""

    scope: SyncScope
    snapshot: asyncio.Future[StagedSnapshot]


@dataclass(eq=False, slots=True)
class _Work:
    """The sync under way."""

    task: asyncio.Task[SyncRecord]
    only_for_tasks: bool
    withdrawn: bool = False

    def withdraw(self) -> None:
        self.withdrawn = True
        self.task.cancel()


class Session:
    """The state machine of one connector; an activity of the scheduler.

    `restored` is the status that a former process left, None for a new resource.
    """

    def __init__(
        self,
        key: ConnectorKey,
        order: Order,
        restored: ConnectorStatus | None,
        reporter: StatusSink,
        tools: Tools,
    ) -> None:
        self.name = str(key)
        self._key = key
        self._order = order
        self._reporter = reporter
        self._tools = tools
        self._records = restored or ConnectorStatus()
        self._published = restored
        self._publishing = asyncio.Lock()
        self._publish_at: float | None = None
        self._publish_failures = 0
        self._attention = True
        self._changed = restored is None or restored.observed_generation != order.generation
        self._interrupted = restored is not None and restored.phase is Phase.SYNCING
        self._restoring = restored is not None
        self._fitness = Fitness(self.name, tools, self, self._tell_slow_check)
        self._staged: StagedSnapshot | None = None
        self._staging = asyncio.Lock()
        self._wants: list[_Want] = []
        self._work: _Work | None = None
        self._sync_failure = _restored_failure(restored, ConditionType.SYNCED)
        self._delivery_failure: Failure | None = None
        self._progressing: str | None = None

    # What the scheduler and the resource's watcher call

    def due(self) -> float | None:
        """When to run next, in monotonic seconds; None: not until something wakes it."""
        if self._attention:
            return AT_ONCE
        times = [] if self._order.spec.suspend else [self._fitness.check_at]
        if self._publish_at is not None:
            times.append(self._publish_at)
        if self._fitness.is_fit and not self._order.spec.suspend:
            clock = self._tools.clock
            at = self._records.next_sync_time or clock.now()
            times.append(clock.monotonic() + (at - clock.now()).total_seconds())
        return min(times, default=None)

    def update(self, order: Order) -> None:
        """Take a new wish; the same one again costs nothing."""
        before, self._order = self._order, order
        if order.same_wish(before):
            return
        if order.generation != before.generation:
            self._change()
            self._fitness.expire()
        elif order.sync_request != before.sync_request and not self._fitness.is_fit:
            self._fitness.expire()
        if order.spec.suspend and self._work is not None:
            self._work.withdraw()
        self._wake()

    async def run(self) -> None:
        """One round: whatever is due now."""
        self._attention = False
        try:
            await self._tend()
        except Exception as error:
            logger.exception("a connector's round failed unexpectedly", extra={"connector": self.name})
            self._unfit(_internal(error))
        await self._publish()

    async def close(self, *, discard: bool) -> None:
        """End it: the work is cancelled, a task in hand goes back to C1. `discard`: the staged file goes too."""
        await self._tools.scheduler.remove(self)
        await self._fitness.hang_up()
        if discard:
            await self._tools.store.discard(self._key)

    # What the conversation with C1 calls

    @asynccontextmanager
    async def snapshot_for(self, task: SyncTask) -> AsyncIterator[StagedSnapshot]:
        """See `conversation.Deliveries`."""
        spec = self._order.spec
        scope = replace(task.scope, kinds=task.scope.kinds & spec.kinds)
        if not scope.kinds:
            raise Failure(
                Reason.SPEC_INVALID,
                f"The task asks for {_names(task.scope)}, the connector is set to sync "
                f"{_names(SyncScope(spec.kinds))} only (spec.sync.resourceTypes).",
                remedy=Remedy.EDIT,
            )
        if not self._is_fresh(scope):
            await self._sync_for(scope)
        async with self._staging:
            if (held := self._held()) is not None:
                raise Failure(Reason.SHRINK_HELD, held.message)
            if self._staged is None or not self._staged.scope.covers(scope):
                raise Failure(Reason.SNAPSHOT_INVALID, "The snapshot was replaced before it could go out.")
            yield self._staged

    async def delivered(self, task: SyncTask, snapshot: StagedSnapshot) -> None:
        """See `conversation.Deliveries`."""
        self._delivery_failure = None
        self._records = on_record.delivered(self._records, snapshot, task.id, self._tools.clock.now())
        logger.info(
            "snapshot delivered",
            extra={
                "connector": self.name,
                "task_id": task.id,
                "sync_id": snapshot.sync_id,
                "bytes": snapshot.size,
            },
        )
        await self._publish()

    async def delivery_failed(self, failure: Failure) -> None:
        """See `conversation.Deliveries`."""
        if failure.reason in {Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED}:
            self._staged = None
        self._delivery_failure = failure.without_traceback()
        await self._publish()

    async def c1_changed(self, failure: Failure | None) -> None:
        """See `conversation.Deliveries`."""
        if self._fitness.c1_changed(failure):
            self._wake()
            await self._publish()

    # One round

    async def _tend(self) -> None:
        if self._restoring:
            await self._restore()
        if self._order.spec.suspend:
            await self._fitness.hang_up()
            return
        had_problem = self._fitness.problem is not None
        if await self._fitness.check(self._order):
            self._change()
        if not self._fitness.is_fit:
            self._turn_away()
            return
        if had_problem and self._records.consecutive_failures:
            self._records = replace(self._records, next_sync_time=self._tools.clock.now())
        if self._trigger() is not None:
            await self._sync()

    def _change(self) -> None:
        """Due at once, also for the process after this one; what was staged before is no answer any more."""
        self._changed = True
        self._records = replace(self._records, next_sync_time=self._tools.clock.now())

    async def _restore(self) -> None:
        """Take up what a former process left; an interrupted sync is due again."""
        self._restoring = False
        if self._interrupted or self._changed:
            self._records = replace(self._records, next_sync_time=self._tools.clock.now())
        if (last := self._records.last_sync) is not None:
            try:
                self._staged = await self._tools.store.restore(self._key, last.snapshot_sha256)
            except Failure as failure:
                logger.warning("the staged snapshot is lost", extra={"connector": self.name, "error": failure.message})

    def _trigger(self, *, tasks: bool = True) -> Trigger | None:
        """Why to sync now, or None. `tasks` False: if no task asked."""
        if tasks and self._wants:
            return Trigger.TASK
        if self._order.sync_request not in (None, self._records.last_handled_sync_request):
            return Trigger.REQUEST
        at = self._records.next_sync_time
        now, ended = self._tools.clock.now(), self._records.last_sync_time
        went_back = ended is not None and now + timedelta(minutes=1) < ended  # the wall clock did
        if at is None or at <= now or went_back:
            return Trigger.CHANGE if self._changed else Trigger.SCHEDULE
        return None

    async def _tell_slow_check(self) -> None:
        if self._published is None:
            self._progressing = "Checking the credentials with Buildkite and C1."
            await self._publish()
            self._progressing = None

    def _unfit(self, failure: Failure) -> None:
        self._fitness.unfit(failure)
        self._turn_away()

    def _turn_away(self) -> None:
        """Whoever waits for a sync hears why there is none."""
        for want in self._wants:
            if self._fitness.problem is not None and not want.snapshot.done():
                want.snapshot.set_exception(self._fitness.problem.without_traceback())

    # The sync

    async def _sync(self) -> None:
        """All or nothing; its end is on record and told to whoever waits for it."""
        tools = self._tools
        async with tools.slots:
            order = self._order
            if order.spec.suspend or not self._fitness.is_fit or (trigger := self._trigger()) is None:
                return  # it changed while this waited: the next round decides anew
            scope = self._wants[0].scope if self._wants else SyncScope(order.spec.kinds)
            sync_id = tools.new_sync_id(tools.clock.now())
            started = tools.clock.now()
            only_for_tasks = self._trigger(tasks=False) is None
            if scope == SyncScope(order.spec.kinds):
                self._records = replace(self._records, last_handled_sync_request=order.sync_request)
            if trigger is Trigger.CHANGE:
                self._progressing = "Syncing after a change of the resource or its Secret."
            task = asyncio.create_task(
                self._collect_and_stage(sync_id, trigger, scope, started), name=f"{self.name}/{sync_id}"
            )
            work = self._work = _Work(task, only_for_tasks)
            try:
                await self._publish()
                async with asyncio.timeout(order.spec.sync_timeout):
                    record = await task
            except TimeoutError:
                failure = Failure(
                    Reason.SYNC_TIMEOUT,
                    f"The sync took longer than spec.sync.timeout ({order.spec.sync_timeout:.0f} s): raise it, or raise"
                    " spec.sync.quotaPercent when Buildkite's rate limit is what it waited for.",
                )
                self._sync_failed(sync_id, trigger, started, failure)
            except Failure as failure:
                self._sync_failed(sync_id, trigger, started, failure)
            except asyncio.CancelledError:
                if not work.withdrawn or _being_cancelled():
                    raise
                logger.info("sync withdrawn", extra={"connector": self.name, "sync_id": sync_id})
            except Exception as error:
                logger.exception("a sync failed unexpectedly", extra={"connector": self.name, "sync_id": sync_id})
                self._sync_failed(sync_id, trigger, started, _internal(error))
            else:
                self._sync_succeeded(record, scope, order)
            finally:
                task.cancel()
                await asyncio.wait({task})
                self._work = None
                self._progressing = None

    async def _collect_and_stage(
        self, sync_id: SyncID, trigger: Trigger, scope: SyncScope, started: datetime
    ) -> SyncRecord:
        source, preflight = self._fitness.source()
        collection = await source.collect(preflight.organization, scope)
        async with self._staging:
            staged = await self._tools.store.stage(self._key, collection.directory, sync_id=sync_id, started_at=started)
            self._staged = staged
        finished = self._tools.clock.now()
        self._log_sync(staged, collection, trigger, (finished - started).total_seconds())
        return SyncRecord(
            sync_id,
            trigger,
            started,
            finished,
            staged.counts,
            collection.report.requests,
            round(collection.report.throttled_seconds, 1),
            staged.sha256,
            staged.size,
        )

    def _sync_succeeded(self, record: SyncRecord, scope: SyncScope, order: Order) -> None:
        spec = order.spec
        whole = scope == SyncScope(spec.kinds)
        at = next_time(spec.schedule, record.started_at, self._tools.jitter) if whole else None
        self._sync_failure = None
        if order.generation != self._order.generation:
            at = self._tools.clock.now()
        elif whole:
            self._changed = False
        self._records = on_record.sync_succeeded(
            self._records,
            record,
            scope=scope,
            next_sync=at or self._records.next_sync_time,
            accepted=self._order.accept_shrink,
        )
        for want in self._wants:
            answered = want.scope == scope and (spec.max_snapshot_age > 0 or record.trigger is Trigger.TASK)
            if answered and self._staged is not None and not want.snapshot.done():
                want.snapshot.set_result(self._staged)

    def _sync_failed(self, sync_id: SyncID, trigger: Trigger, started: datetime, failure: Failure) -> None:
        now = self._tools.clock.now()
        wait = BETWEEN_SYNCS.wait(self._records.consecutive_failures + 1, self._tools.jitter, failure.retry_after)
        self._records = on_record.sync_failed(
            self._records,
            sync_id=sync_id,
            trigger=trigger,
            started=started,
            finished=now,
            failure=failure,
            next_sync=now + timedelta(seconds=wait),
            accepted=self._order.accept_shrink,
        )
        logger.warning(
            "sync failed",
            extra={
                "connector": self.name,
                "sync_id": sync_id,
                "reason": failure.reason,
                "error": failure.message,
            },
        )
        self._sync_failure = failure.without_traceback()
        if failure.remedy is not Remedy.RETRY:
            self._unfit(failure)
        for want in self._wants:
            if not want.snapshot.done():
                want.snapshot.set_exception(failure.without_traceback())

    async def _sync_for(self, scope: SyncScope) -> StagedSnapshot:
        """The snapshot of a sync of this scope: the one under way, or a new one."""
        if self._fitness.problem is not None:
            raise self._fitness.problem.without_traceback()
        at = self._records.next_sync_time
        if self._sync_failure is not None and at is not None and at > self._tools.clock.now():
            raise self._sync_failure.without_traceback()  # its backoff counts for tasks too
        want = _Want(scope, asyncio.get_running_loop().create_future())
        self._wants.append(want)
        self._wake()
        try:
            return await want.snapshot
        finally:
            self._wants.remove(want)
            work = self._work
            if work is not None and work.only_for_tasks and not self._wants and want.snapshot.cancelled():
                work.withdraw()

    def _is_fresh(self, scope: SyncScope) -> bool:
        """Whether the staged snapshot may answer a task of this scope at once."""
        staged, last, age = self._staged, self._records.last_sync, self._order.spec.max_snapshot_age
        if self._changed or staged is None or last is None or last.id != staged.sync_id:
            return False
        if not staged.scope.covers(scope):
            return False
        return 0 <= (self._tools.clock.now() - last.finished_at).total_seconds() < age

    def _held(self) -> ShrinkHold | None:
        if self._staged is None:
            return None
        order = self._order
        return on_record.held(self._records, self._staged, order.spec.max_drop_percent, order.accept_shrink)

    # Telling

    async def _publish(self) -> None:
        """Write the status when it says something new; what cannot be written now is written later.

        Finished although the caller is cancelled meanwhile: what was written must be known to have been.
        """
        telling = asyncio.create_task(self._tell(), name=f"{self.name}/status")
        try:
            await asyncio.shield(telling)
        except asyncio.CancelledError:
            await asyncio.wait({telling}, timeout=TELLING_SECONDS)
            raise
        finally:
            telling.cancel()

    async def _tell(self) -> None:
        async with self._publishing:
            before = self._published
            after = self._records = describe(self._findings(), self._found(), self._tools.clock.now())
            if after == before:
                self._publish_at = None
                return
            try:
                await self._reporter.report(before, after)
            except Failure as failure:
                self._publish_failures += 1
                wait = BETWEEN_REPORTS.wait(self._publish_failures, self._tools.jitter, failure.retry_after)
                self._publish_at = self._tools.clock.monotonic() + wait
                logger.warning(
                    "the status could not be written",
                    extra={"connector": self.name, "error": failure.message},
                )
            else:
                self._publish_at, self._publish_failures = None, 0
                self._published = after

    def _found(self) -> ConnectorStatus:
        """The records with what the last check found."""
        fitness = self._fitness
        records = replace(self._records, missing_scopes=fitness.missing_scopes)
        if fitness.preflight is None:
            return records
        return replace(
            records,
            organization=fitness.preflight.organization,
            token_expires_at=fitness.preflight.token.expires_at,
        )

    def _findings(self) -> Findings:
        order = self._order
        return Findings(
            generation=order.generation,
            suspended=order.spec.suspend,
            syncing=self._work is not None,
            progressing=self._progressing or (CHANGE_WAITS if self._changed else None),
            token_accepted=self._fitness.preflight is not None,
            client_accepted=self._fitness.client_accepted,
            preflight_failure=self._fitness.problem,
            c1_failure=self._fitness.c1_failure,
            sync_failure=self._sync_failure,
            delivery_failure=self._delivery_failure,
            held=self._held(),
            awaiting_task=on_record.undelivered(self._records),
        )

    def _log_sync(self, staged: StagedSnapshot, collection: Collection, trigger: Trigger, seconds: float) -> None:
        report = collection.report
        logger.info(
            "sync succeeded",
            extra={
                "connector": self.name,
                "sync_id": staged.sync_id,
                "trigger": trigger,
                "accounts": staged.counts.accounts,
                "teams": staged.counts.teams,
                "memberships": staged.counts.memberships,
                "requests": report.requests,
                "throttled_seconds": round(report.throttled_seconds, 1),
                "teams_gone": report.teams_gone,
                "accounts_added": report.accounts_added,
                "seconds": round(seconds, 2),
                "bytes": staged.size,
            },
        )

    def _wake(self) -> None:
        self._attention = True
        self._tools.scheduler.wake(self)


def _restored_failure(restored: ConnectorStatus | None, kind: ConditionType) -> Failure | None:
    """The failure that a former process told in a condition, until a new sync says otherwise."""
    condition = restored.condition(kind) if restored is not None else None
    if condition is None or condition.status is not ConditionStatus.FALSE:
        return None
    return Failure(condition.reason, condition.message)


def _internal(error: Exception) -> Failure:
    """For people; the log has the traceback. The error's own text is not repeated: nobody vouches for it."""
    return Failure(
        Reason.INTERNAL_ERROR,
        f"An error in the operator itself ({type(error).__name__}); its log has the details. Please report it.",
    )


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _names(scope: SyncScope) -> str:
    return " and ".join(sorted(scope.kinds))
