"""Drives a Buildkite simulator from another process: GET /_sim/stats, requests, writes and POST /_sim/control.

A control message is one JSON object, `{"do": ORDER, …arguments}`; a wrong one is answered 400 with a
sentence. `BuildkiteProcess` starts the command and speaks this to it, so that a bench shares neither
event loop nor interpreter with what it measures.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import httpx
from aiohttp import web

from harness.forked_command import Begin, Running, simulator_environment, start_command
from harness.trust import plain_client
from simulators.buildkite.faults import EFFECTS, Effect
from simulators.buildkite.listing import LARGEST_PAGE, encode
from simulators.buildkite.organization import DEFAULT_KINDS
from simulators.buildkite.server import BuildkiteSimulator
from simulators.buildkite.writes import UNDECLARED_WRITES, UndeclaredWritesError

START_SECONDS = 60.0
STOP_SECONDS = 10.0


async def control(sim: BuildkiteSimulator, request: web.BaseRequest) -> web.StreamResponse:
    """Answers one control request. It is neither counted nor limited nor in the transcript."""
    match request.method, request.path:
        case "GET", "/_sim/stats":
            kinds = request.query.get("kinds")
            return _json(200, stats(sim, kinds.split(",") if kinds else DEFAULT_KINDS))
        case "GET", "/_sim/requests":
            return _json(200, [asdict(each) for each in sim.requests])
        case "POST", "/_sim/control":
            try:
                _obey(sim, json.loads(await request.read()))
            except (ValueError, TypeError, KeyError) as error:
                return _json(400, {"message": f"{type(error).__name__}: {error}"})
            return _json(200, {})
    return _json(404, {"message": "there are GET stats and requests, and POST control"})


def stats(sim: BuildkiteSimulator, kinds: Collection[str] = DEFAULT_KINDS) -> dict[str, Any]:
    """Counts since the start or the last reset_counts (connections: with this one); sizes by organization.

    `kinds`: the resource types of the minimum.
    """
    transcript = sim.transcript
    return {
        "requests": len(transcript.requests),
        "throttled": transcript.throttled,
        "by_status": Counter(str(request.status) for request in transcript.requests),
        "repeats": sum(transcript.repeats.values()) - len(transcript.repeats),
        "connections": transcript.connections,
        "in_flight": transcript.in_flight,
        "peak_in_flight": transcript.peak_in_flight,
        "pending_faults": sim.faults.pending,
        "organizations": {
            slug: {
                "accounts": len(organization.members),
                "teams": len(organization.teams),
                "memberships": organization.memberships,
                "minimum_requests": organization.requests_at(LARGEST_PAGE, kinds),
            }
            for slug, organization in sim.api.organizations.items()
        },
    }


def _obey(sim: BuildkiteSimulator, message: Any) -> None:
    """Carries out one order. Raises ValueError, TypeError or KeyError for one that makes no sense."""
    orders: Mapping[str, Callable[..., None]] = {
        "fault": lambda effect, arguments=None, **rule: sim.fault(_effect(effect, arguments), **rule),
        "clear_faults": sim.faults.clear,
        "reset_counts": sim.reset_counts,
    }
    if not isinstance(message, dict) or message.get("do") not in orders:
        raise ValueError(f"expected a JSON object whose `do` is one of {', '.join(orders)}")
    orders[message["do"]](**{name: value for name, value in message.items() if name != "do"})


def _effect(effect: str, arguments: Mapping[str, Any] | None = None) -> Effect:
    if effect not in EFFECTS:
        raise ValueError(f"unknown effect {effect!r}; there are {', '.join(EFFECTS)}")
    return EFFECTS[effect](**(arguments or {}))


def _json(status: int, payload: object) -> web.Response:
    return web.Response(status=status, body=encode(payload), content_type="application/json")


class BuildkiteProcess:
    """The simulator's command as a child process: `async with BuildkiteProcess("--accounts", "10") as sim`.

    Takes the command's own arguments. `url` is the base URL once it is ready; leaving stops it by
    SIGTERM. Plain http only. Without `--writes-expected`, leaving raises UndeclaredWritesError when anything wrote.
    `begin`: how it starts; see `harness.forked_command`.
    """

    def __init__(self, *arguments: str, begin: Begin = start_command) -> None:
        self._arguments = arguments
        self._begin = begin
        self._process: Running | None = None
        self._client = plain_client(timeout=30.0)
        self.url = ""

    async def __aenter__(self) -> Self:
        words = (sys.executable, "-m", "simulators.buildkite", *self._arguments)
        process = self._process = await self._begin(words, simulator_environment(), errors=None)
        try:
            async with asyncio.timeout(START_SECONDS):
                assert process.stdout is not None
                self.url = (await process.stdout.readline()).decode().strip()
        except BaseException:
            await self._stop()
            raise
        if not self.url:
            code = await process.wait()  # before anything signals it: that could take the code from asyncio
            await self._stop()
            raise RuntimeError(f"the simulator ended with {code} before it was ready")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        if error is None and self.returncode == UNDECLARED_WRITES:
            raise UndeclaredWritesError("the simulator was written to and no test declared that")

    async def _stop(self) -> None:
        await self._client.aclose()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How the process ended, None while it runs."""
        return None if self._process is None else self._process.returncode

    async def stats(self, kinds: Collection[str] = DEFAULT_KINDS) -> dict[str, Any]:
        """See `stats`."""
        answer = await self._client.get(self._address("stats"), params={"kinds": ",".join(kinds)})
        return dict(answer.raise_for_status().json())

    async def requests(self) -> list[dict[str, Any]]:
        """The transcript, one object a request."""
        answer = await self._client.get(self._address("requests"))
        return list(answer.raise_for_status().json())

    async def control(self, do: str, **arguments: Any) -> None:
        """Gives one order. Raises ValueError with the simulator's sentence when it makes no sense."""
        answer = await self._client.post(self._address("control"), json={"do": do, **arguments})
        if answer.status_code != httpx.codes.OK:
            raise ValueError(answer.json()["message"])

    def _address(self, what: str) -> str:
        return f"{self.url.removesuffix('/v2')}/_sim/{what}"
