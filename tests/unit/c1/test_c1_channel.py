"""What connectors share: one channel to each host, closed by the last to leave; and the proxy it may go through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from buildkite_connector.c1 import C1Client, C1Settings, open_c1, parse_credentials
from buildkite_connector.c1.channel import TOKEN_CONNECTIONS, ChannelPool
from buildkite_connector.c1.hosts import Endpoint
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.c1_setup import HOST_ID, connect, settings_for
from harness.trust import DIRECT, reaching
from simulators.c1.server import C1Simulator
from simulators.forward_proxy import ForwardProxy

ONE, OTHER = Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2)


@asynccontextmanager
async def opened_links() -> AsyncIterator[ChannelPool]:
    channels = ChannelPool(C1Settings(), DIRECT)
    try:
        yield channels
    finally:
        await channels.aclose()


async def test_connectors_of_one_host_share_a_link_and_other_hosts_have_their_own() -> None:
    async with opened_links() as channels:
        first, second, elsewhere = channels.acquire(ONE), channels.acquire(ONE), channels.acquire(OTHER)

        assert first is second
        assert first is not elsewhere
        assert len(channels) == 2


async def test_the_last_to_leave_closes_the_link() -> None:
    async with opened_links() as channels:
        channel = channels.acquire(ONE)
        channels.acquire(ONE)
        await channels.release(channel)
        after_the_first = channel.http.is_closed
        await channels.release(channel)

        assert (after_the_first, channel.http.is_closed) == (False, True)
        assert len(channels) == 0
        assert channels.acquire(ONE) is not channel


async def test_a_hundred_connectors_need_one_connection_for_grpc_and_a_few_for_their_tokens(sim: C1Simulator) -> None:
    async with (
        ForwardProxy({TENANT: sim.port}) as running,
        open_c1(settings_for(sim, allowed_hosts=TENANT), reaching(sim.ca_file, HTTPS_PROXY=running.url)) as c1,
    ):
        registered = [sim.register_client(TENANT) for _ in range(100)]
        connectors = [
            c1.client(parse_credentials(client.client_id, client.client_secret), HOST_ID) for client in registered
        ]
        await asyncio.gather(*(connector.hello() for connector in connectors))
        at_first = len(running.asked)
        await asyncio.gather(*(connector.next_task() for connector in connectors))
        await asyncio.gather(*(connector.aclose() for connector in connectors))

    assert at_first <= TOKEN_CONNECTIONS + 1
    assert len(running.asked) == at_first
    assert {call.client_id for call in sim.calls("GetTask")} == {client.client_id for client in registered}
    assert sim.violations == []


async def test_a_session_that_is_closed_twice_leaves_the_others_their_link(sim: C1Simulator) -> None:
    async with connect(sim) as lasting, open_c1(settings_for(sim), reaching(sim.ca_file)) as c1:
        client = sim.register_client()
        credentials = parse_credentials(client.client_id, client.client_secret)
        one, other = c1.client(credentials, HOST_ID), c1.client(credentials, HOST_ID)
        await one.hello()
        await one.aclose()
        await one.aclose()
        await other.hello()
        await lasting.hello()
        with pytest.raises(RuntimeError, match="closed"):
            await one.hello()


async def test_a_session_may_be_closed_after_the_process_has_closed_its_links(sim: C1Simulator) -> None:
    client = sim.register_client()
    async with open_c1(settings_for(sim), reaching(sim.ca_file)) as c1:
        connector = c1.client(parse_credentials(client.client_id, client.client_secret), HOST_ID)
        await connector.hello()
    await connector.aclose()

    with pytest.raises(RuntimeError, match="closed"):
        await connector.hello()


@pytest.mark.parametrize("host_id", ["", "n" * 257])
async def test_a_host_id_that_c1_would_not_take_asks_for_an_edit(sim: C1Simulator, host_id: str) -> None:
    client = sim.register_client()
    async with open_c1(settings_for(sim), reaching(sim.ca_file)) as c1:
        with pytest.raises(Failure) as caught:
            c1.client(parse_credentials(client.client_id, client.client_secret), host_id)

    assert (caught.value.reason, caught.value.remedy) == (Reason.SPEC_INVALID, Remedy.EDIT)
    assert "delivery.hostID" in caught.value.message


TENANT = "acme.conductor.one"


@asynccontextmanager
async def behind(sim: C1Simulator, proxy: ForwardProxy, **environment: str) -> AsyncIterator[C1Client]:
    """A connector of a tenant with a real name, which the proxy leads to the simulator."""
    network = reaching(sim.ca_file, **{"HTTPS_PROXY": proxy.url, **environment})
    async with connect(sim, client=sim.register_client(TENANT), network=network, allowed_hosts=TENANT) as connector:
        yield connector


async def test_the_token_and_grpc_go_through_the_same_proxy(sim: C1Simulator) -> None:
    async with ForwardProxy({TENANT: sim.port}) as proxy, behind(sim, proxy) as connector:
        await connector.hello()

    assert proxy.asked == [f"{TENANT}:443"] * 2
    assert [call.code for call in sim.transcript] == ["200", "OK"]


async def test_the_login_of_a_proxy_is_sent_as_it_is_meant(sim: C1Simulator) -> None:
    async with ForwardProxy({TENANT: sim.port}, login="corp\\svc:p/ss%@:word") as proxy:
        url = f"http://corp%5Csvc:p%2Fss%25@:word@{proxy.address}"
        async with behind(sim, proxy, HTTPS_PROXY=url) as connector:
            await connector.hello()

    assert [call.code for call in sim.transcript] == ["200", "OK"]


async def test_neither_reads_a_variable_of_its_own(sim: C1Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "grpc_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with connect(sim) as connector:
        await connector.hello()
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.setenv(name, "one, *")
    async with ForwardProxy({TENANT: sim.port}) as proxy, behind(sim, proxy) as connector:
        await connector.hello()

    assert len(proxy.asked) == 2
    assert [call.code for call in sim.transcript] == ["200", "OK"] * 2


async def test_a_connection_that_stands_idle_is_closed_before_a_load_balancer_forgets_it(sim: C1Simulator) -> None:
    async with connect(sim, idle_timeout=1.0) as connector:
        await connector.hello()
        async with asyncio.timeout(5):
            await sim.front.until_ended(sim.front.connections[-1])
        await connector.next_task()
        assert sim.token_requests == 1
    assert C1Settings().idle_timeout < 60
