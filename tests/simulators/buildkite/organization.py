"""The data that the Buildkite simulator serves: organizations that tests may edit while they are read.

A `Listing` keeps its records in the order in which Buildkite would page through them, and the pages
as the bytes that go out, so that serving one costs a dictionary look-up. `make_organization` grows
organizations of any size; `api` reads all this, `server` serves it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""One JSON object of a listing, exactly as it is served."""


LARGEST_PAGE = 100
"""The API's maximum for per_page."""


def encode(value: object) -> bytes:
    """JSON as the API sends it: UTF-8, no needless blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Listing:
    """Records in page order, found by the value of one key field; edits take effect on the next page read."""

    def __init__(self, key: str, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self._key = key
        self._records: list[Record] = [dict(record) for record in records]
        self._pages: dict[tuple[int, int], bytes] = {}

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> Sequence[Record]:
        """The records to look at; edit them through the methods."""
        return tuple(self._records)

    def page(self, number: int, size: int) -> bytes:
        """The JSON list of page `number` (from 1); an empty list beyond the last."""
        found = self._pages.get((number, size))
        if found is None:
            start = (number - 1) * size
            found = self._pages[number, size] = encode(self._records[start : start + size])
        return found

    def find(self, key: str) -> Record | None:
        """The first record of that key."""
        return next((record for record in self._records if record.get(self._key) == key), None)

    def requests(self, size: int) -> int:
        """How many requests show all of it: at least one, and one more where the only page is full, as no link says
        that nothing follows."""
        return max(1, self.pages(size)) + (len(self._records) == size)

    def pages(self, size: int) -> int:
        """How many pages of `size` there are; 0 when the listing is empty."""
        return ceil(len(self._records) / size)

    def insert(self, record: Mapping[str, Any], at: int | None = None) -> None:
        """Adds a record before index `at`, at the end by default. The same key may come twice."""
        self._records.insert(len(self._records) if at is None else at, dict(record))
        self._pages.clear()

    def remove(self, key: str) -> Record:
        """Takes the first record of that key out. Raises KeyError when there is none."""
        index = self._index(key)
        self._pages.clear()
        return self._records.pop(index)

    def move(self, key: str, to: int) -> None:
        """Puts a record at another index, as a roster does that is read while it changes."""
        self.insert(self.remove(key), to)

    def update(self, key: str, changes: Mapping[str, Any]) -> None:
        """Overwrites fields of the first record of that key."""
        self._records[self._index(key)].update(changes)
        self._pages.clear()

    def _index(self, key: str) -> int:
        for index, record in enumerate(self._records):
            if record.get(self._key) == key:
                return index
        raise KeyError(key)


@dataclass
class Organization:
    """One organization, its roster and its teams' rosters."""

    id: str
    slug: str
    name: str
    created_at: str = "2015-05-09T21:05:59.874Z"
    members: Listing = field(default_factory=lambda: Listing("id"))
    teams: Listing = field(default_factory=lambda: Listing("id"))
    team_members: dict[str, Listing] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Organization":
        """From the shape of acme-org.json: organization, members, teams, team_members by team id."""
        rosters = document["team_members"]
        return cls(
            **document["organization"],
            members=Listing("id", document["members"]),
            teams=Listing("id", document["teams"]),
            team_members={team["id"]: Listing("user_id", rosters.get(team["id"], ())) for team in document["teams"]},
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
        }

    @property
    def memberships(self) -> int:
        return sum(len(roster) for roster in self.team_members.values())

    @property
    def minimum_requests(self) -> int:
        """What reading all of it takes at 100 a page."""
        return self.requests_at(LARGEST_PAGE)

    def requests_at(self, size: int) -> int:
        """The fewest requests that show all of it at so many a page."""
        return sum(listing.requests(size) for listing in (self.members, self.teams, *self.team_members.values()))

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
        return bool(team["privacy"] != "secret" or self.team_members[team["id"]].find(user))

    def prepare(self) -> None:
        """Encodes every page of 100 now, so that the first reader waits no longer than the next."""
        for listing in (self.members, self.teams, *self.team_members.values()):
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
        """Takes a member out; with `from_teams=False` the teams still know them."""
        self.members.remove(id)
        if from_teams:
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
        """Deletes a team: its members answer 404. `stays_listed`: the list still names it."""
        if not stays_listed:
            self.teams.remove(id)
        del self.team_members[id]

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
            )
        }
        if operation not in edits:
            raise ValueError(f"unknown edit {operation!r}; there are {', '.join(edits)}")
        edits[operation](**arguments)
