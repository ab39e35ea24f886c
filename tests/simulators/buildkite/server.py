"""A real HTTP server on loopback that answers as Buildkite's REST API does, and fails when told to.

In-process: `async with BuildkiteSimulator(Config([organization])) as sim:` and then `sim.url`. In a process
of its own: `python -m simulators.buildkite --help`, driven through `control`. What it answers is decided in `api`
and `quota`, what goes wrong in `faults`; this module is the wire: sockets, TLS, latency, broken answers, and the
transcript.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from typing import Self

from aiohttp import web

from simulators.buildkite.api import BASE_PATH, Api, Call, Reply, Token
from simulators.buildkite.broken_answers import Refusal, break_off
from simulators.buildkite.certificate import Authority, Certificate
from simulators.buildkite.exchange import EXCHANGE_PATH, Exchanges
from simulators.buildkite.fault_rules import Faults, Rule
from simulators.buildkite.faults import Answer, Change, Cut, Edit, Effect, Outage, Slow
from simulators.buildkite.organization import Organization
from simulators.buildkite.portal import PORTAL_PATH, Portals
from simulators.buildkite.quota import BUILDKITE_LIMITS, NO_OTHER_USE, Limits, OtherUse, Quota
from simulators.buildkite.transcript import Request, Transcript
from simulators.buildkite.writes import Write, WriteJournal
from simulators.sockets import LOOPBACK, bind_loopback, reset, stop_listening

CONTROL_PREFIX = "/_sim/"
BODIES = ("application/json", "application/x-www-form-urlencoded")
_UNSEEN = Reply(500, b"", {})


@dataclass(frozen=True, slots=True)
class Config:
    """What to serve and how. `latency` in seconds a request, `port` 0 for any, `tls` None for plain http.

    Unless `writes_expected`, the simulator's end fails the test when anything tried to write.
    """

    organizations: Sequence[Organization]
    tokens: Sequence[Token] = (Token(),)
    limits: Limits = BUILDKITE_LIMITS
    other_use: OtherUse = NO_OTHER_USE
    latency: float = 0.0
    tls: Certificate | None = None
    port: int = 0
    writes_expected: bool = False


class BuildkiteSimulator:
    """Serves one configuration; everything but its address may change while it runs.

    `api.organizations` by slug and `api.tokens` by value are open to edits, `quota.limits` and
    `quota.other_use` to replacement, `latency` and `certificate` to assignment (the certificate takes
    effect at the next `resume`). `monotonic` and `now` tell it the time, so that a test may; `control`
    answers what comes under /_sim/. Token exchange apps are `exchanges`, portals `portals`.
    """

    def __init__(
        self,
        config: Config,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        control: "Control | None" = None,
    ) -> None:
        self.latency = config.latency
        self.behind_proxies = False  # its links lead to the host that was asked for, not to its own port
        self.quota = Quota(config.limits, config.other_use, monotonic)
        self.faults = Faults()
        self.transcript = Transcript()
        self.api = Api(
            {organization.slug: organization for organization in config.organizations},
            {token.value: token for token in config.tokens},
            self.quota,
            now,
        )
        self.exchanges = Exchanges(self.api, now)
        self.portals = Portals(self.api, now)
        self.journal = WriteJournal(self.api.organizations, config.writes_expected)
        self.authority = None if config.tls is None else Authority()
        self.certificate = config.tls
        self._tokens = config.tokens
        self._control = control
        self._port = config.port
        self._monotonic = monotonic
        self._now = now
        self._started = monotonic()
        self._reservation: socket.socket | None = None
        self._protocols: web.Server | None = None
        self._open = False
        self._listener: asyncio.Server | None = None
        self._outage: asyncio.Task[None] | None = None

    @property
    def origin(self) -> str:
        """`scheme://host:port`, without a path."""
        return f"{'http' if self.authority is None else 'https'}://{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        """The base URL, as BUILDKITE_API_URL has it."""
        return self.origin + BASE_PATH

    @property
    def exchange_url(self) -> str:
        """Where tokens are exchanged, as BUILDKITE_TOKEN_EXCHANGE_URL has it."""
        return self.origin + EXCHANGE_PATH

    @property
    def portal_url(self) -> str:
        """Where portals are, as BUILDKITE_PORTAL_URL has it."""
        return self.origin + PORTAL_PATH

    @property
    def requests(self) -> Sequence[Request]:
        return self.transcript.requests

    @property
    def writes(self) -> Sequence[Write]:
        """Every request that was no reading one, in order of arrival."""
        return self.journal.writes

    @property
    def organization(self) -> Organization:
        """The first organization."""
        return next(iter(self.api.organizations.values()))

    @property
    def token(self) -> Token:
        """The first token of the configuration, revoked or not."""
        return self._tokens[0]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if error is None:
            self.journal.check()

    async def start(self) -> None:
        """Takes a port and listens. The port stays taken through pauses."""
        self._reservation = bind_loopback(self._port)
        self._port = self._reservation.getsockname()[1]
        self.api.origin = self.origin
        self._protocols = web.Server(self._handle, handler_cancellation=True, access_log=None)
        await self.resume()

    async def stop(self) -> None:
        """Closes everything at once, answers in the air included."""
        if self._outage is not None:
            self._outage.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._outage
        await self.pause()
        if self._protocols is not None:
            await self._protocols.shutdown(1.0)
        if self._reservation is not None:
            self._reservation.close()

    async def pause(self) -> None:
        """Resets every connection; until `resume`, new ones are refused."""
        self._open = False
        if self._listener is not None:
            stop_listening(self._listener)
            self._listener = None
            await asyncio.sleep(0)  # connections that were accepted before are set up now, and reset with the others
        if self._protocols is not None:
            for connection in self._protocols.connections:
                reset(connection.transport)

    async def resume(self) -> None:
        """Listens (again), on the same port."""
        if self._listener is not None:
            return
        context = None
        if self.authority is not None:
            context = self.authority.context(self.certificate or Certificate.VALID)
        self._open = True
        self._listener = await asyncio.get_running_loop().create_server(
            self._accept, sock=bind_loopback(self._port), ssl=context, backlog=1024
        )

    def revoke(self, token: Token | None = None) -> None:
        """The token (the first, by default) is refused from now on."""
        self.api.revoke((token or self.token).value)

    def grant(self, token: Token | None = None) -> None:
        """Accepts a token from now on: a new one, a revoked one, or one with other scopes."""
        granted = token or self.token
        self.api.tokens[granted.value] = granted

    def consume(self, user: int = 0, organization: int = 0, portal: int = 0) -> None:
        """Other tools' requests, now, by the first token's user, in the first organization and to its portals."""
        slug = self.organization.slug
        self.quota.consume(
            {self.token.user.id: user} if user else {},
            {slug: organization} if organization else {},
            {slug: portal} if portal else {},
        )

    def fault(
        self,
        effect: Effect,
        *,
        path: str | None = None,
        method: str | None = None,
        query: Mapping[str, str] | None = None,
        where: Callable[[Call], bool] | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> None:
        """Adds a `Rule`: the effect for the requests that match."""
        self.faults.add(Rule(effect, path, method, query or {}, where, times, skip))

    def script(self, effects: Iterable[Effect | None]) -> None:
        """An effect, or None, for each of the next requests in order of arrival."""
        self.faults.script(effects)

    def reset_counts(self) -> None:
        self.transcript.reset()

    def _accept(self) -> asyncio.BaseProtocol:
        if not self._open:
            return Refusal()
        self.transcript.connections += 1
        assert self._protocols is not None
        return self._protocols()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._control is not None and request.raw_path.startswith(CONTROL_PREFIX):
            return await self._control(self, request)
        return await self._serve(request)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        arrived = self._monotonic()
        body = await request.read() if request.content_type in BODIES else b""
        call = Call.parse(request.method, request.raw_path, request.headers.get("Authorization", ""), body)
        changes = call.path != EXCHANGE_PATH and not call.path.startswith(f"{PORTAL_PATH}/")
        """Whether it may change something of an organization, if its method does."""
        owner = ""
        status: int | None = None
        self.transcript.arrived()
        try:
            effect = self.faults.take(call)
            if isinstance(effect, Change):
                effect.change(self.api, call)
            token = self.api.token_of(call)
            owner = token.description if token else self.portals.caller(call)
            if isinstance(effect, Outage):
                if changes:
                    self.journal.record(call, self.journal.role(call), None, arrived - self._started, owner)
                await self._go_away(effect)
                return web.Response()
            if self.behind_proxies:
                self.api.origin = f"{'http' if self.authority is None else 'https'}://{request.host}"
            before = self.journal.role(call)
            unseen = effect.reply if isinstance(effect, Answer) else _UNSEEN if _hides(effect) else None
            reply = unseen or self._answer(call, token, request.remote or "")
            if changes:
                self.journal.record(call, before, None if unseen else reply.status, arrived - self._started, owner)
            if isinstance(effect, Edit):
                reply = effect.edit(call, reply)
            delay = self.latency + (effect.seconds if isinstance(effect, Slow) else 0.0)
            if delay > 0:
                await asyncio.sleep(delay)
            if isinstance(effect, Cut):
                return await break_off(request, reply, effect)
            date = {"Date": format_datetime(self._now(), usegmt=True)}
            response = web.Response(status=reply.status, body=reply.body, headers={**date, **reply.headers})
            status = reply.status
            return response
        finally:
            self.transcript.left(
                Request(
                    call.method,
                    call.path,
                    tuple(sorted(call.query.items())),
                    status,
                    arrived - self._started,
                    self._monotonic() - arrived,
                    owner,
                    request.host,
                )
            )

    def _answer(self, call: Call, token: Token | None, address: str) -> Reply:
        if call.path == EXCHANGE_PATH:
            return self.exchanges.answer(call.body, address)
        if call.path.startswith(f"{PORTAL_PATH}/"):
            return self.portals.answer(call, address)
        return self.api.answer(call, token)

    async def _go_away(self, outage: Outage) -> None:
        await self.pause()
        if outage.seconds is not None and (self._outage is None or self._outage.done()):
            self._outage = asyncio.create_task(self._come_back(outage.seconds))

    async def _come_back(self, seconds: float) -> None:
        """The simulator owns this task: `stop` cancels it and waits for it."""
        await asyncio.sleep(seconds)
        await self.resume()


Control = Callable[[BuildkiteSimulator, web.BaseRequest], Awaitable[web.StreamResponse]]


def _hides(effect: Effect | None) -> bool:
    """Whether the connection ends before the API sees the request."""
    return isinstance(effect, Cut) and not effect.applied
