"""Which scope includes which (a file of it can be derived from a file of the other), and the form of ids."""

from itertools import product

import pytest

from buildkite_connector.model.directory import DEFAULT_KINDS, FULL_SCOPE, ResourceKind, SyncScope, canonical_id

USERS, TEAMS = frozenset({ResourceKind.USER}), frozenset({ResourceKind.TEAM})
SCOPES = [SyncScope(*parts) for parts in product((DEFAULT_KINDS, USERS, TEAMS), (True, False), (True, False))]


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


@pytest.mark.parametrize("form", ["{}", "{{{}}}", "urn:uuid:{}"])
def test_a_uuid_is_one_team_whatever_its_form(form: str) -> None:
    known = "5f0a9d5e-6f0e-4a51-9a55-0c3f1f6f7a11"
    assert canonical_id(form.format(known.upper())) == known
    assert canonical_id(form.format(known.replace("-", ""))) == known
    for other in ("t-1", known[:-1], f"{{{known}", f"{known}}}", known.replace("5", "\u0665")):
        assert canonical_id(other) == other
