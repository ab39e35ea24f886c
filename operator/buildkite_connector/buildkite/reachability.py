"""One request without a token: can Buildkite's API be reached, is it Buildkite that answers, and what time has it?"""

import asyncio
from datetime import datetime

import httpx

from buildkite_connector import __version__
from buildkite_connector.buildkite.body import ERROR_LIMIT, BodiesUnderWay, BodyRefused, read_body
from buildkite_connector.buildkite.connection_pool import Connections
from buildkite_connector.buildkite.errors import Call, from_exception, from_status
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.server_time import server_time

PATH = "/access-token"
"""Answered 401 in JSON to whoever brings no token."""


async def reach(
    settings: BuildkiteSettings, connections: Connections, clock: Clock, redactor: Redactor
) -> datetime | None:
    """Ask once. Returns the time that Buildkite's clock shows; None where the answer does not tell.

    Raises Failure BUILDKITE_UNREACHABLE, BUILDKITE_UNAVAILABLE, BUILDKITE_RATE_LIMITED, or what else is wrong with an
    answer that is not Buildkite's refusal.
    """
    call = Call(f"GET {PATH}", _elsewhere(f"the answer is 404 of {settings.api_url}"), redactor)
    timeouts = settings.timeouts
    request = httpx.Request(
        "GET",
        settings.api_url + PATH,
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"buildkite-connector/{__version__}",
        },
        extensions={
            "timeout": {
                "connect": timeouts.connect,
                "read": timeouts.read,
                "write": timeouts.write,
                "pool": timeouts.total,
            }
        },
    )
    body: bytes | BodyRefused
    try:
        async with asyncio.timeout(timeouts.total), connections.one() as http:
            response = await http.send(request, stream=True)
            try:
                body = await read_body(response, ERROR_LIMIT, BodiesUnderWay())
            except BodyRefused as refused:
                body = refused
            finally:
                await response.aclose()
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
        raise from_exception(error, call, settings.api_url, connections.proxy).error from None
    status, kind = response.status_code, response.headers.get("content-type", "").partition(";")[0].strip()
    if 200 <= status < 300 or kind.lower() == "text/html":
        raise _elsewhere(f"the answer is {status} in {call.quote(kind) or 'no content type'}")
    if status != httpx.codes.UNAUTHORIZED:
        raise from_status(status, response.headers, body, call, now=clock.now()).error
    return server_time(response.headers)


def _elsewhere(what: str) -> Failure:
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"GET {PATH} without a token: expected 401 in JSON, but {what}. Something other than Buildkite's API answers, "
        "a proxy's or gateway's own page perhaps: check BUILDKITE_API_URL and the proxies in between.",
    )
