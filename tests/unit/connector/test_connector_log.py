"""What the loop of one connector logs."""

import asyncio
import logging
from dataclasses import dataclass, replace

import pytest

from buildkite_connector.connector.connector import Connector
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import ConditionType
from buildkite_connector.timing.clock import Instant
from fakes.connector_setup import (
    MINUTE,
    Setup,
    Store,
    ready_setup,
    stopped_setup,
)
from fakes.log_lines import lines
from fakes.virtual_time import virtual_time

WHO = {"connector": "default.acme"}
LOST = Failure(Reason.STORAGE_FAILED, "the disk is full")


@dataclass
class FailingStore(Store):
    """`restore_failure` is raised by every restore, `remove_failure` by every removal."""

    restore_failure: Exception | None = None
    remove_failure: Exception | None = None

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        if self.restore_failure is not None:
            raise self.restore_failure
        return await super().restore(key, sha256)

    def remove(self, snapshot: StagedSnapshot) -> None:
        if self.remove_failure is not None:
            raise self.remove_failure
        super().remove(snapshot)


def said(caplog: pytest.LogCaptureFixture, message: str) -> list[tuple[int, dict[str, object]]]:
    """Levels and fields of the lines of this message."""
    return [(level, told) for level, text, told in lines(caplog.records) if text == message]


def errors_in(caplog: pytest.LogCaptureFixture) -> list[BaseException | None]:
    return [each.exc_info[1] for each in caplog.records if each.exc_info]


@virtual_time
async def test_each_action_that_begins_is_in_the_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ready_setup():
        pass
    begun = said(caplog, "begins")
    assert begun[0] == (logging.DEBUG, {**WHO, "action": "restore"})
    assert [told["action"] for _, told in begun[:5]] == ["restore", "check", "C1", "sync", "check"]


@virtual_time
async def test_a_sync_that_is_cancelled_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with ready_setup() as setup:
        setup.annotate(sync_request="now")
        await asyncio.sleep(1)
        setup.edit(suspend=True)
        await asyncio.sleep(1)
        assert setup.buildkite.active == 0
    assert said(caplog, "sync cancelled") == [(logging.INFO, {**WHO, "why": "the connector is suspended"})]


@virtual_time
async def test_a_staged_snapshot_that_cannot_be_restored_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    setup = await stopped_setup()
    setup.store = FailingStore(restore_failure=LOST)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2")]
    told = {**WHO, "error": "the disk is full"}
    assert said(caplog, "the staged snapshot is lost") == [(logging.WARNING, told)]


@virtual_time
async def test_a_snapshot_that_cannot_be_removed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    setup.store = FailingStore(remove_failure=LOST)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
    told = {**WHO, "error": "the disk is full"}
    assert said(caplog, "an old snapshot was not removed") == [(logging.WARNING, told)]


@virtual_time
async def test_a_restore_that_breaks_is_logged_and_the_connector_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = await stopped_setup()
    error = ZeroDivisionError("token-123")
    setup.store = FailingStore(restore_failure=error)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
    assert said(caplog, "the staged snapshot could not be restored") == [(logging.ERROR, WHO)]
    assert errors_in(caplog) == [error]


@virtual_time
async def test_a_sync_that_breaks_is_logged_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    async with ready_setup() as setup:
        error = ZeroDivisionError("token-123")
        setup.buildkite.failures.append(error)
        setup.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert setup.condition(ConditionType.SYNCED)[1] == Reason.INTERNAL_ERROR.value
        found = setup.status.condition(ConditionType.SYNCED)
        assert found is not None
        assert "ZeroDivisionError" in found.message
        assert "token-123" not in str(setup.status)
    assert said(caplog, "a sync failed unexpectedly") == [(logging.ERROR, WHO)]
    assert errors_in(caplog) == [error]


@virtual_time
async def test_a_session_that_breaks_is_logged_with_its_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: Connector) -> None:
        raise AttributeError

    monkeypatch.setattr(Connector, "c1_answered", breaks)
    setup = Setup()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.DELIVERED)[1] == Reason.INTERNAL_ERROR.value
        assert "(AttributeError)" in str(setup.status)
    assert said(caplog, "the session with C1 failed unexpectedly") == [(logging.ERROR, WHO)]
    assert [type(each) for each in errors_in(caplog)] == [AttributeError]


@virtual_time
async def test_decisions_that_do_not_settle_are_logged_and_end_the_step(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_the_same(self: Connector, now: Instant) -> None:
        self._state = replace(self._state)

    monkeypatch.setattr(Connector, "_answer_tasks", never_the_same)
    setup = Setup()
    async with setup.running():
        await asyncio.sleep(0.1)
        assert said(caplog, "a connector keeps changing")[0] == (logging.ERROR, WHO)
        monkeypatch.undo()
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_status_that_could_not_be_written_is_named_and_written_soon(caplog: pytest.LogCaptureFixture) -> None:
    async with ready_setup() as setup:
        setup.reports.failures.append(Failure(Reason.KUBERNETES_UNAVAILABLE, "503"))
        written = len(setup.reports.written)
        setup.edit(suspend=True)
        await asyncio.sleep(0.1)
        assert (len(setup.reports.failures), len(setup.reports.written)) == (0, written), "it waits"
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY)[1] == "Suspended"
    assert said(caplog, "the status could not be written") == [(logging.WARNING, {**WHO, "error": "503"})]
