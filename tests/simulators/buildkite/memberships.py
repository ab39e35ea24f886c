"""Team memberships, one at a time: read, made, changed and removed as Buildkite's REST API does it, without I/O.

The rules are those of facts/provisioning.md. Its documentation names only 422 with a text for what it refuses; the
texts here are Rails' usual ones and nothing may depend on them. `api` checks token, scope and organization before.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from simulators.buildkite.listing import Listing, Record
from simulators.buildkite.organization import Organization

WRITES = frozenset({("POST", False), ("PATCH", True), ("DELETE", True)})
"""Each method that writes a membership, and whether its path names the user."""

ROLES = ("member", "maintainer")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A status and the JSON that goes with it; None for no body."""

    status: int
    payload: object = None


NO_MEMBERSHIP = Outcome(404, {"message": "No team member found"})
FORBIDDEN = Outcome(403, {"message": "Forbidden"})
NOT_JSON = Outcome(400, {"message": "Problems parsing JSON"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of a membership: `user` and `role` are empty where it names none."""

    organization: str
    team: str
    user: str = ""
    role: str = ""

    @classmethod
    def read(cls, path: str, body: bytes) -> "Asked | None":
        """From path and body of any request; None when the path leads to no team's members."""
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["v2", "organizations", slug, "teams", team, "members", *users] if len(users) < 2:
                told = _json_object(body) or {}
                user = users[0] if users else str(told.get("user_id", ""))
                return cls(slug, team, user, str(told.get("role", "")))
        return None


def read_membership(roster: Listing, user: str) -> Outcome:
    found = find(roster, user)
    return Outcome(200, found) if found else NO_MEMBERSHIP


def find(roster: Listing, user: str) -> Record | None:
    return next((record for record in roster.records if record["user_id"] == user), None)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: an organization's admin any team, another only the teams that they maintain."""

    user: str
    admin: bool

    def may_write(self, roster: Listing) -> bool:
        own = find(roster, self.user)
        return self.admin or (own is not None and own["role"] == "maintainer")


@dataclass(frozen=True, slots=True)
class Change:
    """One write to the roster of one team. `last_maintainer_stays`: a team with maintainers keeps one."""

    organization: Organization
    roster: Listing
    now: datetime
    last_maintainer_stays: bool

    def make(self, method: str, user: str, body: bytes) -> Outcome:
        """Carries it out. `user` from the path is empty for POST, whose body names them."""
        told = _json_object(body)
        if method != "DELETE" and told is None:
            return NOT_JSON
        match method:
            case "POST":
                return self._create(told or {})
            case "PATCH":
                return self._update(user, told or {})
        return self._delete(user)

    def _create(self, told: Mapping[str, Any]) -> Outcome:
        user, role = told.get("user_id"), told.get("role")
        person = next((each for each in self.organization.members.records if each["id"] == user), None)
        if not user:
            return _invalid("User can't be blank")
        if person is None:
            return _invalid("User must be a member of the organization")
        if role not in ROLES:
            return _invalid("Role is not included in the list")
        if find(self.roster, person["id"]):
            return _invalid("User has already been taken")
        made = f"{self.now.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{self.now.microsecond // 1000:03}Z"
        self.roster.insert({"role": role, "created_at": made, "user_id": user, "user_name": person["name"]})
        return Outcome(201, find(self.roster, person["id"]))

    def _update(self, user: str, told: Mapping[str, Any]) -> Outcome:
        found = find(self.roster, user)
        role = told.get("role")
        if found is None:
            return NO_MEMBERSHIP
        if role not in ROLES:
            return _invalid("Role is not included in the list")
        if role != "maintainer" and self._keeps(found):
            return _invalid("Team must have at least one maintainer")
        self.roster.update(user, {"role": role})
        return Outcome(200, find(self.roster, user))

    def _delete(self, user: str) -> Outcome:
        found = find(self.roster, user)
        if found is None:
            return NO_MEMBERSHIP
        if self._keeps(found):
            return Outcome(422, {"message": "The last maintainer of a team can't be removed"})
        self.roster.remove(user)
        return Outcome(204)

    def _keeps(self, found: Record) -> bool:
        maintainers = [each["user_id"] for each in self.roster.records if each["role"] == "maintainer"]
        return self.last_maintainer_stays and maintainers == [found["user_id"]]


def _invalid(reason: str) -> Outcome:
    return Outcome(422, {"message": f"Validation failed: {reason}"})


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
