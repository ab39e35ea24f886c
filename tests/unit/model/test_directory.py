"""Which scope includes which (a file of it can be derived from a file of the other), counts, and the form of ids."""

from itertools import product

import pytest

from buildkite_connector.model.canonical_id import canonical_id
from buildkite_connector.model.directory import (
    ALL_KINDS,
    DEFAULT_KINDS,
    FULL_SCOPE,
    Counts,
    ResourceKind,
    SyncScope,
    without_grants,
)
from buildkite_connector.model.words import in_words, listed

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


def test_each_resource_type_has_a_word_for_people() -> None:
    words = ["accounts", "teams", "organizations", "pipelines", "clusters", "API tokens"]
    assert [in_words(kind) for kind in ResourceKind] == words


def test_counts_in_words_name_what_is_in_scope() -> None:
    assert str(Counts(12, 5, 30)) == "12 accounts, 5 teams and 30 memberships"
    assert str(Counts(12, 5, 30, 11, 7, 9, 2, 0, 3)) == (
        "12 accounts, 5 teams, 30 memberships, 11 organization roles, 7 pipelines, 9 pipeline access grants, 2"
        " clusters, 0 cluster maintainers and 3 cluster team maintainers"
    )
    assert str(Counts(1, 1, 1, 1, 1, 1, 1, 1, 1)) == (
        "1 account, 1 team, 1 membership, 1 organization role, 1 pipeline, 1 pipeline access grant, 1 cluster,"
        " 1 cluster maintainer and 1 cluster team maintainer"
    )
    assert str(Counts(12, 0, 0, clusters=2)) == "12 accounts, 0 teams, 0 memberships and 2 clusters"


@pytest.mark.parametrize(("words", "text"), [("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c")])
def test_words_are_listed_as_in_a_sentence(words: str, text: str) -> None:
    assert listed(words) == text


@pytest.mark.parametrize(
    ("kinds", "lacking"),
    [
        ("user", ""),
        ("team", ""),
        ("user organization", ""),
        ("team pipeline", ""),
        ("user cluster", ""),
        ("team cluster", ""),
        (" ".join(sorted(ALL_KINDS)), ""),
        ("team organization", "organization has no grants without user"),
        ("user pipeline", "pipeline has no grants without team"),
        ("cluster", "cluster has no grants without user or team"),
        ("organization pipeline", "organization has no grants without user; pipeline has no grants without team"),
    ],
)
def test_a_type_whose_grants_cannot_exist_is_named(kinds: str, lacking: str) -> None:
    chosen = frozenset(map(ResourceKind, kinds.split()))
    assert without_grants(chosen) == lacking
    scope, alone = SyncScope(chosen), Counts(0, 0, 0, *[1] * 6).within(SyncScope(chosen))
    granted = {
        ResourceKind.ORGANIZATION: scope.wants_organization_roles,
        ResourceKind.PIPELINE: scope.wants_pipeline_access,
        ResourceKind.CLUSTER: alone.cluster_maintainers is not None or alone.cluster_team_maintainers is not None,
    }
    for kind in chosen & granted.keys():
        assert granted[kind] is (kind.value not in lacking.split()), "as the scope of its sync says"
