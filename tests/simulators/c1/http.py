"""The simulated C1's HTTP side: the token endpoint, REST, and `/_sim`, by which another process drives it.

Stats are calls by rpc and code, token requests, sessions, tasks by state, violations and repeated syncs; the rest of
`/_sim` is `control`.
"""

from collections import Counter
from email.utils import format_datetime
from typing import TYPE_CHECKING

from aiohttp import web

from simulators.c1.control import control
from simulators.c1.faults import TOKEN
from simulators.c1.federation import EXCHANGE
from simulators.c1.journal import Call
from simulators.c1.rest import PREFIX, RestSide, befall
from simulators.c1.token import TokenError

if TYPE_CHECKING:
    from simulators.c1.server import C1Simulator

FORM = "application/x-www-form-urlencoded"


class HttpSide:
    """One aiohttp application over the simulator that it drives."""

    def __init__(self, simulator: "C1Simulator") -> None:
        self._sim = simulator
        self.rest = RestSide(simulator)

    async def start(self) -> tuple[web.AppRunner, int]:
        """A running server on loopback, without TLS, and its port."""
        application = web.Application()
        application.add_routes(
            [
                web.route("*", "/auth/v1/token", self._token),
                web.route("*", PREFIX + "/{path:.*}", self.rest.answer),
                web.get("/_sim/stats", self._stats),
                web.route("*", "/_sim/{order}", self._control),
            ]
        )
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, runner.addresses[0][1]

    async def _token(self, request: web.Request) -> web.StreamResponse:
        client_id = ""
        self._sim.journal.begin(TOKEN)
        fault = self._sim.faults.take(TOKEN)
        if fault is not None and not fault.carried_out:
            return await befall(self._sim, fault, request, TOKEN)
        try:
            form = await _form(request)
            client_id = form.get("client_id", "")
            if form.get("grant_type") == EXCHANGE:
                await self._sim.authority.fetch_keys(form)
            answer, status, detail = self._sim.authority.exchange(form), 200, ""
        except TokenError as error:
            answer, status, detail = (
                {"error": error.error, "error_description": error.description},
                error.status,
                error.logged or error.description,
            )
            if error.logged:
                self._sim.journal.system_log.append((client_id, error.logged))
            if error.violation:
                self._sim.journal.violate(f"{TOKEN} by {client_id}: {detail}")
        if fault is not None:
            return await befall(self._sim, fault, request, TOKEN)
        self._record(str(status), client_id, detail)
        headers = {"Cache-Control": "no-store"}
        if self._sim.policy.tells_time:
            headers["Date"] = format_datetime(self._sim.clock.now(), usegmt=True)
        return web.json_response(answer, status=status, headers=headers)

    def _record(self, code: str, client_id: str, detail: str) -> None:
        self._sim.journal.end(Call(self._sim.clock.now(), TOKEN, code, client_id, detail=detail))

    async def _control(self, request: web.Request) -> web.Response:
        return await control(self._sim, request)

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
                "apps": len(sim.connectors.apps),
                "connectors": len(sim.connectors.connectors),
                "credentials": len(sim.connectors.credentials),
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
