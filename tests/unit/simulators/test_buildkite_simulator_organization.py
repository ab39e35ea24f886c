"""The data behind the Buildkite simulator: its document, its generator, its edits."""

import json
from pathlib import Path

import pytest

from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Listing, Organization


@pytest.mark.parametrize(
    ("accounts", "teams", "memberships"),
    [(0, 0, 0), (1, 1, 1), (3, 2, 6), (10, 3, 0), (5, 4, 19), (1000, 50, 3800), (7, 0, 0)],
)
def test_a_made_organization_has_exactly_the_sizes_asked_for(accounts: int, teams: int, memberships: int) -> None:
    made = make_organization(accounts, teams, memberships)
    assert (len(made.members), len(made.teams), made.memberships) == (accounts, teams, memberships)


def test_a_made_organization_depends_on_its_arguments_alone() -> None:
    assert make_organization(50, 5, 90, 7).document() == make_organization(50, 5, 90, 7).document()
    assert make_organization(50, 5, 90, 7).document() != make_organization(50, 5, 90, 8).document()


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


def test_an_organization_is_read_from_the_document_that_it_writes(tmp_path: Path) -> None:
    made = make_organization(5, 2, 7)
    file = tmp_path / "organization.json"
    file.write_text(json.dumps(made.document()), encoding="utf-8")
    assert Organization.load(file).document() == made.document()


def test_a_team_without_roster_in_the_document_is_empty() -> None:
    document = make_organization(1, 2, 1).document()
    empty = document["teams"][1]["id"]
    del document["team_members"][empty]
    assert len(Organization.from_document(document).team_members[empty]) == 0


def test_an_edit_shows_on_the_next_page_read() -> None:
    listing = Listing("id", [{"id": "a"}, {"id": "b"}, {"id": "c"}])
    assert listing.page(1, 2) == b'[{"id":"a"},{"id":"b"}]'
    listing.move("c", 0)
    assert listing.page(1, 2) == b'[{"id":"c"},{"id":"a"}]'
    listing.update("a", {"name": "Zoë"})
    assert listing.page(1, 2) == '[{"id":"c"},{"id":"a","name":"Zoë"}]'.encode()
    listing.remove("c")
    listing.insert({"id": "a"})
    assert listing.page(2, 2) == b'[{"id":"a"}]'
    assert listing.pages(2) == 2


def test_what_is_not_there_cannot_be_edited() -> None:
    with pytest.raises(KeyError, match="nobody"):
        Listing("id").remove("nobody")


def test_a_removed_member_leaves_the_teams_too_unless_told_otherwise() -> None:
    made = make_organization(2, 2, 4)
    first, second = (each["id"] for each in made.members.records)
    made.remove_member(first)
    made.remove_member(second, from_teams=False)
    assert len(made.members) == 0
    assert [each["user_id"] for roster in made.team_members.values() for each in roster.records] == [second] * 2


def test_every_edit_can_be_named() -> None:
    made = make_organization(2, 1, 2)
    user = made.members.records[0]["id"]
    team = {"id": "t", "name": "T"}
    for edit in (
        {"operation": "add_member", "id": "u", "name": "U", "email": "u@example.com"},
        {"operation": "update_member", "id": "u", "changes": {"role": "admin"}},
        {"operation": "move_member", "id": "u", "to": 0},
        {"operation": "remove_member", "id": user},
        {"operation": "add_team", "team": team},
        {"operation": "update_team", "id": "t", "changes": {"name": "Renamed"}},
        {"operation": "add_team_member", "team": "t", "user_id": "u", "user_name": "U", "role": "maintainer"},
        {"operation": "add_team_member", "team": "t", "user_id": "v", "user_name": "V"},
        {"operation": "move_team_member", "team": "t", "user_id": "v", "to": 0},
        {"operation": "remove_team_member", "team": "t", "user_id": "u"},
        {"operation": "remove_team", "id": made.teams.records[0]["id"]},
    ):
        made.edit(**edit)
    assert (made.members.records[0]["id"], made.members.records[0]["role"]) == ("u", "admin")
    assert made.teams.records == ({"id": "t", "name": "Renamed"},)
    assert [each["user_id"] for each in made.team_members["t"].records] == ["v"]


def test_an_unknown_edit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown edit 'drop'; there are add_member"):
        make_organization(1, 0, 0).edit("drop")
