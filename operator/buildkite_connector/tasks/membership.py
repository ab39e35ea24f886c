"""Handler of `grant` and `revoke`: read the one membership, decide, write, answer. Nothing is written blindly.

The results are in `outcomes`.
"""

import logging
from dataclasses import replace

from buildkite_connector.model.directory import Membership, Role
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ChangeResult
from buildkite_connector.model.tasks import GrantAnswer, MembershipTask, RevokeAnswer, TaskOutcome
from buildkite_connector.sync.ports import NotFound, WriteRefused
from buildkite_connector.tasks import outcomes
from buildkite_connector.tasks.ports import ChangeGrounds, SessionPorts, TaskProgress
from buildkite_connector.timing.clock import BETWEEN_CALLS, fair_timeout

logger = logging.getLogger(__name__)

CHANGE_SECONDS = 120.0
"""How long one change may take, waits for Buildkite's quota included, before it is handed back to C1."""
MOST_WRITES = 4
"""Writes of one task, each after a reading that shows that it is needed."""

_UNCERTAIN = frozenset({Reason.BUILDKITE_UNREACHABLE, Reason.BUILDKITE_UNAVAILABLE, Reason.BUILDKITE_RESPONSE_INVALID})
"""Failures of a write that may have taken effect."""


async def change_membership(task: MembershipTask, ports: SessionPorts, progress: TaskProgress) -> TaskOutcome:
    """Carry out one grant or revoke, within `CHANGE_SECONDS`, if the policy allows it."""
    try:
        async with fair_timeout(CHANGE_SECONDS):
            grounds, wanted = await ports.changes.grounds(), task.membership
            if grounds is None:
                return outcomes.OFF
            if wanted is None:
                return outcomes.unreadable(task.refusal)
            change = _Change(task, wanted, ports, progress)
            if sentence := refusal_by_role(task, wanted, grounds.policy):  # does not wait for the team's other changes
                return change.refused(sentence)
            async with ports.changes.lock(wanted.team):
                return await change.carry_out()
    except TimeoutError:
        failure = outcomes.took_too_long(CHANGE_SECONDS)
    except Failure as caught:
        failure = caught
    ports.changes.failed(task, failure)
    return outcomes.change_failed(failure)


class _Change:
    """One change, carried out with the lock of its team. `roles`: what was read of the membership, oldest first."""

    def __init__(self, task: MembershipTask, wanted: Membership, ports: SessionPorts, progress: TaskProgress) -> None:
        self._task = task
        self._wanted = wanted
        self._ports = ports
        self._changes = ports.changes
        self._progress = progress
        self._user = task.user_name
        self._roles: list[Role | None] = []
        self._writes = 0
        self._wrote = False

    async def carry_out(self) -> TaskOutcome:
        """Raises Failure."""
        outcome = None
        while outcome is None:  # again where the grounds were edited since they were read
            grounds = await self._changes.grounds()
            if grounds is None:
                return outcomes.OFF
            outcome = await self._refusal(grounds) or await self._change(grounds)
        return outcome

    async def _refusal(self, grounds: ChangeGrounds) -> TaskOutcome | None:
        """The refusal of what the policy does not allow."""
        policy, team = grounds.policy, self._wanted.team
        sentence = refusal_by_role(self._task, self._wanted, policy)
        if not sentence and policy.protected_teams:
            slug = self._changes.protected_slug(team)
            if slug is None:
                slug = await grounds.memberships.team_slug(grounds.organization, team)
                if slug is None and self._task.grants:
                    raise outcomes.team_gone(self._task)
            if slug in policy.protected_teams:
                self._changes.seen_protected(team, slug)
                sentence = refusal_by_team(slug)
        return self.refused(sentence) if sentence else None

    def refused(self, sentence: str) -> TaskOutcome:
        """Record that the policy does not allow the change."""
        self._changes.ended(self._task, ChangeResult.REFUSED, self._user, sentence)
        return outcomes.refused_by_policy(sentence)

    async def _change(self, grounds: ChangeGrounds) -> TaskOutcome | None:
        """Read and write until the membership is as asked for. None: the grounds do not hold any more."""
        while True:
            role = await self._read(grounds)
            if self._is_done(role):
                return await self._done(grounds)
            if self._writes == MOST_WRITES:
                raise Failure(
                    Reason.BUILDKITE_UNAVAILABLE,
                    f"The membership is not as asked for after {MOST_WRITES} tries: Buildkite does not keep what it"
                    " takes, or someone else changes the same membership.",
                )
            if not self._changes.allowed(grounds):
                return None
            if await self._write(grounds, role):
                return await self._done(grounds)

    def _is_done(self, role: Role | None) -> bool:
        """Whether the membership is as asked for. `role`: what the person has in the team now, None for no membership.

        A revoke of one role leaves a membership of the other alone: that one was granted in its place.
        """
        return (role is self._wanted.role) is self._task.grants

    async def _read(self, grounds: ChangeGrounds) -> Role | None:
        wanted = self._wanted
        role = self._seen(await grounds.memberships.membership(grounds.organization, wanted.team, wanted.account))
        self._roles.append(role)
        return role

    def _seen(self, found: Membership | None) -> Role | None:
        if found is None:
            return None
        self._user = found.name or self._user
        return found.role

    async def _write(self, grounds: ChangeGrounds, before: Role | None) -> bool:
        """Send one write. Returns whether its answer shows what was asked for; if not, read again. Raises Failure."""
        self._writes += 1
        memberships, slug, wanted = grounds.memberships, grounds.organization, self._wanted
        role = None
        try:
            with self._changes.writing(wanted.team):
                self._progress.awaits_answer = True
                try:
                    if not self._task.grants:
                        await memberships.remove(slug, wanted)
                    else:
                        send = memberships.create if before is None else memberships.change_role
                        role = self._seen(await send(slug, wanted))
                finally:
                    self._progress.awaits_answer = False
        except NotFound:
            if self._task.grants and await memberships.team_slug(slug, wanted.team) is None:
                raise outcomes.team_gone(self._task) from None
            return False
        except WriteRefused as refused:
            if await self._read(grounds) is before:
                raise outcomes.refused_by_buildkite(self._task, refused.said) from None
            return False
        except Failure as failure:
            if failure.reason not in _UNCERTAIN:
                raise
            self._wrote = True
            fields = {"connector": self._ports.name, "task_id": self._task.id, "error": failure.message}
            logger.warning("a change may have been lost; the membership is read again", extra=fields)
            wait = BETWEEN_CALLS.wait(self._writes, self._ports.jitter.uniform(0.0, 1.0), failure.retry_after)
            await self._ports.clock.sleep(wait)
            return False
        self._wrote = True
        return self._is_done(role)

    async def _done(self, grounds: ChangeGrounds) -> TaskOutcome:
        """Nothing is known of a membership that is not there while the organization is out of reach."""
        wanted, before, already = self._wanted, self._roles[0], not self._wrote
        if not self._task.grants:
            if already and before is None:
                await grounds.memberships.team_slug(grounds.organization, wanted.team)
            self._changes.ended(self._task, ChangeResult.ALREADY if already else ChangeResult.REVOKED, self._user)
            return TaskOutcome(answer=RevokeAnswer(already))
        result, replaced = ChangeResult.GRANTED, None
        if already:
            result = ChangeResult.ALREADY
        elif before is not None:
            result, replaced = ChangeResult.ROLE_CHANGED, replace(wanted, role=before)
        self._changes.ended(self._task, result, self._user)
        return TaskOutcome(answer=GrantAnswer(wanted, already, replaced))


def refusal_by_role(task: MembershipTask, wanted: Membership, policy: Provisioning) -> str:
    """Why the policy does not allow the role, or empty. What was granted before the policy changed can be revoked."""
    if not task.grants or wanted.role in policy.roles:
        return ""
    allowed = " and ".join(policy.roles) or "none"
    return (
        f"The role {wanted.role.value} is not granted by this connector; spec.provisioning.roles allows {allowed}"
        " (in service mode --provisioning-roles)."
    )


def refusal_by_team(slug: str) -> str:
    """Why a protected team is left alone."""
    return (
        f"The team {slug} is protected: spec.provisioning.protectedTeams (in service mode --protected-teams) names it,"
        " and this connector does not change who is in it."
    )
