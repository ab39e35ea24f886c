"""Whether a connector can work at all: its spec, its Secret, Buildkite's token and C1's client.

Checked before the first sync, on each change, and again from time to time while something is wrong. A check that
succeeds leaves what a sync needs: the source, the organization and an open conversation with C1.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from buildkite_connector.connector.desired import Order, Tools
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.schedule import check_schedule
from buildkite_connector.model.spec import Credentials
from buildkite_connector.sync.ports import Source
from buildkite_connector.sync.preflight import Preflight, ScopesMissing
from buildkite_connector.tasks.poller import Conversation, Deliveries
from buildkite_connector.timing.backoff import BETWEEN_SYNCS

logger = logging.getLogger(__name__)

SECRET_CHECK_SECONDS = 50.0
"""How often an idle connector's Secret is read again."""
UNWELL_SECRET_CHECK_SECONDS = 10.0
"""The same while its credentials do not work: somebody is likely mending them."""
RECHECK_SECONDS = 300.0
"""How often credentials that do not work are tried again although the Secret is the same."""
GREETING_SECONDS = 10.0
"""How long a check waits for C1's answer to Hello; the conversation has more patience."""
SLOW_SECONDS = 2.0
"""A check that takes longer is told while it runs."""


class Fitness:
    """The state of these checks. `problem` stops syncs; `c1_failure` (C1 out of reach) does not."""

    def __init__(
        self,
        name: str,
        tools: Tools,
        deliveries: Deliveries,
        tell_slow: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._tools = tools
        self._deliveries = deliveries
        self._tell_slow = tell_slow
        self._unchecked = True
        self._check_at = tools.clock.monotonic()
        self._recheck_at = 0.0
        self._failures = 0
        self._fingerprint: bytes | None = None
        self._conversation: Conversation | None = None
        self._spoken_as: tuple[str, str, str] | None = None
        self._source: Source | None = None
        self.preflight: Preflight | None = None
        self.missing_scopes: tuple[str, ...] = ()
        self.problem: Failure | None = None
        self.c1_failure: Failure | None = None

    @property
    def is_fit(self) -> bool:
        return self.preflight is not None and self.problem is None and not self._unchecked

    @property
    def client_accepted(self) -> bool:
        return self._conversation is not None and self._conversation.greeted

    @property
    def check_at(self) -> float:
        """Monotonic seconds at which `check` has something to do again."""
        return self._check_at

    def source(self) -> tuple[Source, Preflight]:
        """What a sync works with; only while fit."""
        if self._source is None or self.preflight is None:
            raise RuntimeError("a sync needs a successful check first")
        return self._source, self.preflight

    def expire(self) -> None:
        """The spec changed: what was checked counts no more."""
        self._unchecked = True

    def unfit(self, failure: Failure) -> None:
        """Syncs stop until a check succeeds."""
        self.problem = failure.without_traceback()
        self._failures += 1
        wait = RECHECK_SECONDS
        if failure.remedy is Remedy.RETRY:
            wait = BETWEEN_SYNCS.wait(self._failures, self._tools.jitter, failure.retry_after)
        now = self._tools.clock.monotonic()
        self._recheck_at = now + wait
        self._check_at = now + min(wait, UNWELL_SECRET_CHECK_SECONDS)

    def c1_changed(self, failure: Failure | None) -> bool:
        """What a conversation found; whether that is news."""
        if failure is None and self.c1_failure is None:
            return False
        if failure is not None and failure.remedy is not Remedy.RETRY:
            self.unfit(failure)
        elif failure is None or self.c1_failure is None or failure.reason is not self.c1_failure.reason:
            self.c1_failure = failure and failure.without_traceback()
        else:
            return False
        return True

    async def check(self, order: Order) -> bool:
        """Read the Secret again, and check all when there is a reason to.

        Gives whether the Secret's content changed since the check before.
        """
        clock = self._tools.clock
        try:
            if order.problem is not None:
                raise order.problem.without_traceback()
            check_schedule(order.spec.schedule)
            credentials = await order.vault.read()
        except Failure as failure:
            if failure.remedy is Remedy.RETRY and self.is_fit:
                logger.warning(
                    "the Secret could not be read again",
                    extra={"connector": self._name, "error": failure.message},
                )
            else:
                self.preflight = None
                self._unchecked = True
                self.unfit(failure)
                if failure.remedy is not Remedy.RETRY:
                    await self.hang_up()  # a Secret that was taken away is not used any more
            self._check_at = clock.monotonic() + UNWELL_SECRET_CHECK_SECONDS
            return False
        fingerprint = credentials.fingerprint()
        changed = self._fingerprint not in (None, fingerprint)
        self._unchecked = self._unchecked or fingerprint != self._fingerprint
        self._fingerprint = fingerprint
        if self._unchecked or (not self.is_fit and clock.monotonic() >= self._recheck_at):
            await self._check_all(credentials, order)
        self._check_at = self._next_check()
        return changed

    async def hang_up(self) -> None:
        """Close the conversation with C1; a task in hand goes back."""
        if (conversation := self._conversation) is not None:
            await self._tools.scheduler.remove(conversation)
            self._conversation = None
            await conversation.aclose()

    async def _check_all(self, credentials: Credentials, order: Order) -> None:
        self._unchecked = False
        before = self.problem
        checks = [
            asyncio.create_task(self._check_c1(credentials, order)),
            asyncio.create_task(self._check_buildkite(credentials, order)),
        ]
        try:
            _, slow = await asyncio.wait(checks, timeout=SLOW_SECONDS)
            if slow:
                await self._tell_slow()
            outcomes = await asyncio.gather(*checks, return_exceptions=True)
        finally:
            for check in checks:
                check.cancel()
            await asyncio.wait(checks)
        if self._conversation is not None and self._spoken_as is not None:
            self._tools.scheduler.add(self._conversation)  # not before: what it tells needs both answers
        if self.problem is before:  # else the conversation found one meanwhile
            self.problem = None
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                self.unfit(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
        if self.problem is None:
            self._failures = 0

    async def _check_buildkite(self, credentials: Credentials, order: Order) -> None:
        spec = order.spec
        source = self._tools.services.source(credentials, spec)
        try:
            async with self._tools.check_slots:
                self.preflight = await source.preflight(spec.organization or credentials.organization, spec.kinds)
        except Failure as failure:
            self.preflight = None
            self.missing_scopes = failure.missing if isinstance(failure, ScopesMissing) else self.missing_scopes
            raise
        self._source, self.missing_scopes = source, ()

    async def _check_c1(self, credentials: Credentials, order: Order) -> None:
        """Open the conversation unless one goes on. C1 out of reach is no reason not to sync: it tries again."""
        speaker = (credentials.client_id, credentials.client_secret, order.spec.host_id)
        if self._conversation is not None and self._conversation.due() is not None and speaker == self._spoken_as:
            return
        tools = self._tools
        await self.hang_up()
        service = tools.services.task_service(credentials, order.spec)
        self._conversation = Conversation(self._name, service, self._deliveries, tools.clock, tools.jitter)
        self._spoken_as = None
        self.c1_failure = None
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                await self._conversation.greet()
        except Failure as failure:
            if failure.remedy is not Remedy.RETRY:
                await self.hang_up()
                raise
            self.c1_failure = failure.without_traceback()
        except TimeoutError:
            sentence = f"C1 has not answered Hello within {GREETING_SECONDS:.0f} seconds; it is tried again."
            self.c1_failure = Failure(Reason.C1_UNREACHABLE, sentence)
        self._spoken_as = speaker

    def _next_check(self) -> float:
        if self.problem is not None and self.problem.remedy is Remedy.RETRY:
            return self._recheck_at
        every = SECRET_CHECK_SECONDS if self.problem is None else UNWELL_SECRET_CHECK_SECONDS
        return self._tools.clock.monotonic() + self._tools.jitter.uniform(0.8 * every, every)
