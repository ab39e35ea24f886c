"""What connectors share: one channel to each host, closed by the last to leave; and the proxy it may go through."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from buildkite_connector.c1 import C1Settings, open_c1, parse_credentials
from buildkite_connector.c1.channel import TOKEN_CONNECTIONS, ChannelPool, load_trust
from buildkite_connector.c1.endpoint import Endpoint
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.c1_world import HOST_ID, connect, settings_for
from simulators.c1.server import C1Simulator
from simulators.sockets import stop_listening

ONE, OTHER = Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2)


@asynccontextmanager
async def opened_links() -> AsyncIterator[ChannelPool]:
    channels = ChannelPool(C1Settings(), load_trust(C1Settings()))
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
    async with proxy() as (running, url), open_c1(settings_for(sim, https_proxy=url)) as c1:
        registered = [sim.register_client() for _ in range(100)]
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
    async with connect(sim) as lasting, open_c1(settings_for(sim)) as c1:
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
    async with open_c1(settings_for(sim)) as c1:
        connector = c1.client(parse_credentials(client.client_id, client.client_secret), HOST_ID)
        await connector.hello()
    await connector.aclose()

    with pytest.raises(RuntimeError, match="closed"):
        await connector.hello()


@pytest.mark.parametrize("host_id", ["", "n" * 257])
async def test_a_host_id_that_c1_would_not_take_asks_for_an_edit(sim: C1Simulator, host_id: str) -> None:
    client = sim.register_client()
    async with open_c1(settings_for(sim)) as c1:
        with pytest.raises(Failure) as caught:
            c1.client(parse_credentials(client.client_id, client.client_secret), host_id)

    assert (caught.value.reason, caught.value.remedy) == (Reason.SPEC_INVALID, Remedy.EDIT)
    assert "delivery.hostID" in caught.value.message


class Proxy:
    """An HTTP proxy that opens tunnels, or refuses to; notes what it was asked for."""

    def __init__(self, tasks: asyncio.TaskGroup, *, refuses: bool) -> None:
        self.asked: list[str] = []
        self._tasks = tasks
        self._refuses = refuses

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.create_task(self._tunnel(reader, writer))

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.partition(" HTTP/")[0])
        if self._refuses:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()
            return
        host, _, port = self.asked[-1].removeprefix("CONNECT ").rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        ways = [
            asyncio.create_task(_copy(reader, far_writer)),
            asyncio.create_task(_copy(far_reader, writer)),
        ]
        await asyncio.wait(ways)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(65_536):
            writer.write(block)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxy(*, refuses: bool = False) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy on loopback, and its URL."""
    async with asyncio.TaskGroup() as tasks:
        running = Proxy(tasks, refuses=refuses)
        server = await asyncio.start_server(running.accept, "127.0.0.1", 0)
        try:
            yield running, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            stop_listening(server)


async def test_the_token_and_grpc_go_through_the_same_proxy(sim: C1Simulator) -> None:
    async with proxy() as (running, url), connect(sim, https_proxy=url) as connector:
        await connector.hello()

    assert running.asked == [f"CONNECT {sim.address}"] * 2
    assert [call.code for call in sim.transcript] == ["200", "OK"]


async def test_neither_goes_through_a_proxy_that_the_host_is_exempt_from(
    sim: C1Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "grpc_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with proxy() as (running, url), connect(sim, https_proxy=url, no_proxy="localhost") as connector:
        await connector.hello()

    assert running.asked == []
    assert [call.code for call in sim.transcript] == ["200", "OK"]


async def test_a_proxy_that_refuses_makes_c1_unreachable(sim: C1Simulator) -> None:
    async with proxy(refuses=True) as (_, url), connect(sim, https_proxy=url) as connector:
        with pytest.raises(Failure) as caught:
            await connector.hello()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNREACHABLE, Remedy.RETRY)
    assert "403" in caught.value.message


async def test_a_connection_that_stands_idle_is_closed_before_a_load_balancer_forgets_it(sim: C1Simulator) -> None:
    async with connect(sim, idle_timeout=1.0) as connector:
        await connector.hello()
        async with asyncio.timeout(5):
            await sim.front.until_ended(sim.front.connections[-1])
        await connector.next_task()
        assert sim.token_requests == 1
    assert C1Settings().idle_timeout < 60
