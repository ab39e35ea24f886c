"""The data that the Buildkite simulator serves: organizations that tests may edit while they are read.

`make_organization` grows organizations of any size; `api` reads all this, `server` serves it.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulators.buildkite.access import Access
from simulators.buildkite.listing import LARGEST_PAGE, Listing

DEFAULT_KINDS = ("user", "team")
"""The resource types that are read where nobody chooses."""


@dataclass
class Organization:
    """One organization, its roster, its teams' rosters, and what else they have access to."""

    id: str
    slug: str
    name: str
    created_at: str = "2015-05-09T21:05:59.874Z"
    members: Listing = field(default_factory=lambda: Listing("id"))
    teams: Listing = field(default_factory=lambda: Listing("id"))
    team_members: dict[str, Listing] = field(default_factory=dict)
    access: Access = field(default_factory=Access)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Organization":
        """From the shape of acme-org.json: organization, members, teams, team_members by team id.

        It may also have pipelines, team_pipelines by team id, clusters, and cluster_maintainers by cluster id.
        """
        rosters = document["team_members"]
        return cls(
            **document["organization"],
            members=Listing("id", document["members"]),
            teams=Listing("id", document["teams"]),
            team_members={team["id"]: Listing("user_id", rosters.get(team["id"], ())) for team in document["teams"]},
            access=Access.from_document(document),
        )

    @classmethod
    def load(cls, path: Path) -> "Organization":
        return cls.from_document(json.loads(path.read_bytes()))

    def document(self) -> dict[str, Any]:
        """The shape that `from_document` reads."""
        return {
            "organization": {
                "id": self.id,
                "slug": self.slug,
                "name": self.name,
                "created_at": self.created_at,
            },
            "members": list(self.members.records),
            "teams": list(self.teams.records),
            "team_members": {team: list(roster.records) for team, roster in self.team_members.items()},
            **self.access.document(),
        }

    @property
    def memberships(self) -> int:
        return sum(len(roster) for roster in self.team_members.values())

    @property
    def minimum_requests(self) -> int:
        """What reading the default kinds takes at 100 a page."""
        return self.requests_at(LARGEST_PAGE)

    def requests_at(self, size: int, kinds: Collection[str] = DEFAULT_KINDS) -> int:
        """The fewest requests that show all of these resource types at so many a page.

        The organization itself costs none: validating the token reads it, and its roles stand in the list of members.
        """
        listings: list[Listing] = []
        if "user" in kinds:
            listings.append(self.members)
        if "team" in kinds:
            listings += [self.teams, *self.team_members.values()]
        return sum(each.requests(size) for each in listings) + self.access.requests_at(size, kinds, self.team_members)

    def members_seen_by(self, user: str) -> Listing:
        """The roster as one sees it who is no admin: with no SSO mode but one's own."""
        return Listing(
            "id",
            [
                {field: value for field, value in record.items() if field != "sso_mode" or record["id"] == user}
                for record in self.members.records
            ],
        )

    def teams_seen_by(self, user: str) -> Listing:
        """The teams as one sees them who is no admin: without the secret ones of others."""
        return Listing("id", [team for team in self.teams.records if self.sees(user, team)])

    def sees(self, user: str, team: Mapping[str, Any]) -> bool:
        """Whether one who is no admin sees the team."""
        roster = self.team_members.get(team["id"])
        return team["privacy"] != "secret" or bool(roster and roster.find(user))

    def prepare(self) -> None:
        """Encodes every page of 100 now, so that the first reader waits no longer than the next."""
        for listing in (self.members, self.teams, *self.team_members.values(), *self.access.listings()):
            for number in range(1, listing.pages(LARGEST_PAGE) + 1):
                listing.page(number, LARGEST_PAGE)

    def add_member(
        self,
        id: str,  # noqa: A002
        name: str,
        email: str,
        at: int | None = None,
        role: str = "member",
        sso_mode: str = "required",
    ) -> None:
        self.members.insert({"id": id, "name": name, "email": email, "role": role, "sso_mode": sso_mode}, at)

    def update_member(self, id: str, changes: Mapping[str, Any]) -> None:  # noqa: A002
        self.members.update(id, changes)

    def remove_member(self, id: str, *, from_teams: bool = True) -> None:  # noqa: A002
        """Takes a member out; with `from_teams=False` the teams and clusters still know them."""
        self.members.remove(id)
        if from_teams:
            self.access.forget(id)
            for roster in self.team_members.values():
                if any(record["user_id"] == id for record in roster.records):
                    roster.remove(id)

    def move_member(self, id: str, to: int) -> None:  # noqa: A002
        self.members.move(id, to)

    def add_team(self, team: Mapping[str, Any], at: int | None = None) -> None:
        self.teams.insert(team, at)
        self.team_members[team["id"]] = Listing("user_id")

    def update_team(self, id: str, changes: Mapping[str, Any]) -> None:  # noqa: A002
        self.teams.update(id, changes)

    def remove_team(self, id: str, *, stays_listed: bool = False) -> None:  # noqa: A002
        """Deletes a team: its members and pipelines answer 404. `stays_listed`: the list still names it."""
        if not stays_listed:
            self.teams.remove(id)
        del self.team_members[id]
        self.access.forget(id)

    def add_team_member(
        self,
        team: str,
        user_id: str,
        user_name: str,
        role: str = "member",
        at: int | None = None,
    ) -> None:
        self.team_members[team].insert(
            {
                "role": role,
                "created_at": "2023-03-14T00:49:55.534Z",
                "user_id": user_id,
                "user_name": user_name,
            },
            at,
        )

    def remove_team_member(self, team: str, user_id: str) -> None:
        self.team_members[team].remove(user_id)

    def move_team_member(self, team: str, user_id: str, to: int) -> None:
        self.team_members[team].move(user_id, to)

    def edit(self, operation: str, **arguments: Any) -> None:
        """One edit by name, as a control message from another process has it."""
        edits: dict[str, Callable[..., None]] = {
            edit.__name__: edit
            for edit in (
                self.add_member,
                self.update_member,
                self.remove_member,
                self.move_member,
                self.add_team,
                self.update_team,
                self.remove_team,
                self.add_team_member,
                self.remove_team_member,
                self.move_team_member,
                self.access.add_pipeline,
                self.access.update_pipeline,
                self.access.remove_pipeline,
                self.access.move_pipeline,
                self.access.add_team_pipeline,
                self.access.update_team_pipeline,
                self.access.remove_team_pipeline,
                self.access.move_team_pipeline,
                self.access.add_cluster,
                self.access.update_cluster,
                self.access.remove_cluster,
                self.access.move_cluster,
                self.access.add_cluster_maintainer,
                self.access.remove_cluster_maintainer,
                self.access.list_cluster_maintainers,
            )
        }
        if operation not in edits:
            raise ValueError(f"unknown edit {operation!r}; there are {', '.join(edits)}")
        edits[operation](**arguments)
