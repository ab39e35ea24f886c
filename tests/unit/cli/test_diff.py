"""`diff` as people run it: its exit code, its lines, its JSON; and that no file's text can act on a terminal."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from buildkite_connector.c1z import compare, write_snapshot
from buildkite_connector.c1z.archive import pack, unpack
from buildkite_connector.cli.diff_report import print_difference
from buildkite_connector.cli.inspect_report import inspect
from buildkite_connector.model.directory import Account, Directory, Membership, Role
from buildkite_connector.model.snapshot import SyncID
from harness.command import invoke
from harness.organization import ACME_REFERENCE, acme, directory_of
from simulators.buildkite.made_organization import make_organization

NOW = datetime(2026, 8, 1, tzinfo=UTC)
HOSTILE = "\x1b[2J\x7f\x9b31m[red]Eve[/red]\r\n\u202eevil"

Write = Callable[[str, Directory], Path]


def texts(document: object) -> Iterator[str]:
    """All strings of a JSON document."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, list | dict):
        for each in document.values() if isinstance(document, dict) else document:
            yield from texts(each)


def diff(*arguments: object) -> tuple[int, str, str]:
    ended = invoke("diff", *map(str, arguments))
    return ended.code, ended.out, ended.err


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, directory: Directory) -> Path:
        path = tmp_path / name
        write_snapshot(directory, path, sync_id=SyncID("s" * 27), started_at=NOW, finished_at=NOW)
        return path

    return write


@pytest.fixture
def pair(write: Write) -> tuple[Path, Path]:
    """The golden organization, and the same without the first account and with the second renamed."""
    before = acme()
    _, second, *others = before.accounts
    gone = before.accounts[0].id
    after = replace(
        before,
        accounts=(replace(second, name="Grace"), *others),
        memberships=tuple(each for each in before.memberships if each.account != gone),
    )
    return write("a.c1z", before), write("b.c1z", after)


def few() -> Directory:
    """A part of the golden organization: each printed row takes a millisecond."""
    whole = acme()
    return replace(
        whole,
        accounts=whole.accounts[:5],
        teams=whole.teams[:2],
        memberships=tuple(Membership(whole.teams[0].id, each.id, Role.MEMBER) for each in whole.accounts[:5]),
    )


def test_files_of_one_organization_by_either_connector_are_equal(write: Write) -> None:
    code, out, err = diff(ACME_REFERENCE, write("ours.c1z", acme()))
    assert (code, err) == (0, "")
    assert out == "No difference: 230 accounts, 9 teams and 450 memberships in both.\n"


def test_a_difference_is_exit_code_1_and_a_line_a_change(pair: tuple[Path, Path]) -> None:
    code, out, err = diff(*pair)
    lost, renamed = acme().accounts[:2]
    assert (code, err) == (1, "")
    assert f"- account     {lost.name} <{lost.email}> ({lost.id})\n" in out
    assert f"name {renamed.name!r} → 'Grace'" in out
    memberships = sum(each.account == lost.id for each in acme().memberships)
    assert out.count("\n- membership  ") == memberships
    assert "\x1b" not in out


def test_json_has_the_same(pair: tuple[Path, Path]) -> None:
    code, out, _ = diff(*pair, "-o", "json")
    document = json.loads(out)
    lost, renamed = acme().accounts[:2]
    assert code == 1
    assert document["equal"] is False
    assert document["accounts"]["counts"] == {"gained": 0, "lost": 1, "changed": 1}
    assert document["accounts"]["lost"][0]["email"] == lost.email
    assert document["accounts"]["changed"][0]["changes"] == {"name": {"before": renamed.name, "after": "Grace"}}
    assert document["before"]["counts"] == {"accounts": 230, "teams": 9, "memberships": 450}
    assert document["memberships"]["lost"][0]["accountName"] == lost.name


def test_what_an_account_does_not_have_is_null_in_json(write: Write) -> None:
    whole = replace(few(), memberships=())
    first, *others = whole.accounts
    before = replace(whole, accounts=(replace(first, email="", role=None), *others))
    _, out, _ = diff(write("a.c1z", before), write("b.c1z", replace(before, accounts=tuple(others))), "-o", "json")
    assert json.loads(out)["accounts"]["lost"] == [{"id": first.id, "name": first.name, "email": None, "role": None}]


def test_equal_files_are_equal_in_json(pair: tuple[Path, Path]) -> None:
    code, out, _ = diff(pair[0], pair[0], "-o", "json")
    assert (code, json.loads(out)["equal"]) == (0, True)


@pytest.mark.parametrize("place", [0, 1])
def test_a_file_that_cannot_be_read_is_exit_code_2_and_one_sentence(tmp_path: Path, place: int) -> None:
    broken = tmp_path / "broken.c1z"
    broken.write_bytes(ACME_REFERENCE.read_bytes()[:1000])
    files = [ACME_REFERENCE, ACME_REFERENCE]
    files[place] = broken
    code, out, err = diff(*files)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "broken.c1z" in err


def test_the_limit_bounds_the_lines_and_says_how_many_more(pair: tuple[Path, Path]) -> None:
    left = acme().accounts[0].id
    memberships = sum(each.account == left for each in acme().memberships)
    _, out, _ = diff(*pair, "--limit", "1")
    assert out.count("\n- membership") == 1
    assert f"… and {memberships - 1} more of memberships" in out
    _, whole, _ = diff(*pair, "--limit", "0")
    assert "more of" not in whole


def test_there_is_colour_on_a_terminal(pair: tuple[Path, Path]) -> None:
    console = Console(force_terminal=True, color_system="standard", width=120)
    with console.capture() as capture:
        print_difference(compare(*pair, 10), console)
    assert "\x1b[31m- account" in capture.get()


@pytest.mark.parametrize("width", [40, 400])
@pytest.mark.parametrize("show", ["diff", "diff json", "inspect", "inspect json"])
def test_text_of_a_file_neither_acts_on_a_terminal_nor_is_read_as_markup(write: Write, show: str, width: int) -> None:
    before = few()
    first, *others = before.accounts
    team, *teams = before.teams
    hostile = replace(
        before,
        accounts=(replace(first, name=HOSTILE, email=HOSTILE, role=HOSTILE), *others),
        teams=(replace(team, name=HOSTILE * 20, slug=HOSTILE), *teams),
    )
    a, b = write("a.c1z", before), write("b.c1z", hostile)
    command, _, form = show.partition(" ")
    arguments = [command, *([str(a), str(b)] if command == "diff" else [str(b), "--limit", "0"])]
    ended = invoke(*arguments, *(["-o", form] if form else []), COLUMNS=str(width))
    out = ended.out
    assert "Traceback" not in ended.err
    assert all(char.isprintable() or char == "\n" for char in out)
    if form:
        assert "[red]Eve[/red]" in out
        assert HOSTILE in list(texts(json.loads(out)))  # a tool gets what the file has
    elif width == 400:
        assert "[red]Eve[/red]" in out


def test_inspect_prints_a_hostile_file_on_a_terminal_without_its_codes(write: Write) -> None:
    before = few()
    first, *others = before.accounts
    path = write("x.c1z", replace(before, accounts=(replace(first, name="\x1b]0;title\x07", email="[bold]"), *others)))
    for as_json in (False, True):
        console = Console(force_terminal=True, color_system=None, width=200)
        with console.capture() as capture:
            inspect(path, as_json=as_json, limit=0, console=console)
        assert "\x1b]0;" not in capture.get()
        assert "[bold]" in capture.get()


def without_accounts(path: Path, accounts: Iterable[Account], target: Path) -> Path:
    """The snapshot at `path` without these and their memberships: made of its database, which is quicker than anew."""
    database = target.with_suffix(".database")
    database.write_bytes(b"".join(unpack(path)))
    gone = [(each.id,) for each in accounts]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            "delete from v1_grants where principal_resource_type_id = 'user' and principal_resource_id = ?", gone
        )
        connection.executemany("delete from v1_resources where external_id = 'user:' || ?", gone)
    pack(database, target, lambda: None)
    return target


def test_a_large_snapshot_is_compared_by_sql(write: Write, tmp_path: Path) -> None:
    large = directory_of(make_organization(3_000, 150, 11_000).document())
    before = write("a.c1z", large)
    after = without_accounts(before, large.accounts[:50], tmp_path / "b.c1z")
    began = time.process_time()
    code, out, _ = diff(before, after)
    assert time.process_time() - began < 5
    assert code == 1
    assert ["accounts", "3,000", "2,950", "0", "50", "0"] in [line.split() for line in out.splitlines()]
