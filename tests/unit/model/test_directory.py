"""A scope includes another when a file of the other can be derived from a file of its own."""

from itertools import product

import pytest

from buildkite_connector.model.directory import ALL_KINDS, FULL_SCOPE, ResourceKind, SyncScope

USERS, TEAMS = frozenset({ResourceKind.USER}), frozenset({ResourceKind.TEAM})
SCOPES = [SyncScope(*parts) for parts in product((ALL_KINDS, USERS, TEAMS), (True, False), (True, False))]


@pytest.mark.parametrize("scope", SCOPES)
def test_the_full_scope_includes_every_scope_and_each_includes_itself(scope: SyncScope) -> None:
    assert FULL_SCOPE.includes(scope)
    assert scope.includes(scope)


@pytest.mark.parametrize(
    "narrower",
    [
        SyncScope(USERS),
        SyncScope(TEAMS),
        SyncScope(grants=False),
        SyncScope(entitlements=False),
        SyncScope(entitlements=False, grants=False),
    ],
)
def test_a_scope_that_lacks_a_kind_entitlements_or_grants_does_not_include_the_full_one(narrower: SyncScope) -> None:
    assert not narrower.includes(FULL_SCOPE)


def test_a_scope_of_other_kinds_is_not_included() -> None:
    assert not SyncScope(USERS).includes(SyncScope(TEAMS))
    assert not SyncScope(TEAMS).includes(SyncScope(USERS))
