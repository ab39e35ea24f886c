"""A Lease on a server in memory, and processes that compete for it over networks of their own, in virtual time."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import cast

from buildkite_connector.kubernetes.election import Election, ElectionSettings, Fence
from buildkite_connector.kubernetes.lease import Lease, LeaseClient
from buildkite_connector.model.failure import Failure, Reason
from fakes.virtual_time import NoJitter, VirtualClock, until

HANGS = 1e9
"""Seconds that a request takes which is never answered."""


class LeaseServer:
    """Every write has its own version, and must name the one that it changes: one at a time, as etcd has them."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self._version = 0

    def write(self, lease: Lease) -> Lease | None:
        if lease.version != (self.lease.version if self.lease else ""):
            return None
        self._version += 1
        self.lease = replace(lease, version=str(self._version))
        return self.lease

    def restore(self, lease: Lease) -> None:
        """What a restore of etcd does: the Lease and all versions are as they were."""
        self.lease, self._version = lease, int(lease.version)

    @property
    def held(self) -> Lease:
        assert self.lease is not None
        return self.lease


@dataclass
class Network:
    """A fake LeaseClient: one process's way to the server; seconds a message takes each way.

    `cut`: it fails at once; `asks_to_wait`: with a Retry-After of so many seconds.
    """

    server: LeaseServer
    there: float = 0.0
    back: float = 0.0
    cut: bool = False
    asks_to_wait: float | None = None
    chance: random.Random | None = None
    calls: int = 0
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def read(self) -> Lease | None:
        await self._travel(self.there)
        found = self.server.lease
        await self._travel(self.back)
        return found

    async def write(self, lease: Lease) -> Lease | None:
        """A write that is on its way arrives, whether its sender still waits for the answer or not."""
        answer: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()

        async def arrive() -> None:
            try:
                await self._travel(self.there)
            except Failure as failure:
                if not answer.cancelled():
                    answer.set_exception(failure)
                return
            written = self.server.write(lease)
            if not answer.cancelled():
                answer.set_result(written)

        task = asyncio.create_task(arrive())
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        written = await answer
        await self._travel(self.back)
        return written

    async def _travel(self, seconds: float) -> None:
        self.calls += 1
        await asyncio.sleep(seconds if self.chance is None else self.chance.expovariate(1 / seconds) if seconds else 0)
        if self.cut or self.asks_to_wait is not None:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "the network is cut", retry_after=self.asks_to_wait)


@dataclass
class Candidate:
    """One process. `acting`: between its first and its last act; `stop_seconds`: how long its end of acting takes.

    `lost`: the sentence with which it ended; `died`: it was ended at once.
    """

    network: Network
    name: str
    clock: VirtualClock
    stop_seconds: float = 0.0
    acting: bool = False
    terms: list[float] = field(default_factory=list)
    died: bool = False
    lost: str = ""
    when_acting: Callable[["Candidate"], None] = lambda _: None
    running: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        settings = ElectionSettings("lease", "default", self.name)
        self.fence = Fence(self.clock, self._die_after)
        jitter = NoJitter() if self.network.chance is None else self.network.chance
        self.election = Election(cast(LeaseClient, self.network), settings, self.fence, self._act, self.clock, jitter)
        self._timer: asyncio.TimerHandle | None = None
        self._dead = asyncio.Event()

    @property
    def may_act(self) -> bool:
        try:
            self.fence.check()
        except Failure:
            return False
        return True

    async def _act(self) -> None:
        self.acting = True
        self.when_acting(self)
        self.terms.append(self.clock.monotonic())
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._dead.wait(), self.stop_seconds)
            self.acting = False

    def _die_after(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.kill)

    def start(self) -> None:
        self.running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self.election.run()
        except Failure as failure:
            self.lost = failure.message

    async def stop(self) -> None:
        """In order, as on SIGTERM."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.wait({self.running})

    def kill(self) -> None:
        """Without warning: nothing that it has begun goes on, and nobody is told. What is on its way arrives."""
        assert self.running is not None
        self.died, self.acting, self.network.cut = True, False, True
        self._dead.set()
        self.running.cancel()

    @property
    def ended(self) -> bool:
        return self.running is None or self.running.done()


@dataclass
class Competition:
    """Everybody's clock is the same virtual one, which nothing relies on but the tests."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    server: LeaseServer = field(default_factory=LeaseServer)
    candidates: list[Candidate] = field(default_factory=list)

    def candidate(self, chance: random.Random | None = None) -> Candidate:
        name = f"process-{len(self.candidates)}"
        self.candidates.append(Candidate(Network(self.server, chance=chance), name, self.clock))
        return self.candidates[-1]

    async def leader(self) -> Candidate:
        """A process that has acted for 5 seconds."""
        candidate = self.candidate()
        candidate.start()
        await asyncio.sleep(5)
        return candidate

    async def leader_and_standby(self) -> tuple[Candidate, Candidate]:
        """The standby has seen the leader for 5 seconds."""
        return await self.leader(), await self.leader()

    @property
    def acting(self) -> list[str]:
        return [each.name for each in self.candidates if each.acting]

    async def until_acting(self, *names: str) -> float:
        """Wait until these act and no others; return the seconds that it took."""
        began = self.clock.monotonic()
        await until(lambda: self.acting == list(names))
        return self.clock.monotonic() - began


@contextlib.asynccontextmanager
async def competition() -> AsyncIterator[Competition]:
    found = Competition()
    try:
        yield found
    finally:
        for each in found.candidates:
            if not each.ended:
                each.network.cut = False
                await each.stop()
