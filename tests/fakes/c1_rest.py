"""C1's REST API in memory, for one connector, and the access to it."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from buildkite_connector.connector.ports import C1Rest, CredentialUse, NewCredential
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import C1Access, C1Spec
from buildkite_connector.model.status import C1State, C1SyncState

APP, CONNECTOR = "2abc", "2def"
IDS = (APP, CONNECTOR)
C1_SPEC = C1Spec(APP, CONNECTOR)
RUNNING, DONE, ERROR, DISABLED = C1SyncState.RUNNING, C1SyncState.DONE, C1SyncState.ERROR, C1SyncState.DISABLED


def denied() -> Failure:
    return Failure(Reason.C1_ACCESS_DENIED, "C1 answers 403 to force_sync.", remedy=Remedy.CREDENTIALS)


def not_found() -> Failure:
    return Failure(Reason.C1_NOT_FOUND, "C1 answers 404.", remedy=Remedy.EDIT)


def busy(seconds: float = 900.0) -> Failure:
    return Failure(Reason.C1_UNAVAILABLE, "C1 answers 429.", retry_after=seconds)


def unavailable() -> Failure:
    return Failure(Reason.C1_UNAVAILABLE, "C1 answers 503.")


def rejected() -> Failure:
    return Failure(Reason.C1_CLIENT_REJECTED, "C1 answers 401.", remedy=Remedy.CREDENTIALS)


@dataclass
class FakeC1Rest:
    """`shown` is what C1 shows of the connector. `refusal` is raised by each call, the failures in `reads` and `forces`
    by the next ones. `on_force` is called when C1 accepts to sync; an answer takes `seconds`.

    `calls`: the name of each call and its time; `open`: clients that are not closed, `accesses` what they were made
    with. `rejects`: client IDs that C1 does not accept; `refuses`: for a client ID, a call that fails, and how.
    """

    shown: C1State = field(default_factory=C1State)
    seconds: float = 0.0
    refusal: Failure | None = None
    read_failures: deque[Exception] = field(default_factory=deque)
    force_failures: deque[Exception] = field(default_factory=deque)
    on_force: Callable[[], None] = lambda: None
    calls: list[tuple[str, float]] = field(default_factory=list)
    asked: set[tuple[str, str]] = field(default_factory=set)
    accesses: list[C1Access] = field(default_factory=list)
    rejects: set[str] = field(default_factory=set)
    refuses: dict[str, tuple[str, Failure]] = field(default_factory=dict)
    open: int = 0
    most_at_once: int = 0
    _at_once: int = 0

    def connect(self, access: C1Access) -> C1Rest:
        self.accesses.append(access)
        self.open += 1
        return FakeC1RestClient(self, access)

    def named(self, name: str) -> list[float]:
        """The times of the calls of this name."""
        return [at for each, at in self.calls if each == name]

    @property
    def reads(self) -> list[float]:
        return self.named("connector")

    @property
    def forces(self) -> list[float]:
        return self.named("force_sync")

    async def call(self, name: str, access: C1Access, failures: deque[Exception]) -> None:
        self.calls.append((name, round(asyncio.get_running_loop().time(), 2)))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self._at_once -= 1
        if access.client_id in self.rejects:
            raise rejected()
        refused, failure = self.refuses.get(access.client_id, ("", None))
        if failure is not None and refused == name:
            raise failure
        if self.refusal is not None:
            raise self.refusal
        if failures:
            raise failures.popleft()

    # What C1 does

    def runs(self, now: datetime) -> None:
        self.shown = C1State(RUNNING, started_at=now, completed_at=self.shown.completed_at)

    def ends(self, now: datetime, state: C1SyncState = DONE, error: str = "") -> None:
        self.shown = C1State(state, self.shown.started_at, now, error)

    def pauses(self, now: datetime, reason: str = "") -> None:
        self.shown = C1State(DISABLED, self.shown.started_at, self.shown.completed_at, "", now, reason)


class FakeC1RestClient:
    """One client of it."""

    def __init__(self, c1: FakeC1Rest, access: C1Access) -> None:
        self._c1 = c1
        self._access = access
        self._closed = False

    async def connector(self, app_id: str, connector_id: str) -> C1State:
        await self._call("connector", app_id, connector_id, self._c1.read_failures)
        return self._c1.shown

    async def force_sync(self, app_id: str, connector_id: str) -> None:
        await self._call("force_sync", app_id, connector_id, self._c1.force_failures)
        self._c1.on_force()

    async def _call(self, name: str, app_id: str, connector_id: str, failures: deque[Exception]) -> None:
        assert not self._closed, "a closed client is not used"
        self._c1.asked.add((app_id, connector_id))
        await self._c1.call(name, self._access, failures)

    async def find_apps(self, marker: str) -> tuple[str, ...]:
        raise NotImplementedError

    async def create_app(self, name: str, owners: tuple[str, ...], marker: str) -> str:
        raise NotImplementedError

    async def find_connectors(self, app_id: str, marker: str) -> tuple[str, ...]:
        raise NotImplementedError

    async def create_connector(self, app_id: str, name: str, owners: tuple[str, ...], marker: str) -> str:
        raise NotImplementedError

    async def create_credential(self, app_id: str, connector_id: str) -> NewCredential:
        raise NotImplementedError

    async def credential(self, app_id: str, connector_id: str, credential_id: str) -> CredentialUse | None:
        raise NotImplementedError

    async def revoke_credential(self, app_id: str, connector_id: str, credential_id: str) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        assert not self._closed, "a client is closed once"
        self._closed = True
        self._c1.open -= 1


@dataclass
class FakeAccess:
    """Where the access is; `failure` is raised by each read while set."""

    access: C1Access = field(default_factory=lambda: C1Access("api@acme.conductor.one/pcc", "secret"))
    failure: Failure | None = None
    reads: int = 0

    async def read(self) -> C1Access:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return self.access
