"""Which teams were changed through this connector, and up to where the staged snapshot shows it. Pure."""

from dataclasses import dataclass, replace

from buildkite_connector.model.directory import TeamID


@dataclass(frozen=True, slots=True)
class TeamChanges:
    """`number` counts the writes that ended: each may have taken effect at any moment since it was sent.

    `teams` has the newest number of each team that was changed since the sync under way began; `writing` is how many
    writes are under way. `covered`: the number up to which the staged snapshot shows all changes.
    """

    number: int = 0
    teams: tuple[tuple[TeamID, int], ...] = ()
    writing: int = 0
    covered: int = 0

    @property
    def sent(self) -> bool:
        """Whether this process has sent a write."""
        return self.writing > 0 or self.number > 0

    @property
    def contradict(self) -> bool:
        """Whether the staged snapshot may differ from what was changed since it was taken."""
        return self.writing > 0 or self.number > self.covered

    def since(self, number: int) -> frozenset[TeamID]:
        """The teams that were changed after this number."""
        return frozenset(team for team, changed in self.teams if changed > number)

    def begun(self) -> "TeamChanges":
        """A write is about to be sent."""
        return replace(self, writing=self.writing + 1)

    def ended(self, team: TeamID) -> "TeamChanges":
        """It was answered, or nobody knows whether it took effect."""
        number = self.number + 1
        others = tuple(each for each in self.teams if each[0] != team)
        return replace(self, number=number, teams=(*others, (team, number)), writing=self.writing - 1)

    def forgotten(self) -> "TeamChanges":
        """A sync begins: it reads each team later than all that was changed before."""
        return replace(self, teams=())
