"""What a sync sees beside what it delivers: how much the token's owner may see, and which teams have protected slugs.

Pure. Somebody who is no administrator of the organization sees no secret team that they are not in: when the owner of
the API token loses the role, those teams vanish from the lists without an error, and C1 would take them for gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.model.directory import Directory, TeamID, TokenFacts
from buildkite_connector.model.status import ProtectedTeam, ProvisioningRecord, TokenAccess
from buildkite_connector.model.words import TokenWords, capital
from buildkite_connector.sync.preflight import owner_is_administrator

SECRET = "secret"  # noqa: S105
"""A team's `privacy` that hides it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """`administrator`: whether the token's owner is one, None where no answer says. `slugs`: of all teams."""

    administrator: bool | None = None
    secret_teams: int = 0
    slugs: Mapping[TeamID, str] = field(default_factory=dict)


def sight_of(directory: Directory, token: TokenFacts) -> Sight:
    return Sight(
        owner_is_administrator(directory.accounts, token),
        sum(team.privacy == SECRET for team in directory.teams),
        {team.id: team.slug for team in directory.teams},
    )


def seen(state: ConnectorState, sight: Sight) -> ConnectorState:
    """A sync of the desired state has ended; its scope decides what it can have seen."""
    scope, records = state.desired.scope, state.records
    access = _access(records.token.access, sight) if scope.wants_teams else None
    state = replace(state, records=replace(records, token=replace(records.token, access=access)))
    return _protected(state, sight.slugs) if scope.wants_teams else state


def sees_less(access: TokenAccess | None, words: TokenWords) -> str | None:
    """The warning about a token that sees less than an administrator's, or than it did before; None: there is none."""
    if access is None:
        return None
    lost = access.secret_teams_before - access.secret_teams
    less = f" It sees {lost} secret teams fewer than before." if lost > 0 else ""
    if access.administrator is False:
        return (
            f"{capital(words.owner)} is not an administrator of the organization: the secret teams to which"
            f" {words.they} does not belong are hidden.{less} C1 treats a missing team as deleted. Make {words.they} an"
            f" administrator, or {words.instead}."
        )
    if not less:
        return None
    return (
        f"The token for Buildkite sees less than before.{less} If they were not deleted or made visible, {words.owner}"
        f" may have lost the administrator role, and C1 treats those teams as deleted: {words.instead}."
    )


def unprotected(state: ConnectorState) -> str | None:
    """The warning about protected slugs that no team has, once a sync of this spec has seen the teams; None: none."""
    policy = state.desired.spec.provisioning
    current = state.collected_for is not None and state.collected_for.generation == state.desired.generation
    if not current or not state.desired.scope.wants_teams:
        return None
    held = protected_teams(state)
    told = []
    for slug in policy.protected_teams:
        teams = [each for each in held if each.slug == slug]
        renamed = [each.slug_now for each in teams if each.slug_now]
        if not teams:
            told.append(f"no team has the slug {slug}, so it protects nothing")
        elif slug not in renamed:
            what = f"has the slug {renamed[0]} now" if renamed else "is no longer listed"
            told.append(f"the team that had the slug {slug} {what}, and stays protected")
    if not told:
        return None
    return f"Check spec.provisioning.protectedTeams: {'; '.join(told)}."


def protected_teams(state: ConnectorState) -> tuple[ProtectedTeam, ...]:
    """Those that are known by id, of the slugs that the spec names."""
    record, wanted = state.records.provisioning, state.desired.spec.provisioning.protected_teams
    return tuple(each for each in record.protected_teams if each.slug in wanted) if record is not None else ()


def hold_protected(state: ConnectorState, team: TeamID, slug: str) -> ConnectorState:
    """This team has a protected slug now."""
    held = protected_teams(state)
    if any((each.slug, each.id) == (slug, team) for each in held):
        return state
    return _held(state, (*held, ProtectedTeam(slug, team, slug)))


def _protected(state: ConnectorState, slugs: Mapping[TeamID, str]) -> ConnectorState:
    """A team keeps its protection under another slug, and while it is not listed, unless another took its slug."""
    wanted = set(state.desired.spec.provisioning.protected_teams)
    now = [ProtectedTeam(slug, team, slug) for team, slug in slugs.items() if slug in wanted]
    taken = {each.slug for each in now}
    kept = [
        replace(each, slug_now=slugs.get(each.id, ""))
        for each in protected_teams(state)
        if slugs.get(each.id) != each.slug and (each.id in slugs or each.slug not in taken)
    ]
    return _held(state, (*now, *kept))


def _held(state: ConnectorState, held: tuple[ProtectedTeam, ...]) -> ConnectorState:
    record = state.records.provisioning or ProvisioningRecord(0, 0, 0)
    if held == record.protected_teams:
        return state
    return replace(state, records=replace(state.records, provisioning=replace(record, protected_teams=held)))


def _access(before: TokenAccess | None, sight: Sight) -> TokenAccess:
    """Fewer than half of the secret teams seen before are a loss, until they are seen again, or an administrator says
    that they are not there; with the owner's role lost, any number is."""
    number, known = sight.secret_teams, 0
    if before is not None and sight.administrator is not True:
        known = max(before.secret_teams_before, before.secret_teams)
    demoted = before is not None and before.administrator is True and sight.administrator is False
    lost = known if known > number and (demoted or 2 * number < known or _lost_before(before)) else 0
    return TokenAccess(sight.administrator, number, lost)


def _lost_before(access: TokenAccess | None) -> bool:
    return access is not None and access.secret_teams_before > 0 and access.administrator is False
