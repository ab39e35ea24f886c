"""The token: asked for once, renewed in time, replaced when C1 no longer takes it; over TLS."""

import asyncio
import json
import re
from datetime import timedelta

import pytest

from buildkite_connector.c1 import open_c1, parse_credentials
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.c1_setup import HOST_ID, SetClock, connect, settings_for
from harness.trust import reaching
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator
from unit.c1.token_calls import hello_fails, token_of

HTML = "<html><body>Welcome to the guest network</body></html>"


async def test_one_token_serves_many_calls(sim: C1Simulator) -> None:
    async with connect(sim) as connector:
        for _ in range(5):
            await connector.hello()

    assert sim.token_requests == 1


async def test_callers_at_the_same_time_share_one_request_for_a_token(sim: C1Simulator) -> None:
    async with connect(sim) as connector:
        await asyncio.gather(*(connector.hello() for _ in range(20)))

    assert sim.token_requests == 1
    assert len(sim.calls("Hello")) == 20


@pytest.mark.parametrize(
    ("lifetime", "later", "requests"),
    [
        (3600, 3500, 1),
        (3600, 3541, 2),
        (3600, 3700, 2),
        (100, 85, 1),
        (100, 91, 2),
        (10**9, 86_300, 1),
        (10**9, 86_400, 2),
    ],
)
async def test_a_token_is_renewed_shortly_before_it_expires_and_within_a_day(
    lifetime: int, later: float, requests: int
) -> None:
    clock = SetClock()
    async with C1Simulator(Policy(token_lifetime=lifetime), clock=clock) as sim, connect(sim, clock=clock) as connector:
        await connector.hello()
        clock.ahead += later
        await connector.hello()

        assert sim.token_requests == requests
        assert [call.code for call in sim.calls("Hello")] == ["OK", "OK"]


async def test_a_token_that_c1_no_longer_takes_is_replaced_once_and_the_call_repeated(sim: C1Simulator) -> None:
    async with connect(sim) as connector:
        await connector.hello()
        sim.authority.expire_tokens()
        await connector.hello()

    assert [call.code for call in sim.calls("Hello")] == ["OK", "UNAUTHENTICATED", "OK"]
    assert sim.token_requests == 2


async def test_callers_whose_token_expired_at_the_same_time_replace_it_once(sim: C1Simulator) -> None:
    async with connect(sim) as connector:
        await connector.hello()
        sim.authority.expire_tokens()
        await asyncio.gather(*(connector.hello() for _ in range(10)))

    assert sim.token_requests == 2


async def test_a_client_whose_new_token_is_refused_too_is_rejected(sim: C1Simulator) -> None:
    sim.fail("Hello", "UNAUTHENTICATED", times=None, message="who are you?")

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert "UNAUTHENTICATED (who are you?)" in failure.message
    assert len(sim.calls("Hello")) == 2
    assert sim.token_requests == 2


async def test_a_client_that_c1_forgot_is_rejected(sim: C1Simulator) -> None:
    client = sim.register_client()
    async with connect(sim, client=client) as connector:
        await connector.hello()
        sim.authority.refuse(client.client_id)
        with pytest.raises(Failure) as caught:
            await connector.hello()
        sim.authority.accept(client.client_id)
        await connector.hello()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert "refused the client ID and secret with 401 (invalid_client)" in caught.value.message


async def test_the_secret_of_another_client_is_rejected(sim: C1Simulator) -> None:
    one, other = sim.register_client(), sim.register_client()
    credentials = parse_credentials(one.client_id, other.client_secret)
    async with open_c1(settings_for(sim), reaching(sim.ca_file)) as c1, c1.client(credentials, HOST_ID) as connector:
        with pytest.raises(Failure) as caught:
            await connector.hello()

    assert caught.value.reason is Reason.C1_CLIENT_REJECTED


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_token_request_asks_for_other_credentials(sim: C1Simulator, status: int) -> None:
    sim.answer_token(status, HTML, "text/html")

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert f"{sim.url}/auth/v1/token refused the client ID and secret with {status}." in failure.message


@pytest.mark.parametrize("status", [204, 301, 302, 404, 408, 429, 500, 502, 503])
async def test_any_other_answer_passes_with_time(sim: C1Simulator, status: int) -> None:
    sim.answer_token(status, "" if status == 204 else HTML, "text/html")

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert f"answered {status} where 200 was expected" in failure.message


@pytest.mark.parametrize("body", ["{}", '{"access_token": "", "token_type": "Bearer", "expires_in": 3600}'])
async def test_an_empty_token_is_a_failure_to_authenticate(sim: C1Simulator, body: str) -> None:
    sim.answer_token(200, body)

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert "answered with an empty token" in failure.message


@pytest.mark.parametrize(
    "body",
    [
        HTML,
        "",
        "[]",
        '{"access_token": "abc',
        '{"access_token": 7}',
        '{"access_token": "a\\nb", "expires_in": 60}',
        '{"access_token": "h\u00e9", "expires_in": 60}',
        '{"access_token": "abc", "token_type": "Bea rer", "expires_in": 60}',
        '{"access_token": "abc", "expires_in": "soon"}',
        '{"access_token": "abc", "expires_in": true}',
        '{"access_token": "abc", "expires_in": [60]}',
        '{"access_token": "abc", "expires_in": ' + "9" * 5000 + "}",
        '{"access_token": "abc", "more": ' + "[" * 20_000 + "}",
        '{"access_token": "abc", "token_type": "' + "x" * 41 + '", "expires_in": 60}',
    ],
)
async def test_an_answer_that_is_no_token_passes_with_time(sim: C1Simulator, body: str) -> None:
    sim.answer_token(200, body)

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert "answered 200 with something other than a token" in failure.message


async def test_a_token_without_a_lifetime_serves_one_call(sim: C1Simulator) -> None:
    client = sim.register_client()
    sim.answer_token(200, json.dumps({"access_token": token_of(sim, client)}), times=None)
    async with connect(sim, client=client) as connector:
        await connector.hello()
        await connector.hello()

    assert sim.token_requests == 2
    assert [call.code for call in sim.calls("Hello")] == ["OK", "OK"]


@pytest.mark.parametrize("seconds", [-600, -90, 90, 600])
async def test_a_refusal_while_the_clock_is_wrong_blames_the_clock_and_passes_with_time(
    sim: C1Simulator, seconds: int
) -> None:
    clock = SetClock()
    clock.wrong_by = timedelta(seconds=seconds)
    async with connect(sim, clock=clock) as connector:
        with pytest.raises(Failure) as refused:
            await connector.hello()
        clock.wrong_by = timedelta()
        await connector.hello()

    assert (refused.value.reason, refused.value.remedy) == (Reason.CLOCK_WRONG, Remedy.RETRY)
    assert refused.value.message.startswith(f"C1's token endpoint {sim.url}/auth/v1/token refused the client with 401")
    assert ("s behind C1's" if seconds < 0 else "s ahead of C1's") in refused.value.message
    assert "NTP" in refused.value.message
    assert "otate" not in refused.value.message


async def test_a_call_that_c1_refuses_while_the_clock_is_wrong_blames_the_clock_too() -> None:
    clock = SetClock()
    clock.wrong_by = timedelta(seconds=600)
    async with C1Simulator(Policy(validate=False), clock=clock) as sim, connect(sim, clock=clock) as connector:
        sim.fail("Hello", "UNAUTHENTICATED", times=None, message="who are you?")
        with pytest.raises(Failure) as refused:
            await connector.hello()

    assert (refused.value.reason, refused.value.remedy) == (Reason.CLOCK_WRONG, Remedy.RETRY)
    assert "UNAUTHENTICATED (who are you?)" in refused.value.message
    ahead = re.search(r"is ([0-9]+) s ahead of C1's", refused.value.message)
    assert ahead is not None
    assert 60 < int(ahead[1]) <= 600  # what is certain: less than the truth by what the request took
