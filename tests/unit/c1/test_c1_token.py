"""The token: asked for once, renewed in time, replaced when C1 no longer takes it; over TLS."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.c1 import C1Settings, open_c1, parse_credentials
from buildkite_connector.c1.channel import Channel, load_trust
from buildkite_connector.c1.endpoint import parse_endpoint
from buildkite_connector.c1.token import ASSERTION_TYPE, sign_assertion
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.c1_world import HOST_ID, SetClock, connect, settings_for
from simulators.c1.faults import TOKEN
from simulators.c1.front import Certificate
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client
from unit.hostile.c1_rows import head, next_task, no_task, whole
from unit.hostile.c1_server import HostileC1
from unit.hostile.http_server import Part

HTML = "<html><body>Welcome to the guest network</body></html>"


async def hello_fails(sim: C1Simulator, *, client: Client | None = None, **changes: Any) -> Failure:
    async with connect(sim, client=client, **changes) as connector:
        with pytest.raises(Failure) as caught:
            await connector.hello()
    return caught.value


def token_of(sim: C1Simulator, client: Client) -> object:
    """A token that C1 takes from this client, got beside the connector."""
    credentials = parse_credentials(client.client_id, client.client_secret)
    form = {
        "client_id": client.client_id,
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign_assertion(credentials, datetime.now(UTC), "0" * 32),
    }
    return sim.authority.exchange(form)["access_token"]


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
    async with open_c1(settings_for(sim)) as c1, c1.client(credentials, HOST_ID) as connector:
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


async def test_a_token_endpoint_that_does_not_answer_is_given_up_at_the_deadline(sim: C1Simulator) -> None:
    sim.stall(TOKEN)

    failure = await hello_fails(sim, call_timeout=0.3)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert "no answer within 0.3 s" in failure.message


async def test_a_caller_that_gives_up_leaves_the_next_one_its_turn(sim: C1Simulator) -> None:
    sim.stall(TOKEN)
    async with connect(sim) as connector:
        first = asyncio.create_task(connector.hello())
        await sim.wait_for(lambda: sim.under_way[TOKEN])
        second = asyncio.create_task(connector.hello())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second

    assert sim.calls("Hello")[-1].code == "OK"


async def test_a_connection_that_is_reset_is_a_network_failure(sim: C1Simulator) -> None:
    sim.drop(TOKEN)

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNREACHABLE, Remedy.RETRY)


async def test_a_port_where_nobody_listens_is_a_network_failure(sim: C1Simulator) -> None:
    sim.close_port()

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNREACHABLE, Remedy.RETRY)
    assert "could not be reached" in failure.message
    assert "SSL_CERT_FILE" not in failure.message


@pytest.mark.parametrize("certificate", [Certificate.UNTRUSTED, Certificate.EXPIRED, Certificate.OTHER_HOST])
async def test_a_certificate_that_does_not_verify_says_where_to_name_the_ca(
    sim: C1Simulator, certificate: Certificate
) -> None:
    sim.show_certificate(certificate)

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNREACHABLE, Remedy.RETRY)
    assert "SSL_CERT_FILE" in failure.message
    assert sim.transcript == type(sim.transcript)()


async def test_without_the_ca_file_a_private_ca_is_not_trusted(sim: C1Simulator) -> None:
    failure = await hello_fails(sim, ca_file=None)

    assert failure.reason is Reason.C1_UNREACHABLE
    assert "SSL_CERT_FILE" in failure.message


async def test_an_answer_that_is_too_long_is_refused_and_its_connection_closed() -> None:
    def endless(_: str) -> Iterator[Part]:
        yield head()
        while True:
            yield b"a" * 1000

    server = HostileC1(endless, no_task)
    async with server.running() as address, next_task(address) as ask:
        with pytest.raises(Failure) as caught:
            await ask()
        async with asyncio.timeout(10):
            await server.left.wait()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert "answered 200 with more than 32768 bytes, the most that is read" in caught.value.message


async def test_the_longest_answer_is_read(sim: C1Simulator) -> None:
    client = sim.register_client()
    answer = {"access_token": token_of(sim, client), "expires_in": 60, "more": ""}
    answer["more"] = "x" * (32 * 1024 - len(json.dumps(answer)))
    sim.answer_token(200, json.dumps(answer))
    async with connect(sim, client=client) as connector:
        await connector.hello()

    assert sim.token_requests == 1


@pytest.mark.parametrize(
    ("coding", "refused"), [("gzip", True), ("br", True), ("identity", False), ("Identity", False)]
)
async def test_an_answer_in_a_content_coding_is_refused(coding: str, refused: bool) -> None:
    answer = whole(json.dumps({"access_token": "abc", "expires_in": 60}), "200 OK", f"Content-Encoding: {coding}")
    async with HostileC1(answer, no_task).running() as address, next_task(address) as ask:
        if not refused:
            await ask()
            return
        with pytest.raises(
            Failure, match=f"answered in the content coding {coding}, though it was asked for none"
        ) as caught:
            await ask()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)


async def test_a_token_has_its_own_deadline_however_long_the_call_may_take(sim: C1Simulator) -> None:
    sim.stall(TOKEN)
    async with connect(sim, call_timeout=0.3, poll_timeout=60.0) as connector:
        with pytest.raises(Failure, match=r"auth/v1/token gave no answer within 0.3 s") as caught:
            await connector.next_task()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)


@pytest.mark.parametrize("length", [8 * 1024 + 1, 30_000])
async def test_a_token_that_fits_into_no_call_is_refused(sim: C1Simulator, length: int) -> None:
    sim.answer_token(200, json.dumps({"access_token": "a" * length, "expires_in": 60}))

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert f"answered with a token of {length} characters, of which 8192 fit into a call" in failure.message


@pytest.mark.parametrize(
    ("expires_in", "requests"),
    [
        ("3600", 1),
        ('"3600"', 1),
        ("3600.5", 1),
        ("1e308", 1),
        ("Infinity", 1),
        ("-1", 2),
        ("-1e308", 2),
        ("NaN", 2),
        ("0", 2),
    ],
)
async def test_a_lifetime_out_of_range_is_clamped(sim: C1Simulator, expires_in: str, requests: int) -> None:
    client = sim.register_client()
    sim.answer_token(200, f'{{"access_token": "{token_of(sim, client)}", "expires_in": {expires_in}}}', times=None)
    clock = SetClock()
    async with connect(sim, client=client, clock=clock) as connector:
        await connector.hello()
        await connector.hello()
        before_a_day = sim.token_requests
        clock.ahead += 86_401
        await connector.hello()

    assert (before_a_day, sim.token_requests) == (requests, requests + 1)


async def test_no_cookie_is_kept() -> None:
    answer = whole("{}", "500 No", "Set-Cookie: session=1; Path=/")
    async with HostileC1(answer, no_task).running() as address:
        host, _, ca_file = address.partition(" ")
        settings = C1Settings(ca_file=Path(ca_file))
        channel = Channel(parse_endpoint(host), settings, load_trust(settings))
        response = await channel.http.post("/auth/v1/token", data={"a": "b"})
        await channel.aclose()

    assert "set-cookie" in response.headers
    assert len(channel.http.cookies) == 0
