"""Writers' scratch directories: what a killed writer left is removed, what another one uses is left alone."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buildkite_connector.c1z import SnapshotStore
from buildkite_connector.c1z.files import scratch_directory


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "snapshots"
    found.mkdir()
    return found


def test_what_a_killed_writer_left_is_removed_at_start(place: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from buildkite_connector.c1z.files import scratch_directory\n"
        "with scratch_directory(Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'database').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, "-c", script, str(place)], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(place.iterdir())) == 1
    SnapshotStore(place)
    assert list(place.iterdir()) == []


def test_what_was_left_without_its_lock_is_removed_too(place: Path) -> None:
    """Killed before it was locked, or when its removal had only taken the lock away."""
    half, empty, new = (
        place / f".buildkite-connector-{each}" for each in ("half.partial", "empty.new", "beginning.new")
    )
    for left in (half, empty, new):
        left.mkdir()
    (half / "database").write_bytes(b"half")
    os.utime(empty, (time.time() - 61,) * 2)
    SnapshotStore(place)
    assert list(place.iterdir()) == [new], "a writer may be about to lock this one"


def test_a_later_writer_removes_what_a_killed_one_left_and_no_lock_that_is_still_to_be_held(place: Path) -> None:
    old, fresh = (place / f".buildkite-connector-{each}.partial" for each in ("old", "fresh"))
    for left in (old, fresh):
        left.mkdir()
        (left / "lock").touch()
    os.utime(old / "lock", (time.time() - 61,) * 2)
    with scratch_directory(place) as scratch:
        assert sorted(place.iterdir()) == sorted([fresh, scratch])


def test_what_another_writer_is_at_work_on_is_left_alone(place: Path) -> None:
    with scratch_directory(place) as scratch:
        SnapshotStore(place)
        assert scratch.is_dir()


def test_writers_that_begin_and_end_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    def write(number: int) -> bool:
        kept = True
        for _ in range(60):
            with scratch_directory(tmp_path) as scratch:
                (scratch / f"{number}").touch()
                kept = kept and (scratch / f"{number}").exists()
        return kept

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(write, range(8)))
    assert list(tmp_path.iterdir()) == []
