"""The simulated C1's REST API over HTTP: whose token, scripted faults, what the request holds, then what it does.

Answers are JSON with every field; refusals are google.rpc.Status with its HTTP status.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from simulators.c1.apps import Json
from simulators.c1.faults import Action, Fault
from simulators.c1.journal import Call
from simulators.c1.rest_calls import OPERATIONS, Calls, Operation
from simulators.c1.rest_requests import Asked, RestError, invalid, read_body, read_query
from simulators.c1.token import RestClient, TokenRejected

if TYPE_CHECKING:
    from simulators.c1.server import C1Simulator

PREFIX = "/api/v1"
PIECE = b"x" * (1 << 16)


@dataclass(slots=True)
class _Came:
    """A request that has been read."""

    rpc: str
    method: str
    path: str
    query: list[tuple[str, str]]
    authorization: str
    content_type: str
    raw: bytes
    client_id: str = ""


class RestSide:
    """Answers what is below `/api/v1`. `close` ends the calls that would still take effect later."""

    def __init__(self, simulator: "C1Simulator") -> None:
        self._sim = simulator
        self._calls = Calls(simulator.connectors, simulator.authority, simulator.policy)
        self._late: set[asyncio.Task[web.Response]] = set()

    async def close(self) -> None:
        for late in self._late:
            late.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(PREFIX)
        operation = next((each for each in OPERATIONS if each.method == request.method and _is(each, path)), None)
        came = _Came(
            operation.rpc if operation else f"{request.method} {path}",
            request.method,
            path,
            list(request.query.items()),
            request.headers.get("authorization", ""),
            request.content_type,
            await request.read(),
        )
        self._sim.journal.begin(came.rpc)
        fault = self._sim.faults.take(came.rpc) if operation else None
        if fault is not None and fault.action is Action.LATE:
            return await self._answer_late(fault, operation, came)
        if fault is not None and not fault.carried_out:
            return await befall(self._sim, fault, request, came.rpc)
        try:
            await asyncio.sleep(self._sim.policy.rest_latency)
        except asyncio.CancelledError:
            self._record(came, "cancelled", "the caller gave up")
            raise
        if fault is not None:
            self._act(operation, came)
            return await befall(self._sim, fault, request, came.rpc)
        return self._recorded(operation, came)

    async def _answer_late(self, fault: Fault, operation: Operation | None, came: _Came) -> web.Response:
        """It takes effect, now or later, even when its caller has gone."""

        async def act() -> web.Response:
            if not fault.carried_out:
                await asyncio.sleep(fault.delay)
                return self._recorded(operation, came)
            answered = self._recorded(operation, came)
            await asyncio.sleep(fault.delay)
            return answered

        late = asyncio.create_task(act())
        self._late.add(late)
        late.add_done_callback(self._late.discard)
        return await asyncio.shield(late)

    def _recorded(self, operation: Operation | None, came: _Came) -> web.Response:
        status, answer, detail = self._act(operation, came)
        self._record(came, str(status), detail)
        return web.json_response(answer, status=status)

    def _act(self, operation: Operation | None, came: _Came) -> tuple[int, Json, str]:
        try:
            return 200, self._carry_out(operation, came), ""
        except RestError as error:
            if error.violation:
                self._sim.journal.violate(f"{came.rpc} by {came.client_id}: {error.message}")
            return error.status, error.json(), error.message

    def _carry_out(self, operation: Operation | None, came: _Came) -> Json:
        if operation is None:
            there = any(_is(each, came.path) for each in OPERATIONS)
            raise RestError(405 if there else 404, "method not allowed" if there else "not found", violation=True)
        who = self._who(came)
        query = read_query(came.query, operation.query)
        if operation.body is None and came.raw:
            raise invalid("body: expected none")
        body = read_body(came.raw, came.content_type, operation.body or {})
        answer = operation.act(self._calls, Asked(who, operation.ids(came.path) or {}, query, body))
        self._sim.journal.announce()
        return answer

    def _who(self, came: _Came) -> RestClient:
        try:
            came.client_id = self._sim.authority.identify(came.authorization)
        except TokenRejected as rejected:
            raise RestError(401, str(rejected), violation=not rejected.expired) from None
        who = self._sim.authority.rest_clients.get(came.client_id)
        if who is None:
            raise RestError(403, "permission denied")
        return who

    def _record(self, came: _Came, code: str, detail: str) -> None:
        self._sim.journal.end(Call(self._sim.clock.now(), came.rpc, code, came.client_id, detail=detail))


def _is(operation: Operation, path: str) -> bool:
    return operation.ids(path) is not None


async def befall(sim: "C1Simulator", fault: Fault, request: web.Request, rpc: str) -> web.StreamResponse:
    """What a fault makes of a request's answer. The call ends in the journal."""
    try:
        if fault.action is Action.STALL:
            await sim.faults.cleared()
    finally:
        code = str(fault.status) if fault.action is Action.ERROR else fault.action
        sim.journal.end(Call(sim.clock.now(), rpc, code, detail="a scripted fault"))
    if fault.action is Action.DROP and request.transport is not None:
        sim.front.drop(request.transport.get_extra_info("peername")[1])
    if fault.action is Action.ENDLESS:
        return await _endless(sim, fault, request)
    return web.Response(
        status=fault.status, text=fault.body, content_type=fault.content_type, headers=dict(fault.headers)
    )


async def _endless(sim: "C1Simulator", fault: Fault, request: web.Request) -> web.StreamResponse:
    """Until the caller hangs up or the faults are cleared."""
    response = web.StreamResponse(status=fault.status, headers={"content-type": fault.content_type, **fault.headers})
    await response.prepare(request)
    await response.write(b'{"endless":"')
    cleared = asyncio.ensure_future(sim.faults.cleared())
    try:
        while not cleared.done():
            await response.write(PIECE)
            await asyncio.wait({cleared}, timeout=fault.delay)
    finally:
        cleared.cancel()
    return response
