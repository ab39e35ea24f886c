"""Access requests of the simulated C1, from another process; a part of `http`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pydantic
from aiohttp import web

from simulators.c1.access import WHOLLY_KNOWN, Form
from simulators.c1.requests import AccessRequest, Change

if TYPE_CHECKING:
    from simulators.c1.server import C1Simulator


class RequestOrder(pydantic.BaseModel, extra="forbid"):
    action: Change
    team: str
    role: str
    user: str
    host_id: str | None = None
    form: Form = WHOLLY_KNOWN


class RequestRoutes:
    """Adds requests and tells of them."""

    def __init__(self, simulator: "C1Simulator") -> None:
        self._sim = simulator

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get("/_sim/requests", self._all),
            web.post("/_sim/requests", self._make),
            web.get("/_sim/requests/{id}", self._one),
            web.get("/_sim/grants", self._grants),
        ]

    async def _make(self, request: web.Request) -> web.Response:
        order = RequestOrder.model_validate_json(await request.read())
        try:
            made = self._sim.request(**{**dict(order), "action": order.action.value})
        except LookupError as error:
            raise ValueError(str(error)) from None
        return web.json_response({"id": made.id}, status=201)

    async def _all(self, _: web.Request) -> web.Response:
        return web.json_response([described(each) for each in self._sim.requests.requests.values()])

    async def _one(self, request: web.Request) -> web.Response:
        found = self._sim.requests.requests.get(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound(text="no such request")
        if "timeout" in request.query:
            await self._sim.ended(found, float(request.query["timeout"]))
        return web.json_response(described(found))

    async def _grants(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(sorted(self._sim.book(request.query.get("host_id")).grants))
        except LookupError as error:
            raise ValueError(str(error)) from None


def described(request: AccessRequest) -> dict[str, Any]:
    reading = request.reading
    return {
        **{name: value for name, value in asdict(request).items() if name != "reading"},
        "id": request.id,
        "made_at": request.made_at.isoformat(),
        "ended": request.ended,
        "ended_at": request.ended_at and request.ended_at.isoformat(),
        "effect": reading.effect if reading else None,
        "reason": reading.reason if reading else "",
        "grants": [grant.id for grant in reading.grants] if reading else [],
        "replaced": reading.replaced if reading else (),
    }
