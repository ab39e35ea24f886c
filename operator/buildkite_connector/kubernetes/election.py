"""Leader election: of the processes that compete for one Lease, one acts.

All deadlines are on this process's monotonic clock. Another's Lease has expired only once this process has seen the
same record for the Lease's whole duration: the times in the record are never compared with a clock.

The leader counts from the moment at which it sent its last confirmed renewal, so that it is always ahead of others,
who count from when they saw it:

    sent ──── renew deadline ──── lease duration
         acts                └ ends acting  └ has ended, or the process ends at once

After a loss it goes back to standby: the watch and the staged files stay, and an API server that is away for a while
restarts nobody. What makes that safe is `fence`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import NoReturn, Protocol

from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.election_settings import ElectionSettings
from buildkite_connector.kubernetes.fence import TOO_LATE, Fence, end_process
from buildkite_connector.kubernetes.lease import Lease, LeaseRecord
from buildkite_connector.kubernetes.observed_leases import ObservedLeases
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)

RELEASE_TRIES = 3
RELEASE_SECONDS = 3.0
"""How long a release may take, all tries together."""
TROUBLE = (ApiError, Failure, TimeoutError, ValueError)
"""What a call to the API server raises: it may have been carried out or not."""


class LeaseStore(Protocol):
    """See `lease.LeaseClient`."""

    async def read(self, name: str, seconds: float) -> Lease | None: ...

    async def list_related(self, seconds: float) -> Sequence[Lease]: ...

    async def create(self, name: str, record: LeaseRecord, shards: int, seconds: float) -> Lease | None: ...

    async def replace(
        self, name: str, record: LeaseRecord, version: str, shards: int, seconds: float
    ) -> Lease | None: ...


class Election:
    """One process's part in it. `act` acts until it is cancelled, and has ended acting when it returns."""

    def __init__(
        self,
        leases: LeaseStore,
        settings: ElectionSettings,
        fence: Fence,
        act: Callable[[], Coroutine[None, None, None]],
        clock: Clock,
        jitter: Jitter,
        end: Callable[[str], NoReturn] = end_process,
    ) -> None:
        self._leases = leases
        self._settings = settings
        self._fence = fence
        self._act = act
        self._clock = clock
        self._jitter = jitter
        self._end = end
        self._observed = ObservedLeases(settings.duration)
        self._lease: Lease | None = None
        self._sent = float("-inf")
        self._uncertain = False
        self._told = ""
        self.is_leader = False

    def healthy(self, now: float) -> str | None:
        """What is wrong, for the process's health; a standby is well. `now` in monotonic seconds."""
        late = now - self._sent - self._settings.deadline
        if not self.is_leader or late <= 0:
            return None
        return f"the leader has not renewed its Lease for {late + self._settings.deadline:.0f} s"

    async def run(self) -> NoReturn:
        """Stand by, act, and stand by again, until cancelled: then acting is ended and the Lease released."""
        try:
            while True:
                await self._stand_by()
                await self._lead()
        finally:
            await self._leave()

    # Standby

    async def _stand_by(self) -> None:
        """Until this process holds the Lease, and no Lease of another number of shards is held."""
        while True:
            asked = 0.0
            try:
                async with asyncio.timeout(self._settings.call_seconds * 2):
                    waits_for = await self._try_to_acquire()
            except TROUBLE as error:
                self._tell(f"the Lease cannot be read or taken: {_sentence(error)}", logging.WARNING)
                asked = _asked_to_wait(error)
            else:
                if waits_for is None:
                    self._told = ""
                    return
                self._tell(waits_for)
            await self._clock.sleep(max(self._jitter.uniform(0.5, 1.0) * self._settings.standby_seconds, asked))

    async def _try_to_acquire(self) -> str | None:
        """What this process waits for; None when it has become the leader."""
        name = self._settings.lease
        lease = await self._leases.read(name, self._settings.call_seconds)
        now = self._clock.monotonic()
        self._observed.note(name, lease, now)
        for holder in self._observed.holders(name, now):
            if holder != self._settings.identity:
                return f"{holder} holds {name}"
        if lease is not None and lease.record.holder == self._settings.identity:
            self._lease, self._uncertain = lease, False
        if held := await self._held_by_other_counts():
            await self._release()
            return held
        if not await self._take(lease):
            return f"another took {name} first"
        if held := await self._held_by_other_counts():
            # The other looks after it took its Lease, too: whoever is second sees the first.
            await self._release()
            return held
        return None

    async def _held_by_other_counts(self) -> str:
        """A Lease that is held with the connectors divided otherwise; "" when there is none."""
        related = await self._leases.list_related(self._settings.call_seconds)
        now, shards = self._clock.monotonic(), self._settings.shards
        for lease in related:
            self._observed.note(lease.name, lease, now)
        for lease in self._observed.held(now):
            if lease.shards != shards and lease.name != self._settings.lease:
                return f"{lease.record.holder} holds {lease.name}, of {lease.shards} shards in place of {shards}"
        return ""

    async def _take(self, lease: Lease | None) -> bool:
        now = self._clock.now()
        before = lease.record if lease is not None else None
        transitions = 0 if before is None else before.transitions + (before.holder != self._settings.identity)
        record = LeaseRecord(self._settings.identity, round(self._settings.duration), now, now, transitions)
        return await self._write(record, lease) is not None

    # Acting

    async def _lead(self) -> None:
        """Until the Lease is lost. When cancelled, goes on renewing until acting has ended."""
        logger.info("this process became the leader", extra=self._fields())
        self.is_leader = True
        self._fence.extend(self._sent + self._settings.duration)
        acting = asyncio.create_task(self._act(), name="acting")
        renewing = asyncio.create_task(self._renew_until_lost(), name="renewing the Lease")
        try:
            await asyncio.wait({acting, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            acting.cancel()
            await asyncio.wait({acting, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not acting.done():
                await self._end_in_time(acting)
            renewing.cancel()
            await asyncio.wait({renewing})
            self._fence.ended()
            self.is_leader = False
            logger.info("this process has stopped acting", extra=self._fields())
        for task in (acting, renewing):
            if not task.cancelled():
                task.result()  # raises what ended it, if that was an error

    async def _end_in_time(self, acting: asyncio.Task[None]) -> None:
        """Acting is cancelled already, and the Lease is lost."""
        await asyncio.wait({acting}, timeout=max(self._fence.seconds_left, 0.0))
        if not acting.done():
            self._end(TOO_LATE)

    async def _renew_until_lost(self) -> None:
        """Returns when this process must not act any more, with the fence set accordingly."""
        tried, pause = self._sent, self._settings.retry
        while True:
            next_try = tried + pause - self._clock.monotonic()
            await self._clock.sleep(min(next_try, self._seconds_to_deadline))
            pause = self._settings.retry
            tried = self._clock.monotonic()
            if (left := self._seconds_to_deadline) <= 0:
                why = f"it could not be renewed for {self._settings.deadline:g} s"
                break
            try:
                async with asyncio.timeout(min(left, self._settings.call_seconds)):
                    why = await self._renew()
            except TROUBLE as error:
                self._tell(f"the Lease was not renewed, it will be tried again: {_sentence(error)}", logging.WARNING)
                # With time for a last try: a Lease that is not renewed is lost.
                pause = max(pause, min(_asked_to_wait(error), self._seconds_to_deadline - self._settings.call_seconds))
                continue
            if why:
                self._fence.close(self._clock.monotonic() + self._settings.duration - self._settings.deadline)
                break
            self._told = ""
            self._fence.extend(self._sent + self._settings.duration)
        logger.warning("the Lease is lost, this process stops acting", extra={**self._fields(), "why": why})

    @property
    def _seconds_to_deadline(self) -> float:
        return self._sent + self._settings.deadline - self._clock.monotonic()

    async def _renew(self) -> str:
        """Why the Lease is another's now; "" when it was renewed."""
        while True:
            if self._lease is not None and not self._uncertain:
                record = replace(self._lease.record, renewed=self._clock.now())
                if await self._write(record, self._lease):
                    return ""
            found = await self._leases.read(self._settings.lease, self._settings.call_seconds)
            if found is None:
                return "it was deleted"
            if found.record.holder != self._settings.identity:
                return f"{found.record.holder or 'nobody'} holds it"
            # A renewal whose answer was lost, or somebody changed a label.
            self._lease, self._uncertain = found, False

    async def _write(self, record: LeaseRecord, lease: Lease | None) -> Lease | None:
        """None when `lease` is not the newest. Raises as the calls do: then it may have been written or not."""
        name, shards, seconds = self._settings.lease, self._settings.shards, self._settings.call_seconds
        sent = self._clock.monotonic()
        self._uncertain = True
        written = await (
            self._leases.create(name, record, shards, seconds)
            if lease is None
            else self._leases.replace(name, record, lease.version, shards, seconds)
        )
        if written is not None:
            self._lease, self._sent, self._uncertain = written, sent, False
        return written

    # The end

    async def _leave(self) -> None:
        """Acting has ended. Others need not wait until the Lease expires."""
        if self._lease is None and not self._uncertain:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._release()
        except TROUBLE as error:
            logger.warning("the Lease was not released", extra={**self._fields(), "error": _sentence(error)})

    async def _release(self) -> None:
        """Nobody holds it, unless another does already."""
        for _ in range(RELEASE_TRIES):
            if self._lease is None or self._uncertain:
                self._lease = await self._leases.read(self._settings.lease, self._settings.call_seconds)
            lease = self._lease
            if lease is None or lease.record.holder != self._settings.identity:
                return
            record = replace(lease.record, holder="", renewed=self._clock.now())
            if await self._write(record, lease):
                logger.info("the Lease was released", extra=self._fields())
                self._lease = None
                return

    # What is told

    def _tell(self, sentence: str, level: int = logging.INFO) -> None:
        """Once, as long as it stays the same."""
        if sentence != self._told:
            logger.log(level, "leader election", extra={**self._fields(), "detail": sentence})
        self._told = sentence

    def _fields(self) -> dict[str, str]:
        return {"lease": self._settings.lease, "identity": self._settings.identity}


def _asked_to_wait(error: BaseException) -> float:
    return (error.retry_after or 0.0) if isinstance(error, Failure) else 0.0


def _sentence(error: BaseException) -> str:
    return str(error) or "no answer in time"
