"""The changes of memberships that C1's tasks make through one connector: when they may, and what is known of them."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from weakref import WeakValueDictionary

from buildkite_connector.connector import transitions
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.sight import hold_protected, protected_teams
from buildkite_connector.connector.state import ConnectorState, TeamChanges, blocked_writing
from buildkite_connector.model.directory import TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Work
from buildkite_connector.model.spec import Credentials
from buildkite_connector.model.status import ChangeAction, ChangeRecord, ChangeResult, shown_name
from buildkite_connector.model.tasks import MembershipTask
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.sync.preflight import WRITING_SCOPES
from buildkite_connector.tasks.ports import ChangeGrounds
from buildkite_connector.timing.clock import Instant

logger = logging.getLogger(__name__)

Apply = Callable[[Callable[[ConnectorState, Instant], ConnectorState]], None]

CHECK_SECONDS = 15.0
"""How long a change waits for a check of the credentials that is under way."""


class Memberships:
    """`tasks.ports.MembershipChanges` of one connector. `apply` changes its state, `state` reads it."""

    def __init__(self, name: str, environment: Environment, apply: Apply, state: Callable[[], ConnectorState]) -> None:
        self._name = name
        self._env = environment
        self._apply = apply
        self._state = state
        self._locks: WeakValueDictionary[TeamID, asyncio.Lock] = WeakValueDictionary()
        self._api: tuple[Credentials, BuildkiteAPI] | None = None
        self._news = asyncio.Event()

    def state_changed(self) -> None:
        """Wake every coroutine that waits for a change of the state."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    # What a task asks
    def lock(self, team: TeamID) -> asyncio.Lock:
        return self._locks.setdefault(team, asyncio.Lock())

    async def grounds(self) -> ChangeGrounds | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                while (blocked := self._blocked()) is not None and blocked.reason is Reason.PENDING:
                    await self._news.wait()
        if (blocked := self._blocked()) is not None:
            raise blocked.without_traceback()
        return self._grounds_now()

    def allowed(self, grounds: ChangeGrounds) -> bool:
        return blocked_writing(self._state()) is None and self._grounds_now() == grounds

    def protected_slug(self, team: TeamID) -> str | None:
        return next((each.slug for each in protected_teams(self._state()) if each.id == team), None)

    def seen_protected(self, team: TeamID, slug: str) -> None:
        self._apply(lambda state, _: hold_protected(state, team, slug))

    @contextmanager
    def writing(self, team: TeamID) -> Iterator[None]:
        self._apply(lambda state, _: replace(state, changes=state.changes.begun()))
        try:
            yield
        finally:
            self._apply(lambda state, _: replace(state, changes=state.changes.ended(team)))

    def ended(self, task: MembershipTask, result: ChangeResult, user_name: str, reason: str = "") -> None:
        self._log(task, result.value, reason)
        wanted = task.membership
        if result is ChangeResult.ALREADY or wanted is None:
            return
        change = ChangeRecord(
            self._env.clock.now(),
            ChangeAction(task.kind),
            shown_name(task.team_name, wanted.team),
            wanted.role,
            shown_name(user_name, wanted.account),
            task.id,
            result,
            reason,
        )
        self._apply(lambda state, _: transitions.change_recorded(state, change))

    def failed(self, task: MembershipTask, failure: Failure) -> None:
        self._log(task, failure.reason.value, failure.message)
        self._apply(lambda state, now: transitions.change_failed(state, failure, now))

    async def settled(self) -> TeamChanges:
        """Wait until no write is under way, as a sync does before it seals its snapshot; the changes at that moment."""
        while self._state().changes.writing:
            await self._news.wait()
        return self._state().changes

    def _blocked(self) -> Failure | None:
        desired = self._state().desired
        enabled = desired.spec.provisioning.enabled or desired.spec_error is not None
        return blocked_writing(self._state()) if enabled else None

    def _grounds_now(self) -> ChangeGrounds | None:
        """Of a connector that is not blocked."""
        state = self._state()
        if not state.desired.spec.provisioning.enabled:
            return None
        preflight, credentials = state.check.preflight, state.check.credentials
        if preflight is None or credentials is None:
            raise RuntimeError("a connector that is not blocked was checked")
        if self._api is None or self._api[0] != credentials:
            credential = credentials.for_writing(preflight.organization.slug, WRITING_SCOPES)
            self._api = (credentials, self._env.buildkite(credential, credentials.redactor, urgent=True))
        return ChangeGrounds(preflight.organization.slug, self._api[1], state.desired.spec.provisioning)

    def _log(self, task: MembershipTask, result: str, reason: str) -> None:
        """One line fit for an audit: who is in which team through which task."""
        facts = {"connector": self._name, "task_id": task.id, "action": task.kind, "result": result}
        with self._env.observer.operation(
            Work.CHANGE, connector=self._name, task_id=task.id, action=task.kind
        ) as operation:
            operation.tell(result=result)
        if task.membership is not None:
            facts |= {
                "team": task.membership.team,
                "team_name": shown_name(task.team_name, task.membership.team),
                "role": task.membership.role.value,
                "user": task.membership.account,
            }
        well = result in set(ChangeResult)
        logger.log(
            logging.INFO if well else logging.WARNING,
            "membership task done" if well else "membership task failed",
            extra={**facts, **({"reason": reason} if reason else {})},
        )
