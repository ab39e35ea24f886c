"""The simulated C1's HTTP side: the token endpoint, and `/_sim`, from where a test in another process drives it.

| request | does |
|---|---|
| GET /_sim/stats | calls by rpc and code, token requests, sessions, tasks by state, violations, repeated syncs |
| GET /_sim/transcript | every call, oldest first |
| GET /_sim/received[?ingested=N&timeout=S] | uploads with their summaries, once N were ingested |
| GET /_sim/tasks[/ID[?timeout=S]] | tasks; one task once it is finished |
| POST /_sim/tasks {kind, host_id, client_id, debug, options} | adds a task: {id} |
| POST /_sim/tasks/ID/cancel | cancels it |
| POST /_sim/requests {action, team, role, user, host_id, form: access.Form} | asks for a change of access: {id} |
| GET /_sim/requests[/ID[?timeout=S]] · /_sim/grants[?host_id=] | requests; one once it has ended · what C1 believes |
| POST /_sim/faults {rpc, action, …: faults.Fault} · DELETE /_sim/faults | scripts a fault · clears all |
| POST /_sim/clients {address} | registers a client: {client_id, client_secret} |
| POST /_sim/clients/refuse · accept {client_id} | C1 stops knowing a client · knows it again |
| POST /_sim/policy {field: value, …: policy.Policy} | changes what C1 does by itself |
| POST /_sim/tokens/expire | every token has expired |
| POST /_sim/certificate {certificate: c1_front.Certificate} | what the port shows from now on |
| POST /_sim/close {seconds} | nobody listens for that long; this request's connection goes too |
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic
from aiohttp import web
from google.protobuf.json_format import ParseError

from simulators.c1.faults import TOKEN, Action, Fault
from simulators.c1.front import Certificate
from simulators.c1.http_requests import RequestRoutes
from simulators.c1.journal import Call
from simulators.c1.policy import Policy
from simulators.c1.tasks import TaskRecord
from simulators.c1.token import TokenError

if TYPE_CHECKING:
    from simulators.c1.server import C1Simulator

T = TypeVar("T", Fault, Policy)
FORM = "application/x-www-form-urlencoded"
WAIT = 30.0
"""Seconds that a waiting request waits when it does not say."""


class TaskOrder(pydantic.BaseModel, extra="forbid"):
    kind: str = "sync_full"
    host_id: str | None = None
    client_id: str | None = None
    debug: bool = False
    options: dict[str, Any] = {}


class ClientOrder(pydantic.BaseModel, extra="forbid"):
    address: str | None = None


class ClientRef(pydantic.BaseModel, extra="forbid"):
    client_id: str


class Closing(pydantic.BaseModel, extra="forbid"):
    seconds: float


class Showing(pydantic.BaseModel, extra="forbid"):
    certificate: Certificate


class HttpSide:
    """One aiohttp application over the simulator that it drives."""

    def __init__(self, simulator: "C1Simulator") -> None:
        self._sim = simulator

    async def start(self) -> tuple[web.AppRunner, int]:
        """A running server on loopback, without TLS, and its port."""
        application = web.Application(middlewares=[_bad_requests])
        application.add_routes(
            [
                web.route("*", "/auth/v1/token", self._token),
                web.get("/_sim/stats", self._stats),
                web.get("/_sim/transcript", self._transcript),
                web.get("/_sim/received", self._received),
                web.get("/_sim/tasks", self._tasks),
                web.get("/_sim/tasks/{id}", self._task),
                web.post("/_sim/tasks", self._add_task),
                web.post("/_sim/tasks/{id}/cancel", self._cancel),
                web.post("/_sim/faults", self._add_fault),
                web.delete("/_sim/faults", self._clear_faults),
                web.post("/_sim/clients", self._register),
                web.post("/_sim/clients/refuse", self._refuse),
                web.post("/_sim/clients/accept", self._accept),
                web.post("/_sim/policy", self._policy),
                web.post("/_sim/tokens/expire", self._expire),
                web.post("/_sim/certificate", self._certificate),
                web.post("/_sim/close", self._close),
                *RequestRoutes(self._sim).routes(),
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

    async def _transcript(self, _: web.Request) -> web.Response:
        return web.json_response([{**asdict(call), "at": call.at.isoformat()} for call in self._sim.transcript])

    async def _received(self, request: web.Request) -> web.Response:
        wanted = int(request.query.get("ingested", "0"))
        await self._sim.wait_for(lambda: len(self._sim.ingested) >= wanted, _timeout(request))
        return web.json_response([await asyncio.to_thread(each.summary) for each in self._sim.received])

    async def _tasks(self, _: web.Request) -> web.Response:
        return web.json_response([_described(record) for record in self._sim.tasks.values()])

    async def _task(self, request: web.Request) -> web.Response:
        task_id = _known_task(self._sim, request)
        if "timeout" in request.query:
            await self._sim.finished(task_id, _timeout(request))
        return web.json_response(_described(self._sim.tasks[task_id]))

    async def _add_task(self, request: web.Request) -> web.Response:
        order = TaskOrder.model_validate_json(await request.read())
        task_id = self._sim.ledger.add(
            order.kind,
            client_id=order.client_id,
            host_id=order.host_id,
            debug=order.debug,
            options=order.options,
        )
        return web.json_response({"id": task_id}, status=201)

    async def _cancel(self, request: web.Request) -> web.Response:
        self._sim.cancel(_known_task(self._sim, request))
        return web.Response(status=204)

    async def _add_fault(self, request: web.Request) -> web.Response:
        self._sim.faults.add(_parsed(Fault, await request.json()))
        return web.Response(status=201)

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._sim.faults.clear()
        return web.Response(status=204)

    async def _register(self, request: web.Request) -> web.Response:
        order = ClientOrder.model_validate_json(await request.read() or b"{}")
        client = self._sim.register_client(order.address)
        return web.json_response({"client_id": client.client_id, "client_secret": client.client_secret}, status=201)

    async def _refuse(self, request: web.Request) -> web.Response:
        self._sim.authority.refuse(ClientRef.model_validate_json(await request.read()).client_id)
        return web.Response(status=204)

    async def _accept(self, request: web.Request) -> web.Response:
        self._sim.authority.accept(ClientRef.model_validate_json(await request.read()).client_id)
        return web.Response(status=204)

    async def _policy(self, request: web.Request) -> web.Response:
        changed = asdict(_parsed(Policy, asdict(self._sim.policy) | await request.json()))
        for name, value in changed.items():
            setattr(self._sim.policy, name, value)
        return web.json_response(changed)

    async def _expire(self, _: web.Request) -> web.Response:
        self._sim.authority.expire_tokens()
        return web.Response(status=204)

    async def _certificate(self, request: web.Request) -> web.Response:
        self._sim.front.show(Showing.model_validate_json(await request.read()).certificate)
        return web.Response(status=204)

    async def _close(self, request: web.Request) -> web.Response:
        self._sim.close_port_for(Closing.model_validate_json(await request.read()).seconds)
        return web.Response(status=204)


@web.middleware
async def _bad_requests(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except (pydantic.ValidationError, ParseError, ValueError) as error:
        return web.json_response({"error": str(error)}, status=400)
    except TimeoutError as error:
        return web.json_response({"error": str(error)}, status=504)


def _parsed(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass from JSON. Raises ValueError."""
    if unknown := set(values) - {field.name for field in fields(kind)}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    return pydantic.TypeAdapter(kind).validate_python(values)


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


def _timeout(request: web.Request) -> float:
    return float(request.query.get("timeout", WAIT))


def _known_task(simulator: "C1Simulator", request: web.Request) -> str:
    task_id = request.match_info["id"]
    if task_id not in simulator.tasks:
        raise web.HTTPNotFound(text=f"no task {task_id}")
    return task_id


def _described(record: TaskRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "kind": record.kind,
        "state": record.state,
        "host_id": record.host_id,
        "holder": record.holder.host_id if record.holder else None,
        "heartbeats": record.heartbeats,
        "cancelled": record.cancelled,
        "delivered": record.delivered,
        "outcome": asdict(record.outcome) if record.outcome else None,
    }
