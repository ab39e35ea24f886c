"""What two snapshots differ in of what a portal shows: a last login and a last use are no difference."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.c1z import Changed, Difference, compare
from buildkite_connector.model.directory import Account, AccountDetails, AccountID, Directory
from buildkite_connector.model.snapshot import StagedSnapshot
from harness.organization import access, with_portal
from unit.c1z.portal_golden import TOKENS

Write = Callable[..., StagedSnapshot]
Between = Callable[[Directory, Directory], Difference]
LATER = datetime(2026, 12, 24, tzinfo=UTC)


@pytest.fixture
def golden() -> Directory:
    return with_portal(access(TOKENS))


@pytest.fixture
def difference(write: Write, tmp_path: Path) -> Between:
    def difference(before: Directory, after: Directory) -> Difference:
        files = [write(tmp_path / name, each).path for name, each in (("a.c1z", before), ("b.c1z", after))]
        return compare(files[0], files[1], 100)

    return difference


def with_details(directory: Directory, index: int, **changes: Any) -> Directory:
    accounts = list(directory.accounts)
    details = accounts[index].details or AccountDetails(None, two_factor=False)
    accounts[index] = replace(accounts[index], details=replace(details, **changes))
    return replace(directory, accounts=tuple(accounts))


def with_token(directory: Directory, index: int, **changes: Any) -> Directory:
    tokens = list(directory.api_tokens)
    tokens[index] = replace(tokens[index], **changes)
    return replace(directory, api_tokens=tuple(tokens))


def test_who_was_active_and_what_was_used_has_not_changed(golden: Directory, difference: Between) -> None:
    moved = golden
    for index in range(4):
        moved = with_token(with_details(moved, index, last_seen_at=LATER), index, last_used_at=LATER)
    assert difference(golden, moved).is_empty
    assert difference(moved, golden).is_empty


def test_the_order_of_scopes_means_nothing(golden: Directory, difference: Between) -> None:
    assert difference(golden, with_token(golden, 0, scopes=("graphql", "write_builds", "read_builds"))).is_empty


def test_two_factor_and_machine_users_are_changes_in_either_direction(golden: Directory, difference: Between) -> None:
    after = with_details(with_details(golden, 0, two_factor=False), 1, machine=True)
    for before, is_now in ((golden, after), (after, golden)):
        found: list[Changed[Account]] = difference(before, is_now).accounts.changed
        assert {each.after.name: each.attributes for each in found} == {
            "Ada Lovelace": ("two_factor",),
            "O'Brien, Pat": ("machine",),
        }
    assert (found[0].before.machine, found[0].after.machine) == (True, False)


def test_a_file_without_a_portal_says_nothing_that_changes(golden: Directory, difference: Between) -> None:
    plain = replace(golden, accounts=access(TOKENS).accounts)
    assert difference(plain, golden).is_empty
    assert difference(golden, plain).is_empty


@pytest.mark.parametrize(
    ("index", "changes"),
    [
        (0, {"expires_at": LATER}),
        (1, {"expires_at": None}),
        (2, {"expires_at": LATER}),
        (0, {"description": "Another"}),
        (1, {"description": "Named since"}),
        (2, {"description": ""}),
        (0, {"owner": None}),
        (2, {"owner": AccountID("984aeecf-70ba-51ae-8c12-3d64d3ed9536")}),
        (0, {"scopes": ("read_builds", "graphql")}),
        (1, {"scopes": ("graphql",)}),
    ],
)
def test_everything_else_of_a_token_is_a_change(
    golden: Directory, difference: Between, index: int, changes: dict[str, Any]
) -> None:
    after = with_token(golden, index, **changes)
    found = difference(golden, after)
    (changed,) = found.api_tokens.changed
    assert (changed.before, changed.after) == (golden.api_tokens[index], after.api_tokens[index])
    assert changed.attributes == tuple(changes)
    assert found.accounts.count == 0


def test_tokens_come_and_go(golden: Directory, difference: Between) -> None:
    fewer = replace(golden, api_tokens=golden.api_tokens[1:])
    assert difference(fewer, golden).api_tokens.gained == [golden.api_tokens[0]]
    lost = difference(golden, fewer).api_tokens
    assert (lost.lost, lost.count) == ([golden.api_tokens[0]], 1)
