"""C1's REST API, the operator's own Secret and the status in memory, for a process that may be killed at any point.

`Surroundings` is what outlives a process. Whatever a process sends may be carried out, refused, lost on the way, or
carried out only after the sender gave up or was killed.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TypeVar

from buildkite_connector.connector.creation import FRESH_SECONDS, CreationPorts, CreationRun
from buildkite_connector.connector.ports import CredentialUse, Kept, NewCredential
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import C1Creation
from buildkite_connector.model.status import C1Record, C1State, C1Step
from fakes.virtual_time import NoJitter, VirtualClock

T = TypeVar("T")
MARKER = "buildkite-connector/default/acme/0f7d"
LIFE = timedelta(days=90)
WANTED = C1Creation("acme-c1", app_name="Buildkite", owners=("user1",))


class Killed(BaseException):
    """`kill -9`: nothing more of the process runs."""


class Fate(Enum):
    """What becomes of one request."""

    ANSWERED = auto()
    REFUSED = auto()
    CUT = auto()
    LOST = auto()
    """It is carried out, and the answer is lost."""
    LATE = auto()
    """It is carried out after the sender gave up."""
    SILENT = auto()
    """It is carried out, and no answer comes."""


@dataclass
class Process:
    """One process. It is killed at the point `kill_at`; a request on its way is carried out `late` seconds after.

    `hangs`: what a killed process was doing hangs until it is cancelled, and does not raise Killed.
    """

    kill_at: int | None = None
    late: float | None = None
    hangs: bool = False
    points: list[str] = field(default_factory=list)
    dead: bool = False

    async def at(self, point: str) -> None:
        await asyncio.sleep(0)
        if self.dead or len(self.points) == self.kill_at:
            self.dead = True
            if self.hangs:
                await asyncio.Event().wait()
            raise Killed(point)
        self.points.append(point)


@dataclass
class Credential:
    app_id: str
    connector_id: str
    client_id: str
    client_secret: str
    expires_at: datetime | None
    revoked: bool = False


def c1_refuses(reason: Reason = Reason.C1_ACCESS_DENIED, remedy: Remedy = Remedy.CREDENTIALS) -> Failure:
    return Failure(reason, "C1 refused it.", remedy=remedy)


@dataclass
class Surroundings:
    """C1, the cluster, and the process that runs now. `fates` of the next requests by their name, else ANSWERED.

    `late` is how long after the sender gave up a late request is carried out. `session` is the client that the
    session with C1 has. `greetings` are raised when C1 is greeted with a new credential.
    """

    clock: VirtualClock = field(default_factory=VirtualClock)
    process: Process = field(default_factory=Process)
    fate: Callable[[str], Fate] = lambda _: Fate.ANSWERED
    refusal: Callable[[], Failure] = c1_refuses
    late: float = 60.0
    life: timedelta | None = LIFE
    apps: dict[str, str] = field(default_factory=dict)
    connectors: dict[str, tuple[str, str]] = field(default_factory=dict)
    credentials: dict[str, Credential] = field(default_factory=dict)
    secret: Kept | None = None
    secret_failure: Failure | None = None
    record: C1Record = field(default_factory=C1Record)
    session: str = ""
    created: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    greeted: list[str] = field(default_factory=list)
    greetings: list[Failure] = field(default_factory=list)
    _versions: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _status_version: int = 0

    async def request(self, name: str, carry_out: Callable[[], T], down: Callable[[], Failure]) -> T:
        """One request: a process may be killed before it is carried out, or before the answer."""
        self.log.append(name)
        fate = self.fate(name)
        try:
            await self.process.at(f"{name}: sent")
        except (Killed, asyncio.CancelledError):
            if self.process.dead and self.process.late is not None:
                self._later(self.process.late, carry_out)
            raise
        match fate:
            case Fate.REFUSED:
                raise self.refusal()
            case Fate.CUT:
                raise down()
            case Fate.LATE:
                self._later(self.late, carry_out)
                raise down()
        answer = carry_out()
        await self.process.at(f"{name}: carried out")
        if fate is Fate.SILENT:
            await asyncio.Event().wait()
        if fate is Fate.LOST:
            raise down()
        return answer

    def _later(self, seconds: float, carry_out: Callable[[], object]) -> None:
        def now() -> None:
            try:
                carry_out()
            except Failure:
                self.log.append("too late")

        asyncio.get_running_loop().call_later(seconds, now)

    def next_id(self, kind: str) -> str:
        return f"{kind}{next(self._ids)}"

    def announced(self, step: C1Step) -> bool:
        """Whether the written status names this call, as of just now."""
        since = self.record.creating_since
        now = self.clock.now()
        return self.record.creating is step and since is not None and (now - since).total_seconds() <= FRESH_SECONDS

    def live(self) -> set[str]:
        """The credentials that C1 accepts."""
        now = self.clock.now()
        return {
            name
            for name, each in self.credentials.items()
            if not each.revoked and (each.expires_at is None or each.expires_at > now)
        }

    # The status

    async def save(self, record: C1Record) -> None:
        version = self._status_version

        def write() -> None:
            if self._status_version != version:
                raise kubernetes_down()
            self.record, self._status_version = record, version + 1

        while True:
            try:
                return await self.request("write the status", write, kubernetes_down)
            except Failure:
                version = self._status_version
                await asyncio.sleep(5)

    async def greet(self, new: NewCredential) -> None:
        self.greeted.append(new.client_id)
        if self.greetings:
            raise self.greetings.pop(0)

    # The processes

    def ports(self) -> CreationPorts:
        return CreationPorts(
            "default.acme", MARKER, FakeRest(self), FakeSecret(self), self.save, self.greet, self.clock, NoJitter()
        )

    async def run_once(self, wanted: C1Creation = WANTED) -> None:
        """One run of the creation, from the written status. Raises Failure."""
        await CreationRun(wanted, self.record, self.session, self.ports()).run()

    async def run(self, wanted: C1Creation = WANTED) -> None:
        """One process until there is nothing left to do; its session changes over when new credentials are there."""
        while True:
            try:
                await self.run_once(wanted)
            except Failure as failure:
                await asyncio.sleep(max(failure.retry_after or 0.0, 10.0))
                continue
            assert self.secret is not None
            if self.session == self.secret.client_id:
                return
            assert self.client_lives(self.secret.client_id)
            self.session = self.secret.client_id

    def client_lives(self, client_id: str) -> bool:
        return client_id in {self.credentials[each].client_id for each in self.live()}


def c1_down() -> Failure:
    return Failure(Reason.C1_UNAVAILABLE, "C1 answered 503.")


def kubernetes_down() -> Failure:
    return Failure(Reason.KUBERNETES_UNAVAILABLE, "The API server is away.")


class FakeRest:
    """C1's REST API for one process. It notices a call that the status does not name, and a credential in use that is
    revoked."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._its = surroundings

    async def connector(self, app_id: str, connector_id: str) -> C1State:
        assert connector_id in self._its.connectors
        return C1State()

    async def force_sync(self, app_id: str, connector_id: str) -> None:
        assert connector_id in self._its.connectors

    async def find_apps(self, marker: str) -> tuple[str, ...]:
        its = self._its
        return await its.request(
            "find apps", lambda: tuple(each for each, mark in its.apps.items() if _has(mark, marker)), c1_down
        )

    async def create_app(self, name: str, owners: tuple[str, ...], marker: str) -> str:
        its = self._its
        assert its.announced(C1Step.APP)

        def create() -> str:
            its.created.append(name)
            app_id = its.next_id("app")
            its.apps[app_id] = marker
            return app_id

        return await its.request("create the app", create, c1_down)

    async def find_connectors(self, app_id: str, marker: str) -> tuple[str, ...]:
        its = self._its
        return await its.request(
            "find connectors",
            lambda: tuple(each for each, (app, mark) in its.connectors.items() if app == app_id and _has(mark, marker)),
            c1_down,
        )

    async def create_connector(self, app_id: str, name: str, owners: tuple[str, ...], marker: str) -> str:
        its = self._its
        assert its.announced(C1Step.CONNECTOR)
        assert its.record.app_id in ("", app_id)

        def create() -> str:
            its.created.append(name)
            connector_id = its.next_id("connector")
            its.connectors[connector_id] = (app_id, marker)
            return connector_id

        return await its.request("create the connector", create, c1_down)

    async def create_credential(self, app_id: str, connector_id: str) -> NewCredential:
        its = self._its
        assert its.announced(C1Step.CREDENTIAL)
        assert (its.record.app_id, its.record.connector_id) == (app_id, connector_id)

        def create() -> NewCredential:
            credential_id = its.next_id("credential")
            ends = None if its.life is None else its.clock.now() + its.life
            new = Credential(app_id, connector_id, f"client-{credential_id}", f"secret-{credential_id}", ends)
            its.credentials[credential_id] = new
            return NewCredential(credential_id, new.client_id, new.client_secret, ends)

        return await its.request("create a credential", create, c1_down)

    async def credential(self, app_id: str, connector_id: str, credential_id: str) -> CredentialUse | None:
        its = self._its

        def find() -> CredentialUse | None:
            found = its.credentials.get(credential_id)
            if found is None or found.revoked or (found.app_id, found.connector_id) != (app_id, connector_id):
                return None
            return CredentialUse(found.expires_at)

        return await its.request("read a credential", find, c1_down)

    async def revoke_credential(self, app_id: str, connector_id: str, credential_id: str) -> None:
        its = self._its
        its.log.append(f"revoke {credential_id}")

        def revoke() -> None:
            credential = its.credentials[credential_id]
            assert (credential.app_id, credential.connector_id) == (app_id, connector_id)
            assert credential.client_id != its.session, "the session's credential was revoked"
            assert its.secret is None or its.secret.credential_id != credential_id, "the Secret's was revoked"
            credential.revoked = True

        await its.request("revoke a credential", revoke, c1_down)

    async def aclose(self) -> None:
        pass


class FakeSecret:
    """The own Secret for one process: a write that is not in place of what was read last is refused."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._its = surroundings

    async def read(self) -> Kept | None:
        its = self._its
        if its.secret_failure is not None:
            raise its.secret_failure
        return await its.request("read the Secret", lambda: its.secret, kubernetes_down)

    async def check_writable(self, there: Kept | None) -> None:
        its = self._its
        if its.secret_failure is not None:
            raise its.secret_failure
        await its.request("try to write the Secret", lambda: None, kubernetes_down)

    async def write(self, content: Kept, there: Kept | None) -> None:
        its = self._its
        if its.secret_failure is not None:
            raise its.secret_failure

        def write() -> None:
            now, before = ("" if each is None else each.version for each in (its.secret, there))
            if now != before:
                raise kubernetes_down()
            its.secret = replace(content, version=str(next(its._versions)))

        await its.request("write the Secret", write, kubernetes_down)


def _has(mark: str, wanted: str) -> bool:
    return not wanted or mark == wanted or (wanted.endswith("/") and mark.startswith(wanted))


# What a process leaves, and what the next one must come to


def check_promises(its: Surroundings, lost: int = 0) -> None:
    """One connector, and its Secret has a credential that C1 accepts, as the status says. `lost`: at most so many."""
    assert len(its.apps) <= 1
    assert len(its.connectors) == 1
    (connector,) = its.connectors
    record, secret = its.record, its.secret
    assert secret is not None
    assert record.credential is not None
    kept = its.credentials[secret.credential_id]
    assert (secret.client_id, secret.client_secret) == (kept.client_id, kept.client_secret)
    assert secret.credential_id in its.live()
    assert (record.connector_id, record.app_id) == (connector, its.connectors[connector][0])
    assert (secret.connector_id, secret.app_id) == (record.connector_id, record.app_id)
    assert (record.credential.id, record.credential.retiring) == (secret.credential_id, ())
    assert (record.creating, record.creating_since) == (None, None)
    assert its.session == secret.client_id
    assert len(its.live()) <= 1 + lost, "a credential that nobody holds was not revoked"


async def rotated(its: Surroundings) -> Surroundings:
    """The moment at which new credentials are due."""
    await its.run()
    await asyncio.sleep(2 / 3 * LIFE.total_seconds() + 1)
    return its


async def without_secret(its: Surroundings) -> Surroundings:
    """Somebody deleted the Secret."""
    await its.run()
    its.secret = None
    return its


async def nothing_yet(its: Surroundings) -> Surroundings:
    return its
