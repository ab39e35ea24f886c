"""The shrink guard."""

from dataclasses import asdict, replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.shrink_guard import Shrink, find_shrink, held, shrunk
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.model.directory import ALL_KINDS, DEFAULT_KINDS, Counts, ResourceKind, SyncScope
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import after, ready, synced

FULL = Counts(accounts=200, teams=10, memberships=400)
ALL = Counts(
    200,
    10,
    400,
    organization_roles=200,
    pipelines=50,
    pipeline_access=80,
    clusters=4,
    cluster_maintainers=12,
    cluster_team_maintainers=8,
    api_tokens=60,
    last_logins=150,
)
USER, TEAM, CLUSTER = ResourceKind.USER, ResourceKind.TEAM, ResourceKind.CLUSTER


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


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("organization_roles", "organization roles"),
        ("pipelines", "pipelines"),
        ("pipeline_access", "pipeline access grants"),
        ("clusters", "clusters"),
        ("cluster_maintainers", "cluster maintainers"),
        ("cluster_team_maintainers", "cluster team maintainers"),
        ("api_tokens", "API tokens"),
    ],
)
def test_each_opt_in_type_is_looked_at(field: str, what: str) -> None:
    before = getattr(ALL, field)
    half, less = replace(ALL, **{field: before // 2}), replace(ALL, **{field: before // 2 - 1})
    assert find_shrink(ALL, half, 50) is None
    assert find_shrink(ALL, less, 50) == Shrink(what, before, before // 2 - 1)
    assert find_shrink(FULL, less, 50) is None, "nothing of the type was delivered before"


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
    assert Counts(1, 2, 3).filled(scope, FULL) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (ALL_KINDS, Counts(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
        (DEFAULT_KINDS, replace(ALL, accounts=1, teams=2, memberships=3, last_logins=11)),
        (
            DEFAULT_KINDS | {CLUSTER},
            Counts(1, 2, 3, 200, 50, 80, 7, 8, 9, 60, 11),
        ),
        ({USER, CLUSTER}, replace(ALL, accounts=1, clusters=7, cluster_maintainers=8, last_logins=11)),
        ({TEAM, CLUSTER}, replace(ALL, teams=2, memberships=3, clusters=7, cluster_team_maintainers=9)),
        ({USER, ResourceKind.PIPELINE}, replace(ALL, accounts=1, pipelines=5, last_logins=11)),
        ({TEAM, ResourceKind.ORGANIZATION}, replace(ALL, teams=2, memberships=3)),
        ({ResourceKind.API_TOKEN}, replace(ALL, api_tokens=10)),
    ],
)
def test_an_opt_in_type_that_a_scope_leaves_out_counts_as_before(kinds: set[ResourceKind], expected: Counts) -> None:
    scope = SyncScope(frozenset(kinds))
    assert Counts(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11).within(scope).filled(scope, ALL) == expected


# An opt-in type that is removed and comes back


def delivered_with(
    state: ConnectorState, hours: float, sync_id: str, kinds: set[ResourceKind], counts: Counts
) -> ConnectorState:
    """The spec has these types from then on; a sync finds these counts, and C1 takes its snapshot."""
    spec = replace(state.desired.spec, kinds=frozenset(kinds))
    state = replace(state, desired=replace(state.desired, spec=spec))
    state = synced(state, after(3600 * hours), sync_id, counts.within(SyncScope(spec.kinds)))
    assert state.staged is not None
    if held(state.records, state.staged, 50, None) is not None:
        return state
    return transitions.delivered(state, TaskID(f"task-{sync_id}"), state.staged, after(3600 * hours + 60).wall)


def last_delivery(state: ConnectorState) -> tuple[str, Counts]:
    assert state.records.last_delivery is not None
    return state.records.last_delivery.sync_id, state.records.last_delivery.counts


def test_a_type_that_is_removed_is_no_shrink_and_when_it_comes_back_it_is_compared_with_what_c1_got_last() -> None:
    state = delivered_with(ready(), 1, "sync2", {*ALL_KINDS}, ALL)
    state = delivered_with(state, 2, "sync3", {*DEFAULT_KINDS}, ALL)
    assert last_delivery(state) == ("sync3", ALL), "what was left out counts as it did"
    lost = delivered_with(state, 3, "sync4", {*ALL_KINDS}, replace(ALL, pipelines=10))
    assert last_delivery(lost) == ("sync3", ALL)
    assert lost.staged is not None
    sentence = held(lost.records, lost.staged, 50, None)
    assert sentence is not None
    assert "sync4 has 10 pipelines, the last delivered one had 50 (80 % fewer" in sentence
    assert last_delivery(delivered_with(state, 3, "sync4", {*ALL_KINDS}, ALL)) == ("sync4", ALL)


def test_the_first_snapshot_with_a_type_is_delivered_whatever_it_holds() -> None:
    state = delivered_with(ready(), 1, "sync2", {*DEFAULT_KINDS}, FULL)
    assert last_delivery(state) == ("sync2", FULL)
    few = replace(ALL, pipelines=0, clusters=0)
    assert last_delivery(delivered_with(state, 2, "sync3", {*ALL_KINDS}, few)) == ("sync3", few)


def test_an_accepted_sync_without_a_type_does_not_free_the_type_from_the_guard() -> None:
    state = delivered_with(ready(), 1, "sync2", {*ALL_KINDS}, ALL)
    state = delivered_with(state, 2, "sync3", {*DEFAULT_KINDS}, replace(ALL, accounts=20))
    assert last_delivery(state)[0] == "sync2"
    spec = replace(state.desired.spec, kinds=ALL_KINDS)
    state = replace(state, desired=replace(state.desired, spec=spec, accept_shrink="sync3"))
    lost = synced(state, after(3 * 3600), "sync4", replace(ALL, accounts=20, pipelines=10))
    assert lost.staged is not None
    sentence = held(lost.records, lost.staged, 50, "sync3")
    assert sentence is not None
    assert "10 pipelines" in sentence
    same = synced(state, after(3 * 3600), "sync4", replace(ALL, accounts=20))
    assert same.staged is not None
    assert held(same.records, same.staged, 50, "sync3") is None


def held_at(state: ConnectorState, hours: float, sync_id: str, counts: Counts, **changes: object) -> str | None:
    """Why the snapshot of a sync with these counts is held, with the annotation and the spec as they are."""
    spec = replace(state.desired.spec, **changes)  # type: ignore[arg-type]  # checked by the dataclass
    state = replace(state, desired=replace(state.desired, spec=spec))
    state = synced(state, after(3600 * hours), sync_id, counts.within(SyncScope(spec.kinds)))
    assert state.staged is not None
    return held(state.records, state.staged, 50, state.desired.accept_shrink)


@pytest.mark.parametrize("who", ["sync3", "sync4"])
def test_what_c1_does_not_take_of_an_accepted_sync_or_of_the_next_does_not_undo_its_acceptance(who: str) -> None:
    """C1 has 50 pipelines, then takes only accounts and teams; a sync with 20 pipelines is held, and accepted."""
    fewer = replace(ALL, pipelines=20)
    state = delivered_with(ready(), 1, "sync2", {*ALL_KINDS}, ALL)
    state = synced(state, after(2 * 3600), "sync3", fewer)
    assert state.staged is not None
    assert held(state.records, state.staged, 50, None) is not None
    state = replace(state, desired=replace(state.desired, accept_shrink="sync3"))
    if who == "sync4":
        state = synced(state, after(3 * 3600), "sync4", fewer)
    staged = state.staged
    assert staged is not None
    narrow = replace(staged, scope=SyncScope(), counts=staged.counts.within(SyncScope()), sha256="narrow")
    state = transitions.delivered(state, TaskID("task3"), narrow, after(4 * 3600).wall)
    assert last_delivery(state) == (who, fewer)
    assert held_at(state, 5, "sync5", fewer) is None
    assert "9 pipelines" in (held_at(state, 5, "sync5", replace(fewer, pipelines=9)) or "")


@pytest.mark.parametrize("kinds", [{USER}, {USER, CLUSTER}, {TEAM}, {TEAM, CLUSTER}])
def test_an_accepted_sync_of_fewer_types_does_not_free_what_it_left_out(kinds: set[ResourceKind]) -> None:
    scope, few = SyncScope(frozenset(kinds)), Counts(20, 2, 40, 20, 5, 8, 1, 2, 1, 6, 15)
    state = delivered_with(ready(), 1, "sync2", {*ALL_KINDS}, ALL)
    state = delivered_with(state, 2, "sync3", kinds, few)
    assert last_delivery(state)[0] == "sync2", "it is held"
    state = replace(state, desired=replace(state.desired, accept_shrink="sync3"))
    assert held_at(state, 3, "sync4", few) is None
    accepted = few.filled(scope, ALL)
    assert held_at(state, 3, "sync4", accepted, kinds=ALL_KINDS) is None
    for name, before in asdict(accepted).items():
        lost = replace(accepted, **{name: before // 2 - (before > 1)})
        assert (held_at(state, 3, "sync4", lost, kinds=ALL_KINDS) is None) is (before == 0), name


def test_cluster_maintainers_are_guarded_whichever_of_both_kinds_are_synced() -> None:
    for kinds, name in (({USER, CLUSTER}, "cluster_maintainers"), ({TEAM, CLUSTER}, "cluster_team_maintainers")):
        state = delivered_with(ready(), 1, "sync2", kinds, ALL)
        assert name.replace("_", " ") in (held_at(state, 2, "sync3", replace(ALL, **{name: 2})) or "")
        assert last_delivery(state)[1] == ALL.filled(SyncScope(frozenset(kinds)), Counts(0, 0, 0))


def test_one_is_told_in_the_singular() -> None:
    state = after_a_delivery_and_a_sync(1)
    assert state.staged is not None
    assert "sync2 has 1 account, the last delivered one had 100 (" in (shrunk(state.records, state.staged, None) or "")


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
