"""One request without a token: can C1's host be reached, is its certificate good, and what time has it?"""

import asyncio
from datetime import datetime

import httpx

from buildkite_connector.c1.channel import Channel
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import connection_errors
from buildkite_connector.timing.server_time import server_time


async def reach(channel: Channel, deadline: float, redactor: Redactor) -> datetime | None:
    """Ask once, within `deadline` seconds. Returns the time that C1's clock shows; None where it does not tell.

    Any answer will do: what C1 has at `/` is its own business. Raises Failure C1_UNREACHABLE or C1_UNAVAILABLE.
    """
    try:
        async with asyncio.timeout(deadline), channel.http.stream("HEAD", "/") as response:
            return server_time(response.headers)
    except TimeoutError:
        raise Failure(
            Reason.C1_UNAVAILABLE,
            f"C1 at {channel.endpoint} gave no answer within {deadline:g} s"
            f"{connection_errors.by_way_of(channel.proxy)}. Check firewall and proxy.",
        ) from None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
        raise Failure(
            Reason.C1_UNREACHABLE,
            f"C1 at {channel.endpoint} could not be reached: {unreached(error, channel, redactor)}",
        ) from None


def unreached(error: Exception, channel: Channel, redactor: Redactor) -> str:
    """Why an HTTP request to C1 brought no answer, and what to do, in two sentences."""
    proxy = channel.proxy
    if proxy is not None:
        redactor = redactor.with_secrets(*proxy.secrets)
    trouble = connection_errors.from_exception(error, channel.endpoint.host, proxy, redactor.quote)
    if trouble is not None:
        return f"{trouble.what}. {trouble.advice}"
    return f"{redactor.quote(str(error) or type(error).__name__)}. Check DNS, firewall and proxy."
