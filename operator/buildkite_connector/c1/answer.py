"""One HTTP request to C1 and its answer: in time, bounded while it comes, and never in a content coding."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.errors import unreached
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network.connection_errors import by_way_of

ASKED_AGAIN = "The connector retries. If this persists, check that the client ID's host is your C1 tenant's."


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Whatever its status. The HTTP client bounds the headers."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)


async def ask(
    channel: Channel,
    method: str,
    path: str,
    *,
    subject: str,
    redactor: Redactor,
    limit: int,
    deadline: float,
    **content: Any,
) -> HttpAnswer:
    """Send the request, with `content` as httpx takes it, and read the answer's body of at most `limit` bytes.

    Raises Failure C1_UNREACHABLE or C1_UNAVAILABLE, whose sentence begins with `subject`. `redactor` knows the secrets
    that are sent.
    """
    try:
        async with asyncio.timeout(deadline), channel.http.stream(method, path, **content) as response:
            # Leaving this block before the body's end closes the connection.
            coding = response.headers.get("content-encoding", "identity")
            if coding.lower() != "identity":
                raise Failure(
                    Reason.C1_UNAVAILABLE,
                    f"{subject} answered in the content coding {redactor.quote(coding, 40)}, although the request "
                    f"asked for none. {ASKED_AGAIN}",
                )
            return HttpAnswer(response.status_code, response.headers, await _read(response, limit, subject))
    except TimeoutError:
        raise late(subject, deadline, channel) from None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
        why = unreached(error, channel, redactor)
        raise Failure(Reason.C1_UNREACHABLE, f"{subject} could not be reached: {why}") from None


def late(subject: str, deadline: float, channel: Channel) -> Failure:
    """There was no answer within the deadline, or not all of it."""
    return Failure(
        Reason.C1_UNAVAILABLE,
        f"{subject} did not answer within {deadline:g} s{by_way_of(channel.proxy)}. The connector retries.",
    )


async def _read(response: httpx.Response, limit: int, subject: str) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > limit:
            raise Failure(
                Reason.C1_UNAVAILABLE,
                f"{subject} answered {response.status_code} with more than {limit} bytes, which is the limit. "
                f"{ASKED_AGAIN}",
            )
        await asyncio.sleep(0)  # pieces of one byte each would keep the event loop from everybody else
    return bytes(body)
