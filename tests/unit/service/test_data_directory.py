"""Where snapshots and state are kept: the first directory that can be written, one for each identity and process."""

import dataclasses
import os
from pathlib import Path

import pytest

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.service.data_directory import Identity, open_directory, remove_files

ACME = Identity("client@acme.conductor.one/c", "host", "acme-inc", "https://api.buildkite.com/v2")


def test_the_same_identity_finds_its_directory_again(tmp_path: Path) -> None:
    with open_directory([tmp_path], ACME) as directory:
        (directory / "status.json").write_text("kept")
    with open_directory([tmp_path], ACME) as again:
        assert again == directory
        assert (again / "status.json").read_text() == "kept"


@pytest.mark.parametrize("what", ["client_id", "host_id", "organization", "api_url"])
def test_another_identity_has_another_directory(tmp_path: Path, what: str) -> None:
    other = dataclasses.replace(ACME, **{what: "other"})
    with open_directory([tmp_path], ACME) as ours:
        pass
    with open_directory([tmp_path], other) as theirs:
        assert ours != theirs


def test_a_name_does_not_run_into_the_next() -> None:
    assert Identity("a", "bc", "", "").digest() != Identity("ab", "c", "", "").digest()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    with open_directory([tmp_path / "new"], ACME) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_written_is_passed_over_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    with open_directory([occupied, tmp_path / "good"], ACME) as directory:
        assert directory.is_relative_to(tmp_path / "good")
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "occupied" in str(vars(warning)["error"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_place_that_another_user_has_led_elsewhere_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to("theirs")
    os.chown(tmp_path / "link", 65532, 65532, follow_symlinks=False)
    with open_directory([tmp_path / "link", tmp_path / "good"], ACME) as directory:
        assert directory.is_relative_to(tmp_path / "good")


def test_without_any_directory_it_says_what_to_mount(tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    with pytest.raises(Failure, match="BATON_C1Z_TEMP_DIR or TMPDIR") as raised, open_directory([occupied], ACME):
        pass
    assert raised.value.reason is Reason.STORAGE_FAILED


def test_a_second_process_starts_without_the_state_of_either(tmp_path: Path) -> None:
    with open_directory([tmp_path], ACME) as first:
        (first / "status.json").write_text("kept")
        for _ in range(3):
            with open_directory([tmp_path], ACME) as second:
                assert second != first
                assert [path.name for path in second.iterdir()] == ["lock"]
                (second / "status.json").write_text("of the second")
    assert (first / "status.json").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 2, "no start leaves a directory more"


def test_a_link_that_somebody_put_there_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    base = tmp_path / "base"
    base.mkdir()
    (base / ACME.digest()).symlink_to(elsewhere)
    with open_directory([base, tmp_path / "good"], ACME) as directory:
        assert directory.is_relative_to(tmp_path / "good")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / ACME.digest()).mkdir(parents=True)
    os.chown(base / ACME.digest(), 54321, 54321)
    with open_directory([base, tmp_path / "good"], ACME) as directory:
        assert directory.is_relative_to(tmp_path / "good")


def test_an_error_inside_the_context_is_nobody_elses(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="inside"), open_directory([tmp_path, tmp_path / "other"], ACME):
        raise OSError("inside")
    assert not (tmp_path / "other").exists()


def test_what_a_former_process_left_goes_and_the_lock_stays(tmp_path: Path) -> None:
    with open_directory([tmp_path], ACME) as directory:
        (directory / "old.c1z").write_text("x")
        (directory / "scratch").mkdir()
        remove_files(directory)
        assert [path.name for path in directory.iterdir()] == ["lock"]
