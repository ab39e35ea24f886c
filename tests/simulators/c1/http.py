"""The simulated C1's HTTP side: the token endpoint, and `/_sim/stats`, which tells another process what happened.

Stats are calls by rpc and code, token requests, sessions, tasks by state, violations and repeated syncs.
"""

from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

from simulators.c1.faults import TOKEN, Action, Fault
from simulators.c1.journal import Call
from simulators.c1.token import TokenError

if TYPE_CHECKING:
    from simulators.c1.server import C1Simulator

FORM = "application/x-www-form-urlencoded"


class HttpSide:
    """One aiohttp application over the simulator that it drives."""

    def __init__(self, simulator: "C1Simulator") -> None:
        self._sim = simulator

    async def start(self) -> tuple[web.AppRunner, int]:
        """A running server on loopback, without TLS, and its port."""
        application = web.Application()
        application.add_routes(
            [
                web.route("*", "/auth/v1/token", self._token),
                web.get("/_sim/stats", self._stats),
            ]
        )
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, runner.addresses[0][1]

    async def _token(self, request: web.Request) -> web.Response:
        client_id = ""
        self._sim.journal.begin(TOKEN)
        fault = self._sim.faults.take(TOKEN)
        if fault is not None and not fault.carried_out:
            return await self._befall(fault, request)
        try:
            form = await _form(request)
            client_id = form.get("client_id", "")
            answer, status, detail = self._sim.authority.exchange(form), 200, ""
        except TokenError as error:
            answer, status, detail = (
                {"error": error.error, "error_description": error.description},
                error.status,
                error.description,
            )
            if error.violation:
                self._sim.journal.violate(f"{TOKEN} by {client_id}: {detail}")
        if fault is not None:
            return await self._befall(fault, request)
        self._record(str(status), client_id, detail)
        return web.json_response(answer, status=status, headers={"Cache-Control": "no-store"})

    async def _befall(self, fault: Fault, request: web.Request) -> web.Response:
        try:
            if fault.action is Action.STALL:
                await self._sim.faults.cleared()
        finally:
            self._record(str(fault.status) if fault.action is Action.ERROR else fault.action, "", "a scripted fault")
        if fault.action is Action.DROP and request.transport is not None:
            self._sim.front.drop(request.transport.get_extra_info("peername")[1])
        return web.Response(status=fault.status, text=fault.body, content_type=fault.content_type)

    def _record(self, code: str, client_id: str, detail: str) -> None:
        self._sim.journal.end(Call(self._sim.clock.now(), TOKEN, code, client_id, detail=detail))

    async def _stats(self, _: web.Request) -> web.Response:
        sim = self._sim
        calls: dict[str, Counter[str]] = {}
        for call in sim.transcript:
            calls.setdefault(call.rpc, Counter())[call.code] += 1
        sessions = [
            {
                "client_id": who.client_id,
                "host_id": who.host_id,
                "hellos": len(session.hellos),
                "user_agent": session.user_agent,
            }
            for who, session in sim.sessions.items()
        ]
        return web.json_response(
            {
                "calls": calls,
                "under_way": sim.under_way,
                "most_under_way": sim.journal.most_under_way,
                "token_requests": sim.token_requests,
                "sessions": sessions,
                "tasks": Counter(record.state for record in sim.tasks.values()),
                "received": len(sim.received),
                "ingested": len(sim.ingested),
                "repeated_syncs": sim.repeated_syncs,
                "violations": sim.violations,
            }
        )


async def _form(request: web.Request) -> dict[str, str]:
    """The form's fields, each once. Raises TokenError."""
    if request.method != "POST":
        raise TokenError(405, "invalid_request", "expected POST")
    if request.content_type != FORM:
        raise TokenError(400, "invalid_request", f"content-type: expected {FORM}")
    fields = await request.post()
    if len(fields) != len(set(fields)):
        raise TokenError(400, "invalid_request", "a parameter comes twice")
    return {name: str(value) for name, value in fields.items()}
