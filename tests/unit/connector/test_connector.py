"""What the loop of one connector logs, names and hands on; its decisions and transitions have tests of their own."""

import asyncio
import contextvars
import logging
from dataclasses import dataclass, field, replace

import pytest

from buildkite_connector.connector import connector as module
from buildkite_connector.connector.actions import CheckCredentials
from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Poll, TaskID
from buildkite_connector.timing.scheduler import Scheduler
from fakes.connector_world import C1, KEY, MINUTE, Buildkite, Store, World, ready_world, stopped_world
from fakes.log_lines import lines
from fakes.task_ports import Records, SilentC1
from fakes.virtual_time import until, virtual_time

WHO = {"connector": "default.acme"}
LOST = Failure(Reason.STORAGE_FAILED, "the disk is full")


@dataclass
class FailingStore(Store):
    """`restore_failure` is raised by every restore, `release_failure` by every release."""

    restore_failure: Exception | None = None
    release_failure: Exception | None = None
    discarded: list[ConnectorKey] = field(default_factory=list)

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        if self.restore_failure is not None:
            raise self.restore_failure
        return await super().restore(key, sha256)

    async def release(self, snapshot: StagedSnapshot) -> None:
        if self.release_failure is not None:
            raise self.release_failure
        await super().release(snapshot)

    async def discard(self, key: ConnectorKey) -> None:
        self.discarded.append(key)
        await super().discard(key)


class Watched(World):
    """Its observer is `observer`; `services` are the clients of C1 that were made."""

    def __init__(self, **spec: object) -> None:
        super().__init__(**spec)
        self.observer = Records()
        self.services: list[tuple[Credentials, ConnectorSpec]] = []

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
        self.services.append((credentials, spec))
        return super().task_service(credentials, spec)

    def environment(self, scheduler: Scheduler) -> Environment:
        return replace(super().environment(scheduler), observer=self.observer)


def said(caplog: pytest.LogCaptureFixture, message: str) -> list[tuple[int, dict[str, object]]]:
    """Levels and fields of the lines of this message."""
    return [(level, told) for level, text, told in lines(caplog.records) if text == message]


def errors_in(caplog: pytest.LogCaptureFixture) -> list[BaseException | None]:
    return [each.exc_info[1] for each in caplog.records if each.exc_info]


def names() -> set[str]:
    return {each.get_name() for each in asyncio.all_tasks()}


# What is logged


@virtual_time
async def test_each_action_that_begins_is_in_the_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ready_world():
        pass
    begun = said(caplog, "begins")
    assert begun[0] == (logging.DEBUG, {**WHO, "action": repr(CheckCredentials(full=True))})
    assert [str(told["action"]).partition("(")[0] for _, told in begun] == [
        "CheckCredentials",
        "OpenC1",
        "QueueSync",
        *["CheckCredentials"] * (len(begun) - 3),
    ]


@virtual_time
async def test_a_sync_that_is_cancelled_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with ready_world() as world:
        world.annotate(sync_request="now")
        await asyncio.sleep(1)
        world.edit(suspend=True)
        await asyncio.sleep(1)
        assert world.buildkite.active == 0
    assert said(caplog, "sync cancelled") == [(logging.INFO, {**WHO, "why": "the connector is suspended"})]


@virtual_time
async def test_a_staged_snapshot_that_cannot_be_restored_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    world = await stopped_world()
    world.store = FailingStore(restore_failure=LOST)
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
    told = {**WHO, "error": "the disk is full"}
    assert said(caplog, "the staged snapshot is lost") == [(logging.WARNING, told)]


@virtual_time
async def test_a_snapshot_that_cannot_be_removed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.store = FailingStore(release_failure=LOST)
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
    told = {**WHO, "error": "the disk is full"}
    assert said(caplog, "an old snapshot stays behind") == [(logging.WARNING, told)]


@virtual_time
async def test_an_action_that_breaks_is_logged_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    world = await stopped_world()
    error = ZeroDivisionError("token-123")
    world.store = FailingStore(restore_failure=error)
    async with world.running(restored=world.status):
        await asyncio.sleep(1)
    assert said(caplog, "an action failed unexpectedly") == [(logging.ERROR, WHO)]
    assert errors_in(caplog) == [error]


@virtual_time
async def test_a_sync_that_breaks_is_logged_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    async with ready_world() as world:
        error = ZeroDivisionError("token-123")
        world.buildkite.failures.append(error)
        world.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert world.condition(ConditionType.SYNCED)[1] == Reason.INTERNAL_ERROR.value
        found = world.status.condition(ConditionType.SYNCED)
        assert found is not None
        assert "ZeroDivisionError" in found.message
        assert "token-123" not in str(world.status)
    assert said(caplog, "a sync failed unexpectedly") == [(logging.ERROR, WHO)]
    assert errors_in(caplog) == [error]


@virtual_time
async def test_a_session_that_breaks_is_logged_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(SilentC1):
        async def next_task(self) -> Poll:
            return None  # type: ignore[return-value]  # what no adapter gives

    world = World()
    world.c1 = Odd()
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.DELIVERED)[1] == Reason.INTERNAL_ERROR.value
    assert said(caplog, "the session with C1 failed unexpectedly") == [(logging.ERROR, WHO)]
    assert [type(each) for each in errors_in(caplog)] == [AttributeError]


@virtual_time
async def test_decisions_that_do_not_settle_are_logged_and_end_the_step(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = CheckCredentials(full=False)
    monkeypatch.setattr(module, "decide", lambda state, now: [action])
    world = World()
    connector = Connector(KEY, world.order, None, world.reports, world.environment(Scheduler(world.clock)))
    connector.step()
    assert said(caplog, "decisions do not settle") == [(logging.ERROR, {**WHO, "actions": repr([action])})]
    assert len(connector._running) == module.MOST_ROUNDS
    monkeypatch.undo()
    await asyncio.sleep(1)
    await connector.close(discard=False)


# Names, and what is handed on


@virtual_time
async def test_what_writes_a_status_and_what_closes_a_session_have_such_names_too() -> None:
    async with ready_world() as world:
        world.reports.seconds = 1.0
        world.edit(suspend=True)
        assert names() >= {"default.acme/status", "default.acme/close C1"}
        await asyncio.sleep(5)


@virtual_time
async def test_the_parts_of_a_connector_have_names_that_say_whose_they_are() -> None:
    async with ready_world() as world:
        assert names() >= {"default.acme/C1"}
        world.vault.seconds = 2.0
        await until(lambda: "default.acme/check" in names())
        world.annotate(sync_request="now")
        await until(lambda: world.buildkite.active == 1)
        assert names() >= {"default.acme/C1", "default.acme/sync"}


@virtual_time
async def test_what_begins_while_a_task_is_handled_is_no_part_of_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    seen: list[str] = []

    class Source(Buildkite):
        async def collect(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]  # only watches
            seen.append(variable.get())
            return await super().collect(*args, **kwargs)  # type: ignore[arg-type]  # handed on

    world = World()
    world.buildkite = Source()
    async with world.running():
        await asyncio.sleep(MINUTE)
        variable.set("of the caller")
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
    assert seen == ["", ""]


@virtual_time
async def test_an_observer_hears_of_syncs_tasks_and_deliveries() -> None:
    world = Watched()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
    assert {work for work, _ in world.observer.facts} == {"sync", "task", "delivery"}
    assert {facts["connector"] for _, facts in world.observer.facts} == {"default.acme"}


@virtual_time
async def test_a_session_is_of_the_credentials_that_were_checked_and_the_spec() -> None:
    world = Watched()
    async with world.running():
        await asyncio.sleep(MINUTE)
    assert world.services == [(world.vault.credentials, world.order.spec)]


@virtual_time
async def test_a_deleted_connector_discards_its_own_files_and_only_a_deleted_one() -> None:
    for discard in (False, True):
        world = World()
        store = world.store = FailingStore()
        async with world.running() as connector:
            await asyncio.sleep(MINUTE)
            await connector.close(discard=discard)
        assert store.discarded == ([KEY] if discard else [])


@virtual_time
async def test_closing_leaves_nothing_running_and_the_scheduler_asks_no_more() -> None:
    before = asyncio.all_tasks()
    async with ready_world() as world:
        world.annotate(sync_request="now")
        world.task()
        await asyncio.sleep(1)
    assert asyncio.all_tasks() == before
    polls = world.c1.polls
    world.session.step()
    await asyncio.sleep(10 * MINUTE)
    assert (world.c1.polls, world.c1.closed, asyncio.all_tasks()) == (polls, 1, before)
    assert world.c1.finished.keys() <= {TaskID("task1")}
