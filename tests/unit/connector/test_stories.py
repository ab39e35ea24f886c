"""What a connector does over hours: one story for each thing that a person may count on.

What it decides at a single moment is in `test_decisions` and `test_answers`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from buildkite_connector.model.directory import Counts, ResourceKind, SyncScope
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import ConditionType, Phase, Trigger
from buildkite_connector.model.tasks import Code
from fakes.connector_setup import HOUR, MINUTE, USERS, Setup, down, rate_limited, ready_setup, stopped_setup
from fakes.virtual_time import until, virtual_time

TEAMS = SyncScope(frozenset({ResourceKind.TEAM}))
PART = SyncScope(grants=False)
WHOLE = Counts(accounts=10, teams=1, memberships=10)


@virtual_time
async def test_a_suspend_ends_all_work_until_it_is_lifted() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 5000
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.active == 1
        setup.edit(suspend=True)
        await asyncio.sleep(1)
        assert (setup.buildkite.active, setup.c1.closed, setup.c1.uploads) == (0, 1, [])
        assert not setup.c1.finished[task].non_retryable
        assert setup.condition(ConditionType.READY) == ("False", "Suspended")
        assert (setup.status.phase, setup.status.consecutive_failures) == (Phase.SUSPENDED, 0)
        assert [entry.succeeded for entry in setup.status.history] == [True]
        work = (setup.c1.polls, setup.fake_secret.reads, len(setup.buildkite.collections))
        setup.annotate(sync_request="now")
        await asyncio.sleep(3 * HOUR)
        assert (setup.c1.polls, setup.fake_secret.reads, len(setup.buildkite.collections)) == work
        setup.buildkite.seconds = 5
        setup.edit(suspend=False)
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


# A restart


@virtual_time
async def test_a_restart_changes_nothing_by_itself_and_a_missed_time_runs_once() -> None:
    setup = await stopped_setup()
    writes = len(setup.reports.written)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(30 * MINUTE)
        assert (len(setup.buildkite.collections), len(setup.reports.written)) == (1, writes)
        await asyncio.sleep(31 * MINUTE)
        assert len(setup.buildkite.collections) == 2
    task = setup.task()
    async with setup.running(restored=setup.status):
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2")], "the file that is still there"
    await asyncio.sleep(5 * HOUR)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(10 * MINUTE)
    assert len(setup.buildkite.collections) == 3


@virtual_time
async def test_a_sync_that_a_restart_interrupts_runs_again_and_its_request_is_carried_out_once() -> None:
    async with ready_setup() as setup:
        setup.annotate(sync_request="mine")
        await asyncio.sleep(2)
    assert setup.status.phase is Phase.SYNCING
    async with setup.running(restored=setup.status):
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert setup.status.last_sync is not None
        assert (setup.status.last_sync.id, setup.status.last_handled_sync_request) == ("sync3", "mine")
    async with setup.running(restored=setup.status):
        await asyncio.sleep(10 * MINUTE)
    assert len(setup.buildkite.collections) == 3


@pytest.mark.parametrize(("change", "trigger"), [("edit", Trigger.CHANGE), ("request", Trigger.REQUEST)])
@virtual_time
async def test_what_a_person_asks_for_while_the_operator_is_down_is_done(change: str, trigger: Trigger) -> None:
    """After an edit no task gets a snapshot from before it."""
    setup = await stopped_setup()
    edited, requested = replace(setup.order, generation=2), replace(setup.order, sync_request="mine")
    setup.order = edited if change == "edit" else requested
    setup.buildkite.seconds = 40
    task = setup.task()
    async with setup.running(restored=setup.status):
        await asyncio.sleep(2 * MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2" if change == "edit" else "sha-sync1")]
        assert setup.status.last_sync is not None
        assert setup.status.last_sync.trigger is trigger
        seen = (setup.status.observed_generation, setup.status.last_handled_sync_request)
        assert seen == (setup.order.generation, setup.order.sync_request)


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "sha-of-a-backup"},
        {"sync_id": SyncID("another"), "sha256": "sha-of-another"},
        {"scope": PART},
    ],
    ids=["another file", "of another sync", "of a part"],
)
@virtual_time
async def test_a_file_that_is_not_the_last_sync_s_answers_nothing(changes: dict[str, object]) -> None:
    setup = await stopped_setup()
    setup.store.restores_any = "sync_id" in changes
    setup.store.replace_file(**changes)
    task = setup.task()
    async with setup.running(restored=setup.status):
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2")]


# Failures


@virtual_time
async def test_a_failed_sync_is_told_and_retried_with_a_backoff_that_a_request_ends_and_a_task_does_not() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        staged = dict(setup.store.files)
        setup.buildkite.failures.extend([down()] * 5)
        setup.annotate(sync_request="first")
        await asyncio.sleep(10)
        assert setup.condition(ConditionType.READY) == ("False", "BuildkiteUnavailable")
        assert setup.condition(ConditionType.RECONCILING) == ("True", "Retrying")
        assert (setup.status.phase, setup.status.consecutive_failures) == (Phase.DEGRADED, 1)
        assert setup.store.files == staged
        await asyncio.sleep(4 * MINUTE)
        syncs = len(setup.buildkite.collections)
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert len(setup.buildkite.collections) == syncs
        assert setup.c1.finished[task].code is Code.UNAVAILABLE
        assert "Buildkite answered 503." in setup.c1.finished[task].message
        setup.annotate(sync_request="second")
        await asyncio.sleep(1)
        assert len(setup.buildkite.collections) == syncs + 1
        await asyncio.sleep(HOUR)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert setup.status.consecutive_failures == 0


@pytest.mark.parametrize(
    ("error", "reason"), [(None, "SyncTimeout"), (ZeroDivisionError("a secret detail"), "InternalError")]
)
@virtual_time
async def test_a_sync_that_hangs_or_breaks_ends_and_is_retried(error: Exception | None, reason: str) -> None:
    setup = Setup(sync_timeout=60)
    setup.buildkite.seconds = 5 if error is not None else 500
    if error is not None:
        setup.buildkite.failures.append(error)
    async with setup.running():
        await asyncio.sleep(5)
        await until(lambda: setup.condition(ConditionType.SYNCED) == ("False", reason))
        assert setup.buildkite.active == 0
        assert "a secret detail" not in str(setup.reports.written)
        setup.buildkite.seconds = 5
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_after_a_failed_check_nothing_is_synced_for_any_trigger() -> None:
    async with ready_setup(after=50 * MINUTE) as setup:
        setup.buildkite.refusal = down()
        setup.edit(quota_percent=60)
        await asyncio.sleep(2)
        setup.annotate(sync_request="now")
        task = setup.task()
        await asyncio.sleep(30 * MINUTE)
        assert len(setup.buildkite.collections) == 1
        assert setup.c1.finished[task].code is Code.UNAVAILABLE
        assert "BuildkiteUnavailable" in setup.c1.finished[task].message
        setup.buildkite.refusal = None
        await asyncio.sleep(20 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


# What Buildkite says of waiting


TRIGGERS = [
    pytest.param(lambda setup: setup.annotate(sync_request="again"), id="request"),
    pytest.param(lambda setup: setup.edit(quota_percent=50), id="edit"),
    pytest.param(lambda setup: setup.rotate(api_token="rotated"), id="secret"),
    pytest.param(lambda setup: setup.task(), id="task"),
    pytest.param(lambda setup: None, id="schedule"),
]


@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("trigger", TRIGGERS)
@virtual_time
async def test_nothing_is_collected_before_the_time_that_buildkite_named(
    trigger: Callable[[Setup], None], restart: bool
) -> None:
    async def waits(setup: Setup) -> None:
        await asyncio.sleep(29 * MINUTE)
        assert len(setup.buildkite.collections) == 2
        await asyncio.sleep(2 * MINUTE)
        assert len(setup.buildkite.collections) == 3

    async with ready_setup(after=50 * MINUTE) as setup:
        setup.buildkite.failures.append(rate_limited(1800))
        setup.annotate(sync_request="first")
        await asyncio.sleep(10)
        trigger(setup)
        if not restart:
            await waits(setup)
    if restart:
        async with setup.running(restored=setup.status):
            await waits(setup)


# What a task gets


@virtual_time
async def test_parts_and_the_whole_are_answered_from_one_snapshot_that_stays_whole() -> None:
    async with ready_setup() as setup:
        scopes = [PART, SyncScope(), TEAMS, SyncScope(entitlements=False), SyncScope(), USERS]
        for scope in scopes:
            setup.task(scope)
        await asyncio.sleep(6 * MINUTE)
        assert setup.delivered_scopes == scopes
        assert setup.buildkite.collections == [SyncScope()]
        assert setup.status.last_sync is not None
        assert setup.status.last_delivery is not None
        counts = (setup.status.last_sync.counts, setup.status.history[0].counts, setup.status.last_delivery.counts)
        assert counts == (WHOLE, WHOLE, WHOLE)
        await asyncio.sleep(30 * MINUTE)
        setup.task(USERS)
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.collections == [SyncScope(), SyncScope()], "a sync of the whole"


@pytest.mark.parametrize(("max_snapshot_age", "answer"), [(600.0, "sha-sync2"), (0.0, "sha-sync3")])
@virtual_time
async def test_a_sync_that_is_under_way_answers_a_task_unless_it_must_begin_after_it(
    max_snapshot_age: float, answer: str
) -> None:
    async with ready_setup(after=HOUR - 10, max_snapshot_age=max_snapshot_age) as setup:
        setup.buildkite.seconds = 100
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.active == 1
        task = setup.task()
        await asyncio.sleep(5 * MINUTE)
        assert setup.c1.uploads == [(task, answer)]
        assert setup.status.history[-2].trigger is Trigger.SCHEDULE


@pytest.mark.parametrize("change", ["edit", "secret"])
@virtual_time
async def test_after_a_change_no_task_gets_a_snapshot_from_before_it(change: str) -> None:
    async with ready_setup() as setup:
        setup.buildkite.seconds = 40
        if change == "edit":
            setup.edit(quota_percent=60)
        else:
            setup.rotate(api_token="rotated")
            await until(lambda: len(setup.buildkite.collections) == 2)
        task = setup.task()
        await asyncio.sleep(2 * MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2")]
        setup.buildkite.failures.append(rate_limited())
        setup.edit(quota_percent=70)
        await asyncio.sleep(MINUTE)
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert (setup.c1.finished[task].code, len(setup.c1.uploads)) == (Code.UNAVAILABLE, 1)


@pytest.mark.parametrize("rejected", [False, True])
@virtual_time
async def test_a_fresh_snapshot_answers_although_something_failed_since(rejected: bool) -> None:
    async with ready_setup() as setup:
        setup.buildkite.failures.append(setup.rejected() if rejected else rate_limited())
        setup.buildkite.refusal = setup.rejected() if rejected else None
        setup.annotate(sync_request="now")
        await asyncio.sleep(10)
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync1")]
