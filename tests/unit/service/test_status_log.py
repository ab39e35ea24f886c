"""Without a cluster the status is logged, and kept where that is possible."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkite_connector.model.failure import Reason
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.service.state import StateFile
from buildkite_connector.service.status_log import Notice, StatusLog


def notices(before: ConnectorStatus | None, after: ConnectorStatus) -> Iterator[Notice]:
    if before is None or before.observed_generation != after.observed_generation:
        yield Notice(logging.WARNING, Reason.SHRINK_HELD, f"generation {after.observed_generation}")


def sink(directory: Path) -> StatusLog:
    state = StateFile(directory, lambda status: {"phase": str(status.phase)}, lambda _: None, lambda: "acme")
    return StatusLog("baton-buildkite", notices, state)


async def test_a_transition_is_one_line_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = sink(tmp_path)
    await log.report(None, ConnectorStatus(1))
    await log.report(ConnectorStatus(1), ConnectorStatus(1))
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "condition changed")
    told = vars(record)
    assert (told["connector"], told["reason"], told["detail"]) == ("baton-buildkite", "ShrinkHeld", "generation 1")
    assert (tmp_path / "status.json").exists()


async def test_a_state_that_cannot_be_kept_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "gone"
    log = sink(directory)
    same = ConnectorStatus(1)
    for _ in range(3):
        await log.report(same, same)
    (record,) = caplog.records
    assert record.message == "the state cannot be kept for the next start"
    directory.mkdir()
    await log.report(same, same)
    shutil.rmtree(directory)
    await log.report(same, same)
    assert len(caplog.records) == 2
