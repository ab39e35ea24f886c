"""One request without a token: can C1's host be reached, is its certificate good, and what time has it?"""

import asyncio
from datetime import datetime

import httpx

from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.errors import tls_hint
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.untrusted_text import Redactor
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
            f"C1 at {channel.endpoint} gave no answer within {deadline:g} s. Check firewall and proxy.",
        ) from None
    except httpx.HTTPError as error:
        said = redactor.quote(str(error) or type(error).__name__)
        raise Failure(
            Reason.C1_UNREACHABLE,
            f"C1 at {channel.endpoint} could not be reached: {said}. Check DNS, firewall and proxy.{tls_hint(said)}",
        ) from None
