"""Every request that would change something, for tests: what it asked for and what it did to the membership it names.

Other than the transcript it is never reset: a simulator that ends tells of the writes that nobody declared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulators.buildkite.api import Call
from simulators.buildkite.memberships import Asked, find
from simulators.buildkite.organization import Organization

UNDECLARED_WRITES = 3
"""How the simulator's command ends when something wrote and it was not told to expect that."""

READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Write:
    """One request, in order of arrival. `role`: as asked for. `before`, `after`: the user's role in the team or None.

    `status`: the API's own, None when a fault kept the request from it; the client may have got another. `token`: its
    description, empty when none was accepted.
    """

    method: str
    path: str
    organization: str
    team: str
    user: str
    role: str
    before: str | None
    after: str | None
    status: int | None
    at: float
    token: str = ""

    @property
    def effective(self) -> bool:
        return self.before != self.after


class UndeclaredWritesError(AssertionError):
    """Something wrote to a simulator of which no test said that it may be written to."""


@dataclass(slots=True)
class WriteJournal:
    """A write that nobody declared fails the test as the simulator ends.

    `expected`: any write is; `expected_of`: those by the tokens of these descriptions are.
    """

    organizations: Mapping[str, Organization]
    expected: bool = False
    expected_of: set[str] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)

    def role(self, call: Call) -> str | None:
        """The role that the membership which the call names has now."""
        asked = Asked.read(call.path, call.body)
        organization = self.organizations.get(asked.organization) if asked else None
        roster = organization.team_members.get(asked.team) if asked and organization else None
        found = find(roster, asked.user) if asked and roster else None
        return str(found["role"]) if found else None

    def record(self, call: Call, before: str | None, status: int | None, at: float, token: str) -> None:
        """Notes a call that is no reading one, once it took effect."""
        if call.method in READING:
            return
        asked = Asked.read(call.path, call.body) or Asked("", "")
        self.writes.append(
            Write(
                call.method,
                call.path,
                asked.organization,
                asked.team,
                asked.user,
                asked.role,
                before,
                self.role(call),
                status,
                at,
                token,
            )
        )

    def check(self) -> None:
        """Raises UndeclaredWritesError when there were writes that nobody expected."""
        stray = [each for each in self.writes if not self.expected and each.token not in self.expected_of]
        if stray:
            told = "; ".join(f"{each.method} {each.path}" for each in stray)
            raise UndeclaredWritesError(f"no test declared that Buildkite may be written to, but: {told}")
