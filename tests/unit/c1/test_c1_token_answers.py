"""What is made of each answer of the token endpoint, in all its words, and what is told of the request."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.c1 import C1Settings, parse_credentials
from buildkite_connector.c1.channel import ChannelPool
from buildkite_connector.c1.hosts import parse_endpoint
from buildkite_connector.c1.token import AssertingClient, TokenSource
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Work
from buildkite_connector.model.redactor import PLACEHOLDER
from buildkite_connector.timing.clock import SystemClock
from fakes.task_ports import Records
from harness.trust import reaching
from unit.hostile.c1_answers import CLIENT_SECRET, whole
from unit.hostile.c1_call_answers import no_task
from unit.hostile.c1_server import HostileC1
from unit.hostile.http_server import Part

ROTATE = (
    "Check that the connector still exists in C1, rotate its credentials there and replace the client ID and secret"
    " with the new ones."
)
AGAIN = "The connector retries. If this persists, check that the client ID's host is your C1 tenant's."
PROXY = "check that the client ID's host is your C1 tenant's and that no proxy answers in its place."
CREDENTIALS = (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
TIME = (Reason.C1_UNAVAILABLE, Remedy.RETRY)


@asynccontextmanager
async def asking(answer: Any, records: Records) -> AsyncIterator[tuple[TokenSource, str]]:
    """A source of tokens at an endpoint with this answer, and the endpoint's URL."""
    async with HostileC1(answer, no_task).running() as address:
        host, _, ca_file = address.partition(" ")
        channel = ChannelPool(C1Settings(), reaching(Path(ca_file))).acquire(parse_endpoint(host))
        credentials = parse_credentials(f"otter@{host}/ccc", CLIENT_SECRET)
        yield (
            TokenSource(AssertingClient(credentials), channel, SystemClock(), 10.0, records),
            f"https://{host}/auth/v1/token",
        )
        await channel.aclose()


@pytest.mark.parametrize(
    ("status", "body", "expected", "message"),
    [
        ("400 No", "{}", CREDENTIALS, f"refused the client ID and secret with 400. {ROTATE}"),
        (
            "401 No",
            '{"error" : "invalid_client", "error_description": "no"}',
            CREDENTIALS,
            f"refused the client ID and secret with 401 (invalid_client). {ROTATE}",
        ),
        (
            "403 No",
            '{"error":"' + "x" * 40 + '"}',
            CREDENTIALS,
            f"refused the client ID and secret with 403 ({'x' * 40}). {ROTATE}",
        ),
        (
            "403 No",
            '{"error":"' + "x" * 41 + '"}',
            CREDENTIALS,
            f"refused the client ID and secret with 403. {ROTATE}",
        ),
        (
            "401 No",
            '{"error": "Bad Client"}',
            CREDENTIALS,
            f"refused the client ID and secret with 401. {ROTATE}",
        ),
        ("404 No", '{"error": "not_found"}', TIME, f"answered 404 where 200 was expected. {AGAIN}"),
        (
            "200 OK",
            "[]",
            TIME,
            f"answered 200 with something other than a token; {PROXY}",
        ),
        ("200 OK", "{}", CREDENTIALS, f"answered with an empty token. {ROTATE}"),
        (
            "200 OK",
            json.dumps({"access_token": "a" * 8193}),
            TIME,
            f"answered with a token of 8193 characters; the limit is 8192. {AGAIN}",
        ),
        (
            "503 No",
            "a" * 32769,
            TIME,
            f"answered 503 with more than 32768 bytes, which is the limit. {AGAIN}",
        ),
    ],
)
async def test_an_answer_without_a_token_is_a_failure(
    status: str, body: str, expected: tuple[Reason, Remedy], message: str
) -> None:
    async with asking(whole(body, status), Records()) as (source, url):
        with pytest.raises(Failure) as caught:
            await source.current()
    failure = caught.value
    assert failure.message == f"C1's token endpoint {url} {message}"
    assert (failure.reason, failure.remedy, failure.retry_after) == (*expected, None)


async def test_a_coding_that_was_not_asked_for_is_named() -> None:
    async with asking(whole("{}", "200 OK", f"Content-Encoding: {'x' * 50}"), Records()) as (source, url):
        with pytest.raises(Failure) as caught:
            await source.current()
    assert caught.value.message == (
        f"C1's token endpoint {url} answered in the content coding {'x' * 39}…, although the request asked for none."
        f" {AGAIN}"
    )


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("99999", 99_999.0), ("100000", None), ("1.5", None), ("-1", None), ("7 s", None), ("", None)],
)
async def test_a_wait_that_is_asked_for_is_whole_seconds_within_a_day_or_so(header: str, seconds: float | None) -> None:
    async with asking(whole("{}", "503 No", f"Retry-After: {header}"), Records()) as (source, _):
        with pytest.raises(Failure) as caught:
            await source.current()
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("said", "authorization"),
    [({}, "Bearer abc"), ({"token_type": "bEARER"}, "Bearer abc"), ({"token_type": "DPoP"}, "DPoP abc")],
)
async def test_a_token_is_sent_by_its_type_and_told_of(said: dict[str, str], authorization: str) -> None:
    records = Records()
    answer = whole(json.dumps({"access_token": "abc", "expires_in": 60, **said}))
    async with asking(answer, records) as (source, _):
        token = await source.current()
        assert await source.current() is token
        assert await source.replace(token) is not token
        assert (await source.replace(token)).metadata == (("authorization", authorization),)
    assert "abc" not in repr(token)
    assert records.facts == [(Work.C1_TOKEN.value, {"method": "POST", "status": 200})] * 2


async def test_the_newest_assertions_and_tokens_are_known_and_older_ones_forgotten() -> None:
    tokens = [letter * 12 for letter in "abcdefg"]
    left = iter(tokens)

    def another(target: str) -> Iterable[Part]:
        return whole(json.dumps({"access_token": next(left), "expires_in": 60}))(target)

    async with asking(another, Records()) as (source, _):
        for _ in tokens[1:]:
            await source.replace(await source.current())
        quoted = [source.redactor.quote(token) for token in tokens]
    assert quoted == [*tokens[:3], *[PLACEHOLDER] * 4]
