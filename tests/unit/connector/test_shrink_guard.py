"""The shrink guard."""

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.shrink_guard import Shrink, find_shrink, in_scope, shrunk
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.model.directory import Counts, ResourceKind, SyncScope
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import after, ready, synced

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
    assert find_shrink(None, Counts(0, 0, 0), 50) is None


def test_zero_disables_the_guard() -> None:
    assert find_shrink(FULL, Counts(0, 0, 0), 0) is None


def test_an_organization_that_was_empty_cannot_shrink() -> None:
    assert find_shrink(Counts(0, 0, 0), Counts(0, 0, 0), 1) is None


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


# The warning: from a quarter on, whatever the limit is


def after_a_delivery_and_a_sync(accounts: int, teams: int = 10, limit: int = 50) -> ConnectorState:
    """C1 has 100 accounts, 10 teams and 300 memberships; the newest snapshot has these."""
    state = ready(max_drop_percent=limit)
    assert state.staged is not None
    state = transitions.delivered(state, TaskID("task0"), state.staged, after(20).wall)
    return synced(state, after(3600), "sync2", Counts(accounts, teams, 300))


@pytest.mark.parametrize(
    ("accounts", "teams", "says"),
    [
        (76, 10, None),
        (75, 10, "75 accounts, the last delivered one had 100 (25 % fewer)"),
        (50, 10, "50 accounts, the last delivered one had 100 (50 % fewer)"),
        (75, 7, "7 teams, the last delivered one had 10 (30 % fewer)"),
        (200, 20, None),
    ],
)
def test_a_loss_of_a_quarter_or_more_is_warned_of(accounts: int, teams: int, says: str | None) -> None:
    state = after_a_delivery_and_a_sync(accounts, teams)
    assert state.staged is not None
    sentence = shrunk(state.records, state.staged, None)
    assert (sentence is None) if says is None else (sentence is not None and f"sync2 has {says}." in sentence)
    assert shrunk(state.records, state.staged, "sync2") is None


def test_the_warning_says_what_c1_does_and_where_to_look() -> None:
    state = after_a_delivery_and_a_sync(60)
    assert state.staged is not None
    assert shrunk(state.records, state.staged, None) == (
        "Snapshot sync2 has 60 accounts, the last delivered one had 100 (40 % fewer). C1 pauses a connector that loses"
        " about half: if this is wrong, check the token's access in Buildkite."
    )
