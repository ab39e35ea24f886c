"""The token endpoint's connections and answers: deadlines, certificates, limits, and what is not read."""

import asyncio
import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkite_connector.c1 import C1Settings, open_c1, parse_credentials
from buildkite_connector.c1.channel import ChannelPool
from buildkite_connector.c1.hosts import parse_endpoint
from buildkite_connector.c1.token import LONGEST_TOKEN
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import PLACEHOLDER
from fakes.c1_setup import SetClock, connect
from harness.trust import NOBODY, reaching
from simulators.c1.faults import TOKEN
from simulators.c1.front import Certificate
from simulators.c1.server import C1Simulator
from unit.c1.token_calls import hello_fails, token_of
from unit.hostile.c1_answers import CLIENT_SECRET, head, next_task, whole
from unit.hostile.c1_call_answers import no_task
from unit.hostile.c1_server import BROKEN_RECORD, HostileC1
from unit.hostile.http_server import Part


async def test_a_token_endpoint_that_does_not_answer_is_given_up_at_the_deadline(sim: C1Simulator) -> None:
    sim.stall(TOKEN)

    failure = await hello_fails(sim, call_timeout=0.3)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert "no response within 0.3 s" in failure.message


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
    failure = await hello_fails(sim, network=reaching(NOBODY))

    assert failure.reason is Reason.C1_UNREACHABLE
    assert "SSL_CERT_FILE" in failure.message


async def test_a_tls_record_that_cannot_be_read_is_a_network_failure() -> None:
    async with HostileC1(lambda _: [BROKEN_RECORD], no_task).running() as address:
        host, _, ca_file = address.partition(" ")
        credentials = parse_credentials(f"otter@{host}/ccc", CLIENT_SECRET)
        async with (
            open_c1(C1Settings(allowed_hosts=host), reaching(Path(ca_file))) as c1,
            c1.client(credentials, "acme.acme") as connector,
        ):
            failures = []
            for ask in (connector.hello, functools.partial(c1.reach, credentials)):
                with pytest.raises(Failure) as caught:
                    await ask()
                failures.append(caught.value)

    for failure in failures:
        assert (failure.reason, failure.remedy) == (Reason.C1_UNREACHABLE, Remedy.RETRY)
        assert "could not be reached: " in failure.message
        assert "SSL" in failure.message
        assert "SSL_CERT_FILE" not in failure.message


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
    assert "answered 200 with more than 32768 bytes, which is the limit" in caught.value.message


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
            Failure, match=f"answered in the content coding {coding}, although the request asked for none"
        ) as caught:
            await ask()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)


async def test_a_token_has_its_own_deadline_however_long_the_call_may_take(sim: C1Simulator) -> None:
    sim.stall(TOKEN)
    async with connect(sim, call_timeout=0.3, poll_timeout=60.0) as connector:
        with pytest.raises(Failure, match=r"auth/v1/token did not answer within 0.3 s") as caught:
            await connector.next_task()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)


@pytest.mark.parametrize("length", [8 * 1024 + 1, 30_000])
async def test_a_token_that_fits_into_no_call_is_refused(sim: C1Simulator, length: int) -> None:
    sim.answer_token(200, json.dumps({"access_token": "a" * length, "expires_in": 60}))

    failure = await hello_fails(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert f"answered with a token of {length} characters; the limit is 8192" in failure.message


@pytest.mark.parametrize("pieces", [3, 4, 1000, 4000])
async def test_however_many_dots_tokens_have_few_texts_are_sought(sim: C1Simulator, pieces: int) -> None:
    token = ".".join(f"{number:06d}" for number in range(pieces))
    sim.answer_token(200, json.dumps({"access_token": token, "expires_in": 0}), times=None)
    async with connect(sim) as connector:
        before = len(connector._tokens.redactor._secrets)
        for _ in range(8):
            with contextlib.suppress(Failure):
                await connector.authenticate()
        redactor = connector._tokens.redactor

    assert len(redactor._secrets) - before <= 8 * 4  # eight assertions or tokens, and three parts of each
    assert redactor.quote("000001") == "000001"
    if len(token) <= LONGEST_TOKEN:
        assert redactor.quote(f"no {token[4:16]} here") == f"no {PLACEHOLDER} here"


async def test_each_part_of_a_jwt_is_taken_out_where_a_text_is_cut_off(sim: C1Simulator) -> None:
    parts = ["header0123456789", "claims0123456789", "signature0123456789"]
    sim.answer_token(200, json.dumps({"access_token": ".".join(parts), "expires_in": 60}))
    async with connect(sim) as connector:
        await connector.authenticate()
        redactor = connector._tokens.redactor

    assert [redactor.quote(f"no {part[:9]}") for part in parts] == [f"no {PLACEHOLDER}"] * 3


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
        channel = ChannelPool(C1Settings(), reaching(Path(ca_file))).acquire(parse_endpoint(host))
        response = await channel.http.post("/auth/v1/token", data={"a": "b"})
        await channel.aclose()

    assert "set-cookie" in response.headers
    assert len(channel.http.cookies) == 0
