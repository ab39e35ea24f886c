"""Leader election: of the processes that compete for one Lease, one acts.

A process stands by until it holds the Lease, acts while it renews it, and ends once the Lease is lost, as
controller-runtime's managers do: its container is restarted and stands by.

All deadlines are on this process's monotonic clock. Another's Lease has expired only once this process has seen it
unchanged for its whole duration: the times in the Lease are never compared with a clock. The leader counts from the
moment at which it sent its last confirmed renewal, so that it is always ahead of others, who count from when they saw
it:

    sent ──── renew deadline ──── lease duration
         acts                └ ends acting  └ has ended, or the process is ended
"""

import asyncio
import faulthandler
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import NoReturn

from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.lease import Lease, LeaseClient
from buildkite_connector.kubernetes.resource import is_lower
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)

RELEASE_SECONDS = 3.0
"""How long a release may take, all tries together."""
TROUBLE = (ApiError, Failure, TimeoutError, ValueError)
"""Raised by a call to the API server, which may have been carried out or not."""


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """The Lease that a process competes for, and the times (in seconds) that make the election safe.

    `identity` is this process's alone. Raises ValueError with a sentence when the times make no safe election.
    """

    lease: str
    namespace: str
    identity: str
    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        duration, deadline, retry = self.duration, self.deadline, self.retry
        if duration < 1 or duration != round(duration):
            raise ValueError(f"the lease duration is {duration:g} s: whole seconds are needed, 1 s or more")
        if not deadline < duration:
            raise ValueError(
                f"the renew deadline ({deadline:g} s) must be shorter than the lease duration ({duration:g} s):"
                " the difference is the time that a leader has to stop acting"
            )
        if not retry * 1.2 < deadline:
            raise ValueError(
                f"the retry period ({retry:g} s) must be shorter than the renew deadline ({deadline:g} s) divided by"
                " 1.2: a renewal that fails is tried again"
            )
        if retry <= 0:
            raise ValueError("the retry period must be longer than 0s")

    @property
    def call_seconds(self) -> float:
        """Timeout of one renewal: half the renew deadline, so that a retry still fits."""
        return self.deadline / 2


def end_process_after(seconds: float | None) -> None:
    """End this process at once after so many seconds, unless called again before; None: never.

    The traceback of each thread goes to standard error, and the exit code is 1. It happens in a thread that needs
    neither the event loop nor the interpreter's lock.
    """
    if seconds is None:
        faulthandler.cancel_dump_traceback_later()
    else:
        faulthandler.dump_traceback_later(max(seconds, 0.001), exit=True)


class Fence:
    """Keeps a process from acting when it may not any more.

    `check` rejects a call to Kubernetes, C1 or Buildkite that begins after the time for which this process may act, so
    that nothing leaves when the process was stopped, or its event loop stuck, and goes on late. `end_after` ends the
    process when acting has not ended in time.
    """

    def __init__(self, clock: Clock, end_after: Callable[[float | None], None] = end_process_after) -> None:
        self._clock = clock
        self._end_after = end_after
        self._acts_until = float("-inf")

    def extend(self, until: float) -> None:
        """The process may act until then (monotonic seconds), and must have ended acting by then."""
        self._acts_until = until
        self._end_after(until - self._clock.monotonic())

    def close(self, seconds: float) -> None:
        """Nothing may begin any more; what is under way must end within `seconds`."""
        self._acts_until = float("-inf")
        self._end_after(seconds)

    def ended(self) -> None:
        """The process does not act."""
        self._acts_until = float("-inf")
        self._end_after(None)

    def check(self) -> None:
        """Raises Failure when this process may not act now."""
        if self._clock.monotonic() >= self._acts_until:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "This process is no longer the leader and does not act.")


class Election:
    """The election for one process. `act` acts until it is cancelled, and has ended acting when it returns."""

    def __init__(
        self,
        leases: LeaseClient,
        settings: ElectionSettings,
        fence: Fence,
        act: Callable[[], Coroutine[None, None, None]],
        clock: Clock,
        jitter: Jitter,
    ) -> None:
        self._leases = leases
        self._settings = settings
        self._fence = fence
        self._act = act
        self._clock = clock
        self._jitter = jitter
        self._seen: Lease | None = None
        self._other, self._other_until = "", float("-inf")
        """Another process that may act, and until when (monotonic seconds)."""
        self._lease: Lease | None = None
        """The Lease as this process wrote it; None while it may be another."""
        self._may_hold = False
        self._sent = float("-inf")
        self._logged = ""
        self.is_leader = False

    async def run(self) -> NoReturn:
        """Stand by, then act until the Lease is lost, which raises Failure. When cancelled, end acting.

        Either way the Lease is released if this process still holds it.
        """
        try:
            await self._stand_by()
            why = await self._lead()
        finally:
            await self._release()
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"This process lost its Lease ({why}). It has stopped acting and exits; after a restart, it is a standby.",
        )

    # Standby

    async def _stand_by(self) -> None:
        """Wait until this process holds the Lease."""
        while True:
            asked = 0.0
            try:
                async with asyncio.timeout(self._settings.call_seconds * 2):
                    waits_for = await self._try_to_acquire()
            except TROUBLE as error:
                self._log(f"the Lease cannot be read or taken: {_sentence(error)}", logging.WARNING)
                asked = _asked_to_wait(error)
            else:
                if not waits_for:
                    return
                self._log(waits_for)
            await self._clock.sleep(max(self._jitter.uniform(0.25, 0.5) * self._settings.retry, asked))

    async def _try_to_acquire(self) -> str:
        """Return what this process waits for; "" when it holds the Lease."""
        lease = await self._leases.read()
        now = self._clock.monotonic()
        self._note(lease, now)
        if now < self._other_until:
            return f"{self._other} holds {self._settings.lease}"
        transitions = lease.transitions + (lease.holder != self._settings.identity) if lease else 0
        time, version = self._clock.now(), lease.version if lease else ""
        taken = Lease(self._settings.identity, round(self._settings.duration), time, time, transitions, version)
        return "" if await self._write(taken) else f"another process took {self._settings.lease} first"

    def _note(self, lease: Lease | None, now: float) -> None:
        """Remember which other process may act according to this Lease.

        A Lease that is gone counts as it was until it would have expired: its holder may not know yet. So does one
        that went back to an older version, by a restore of etcd, and is free now.
        """
        if lease is None or lease == self._seen:
            return
        restored = self._seen is not None and is_lower(lease.version, self._seen.version)
        self._seen = lease
        if lease.holder not in {"", self._settings.identity}:
            self._other, self._other_until = lease.holder, now + (lease.duration or self._settings.duration)
        elif not restored:
            self._other_until = now

    # Acting

    async def _lead(self) -> str:
        """Act until the Lease is lost, and return why. Renewing goes on until acting has ended."""
        logger.info("this process became the leader", extra=self._fields())
        self.is_leader = True
        self._fence.extend(self._sent + self._settings.duration)
        acting = asyncio.create_task(self._act(), name="acting")
        renewing = asyncio.create_task(self._renew_until_lost(), name="renewing the Lease")
        try:
            await asyncio.wait({acting, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            acting.cancel()
            await asyncio.wait({acting})
            renewing.cancel()
            await asyncio.wait({renewing})
            self._fence.ended()
            self.is_leader = False
            logger.info("this process has stopped acting", extra=self._fields())
        if not acting.cancelled():
            acting.result()  # raises what ended it, if that was an error
        return renewing.result()

    async def _renew_until_lost(self) -> str:
        """Return why this process must not act any more, with the fence set accordingly."""
        tried, pause = self._sent, self._settings.retry
        while True:
            await self._clock.sleep(min(tried + pause - self._clock.monotonic(), self._seconds_to_deadline))
            tried, pause = self._clock.monotonic(), self._settings.retry
            if (left := self._seconds_to_deadline) <= 0:
                why = f"it could not be renewed for {self._settings.deadline:g} s"
                break
            try:
                async with asyncio.timeout(min(left, self._settings.call_seconds)):
                    why = await self._renew()
            except TROUBLE as error:
                self._log(f"the Lease was not renewed, it will be tried again: {_sentence(error)}", logging.WARNING)
                # With time for a last try: a Lease that is not renewed is lost.
                pause = max(pause, min(_asked_to_wait(error), self._seconds_to_deadline - self._settings.call_seconds))
                continue
            if why:
                self._fence.close(self._settings.duration - self._settings.deadline)
                break
            self._logged = ""
            self._fence.extend(self._sent + self._settings.duration)
        logger.warning("the Lease is lost, this process stops acting", extra={**self._fields(), "why": why})
        return why

    @property
    def _seconds_to_deadline(self) -> float:
        return self._sent + self._settings.deadline - self._clock.monotonic()

    async def _renew(self) -> str:
        """Why the Lease is lost; "" when it was renewed."""
        while True:
            lease = self._lease or await self._leases.read()
            if lease is None:
                return "it was deleted"
            if lease.holder != self._settings.identity:
                return f"{lease.holder or 'no process'} holds it"
            if await self._write(replace(lease, renewed=self._clock.now())):
                return ""
            # Somebody took it, or changed a label: the next look tells which.

    async def _write(self, lease: Lease) -> bool:
        """Return whether it was written; False when its version is not the newest.

        Raises as the calls do: then it may have been written or not.
        """
        sent = self._clock.monotonic()
        self._lease, self._may_hold = None, True
        written = await self._leases.write(lease)
        if written is not None:
            self._lease, self._sent = written, sent
        return written is not None

    # The end

    async def _release(self) -> None:
        """Release the Lease if this process still holds it: others need not wait until it expires."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                while self._may_hold:
                    lease = self._lease or await self._leases.read()
                    if lease is None or lease.holder != self._settings.identity:
                        return
                    if await self._write(replace(lease, holder="", renewed=self._clock.now())):
                        self._may_hold = False
                        logger.info("the Lease was released", extra=self._fields())
        except TROUBLE as error:
            logger.warning("the Lease was not released", extra={**self._fields(), "error": _sentence(error)})

    def _log(self, sentence: str, level: int = logging.INFO) -> None:
        """Log a sentence once, as long as it stays the same."""
        if sentence != self._logged:
            logger.log(level, "leader election", extra={**self._fields(), "detail": sentence})
        self._logged = sentence

    def _fields(self) -> dict[str, str]:
        return {"lease": self._settings.lease, "identity": self._settings.identity}


def _asked_to_wait(error: BaseException) -> float:
    return (error.retry_after or 0.0) if isinstance(error, Failure) else 0.0


def _sentence(error: BaseException) -> str:
    return str(error) or "no response in time"
