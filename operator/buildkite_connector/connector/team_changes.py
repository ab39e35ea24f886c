"""Which teams were changed through this connector, and up to where the staged snapshot shows it. Pure."""

from dataclasses import dataclass, replace

from buildkite_connector.model.directory import TeamID


@dataclass(frozen=True, slots=True)
class TeamChanges:
    """`number` counts the moments between which a write may take effect: its begin, and its end.

    `teams` has the newest number of each team that was changed since the sync under way began; `writing` is how many
    writes are under way. `covered`: the number up to which the staged snapshot shows all changes.
    """

    number: int = 0
    teams: tuple[tuple[TeamID, int], ...] = ()
    writing: int = 0
    covered: int = 0

    @property
    def contradict(self) -> bool:
        """Whether the staged snapshot may differ from what was changed since it was taken."""
        return self.writing > 0 or self.number > self.covered

    def since(self, number: int) -> frozenset[TeamID]:
        """The teams that were changed after this number."""
        return frozenset(team for team, changed in self.teams if changed > number)

    def begun(self, team: TeamID) -> "TeamChanges":
        """A write is about to be sent."""
        return replace(self._changed(team), writing=self.writing + 1)

    def ended(self, team: TeamID) -> "TeamChanges":
        """It was answered, or nobody knows; it may have taken effect at any moment since it was sent."""
        return replace(self._changed(team), writing=self.writing - 1)

    def forgotten(self) -> "TeamChanges":
        """A sync begins: it reads each team later than all that was changed before, but for writes under way."""
        return self if self.writing else replace(self, teams=())

    def _changed(self, team: TeamID) -> "TeamChanges":
        number = self.number + 1
        others = tuple(each for each in self.teams if each[0] != team)
        return replace(self, number=number, teams=(*others, (team, number)))
