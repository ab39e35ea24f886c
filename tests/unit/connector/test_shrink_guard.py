"""The shrink guard."""

import pytest

from buildkite_connector.connector.shrink_guard import Shrink, find_shrink, in_scope
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.scope import ResourceKind, SyncScope

FULL = Counts(accounts=200, teams=10, memberships=400)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (Counts(200, 10, 400), None),
        (Counts(300, 20, 900), None),
        (Counts(100, 5, 200), None),
        (Counts(99, 10, 400), Shrink("accounts", 200, 99)),
        (Counts(200, 4, 400), Shrink("teams", 10, 4)),
        (Counts(200, 10, 0), Shrink("memberships", 400, 0)),
        (Counts(99, 0, 199), Shrink("teams", 10, 0)),
    ],
)
def test_the_worst_drop_beyond_the_limit_is_found(after: Counts, expected: Shrink | None) -> None:
    assert find_shrink(FULL, after, 50) == expected


def test_the_first_delivery_is_never_suspicious() -> None:
    assert find_shrink(None, Counts(), 50) is None


def test_zero_disables_the_guard() -> None:
    assert find_shrink(FULL, Counts(), 0) is None


def test_an_organization_that_was_empty_cannot_shrink() -> None:
    assert find_shrink(Counts(), Counts(), 1) is None


def test_the_loss_is_told_in_whole_percents() -> None:
    assert Shrink("accounts", 3, 1).percent == 66


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (SyncScope(), Counts(1, 2, 3)),
        (SyncScope(frozenset({ResourceKind.USER})), Counts(1, 10, 400)),
        (SyncScope(frozenset({ResourceKind.TEAM})), Counts(200, 2, 3)),
        (SyncScope(grants=False), Counts(1, 2, 400)),
        (SyncScope(entitlements=False), Counts(1, 2, 400)),
    ],
)
def test_what_a_scope_leaves_out_counts_as_before(scope: SyncScope, expected: Counts) -> None:
    assert in_scope(Counts(1, 2, 3), scope, FULL) == expected
