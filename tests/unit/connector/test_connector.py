"""A connector's life, in virtual time: triggers, failures, restarts, deliveries, and what is told of them."""

import asyncio
import itertools
from dataclasses import replace

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.schedule import Cron, Interval
from buildkite_connector.model.scope import ResourceKind, SyncScope
from buildkite_connector.model.spec import Credentials
from buildkite_connector.model.status import ConditionType, Phase, Trigger
from buildkite_connector.model.tasks import Code, HelloTask, TaskID, UnsupportedTask
from fakes.connector_world import World
from fakes.virtual_time import virtual_time

MINUTE = 60.0
HOUR = 3600.0
USERS = SyncScope(frozenset({ResourceKind.USER}))


def down() -> Failure:
    return Failure(Reason.BUILDKITE_UNAVAILABLE, "Buildkite answered 503.")


@virtual_time
async def test_a_new_connector_syncs_at_once_and_becomes_ready() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(10)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("True", "Valid")
        assert world.condition(ConditionType.SYNCED) == ("True", "SyncSucceeded")
        assert world.condition(ConditionType.DELIVERED) == ("False", "AwaitingTask")
        assert world.condition(ConditionType.RECONCILING) == ("absent", "")
        assert world.status.phase is Phase.CONNECTED
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.CHANGE


@virtual_time
async def test_the_first_sync_is_told_as_in_progress() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
        assert world.status.phase is Phase.SYNCING
        assert world.condition(ConditionType.READY) == ("Unknown", "Syncing")
        assert world.condition(ConditionType.RECONCILING)[0] == "True"


@virtual_time
async def test_syncs_follow_the_interval() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(4 * HOUR + MINUTE)
    assert len(world.buildkite.collections) == 5


@virtual_time
async def test_a_scheduled_sync_leaves_ready_true_while_it_runs() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(HOUR + 2)
        assert world.status.phase is Phase.SYNCING
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.condition(ConditionType.RECONCILING) == ("absent", "")


@virtual_time
async def test_a_sync_with_its_delivery_is_told_in_at_most_three_writes() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(2 * MINUTE)
        assert world.condition(ConditionType.DELIVERED) == ("True", "Delivered")
        first = len(world.reports.written)
        world.task()
        world.annotate(sync_request="again")
        await asyncio.sleep(2 * MINUTE)
    assert first <= 3
    assert len(world.reports.written) - first <= 3


@virtual_time
async def test_an_idle_connector_writes_nothing() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        before = len(world.reports.written)
        await asyncio.sleep(50 * MINUTE)
    assert len(world.reports.written) == before


@virtual_time
async def test_an_annotation_syncs_within_a_second_and_is_echoed() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.annotate(sync_request="2026-03-02")
        await asyncio.sleep(1)
        assert world.status.phase is Phase.SYNCING
        assert world.status.last_handled_sync_request == "2026-03-02"
        await asyncio.sleep(10)
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.REQUEST


@virtual_time
async def test_triggers_that_come_during_a_sync_fold_into_one() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
        for n in range(5):
            world.annotate(sync_request=f"request {n}")
            world.edit(quota_percent=50 + n)
        await asyncio.sleep(MINUTE)
    assert len(world.buildkite.collections) == 2
    assert world.buildkite.most_active == 1


@virtual_time
async def test_an_edit_of_the_spec_syncs() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(10)
        assert world.buildkite.collections[-1] == USERS
        assert world.status.observed_generation == 2


@virtual_time
async def test_a_changed_secret_is_seen_within_a_minute_and_syncs() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.vault.credentials = Credentials("id", "secret", "rotated")
        await asyncio.sleep(MINUTE)
        assert len(world.buildkite.collections) == 2
        assert world.c1.hellos == [None]


@virtual_time
async def test_a_changed_client_begins_a_new_session_with_c1() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.vault.credentials = Credentials("id", "rotated", "token")
        await asyncio.sleep(MINUTE)
        assert world.c1.hellos == [None, None]
        assert world.c1.closed == 1


@virtual_time
async def test_a_restart_causes_no_sync_before_the_next_sync_time() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
    writes = len(world.reports.written)
    async with world.running(restored=world.status):
        await asyncio.sleep(30 * MINUTE)
        assert len(world.buildkite.collections) == 1
        assert len(world.reports.written) == writes
        await asyncio.sleep(31 * MINUTE)
        assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_time_missed_while_down_runs_once() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
    await asyncio.sleep(5 * HOUR)
    async with world.running(restored=world.status):
        await asyncio.sleep(10 * MINUTE)
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_sync_that_a_restart_interrupted_runs_again() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
    assert world.status.phase is Phase.SYNCING
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_an_edit_made_while_the_operator_was_down_is_noticed() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
    world.order = replace(world.order, generation=2)
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.status.observed_generation == 2
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_cron_schedule_is_kept() -> None:
    world = World()
    world.order = replace(world.order, spec=replace(world.order.spec, schedule=Cron("30 10 * * *", "Europe/Berlin")))
    async with world.running():
        await asyncio.sleep(10)
        assert world.status.next_sync_time is not None
        assert world.status.next_sync_time.isoformat() == "2026-03-02T09:30:00+00:00"


@virtual_time
async def test_a_cron_that_cannot_be_parsed_stalls_until_it_is_edited() -> None:
    world = World()
    world.order = replace(world.order, spec=replace(world.order.spec, schedule=Cron("61 * * * *")))
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("False", "CronInvalid")
        assert world.condition(ConditionType.STALLED) == ("True", "CronInvalid")
        assert world.status.phase is Phase.ERROR
        world.edit(schedule=Interval(HOUR))
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.condition(ConditionType.STALLED) == ("absent", "")


@virtual_time
async def test_a_secret_that_comes_late_is_picked_up() -> None:
    world = World()
    world.vault.failure = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret acme.", remedy=Remedy.CREDENTIALS)
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("False", "SecretNotFound")
        world.vault.failure = None
        await asyncio.sleep(30)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_rejected_token_stops_syncs_and_is_checked_again_every_five_minutes() -> None:
    world = World()
    world.buildkite.refusal = world.rejected()
    async with world.running():
        await asyncio.sleep(HOUR)
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("False", "TokenRejected")
        assert world.condition(ConditionType.STALLED) == ("True", "TokenRejected")
        assert not world.buildkite.collections
        assert 12 <= world.buildkite.preflights <= 14
        assert len(world.reports.written) == 1
        world.buildkite.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_corrected_secret_is_tried_at_once() -> None:
    world = World()
    world.buildkite.refusal = world.rejected()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.buildkite.refusal = None
        world.vault.credentials = Credentials("id", "secret", "right")
        await asyncio.sleep(20)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_failed_sync_is_retried_with_backoff_and_keeps_what_was_staged() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        staged = dict(world.store.files)
        world.buildkite.failures.extend([down(), down(), down()])
        world.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert world.condition(ConditionType.READY) == ("False", "BuildkiteUnavailable")
        assert world.condition(ConditionType.RECONCILING) == ("True", "Retrying")
        assert world.status.phase is Phase.DEGRADED
        assert world.status.consecutive_failures == 1
        assert world.store.files == staged
        await asyncio.sleep(5 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.status.consecutive_failures == 0
        assert [entry.succeeded for entry in world.status.history] == [True, False, False, False, True]


@virtual_time
async def test_the_wait_between_failed_syncs_is_capped() -> None:
    world = World()
    world.buildkite.failures.extend([down()] * 200)
    async with world.running():
        await asyncio.sleep(24 * HOUR)
    assert 24 * 4 <= len(world.buildkite.collections) <= 24 * 9


@virtual_time
async def test_what_the_other_side_said_of_waiting_is_honoured() -> None:
    world = World()
    world.buildkite.failures.append(Failure(Reason.BUILDKITE_RATE_LIMITED, "429", retry_after=1800))
    async with world.running():
        await asyncio.sleep(29 * MINUTE)
        assert len(world.buildkite.collections) == 1
        await asyncio.sleep(2 * MINUTE)
        assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_token_revoked_during_a_sync_is_told_as_bad_credentials() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.buildkite.failures.append(world.rejected())
        world.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("False", "TokenRejected")
        assert world.condition(ConditionType.SYNCED) == ("False", "TokenRejected")
        await asyncio.sleep(6 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_sync_that_takes_too_long_ends() -> None:
    world = World()
    world.order = replace(world.order, spec=replace(world.order.spec, sync_timeout=60))
    world.buildkite.seconds = 500
    async with world.running():
        await asyncio.sleep(70)
        assert world.condition(ConditionType.SYNCED) == ("False", "SyncTimeout")
        assert world.buildkite.active == 0


@virtual_time
async def test_an_unexpected_error_is_told_and_retried() -> None:
    world = World()
    world.buildkite.failures.append(ZeroDivisionError("a secret detail"))
    async with world.running():
        await asyncio.sleep(10)
        assert world.condition(ConditionType.SYNCED) == ("False", "InternalError")
        assert "a secret detail" not in str(world.reports.written)
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_suspending_stops_the_sync_under_way_and_the_contact_with_c1() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
        world.edit(suspend=True)
        await asyncio.sleep(MINUTE)
        polls = world.c1.polls
        assert world.condition(ConditionType.READY) == ("False", "Suspended")
        assert world.status.phase is Phase.SUSPENDED
        assert world.buildkite.active == 0
        assert world.c1.closed == 1
        await asyncio.sleep(3 * HOUR)
        assert world.c1.polls == polls
        assert len(world.buildkite.collections) == 1
        world.edit(suspend=False)
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_task_is_answered_with_the_staged_snapshot_while_it_is_fresh() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync1")]
        assert world.c1.finished[task].code is Code.OK
        assert world.status.last_delivery is not None
        assert world.status.last_delivery.sync_id == "sync1"
    assert len(world.buildkite.collections) == 1


@virtual_time
async def test_a_task_that_finds_the_staged_snapshot_old_causes_a_sync() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(30 * MINUTE)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.TASK


@virtual_time
async def test_a_maximum_age_of_zero_always_syncs_afresh() -> None:
    world = World()
    world.order = replace(world.order, spec=replace(world.order.spec, max_snapshot_age=0))
    async with world.running():
        await asyncio.sleep(10)
        world.task()
        await asyncio.sleep(MINUTE)
        assert [sha for _, sha in world.c1.uploads] == ["sha-sync2"]


@virtual_time
async def test_a_task_that_asks_for_less_gets_a_file_derived_from_the_staged_whole() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(10)
        world.task(SyncScope(grants=False))
        await asyncio.sleep(MINUTE)
        assert world.buildkite.collections == [SyncScope()]
        assert [sha for _, sha in world.c1.uploads] == ["derived-sha-sync1"]
        assert world.status.last_sync is not None
        assert world.status.last_sync.counts.memberships == 10


@virtual_time
async def test_a_snapshot_without_grants_is_no_shrinkage() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        partial = world.task(SyncScope(grants=False))
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[partial].code is Code.OK
        assert world.status.last_delivery is not None
        assert world.status.last_delivery.counts.memberships == 10


@virtual_time
async def test_heartbeats_go_on_while_a_task_waits_for_its_sync() -> None:
    world = World()
    world.buildkite.seconds = 95
    world.order = replace(world.order, spec=replace(world.order.spec, max_snapshot_age=0))
    async with world.running():
        task = world.task()
        await asyncio.sleep(5 * MINUTE)
        beats = [at for beaten, at in world.c1.heartbeats if beaten == task]
        assert world.c1.finished[task].code is Code.OK
        assert len(beats) >= 9
        assert all(later - earlier <= 10 for earlier, later in itertools.pairwise(beats))


@virtual_time
async def test_a_task_that_c1_cancels_stops_the_sync_that_only_it_wanted() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(30 * MINUTE)
        world.buildkite.seconds = 500
        task = world.task()
        world.c1.cancelled.add(task)
        await asyncio.sleep(MINUTE)
        assert world.buildkite.active == 0
        assert world.c1.finished[task].code is Code.CANCELLED
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.status.consecutive_failures == 0


@virtual_time
async def test_a_cancelled_task_leaves_a_sync_that_others_want() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(30 * MINUTE)
        world.buildkite.seconds = 100
        world.annotate(sync_request="mine")
        await asyncio.sleep(1)
        world.c1.cancelled.add(world.task())
        await asyncio.sleep(3 * MINUTE)
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.REQUEST


@virtual_time
async def test_ten_failed_heartbeats_in_a_row_give_the_work_up() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(30 * MINUTE)
        world.buildkite.seconds = 500
        world.c1.heartbeat_failures = 10
        task = world.task()
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert not world.c1.finished[task].non_retryable
        assert world.buildkite.active == 0


@virtual_time
async def test_a_failed_sync_fails_the_task_so_that_c1_may_retry() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(30 * MINUTE)
        world.buildkite.failures.append(down())
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert not world.c1.finished[task].non_retryable
        assert not world.c1.uploads


@virtual_time
async def test_a_failed_upload_is_told_and_the_next_task_delivers() -> None:
    world = World()
    world.c1.upload_failures.append(Failure(Reason.UPLOAD_FAILED, "The upload broke three times."))
    async with world.running():
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.DELIVERED) == ("False", "UploadFailed")
        assert world.condition(ConditionType.READY) == ("False", "UploadFailed")
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        world.task()
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_task_for_resource_types_that_are_not_synced_is_refused() -> None:
    world = World()
    world.order = replace(world.order, spec=replace(world.order.spec, kinds=frozenset({ResourceKind.USER})))
    async with world.running():
        task = world.task(SyncScope(frozenset({ResourceKind.TEAM})))
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.FAILED_PRECONDITION
        assert world.c1.finished[task].non_retryable


@virtual_time
async def test_a_hello_task_is_answered_with_hello_and_no_finish() -> None:
    world = World()
    async with world.running():
        world.c1.tasks.append(HelloTask(TaskID("hello1")))
        await asyncio.sleep(MINUTE)
        assert world.c1.hellos == [None, "hello1"]
        assert not world.c1.finished


@virtual_time
async def test_a_task_that_buildkite_cannot_do_is_refused_for_good() -> None:
    world = World()
    async with world.running():
        world.c1.tasks.append(UnsupportedTask(TaskID("grant1"), "grant"))
        await asyncio.sleep(MINUTE)
        outcome = world.c1.finished[TaskID("grant1")]
        assert (outcome.code, outcome.non_retryable) == (Code.UNIMPLEMENTED, True)


@virtual_time
async def test_a_suspicious_snapshot_is_held_until_a_person_accepts_it() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        world.buildkite.accounts = 4
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")
        assert world.condition(ConditionType.READY) == ("False", "ShrinkHeld")
        held = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[held].code is Code.FAILED_PRECONDITION
        assert len(world.c1.uploads) == 1
        world.annotate(accept_shrink="sync2")
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        world.task()
        await asyncio.sleep(MINUTE)
        assert len(world.c1.uploads) == 2


@virtual_time
async def test_an_accepted_shrinkage_holds_for_the_next_sync_too() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        world.buildkite.accounts = 4
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        world.annotate(accept_shrink="sync2")
        await asyncio.sleep(30 * MINUTE)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.OK


@virtual_time
async def test_c1_out_of_reach_is_told_and_syncs_go_on() -> None:
    world = World()
    world.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
    async with world.running():
        await asyncio.sleep(2 * HOUR)
        assert world.condition(ConditionType.READY) == ("False", "C1Unreachable")
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("Unknown", "C1Unreachable")
        assert world.condition(ConditionType.SYNCED) == ("True", "SyncSucceeded")
        assert len(world.buildkite.collections) >= 2
        world.c1.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_one_failed_poll_is_no_news() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        before = len(world.reports.written)
        world.c1.refusal = Failure(Reason.C1_UNAVAILABLE, "C1 is restarting.")
        await asyncio.sleep(31)
        world.c1.refusal = None
        await asyncio.sleep(MINUTE)
    assert len(world.reports.written) == before


@virtual_time
async def test_c1_refusing_the_client_stops_syncs_until_the_credentials_change() -> None:
    world = World()
    world.c1.refusal = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("False", "C1ClientRejected")
        assert not world.buildkite.collections
        world.c1.refusal = None
        world.vault.credentials = Credentials("id", "new secret", "token")
        await asyncio.sleep(20)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_client_refused_later_is_told_too() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.c1.refusal = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("False", "C1ClientRejected")
        world.c1.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_shutdown_hands_the_task_back_at_once() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(30 * MINUTE)
        world.buildkite.seconds = 500
        task = world.task()
        await asyncio.sleep(MINUTE)
        before = world.clock.monotonic()
    assert world.clock.monotonic() - before < 1
    assert world.c1.finished[task].code is Code.ABORTED
    assert not world.c1.finished[task].non_retryable


@virtual_time
async def test_deletion_closes_the_session_and_removes_the_file() -> None:
    world = World()
    async with world.running() as session:
        await asyncio.sleep(MINUTE)
        await session.close(discard=True)
        polls = world.c1.polls
        await asyncio.sleep(3 * HOUR)
        assert world.c1.polls == polls
        assert world.c1.closed == 1
    assert not world.store.files
    assert len(world.buildkite.collections) == 1


@virtual_time
async def test_a_status_that_could_not_be_written_is_written_later() -> None:
    world = World()
    world.reports.failures.extend([Failure(Reason.INTERNAL_ERROR, "the API server is away")] * 3)
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_an_api_server_that_is_away_does_not_stop_syncs() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.vault.failure = Failure(Reason.INTERNAL_ERROR, "the API server is away")
        await asyncio.sleep(2 * HOUR)
        assert len(world.buildkite.collections) == 3
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_no_status_ever_shows_a_secret() -> None:
    world = World()
    world.vault.credentials = Credentials("client-id-value", "client-secret-value", "api-token-value")
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
    shown = str(world.reports.written) + repr(world.vault.credentials)
    assert "client-secret-value" not in shown
    assert "api-token-value" not in shown


@virtual_time
async def test_edits_in_a_row_end_with_a_sync_of_the_last() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.edit(quota_percent=60)
        world.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(MINUTE)
        assert world.buildkite.collections[-1] == USERS
        assert world.status.observed_generation == 3


@virtual_time
async def test_a_task_right_after_an_edit_gets_no_snapshot_from_before_it() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.buildkite.seconds = 40
        world.edit(quota_percent=60)
        task = world.task()
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_an_edit_whose_sync_a_restart_cut_off_is_still_acted_on() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.buildkite.refusal = down()
        world.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(10)
        assert world.status.observed_generation == 2
    world.buildkite.refusal = None
    async with world.running(restored=world.status):
        await asyncio.sleep(2 * MINUTE)
        assert world.buildkite.collections[-1] == USERS


@virtual_time
async def test_an_unexpected_error_in_an_upload_still_ends_the_task() -> None:
    world = World()
    world.c1.upload_failures.append(ZeroDivisionError())
    async with world.running():
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.INTERNAL


@virtual_time
async def test_a_wait_that_the_other_side_wants_has_a_bound() -> None:
    world = World()
    world.buildkite.failures.append(Failure(Reason.BUILDKITE_RATE_LIMITED, "429", retry_after=1e12))
    async with world.running():
        await asyncio.sleep(6.5 * HOUR)
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_tasks_wait_out_the_backoff_after_a_failed_sync() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(30 * MINUTE)
        world.buildkite.failures.append(Failure(Reason.BUILDKITE_RATE_LIMITED, "429", retry_after=1800))
        first = world.task()
        await asyncio.sleep(MINUTE)
        second = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[first].code is Code.UNAVAILABLE
        assert world.c1.finished[second].code is Code.UNAVAILABLE
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_secret_taken_away_ends_the_contact_and_put_back_resumes_it_within_seconds() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.vault.failure = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
        await asyncio.sleep(2 * MINUTE)
        polls = world.c1.polls
        await asyncio.sleep(10 * MINUTE)
        assert world.c1.polls == polls
        world.vault.failure = None
        await asyncio.sleep(20)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_changing_text_of_the_same_trouble_is_no_news() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to 10.0.0.1.")
        await asyncio.sleep(10 * MINUTE)
        before = len(world.reports.written)
        for n in range(2, 40):
            world.c1.refusal = Failure(Reason.C1_UNREACHABLE, f"No connection to 10.0.0.{n}.")
            await asyncio.sleep(MINUTE)
    assert len(world.reports.written) == before


@virtual_time
async def test_an_accepted_shrinkage_outlives_the_history() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        world.buildkite.accounts = 4
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        world.annotate(accept_shrink="sync2")
        await asyncio.sleep(24 * HOUR)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert len(world.status.history) == 10


@virtual_time
async def test_a_status_that_is_being_written_at_shutdown_is_written_to_the_end() -> None:
    world = World()
    async with world.running() as connector:
        await asyncio.sleep(MINUTE)
        world.reports.seconds = 1.0
        connector.c1_failed(Failure(Reason.C1_UNREACHABLE, "No connection to C1."))
        await asyncio.sleep(0.5)
        assert world.reports.completed < len(world.reports.written)
    assert world.reports.completed == len(world.reports.written) > 2
