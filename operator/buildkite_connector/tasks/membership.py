"""Handler of `grant` and `revoke`: read the one membership, decide, write, answer. Nothing is written twice blindly."""

import logging

from buildkite_connector.model.directory import Membership, Role
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.provisioning import ChangeResult
from buildkite_connector.model.tasks import MembershipTask, TaskOutcome
from buildkite_connector.sync.ports import NotFound, WriteRefused
from buildkite_connector.tasks import membership_decisions as decisions
from buildkite_connector.tasks.membership_decisions import Step
from buildkite_connector.tasks.ports import ChangeGrounds, MembershipChanges
from buildkite_connector.timing.backoff import BETWEEN_CALLS
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.fair_timeout import fair_timeout

logger = logging.getLogger(__name__)

CHANGE_SECONDS = 120.0
"""How long one change may take, waits for Buildkite's quota included, before it is handed back to C1."""
MOST_WRITES = 4
"""Writes of one task, each after a reading that shows that it is needed."""

_UNCERTAIN = frozenset({Reason.BUILDKITE_UNREACHABLE, Reason.BUILDKITE_UNAVAILABLE, Reason.BUILDKITE_RESPONSE_INVALID})
"""Failures of a write after which nobody knows whether it took effect."""


class _Off(Exception):  # noqa: N818
    """Provisioning is switched off."""


class _Edited(Exception):  # noqa: N818
    """The grounds of the change do not hold any more."""


class MembershipHandler:
    """One grant or revoke task of the connector `name`."""

    heartbeats = False
    uploads = False

    def __init__(
        self, name: str, task: MembershipTask, changes: MembershipChanges, clock: Clock, jitter: Jitter
    ) -> None:
        self._name = name
        self._task = task
        self._changes = changes
        self._clock = clock
        self._jitter = jitter
        self._user = task.user_name
        self._before: Role | None = None
        self._known = False
        self._writes = 0
        self._wrote = False
        self.kind = task.kind
        self.awaits_answer = False
        """A write was sent, and Buildkite's answer is outstanding."""

    async def run(self) -> TaskOutcome:
        try:
            async with fair_timeout(CHANGE_SECONDS):
                return await self._carry_out()
        except _Off:
            return decisions.OFF
        except TimeoutError:
            failure = decisions.took_too_long(CHANGE_SECONDS)
        except Failure as caught:
            failure = caught
        self._changes.failed(self._task, failure)
        return decisions.failed(failure)

    def accepted(self) -> None:
        """What was changed is recorded when it is changed, whether C1 takes the task's end or not."""

    def refused(self) -> bool:
        return False

    async def _carry_out(self) -> TaskOutcome:
        grounds, wanted = await self._grounds(), self._task.membership
        if wanted is None:
            return decisions.unreadable(self._task.refusal)
        refusal = decisions.refusal_by_role(self._task, wanted, grounds.policy)
        if refusal:
            return self._refuse(refusal)
        async with self._changes.turn(wanted.team):
            while True:
                grounds = await self._grounds()  # it may have waited
                try:
                    return await self._allowed(grounds, wanted) or await self._change(grounds, wanted)
                except _Edited:
                    continue  # with what holds now

    async def _grounds(self) -> ChangeGrounds:
        grounds = await self._changes.grounds()
        if grounds is None:
            raise _Off
        return grounds

    async def _allowed(self, grounds: ChangeGrounds, wanted: Membership) -> TaskOutcome | None:
        """The refusal of what the policy does not allow."""
        policy = grounds.policy
        refusal = decisions.refusal_by_role(self._task, wanted, policy)
        if not refusal and policy.protected_teams:
            slug = self._changes.protected_slug(wanted.team)
            if slug is None:
                slug = await grounds.memberships.team_slug(grounds.organization, wanted.team)
                if slug is None and self._task.grants:
                    raise decisions.team_gone(self._task)
            if slug in policy.protected_teams:
                self._changes.seen_protected(wanted.team, slug)
                refusal = decisions.refusal_by_team(slug)
        return self._refuse(refusal) if refusal else None

    async def _change(self, grounds: ChangeGrounds, wanted: Membership) -> TaskOutcome:
        while self._writes <= MOST_WRITES:
            step = await self._read(grounds, wanted)
            if step is Step.DONE:
                return await self._done(grounds, wanted)
            if self._writes == MOST_WRITES:
                break
            if await self._write(grounds, wanted, step):
                return await self._done(grounds, wanted)
        raise Failure(
            Reason.BUILDKITE_UNAVAILABLE,
            f"The membership is not as asked for after {MOST_WRITES} tries: Buildkite does not keep what it takes, or"
            " somebody else changes the same membership.",
        )

    async def _read(self, grounds: ChangeGrounds, wanted: Membership) -> Step:
        found = await grounds.memberships.membership(grounds.organization, wanted.team, wanted.account)
        role = self._see(found)
        if not self._known:
            self._before, self._known = role, True
        return decisions.next_step(self._task, wanted, role)

    def _see(self, found: Membership | None) -> Role | None:
        if found is None:
            return None
        self._user = found.name or self._user
        return found.role

    async def _done(self, grounds: ChangeGrounds, wanted: Membership) -> TaskOutcome:
        """Nothing is known of a membership that is not there while the organization is out of reach."""
        result = decisions.result_of(self._task, wanted, self._before, wrote=self._wrote)
        if not self._task.grants and not self._wrote and self._before is None:
            await grounds.memberships.team_slug(grounds.organization, wanted.team)
        self._changes.ended(self._task, result, self._user)
        return decisions.success(self._task, wanted, self._before, result)

    async def _write(self, grounds: ChangeGrounds, wanted: Membership, step: Step) -> bool:
        """Send one write; whether its answer shows what was asked for. If not, the membership is to be read again."""
        if not self._changes.allowed(grounds):
            raise _Edited
        self._writes += 1
        try:
            confirmed = await self._send(grounds, wanted, step)
        except NotFound:
            if self._task.grants and await grounds.memberships.team_slug(grounds.organization, wanted.team) is None:
                raise decisions.team_gone(self._task) from None
            return False
        except WriteRefused as refused:
            if await self._read(grounds, wanted) is step:
                raise decisions.refused_by_buildkite(self._task, refused.said) from None
            return False
        except Failure as failure:
            if failure.reason not in _UNCERTAIN:
                raise
            self._wrote = True
            fields = {"connector": self._name, "task_id": self._task.id, "error": failure.message}
            logger.warning("a change may have been lost; the membership is read again", extra=fields)
            await self._clock.sleep(BETWEEN_CALLS.wait(self._writes, self._jitter, failure.retry_after))
            return False
        self._wrote = True
        return confirmed

    async def _send(self, grounds: ChangeGrounds, wanted: Membership, step: Step) -> bool:
        memberships, slug = grounds.memberships, grounds.organization
        with self._changes.writing(wanted.team):
            self.awaits_answer = True
            try:
                match step:
                    case Step.CREATE:
                        role = self._see(await memberships.create(slug, wanted))
                    case Step.CHANGE_ROLE:
                        role = self._see(await memberships.change_role(slug, wanted))
                    case _:
                        await memberships.remove(slug, wanted)
                        return True
            finally:
                self.awaits_answer = False
        return role is wanted.role

    def _refuse(self, sentence: str) -> TaskOutcome:
        self._changes.ended(self._task, ChangeResult.REFUSED, self._user, sentence)
        return decisions.refused_by_policy(sentence)
