"""Files that nobody else reads, and that nothing else is read in place of."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkite_connector.process.files import (
    ReplacedError,
    check_directory,
    create_own,
    open_own,
    open_verified,
    remove,
    write_own,
)

CONTENT = b"names and addresses"
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    former = os.umask(request.param)
    yield
    os.umask(former)


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def link(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(CONTENT)
    path.symlink_to(other)


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def folder(path: Path) -> None:
    path.mkdir()


OTHERS: list[Callable[[Path], object]] = [link, broken_link, link_to_a_device, os.mkfifo, listener, folder]


@pytest.mark.parametrize("put", OTHERS)
def test_nothing_but_a_regular_file_is_opened_and_nothing_blocks(tmp_path: Path, put: Callable[[Path], object]) -> None:
    put(tmp_path / "x")
    with pytest.raises(ReplacedError, match=r"it is a symbolic link|it is not a regular file"):
        open_own(tmp_path / "x")


@pytest.mark.parametrize("put", [link, os.mkfifo])
def test_what_takes_the_files_place_after_the_first_look_is_not_read_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, put: Callable[[Path], object]
) -> None:
    path, former = tmp_path / "x", tmp_path / "former"
    former.write_bytes(CONTENT)
    put(path)
    found = former.lstat()
    monkeypatch.setattr(Path, "lstat", lambda _: found)
    with pytest.raises(OSError, match=r"not a regular file|symbolic links"):
        open_own(path)


@NEEDS_ROOT
def test_a_file_of_another_user_is_refused_unless_the_directory_is_theirs_too(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(CONTENT)
    os.chown(path, 65532, 65532)
    with pytest.raises(ReplacedError, match="it belongs to another user"):
        open_own(path)
    os.chown(tmp_path, 65532, 65532)
    with open_own(path) as file:
        assert file.read() == CONTENT


def test_a_file_is_its_size_and_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with open_verified(path, 3, sha256) as file:
        assert file.read() == b"abc"
    for size, digest, what in ((4, sha256, "its size differs"), (3, "0" * 64, "its SHA-256 differs")):
        with pytest.raises(ReplacedError, match=what):
            open_verified(path, size, digest)


@pytest.mark.usefixtures("umask")
def test_what_is_written_is_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    with create_own(tmp_path / "x") as file:
        file.write(CONTENT)
    write_own(tmp_path / "y", CONTENT)
    write_own(tmp_path / "y", b"again")
    assert [mode(tmp_path / each) for each in "xy"] == [0o600, 0o600]
    assert (tmp_path / "y").read_bytes() == b"again"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x", "y"]


@pytest.mark.parametrize("put", OTHERS)
@pytest.mark.parametrize("name", ["x", "x.new"])
def test_writing_follows_nothing_that_is_in_its_way(tmp_path: Path, put: Callable[[Path], object], name: str) -> None:
    (tmp_path / "nowhere").unlink(missing_ok=True)
    put(tmp_path / name)
    if put is folder and name == "x":
        with pytest.raises(OSError, match="directory"):
            write_own(tmp_path / "x", b"new")
        return
    write_own(tmp_path / "x", b"new")
    with open_own(tmp_path / "x") as file:
        assert file.read() == b"new"
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "x.new").exists()
    if put is link:
        assert (tmp_path / "other").read_bytes() == CONTENT


@pytest.mark.parametrize("put", OTHERS)
def test_removing_takes_what_is_there_and_never_what_a_link_leads_to(
    tmp_path: Path, put: Callable[[Path], object]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_bytes(CONTENT)
    path = tmp_path / "x"
    put(path)
    if put is folder:
        (path / "inner").symlink_to(elsewhere)
    remove(path)
    remove(path)
    assert not path.is_symlink()
    assert not path.exists()
    assert (elsewhere / "kept").read_bytes() == CONTENT
    if put is link:
        assert (tmp_path / "other").read_bytes() == CONTENT


def test_a_link_to_a_directory_is_removed_and_the_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_bytes(CONTENT)
    (tmp_path / "x").symlink_to("elsewhere")
    remove(tmp_path / "x")
    assert [each.name for each in (tmp_path / "elsewhere").iterdir()] == ["kept"]


# Directories


def test_a_directory_of_ones_own_and_a_link_of_ones_own_are_as_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("data")
    with caplog.at_level(logging.WARNING):
        check_directory(tmp_path / "data")
        check_directory(tmp_path / "link")
    assert caplog.records == []


@NEEDS_ROOT
def test_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("data")
    os.chown(tmp_path / "link", 65532, 65532, follow_symlinks=False)
    with pytest.raises(ReplacedError, match="it is a symbolic link of another user"):
        check_directory(tmp_path / "link")


@pytest.mark.parametrize(
    ("bits", "warned"), [(0o700, False), (0o755, False), (0o770, True), (0o777, True), (0o1777, False)]
)
def test_a_directory_that_others_may_write_to_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bits: int, warned: bool
) -> None:
    tmp_path.chmod(bits)
    with caplog.at_level(logging.WARNING):
        check_directory(tmp_path)
    assert bool(caplog.records) is warned
    tmp_path.chmod(0o700)


@NEEDS_ROOT
def test_a_directory_of_another_user_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.chown(tmp_path, 65532, 65532)
    with caplog.at_level(logging.WARNING):
        check_directory(tmp_path)
    assert "belongs to another user" in str(caplog.records[0].__dict__["error"])
