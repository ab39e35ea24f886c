"""What a task that asks a connector for a snapshot gets, an open file or a failure; what is logged of a delivery."""

import asyncio
import logging

import pytest

from buildkite_connector.model.directory import ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot
from buildkite_connector.model.tasks import SyncTask, TaskID
from fakes.connector_setup import MINUTE, USERS, Setup, Store, client_rejected, ready_setup
from fakes.log_lines import lines
from fakes.virtual_time import virtual_time

TASK = SyncTask(TaskID("asking"), SyncScope())


def ask(setup: Setup, scope: SyncScope = TASK.scope, task: TaskID = TASK.id) -> "asyncio.Task[OpenSnapshot]":
    return asyncio.create_task(setup.session.snapshot_for(SyncTask(task, scope)))


@pytest.mark.parametrize(("scope", "derivations"), [(SyncScope(), []), (USERS, [USERS])], ids=["whole", "part"])
@virtual_time
async def test_an_answer_is_an_open_file_of_its_scope(scope: SyncScope, derivations: list[SyncScope]) -> None:
    async with ready_setup() as setup:
        with await ask(setup, scope) as file:
            assert (file.snapshot.scope, file.snapshot.sync_id, file.file.closed) == (scope, "sync1", False)
        assert (file.file.closed, setup.store.derivations) == (True, derivations)


@virtual_time
async def test_a_file_that_cannot_be_opened_fails_the_task_and_is_a_failed_delivery() -> None:
    async with ready_setup() as setup:
        failure = Failure(Reason.STORAGE_FAILED, "the disk is full")
        setup.store.open_failures.append(failure)
        with pytest.raises(Failure) as raised:
            await ask(setup)
        await asyncio.sleep(1)
        assert raised.value is failure
        assert "the disk is full" in str(setup.status.conditions)
        assert setup.store.files == {}, "it serves no more"


class Late(Store):
    """The first snapshot is opened when the next one has taken its place: then its file is gone."""

    async def open(self, snapshot: StagedSnapshot, scope: SyncScope) -> OpenSnapshot:
        if snapshot.sync_id == "sync1":
            await asyncio.sleep(MINUTE)
        return await super().open(snapshot, scope)


@virtual_time
async def test_a_task_whose_file_was_replaced_before_it_was_opened_gets_the_new_one() -> None:
    setup = Setup()
    setup.store = Late()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        asking = ask(setup)
        await asyncio.sleep(1)
        setup.annotate(sync_request="now")
        file = await asking
        assert file.snapshot.sync_id == "sync2"
        assert "cannot be read" not in str(setup.reports.written)


@virtual_time
async def test_where_no_membership_was_changed_a_task_that_waited_for_its_turn_delivers_what_it_has() -> None:
    """A newer snapshot has taken the place of its own meanwhile, which is as true as it was."""
    async with ready_setup() as setup:
        setup.c1.upload_seconds, setup.c1.next_poll = 2 * MINUTE, 1.0
        first, second = setup.task(), setup.task()
        await asyncio.sleep(MINUTE)  # the first upload is under way, and the second has its file
        setup.annotate(sync_request="now")
        await asyncio.sleep(4 * MINUTE)
        staged = setup.session.status.last_sync
        assert staged is not None
        assert staged.id == "sync2"
        delivered = {task: outcome.delivered for task, outcome in setup.c1.finished.items()}
        assert [each and each.sync_id for each in (delivered[first], delivered[second])] == ["sync1", "sync1"]


@virtual_time
async def test_a_refusal_fails_the_task_and_keeps_no_frames() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        asking = ask(setup)
        await asyncio.sleep(1)
        refused = client_rejected()
        setup.session.c1_failed(refused)
        with pytest.raises(Failure) as raised:
            await asking
        assert (raised.value.reason, raised.value.message) == (refused.reason, refused.message)
        assert setup.session._state.c1.failure is not raised.value


@virtual_time
async def test_a_refusal_for_a_task_that_was_just_cancelled_changes_nothing() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        asking = ask(setup)
        await asyncio.sleep(1)
        asking.cancel()
        setup.session.c1_failed(client_rejected())
        await asyncio.wait({asking})
        assert asking.cancelled()


@virtual_time
async def test_a_task_is_answered_at_once_beside_others_that_wait_or_were_just_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ready_setup(after=30 * MINUTE, kinds=USERS.kinds) as setup:
        cancelled = [ask(setup, task=TaskID(f"cancelled{n}")) for n in range(6)]
        waiting = ask(setup)
        await asyncio.sleep(1)
        unknown = ask(setup, SyncScope(frozenset({ResourceKind.TEAM})), TaskID("unknown"))
        await asyncio.sleep(1)
        assert isinstance(unknown.exception(), Failure), "refused while the others wait for the sync"
        for asking in cancelled:
            asking.cancel()
        setup.session.c1_failed(client_rejected())
        await asyncio.wait({waiting, *cancelled})
        assert isinstance(waiting.exception(), Failure)
        assert "a connector keeps changing" not in caplog.messages


@virtual_time
async def test_a_delivery_is_logged_and_so_are_a_loss_and_a_form_that_c1_does_not_get(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ready_setup() as setup:
        caplog.set_level(logging.INFO)
        setup.buildkite.accounts = 6
        setup.annotate(sync_request="now")
        setup.c1.tasks.append(SyncTask(TaskID("first"), USERS, storage_engine="sqlite"))
        await asyncio.sleep(MINUTE)
        caplog.clear()
        setup.buildkite.accounts = 4
        setup.annotate(sync_request="again")
        await asyncio.sleep(MINUTE)
        setup.c1.tasks.append(SyncTask(TaskID("second"), SyncScope(), storage_engine="pebble"))
        await asyncio.sleep(MINUTE)
    told = {text: fields for _, text, fields in lines(caplog.records)}
    who = {"connector": "default.acme", "task_id": "second"}
    assert told["snapshot delivered"] == {**who, "sync_id": "sync3", "bytes": 1000}
    assert told["C1 asked for another file format and got sqlite"] == {**who, "asked": "pebble"}
    shrank = told["the snapshot shrank"]
    assert shrank == {"connector": "default.acme", "error": shrank["error"]}
    assert "4 accounts, the last delivered one had 6 (33 % fewer)" in str(shrank["error"])
    assert [text for _, text, _ in lines(caplog.records)].count("the snapshot shrank") == 1
    levels = {text: level for level, text, _ in lines(caplog.records)}
    assert levels["the snapshot shrank"] == levels["C1 asked for another file format and got sqlite"] == 30


@pytest.mark.parametrize("accepted", ["sync2", None])
@virtual_time
async def test_a_loss_that_a_person_accepted_is_not_logged(
    accepted: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with ready_setup() as setup:
        setup.task()
        await asyncio.sleep(MINUTE)
        setup.buildkite.accounts = 6
        setup.annotate(sync_request="now", accept_shrink=accepted)
        await asyncio.sleep(MINUTE)
        setup.task()
        await asyncio.sleep(MINUTE)
    assert ("the snapshot shrank" in caplog.text) is (accepted is None)
