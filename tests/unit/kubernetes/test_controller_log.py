"""What the controller logs of the resources that come and go, and of what it could not clean up."""

import asyncio
import logging
from pathlib import Path

import pytest

from buildkite_connector.kubernetes import controller as module
from buildkite_connector.kubernetes.controller import EVENT_SECONDS
from buildkite_connector.kubernetes.events import EventDraft, EventType
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.model.directory import FULL_SCOPE, Counts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey
from fakes.log_lines import lines
from fakes.virtual_time import virtual_time
from unit.kubernetes.controlled import Cluster, Process, process

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
WHO = {"connector": "default.acme"}
FOUND, GONE = (INFO, "connector found", WHO), (INFO, "connector gone", WHO)
FULL = Failure(Reason.STORAGE_FAILED, "the disk is read-only")
NOT_REMOVED = "a staged file was not removed"
NOT_CLOSED = "a connector did not close cleanly"


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(INFO)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, dict[str, object]]]:
    return lines(record for record in caplog.records if record.name == module.__name__)


def breaks(operator: Process, monkeypatch: pytest.MonkeyPatch, call: str, error: Exception) -> None:
    async def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(operator.setup.store, call, fail)


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [type(record.exc_info[1]).__name__ for record in caplog.records if record.exc_info]


@virtual_time
async def test_a_resource_that_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    async with process() as operator:
        operator.observe("acme")
        operator.observe("acme", schedule={"interval": "2h"})
        await asyncio.sleep(60)
        operator.controller.forget("default", "acme", "another")
        operator.controller.forget("default", "other", "uid-acme")
        operator.controller.forget("default", "acme", "uid-acme")
        operator.controller.forget("default", "acme", "uid-acme")
        await asyncio.sleep(60)
        assert [each for each in told(caplog) if each[1] != "condition changed"] == [FOUND, GONE]


@virtual_time
async def test_a_standby_tells_of_them_too(caplog: pytest.LogCaptureFixture) -> None:
    async with process(acting=False) as operator:
        operator.observe("acme")
        operator.controller.forget("default", "acme", "uid-acme")
    assert told(caplog) == [FOUND, GONE]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FULL, (WARNING, NOT_REMOVED, {**WHO, "error": "the disk is read-only"})),
        (RuntimeError("a bug"), (ERROR, NOT_CLOSED, WHO)),
    ],
    ids=["storage", "bug"],
)
@virtual_time
async def test_a_deleted_one_that_does_not_close_cleanly(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception, line: object
) -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        breaks(operator, monkeypatch, "discard", error)
        operator.controller.forget("default", "acme", "uid-acme")
        await asyncio.sleep(60)
        assert told(caplog)[-2:] == [GONE, line]
        assert tracebacks(caplog) == [] if error is FULL else ["RuntimeError"]


@virtual_time
async def test_one_that_does_not_close_cleanly_at_the_end_and_what_the_last_events_get(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, given = Cluster(), list[float]()

    async def drain(seconds: float) -> None:
        given.append(seconds)

    monkeypatch.setattr(cluster, "drain_events", drain)
    async with process(cluster) as operator:
        operator.observe("acme")
        operator.observe("other", delivery={"hostID": "other"})
        await asyncio.sleep(60)
        (acme, other) = operator.controller.connectors()
        close = acme.close

        async def fail(*, discard: bool) -> None:
            await close(discard=discard)
            assert not discard
            raise RuntimeError("a bug")

        monkeypatch.setattr(acme, "close", fail)
        caplog.clear()
    assert told(caplog) == [(ERROR, NOT_CLOSED, {})]
    assert "RuntimeError" in tracebacks(caplog)
    assert other.reread_at is None, "it was closed all the same"
    assert given == [EVENT_SECONDS]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (None, (INFO, "snapshots of deleted connectors were removed", {"files": 2})),
        (FULL, (WARNING, NOT_REMOVED, {"error": "the disk is read-only"})),
        (RuntimeError("a bug"), (ERROR, "old snapshots could not be removed", {})),
    ],
    ids=["removed", "storage", "bug"],
)
@virtual_time
async def test_snapshots_of_connectors_that_are_gone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception | None, line: object
) -> None:
    async with process(acting=False) as operator:
        operator.observe("acme")
        for key in ("default.acme", "default.one", "default.two"):
            staged = StagedSnapshot(SyncID("s"), Path(key), "ab", 1, Counts(1, 1, 1), FULL_SCOPE)
            operator.setup.store.files[ConnectorKey(key), SyncID("s")] = staged
        if error is not None:
            breaks(operator, monkeypatch, "prune", error)
        await operator.controller.prune_snapshots()
        if error is None:
            await operator.controller.prune_snapshots()  # nothing is left, and nothing told
        assert told(caplog) == [FOUND, line]


@virtual_time
async def test_one_whose_end_breaks(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    async with process(acting=False) as operator:
        operator.observe("acme")
        monkeypatch.setattr(operator.controller, "_end", bug)
        operator.controller.forget("default", "acme", "uid-acme")
        assert told(caplog) == [FOUND, (ERROR, "a resource that is gone could not be closed", WHO)]


@virtual_time
async def test_events_that_cannot_be_made_name_their_connector(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> list[EventDraft]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "draft_events", bug)
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(1)
        assert told(caplog)[:2] == [FOUND, (ERROR, "no event could be made of a change", WHO)]


@virtual_time
async def test_an_outdated_crd_is_a_warning_in_the_words_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, posted = Cluster(), list[tuple[str, EventDraft]]()
    cluster.schema.outdated = "x" * 2000
    monkeypatch.setattr(cluster, "post_event", lambda resource, draft: posted.append((resource.name, draft)))
    async with process(cluster) as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        cluster.schema.outdated = ""
        await asyncio.sleep(2 * 3600)
        cluster.schema.outdated = "outdated again"
        await asyncio.sleep(2 * 3600)
    told = [(name, draft) for name, draft in posted if draft.reason is Reason.KUBERNETES_REFUSED]
    assert [(name, draft.type, len(draft.message) <= 1024) for name, draft in told] == [
        ("acme", EventType.WARNING, True)
    ] * 2
    assert told[1][1].message == "outdated again"


@virtual_time
async def test_reports_are_of_those_that_this_process_acts_for() -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        ((resource, status),) = operator.controller.reports()
        assert isinstance(resource, ObservedResource)
        assert (resource.name, status) == ("acme", operator.cluster.statuses["acme"])
        await operator.controller.stop_acting()
        assert list(operator.controller.reports()) == []
        assert list(operator.controller.connectors()) == []
