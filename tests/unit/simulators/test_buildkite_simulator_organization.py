"""The data behind the Buildkite simulator: its document, its generator, its edits."""

import pytest

from simulators.buildkite.listing import Listing
from simulators.buildkite.made_organization import make_organization


@pytest.mark.parametrize(
    ("accounts", "teams", "memberships"),
    [(0, 0, 0), (1, 1, 1), (3, 2, 6), (10, 3, 0), (5, 4, 19), (1000, 50, 3800), (7, 0, 0)],
)
def test_a_made_organization_has_exactly_the_sizes_asked_for(accounts: int, teams: int, memberships: int) -> None:
    made = make_organization(accounts, teams, memberships)
    assert (len(made.members), len(made.teams), made.memberships) == (accounts, teams, memberships)


def test_a_made_organizations_ids_are_unique_and_its_references_hold() -> None:
    made = make_organization(1000, 50, 3800)
    members = {each["id"] for each in made.members.records}
    teams = [each["id"] for each in made.teams.records]
    assert len(members) == 1000
    assert len(set(teams)) == 50
    assert list(made.team_members) == teams
    for roster in made.team_members.values():
        users = [each["user_id"] for each in roster.records]
        assert len(users) == len(set(users))
        assert members.issuperset(users)


def test_more_memberships_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="7 memberships do not fit 3 accounts in 2 teams"):
        make_organization(3, 2, 7)


def test_the_minimum_counts_every_listing_at_least_once() -> None:
    made = make_organization(201, 3, 0)
    assert made.minimum_requests == 3 + 1 + 3


def test_what_is_not_there_cannot_be_edited() -> None:
    with pytest.raises(KeyError, match="nobody"):
        Listing("id").remove("nobody")


def test_an_unknown_edit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown edit 'drop'; there are add_member"):
        make_organization(1, 0, 0).edit("drop")
