"""The status between two starts: whole or not there, and never another identity's; its transitions are logged."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buildkite_connector.kubernetes.schema.status_json import status_from_json, status_to_json
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import ConnectorStatus, DeliveryRecord
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.service.state import StateFile, StatusLog

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DELIVERED = ConnectorStatus(
    7, last_delivery=DeliveryRecord(NOW, TaskID("t" * 27), SyncID("s" * 27), "ab", 3, Counts(230, 9, 450))
)


def state(directory: Path, identity: str = "acme") -> StateFile:
    return StateFile(directory, status_to_json, status_from_json, lambda: identity)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    state(tmp_path).write(DELIVERED)
    assert state(tmp_path).read() == DELIVERED
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_another_identitys_state_counts_as_none(tmp_path: Path) -> None:
    state(tmp_path).write(DELIVERED)
    assert state(tmp_path, "other").read() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        json.dumps({"version": 2, "identity": "acme", "status": {"phase": "Pending"}}).encode(),
    ],
)
def test_what_cannot_be_read_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "status.json").write_bytes(content)
    assert state(tmp_path).read() is None


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_of_ones_own_counts_as_none_and_is_replaced_by_the_next_write(
    tmp_path: Path, kind: str
) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    state(elsewhere).write(DELIVERED)
    before = (elsewhere / "status.json").read_bytes()
    for name in ("status.json", "status.json.new"):
        match kind:
            case "link":
                (folder / name).symlink_to(elsewhere / "status.json")
            case "fifo":
                os.mkfifo(folder / name)
            case _:
                (folder / name).mkdir()
    assert state(folder).read() is None
    if kind == "folder":
        return  # which a person has to look at
    state(folder).write(ConnectorStatus(8))
    assert state(folder).read() == ConnectorStatus(8)
    assert (elsewhere / "status.json").read_bytes() == before


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277], ids=oct)
def test_the_file_is_for_this_user_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        state(tmp_path).write(DELIVERED)
    finally:
        os.umask(former)
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o600


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert state(tmp_path / "nowhere").read() is None


def test_a_write_that_fails_leaves_the_old_state_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(tmp_path).write(DELIVERED)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        state(tmp_path).write(ConnectorStatus(8))
    assert state(tmp_path).read() == DELIVERED
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


async def test_a_state_that_cannot_be_kept_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, told = tmp_path / "gone", list[object]()
    log = StatusLog("baton-buildkite", state(directory), lambda *transition: told.append(transition))
    for _ in range(3):
        await log.report(None, DELIVERED)
    (record,) = caplog.records
    assert record.message == "the state cannot be saved for the next start"
    directory.mkdir()
    await log.report(None, DELIVERED)
    assert state(directory).read() == DELIVERED
    shutil.rmtree(directory)
    await log.report(None, DELIVERED)
    assert len(caplog.records) == 2
    assert told == [(None, DELIVERED)] * 5
