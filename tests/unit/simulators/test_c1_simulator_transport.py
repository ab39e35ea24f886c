"""The simulated C1's port: one for both protocols, with a certificate, and gone when a test wants it gone."""

import asyncio
import ssl

import grpc
import grpc.aio
import httpx
import pytest

from simulators.c1.front import Certificate
from simulators.c1.probe import http, probe, token_form
from simulators.c1.server import C1Simulator
from simulators.c1.tiny_snapshot import tiny_snapshot


async def negotiated(sim: C1Simulator, *offers: str) -> tuple[str | None, str]:
    context = ssl.create_default_context(cafile=str(sim.ca_file))
    context.set_alpn_protocols(list(offers))
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port, ssl=context, server_hostname="localhost")
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    chosen, version = tls.selected_alpn_protocol(), str(tls.version())
    writer.close()
    await writer.wait_closed()
    return chosen, version


@pytest.mark.parametrize("certificate", [Certificate.OTHER_HOST, Certificate.UNTRUSTED, Certificate.EXPIRED])
async def test_a_wrong_certificate_is_shown_to_those_who_connect_anew(
    sim: C1Simulator, certificate: Certificate
) -> None:
    sim.show_certificate(certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        await negotiated(sim, "h2")
    sim.show_certificate(Certificate.VALID)
    assert await negotiated(sim, "h2")


async def test_a_closed_port_refuses_and_is_the_same_when_reopened(sim: C1Simulator) -> None:
    port = sim.port
    async with http(sim) as session:
        await session.get("/_sim/stats")
        sim.close_port()
        with pytest.raises(httpx.TransportError):
            await session.get("/_sim/stats")
        with pytest.raises(httpx.ConnectError):
            await session.get("/_sim/stats")
        await sim.reopen_port()
        assert (await session.get("/_sim/stats")).status_code == 200
    assert sim.port == port


async def test_a_connection_dropped_mid_upload_leaves_nothing_and_the_next_upload_is_accepted(
    sim: C1Simulator,
) -> None:
    task_id = sim.add_task()
    sim.drop("UploadAsset", after_bytes=1)
    async with probe(sim) as host:
        await host.hello()
        await host.get_task()
        await host.heartbeat(task_id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.upload(task_id, tiny_snapshot())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not sim.received
        await host.upload(task_id, tiny_snapshot())
    assert len(sim.received) == 1


async def test_a_port_that_is_taken_is_an_error_at_once(sim: C1Simulator) -> None:
    with pytest.raises(OSError, match="address already in use"):
        async with C1Simulator(port=sim.port):
            pass


async def test_leaving_it_ends_calls_that_stall() -> None:
    async with C1Simulator() as sim, probe(sim) as host:
        sim.stall("GetTask", times=None)
        stalled = asyncio.create_task(host.get_task())
        await sim.wait_for(lambda: sim.under_way["GetTask"])
        async with http(sim) as session:
            sim.stall("Token")
            hanging = asyncio.create_task(session.post("/auth/v1/token", data=token_form(sim.register_client())))
            await sim.wait_for(lambda: sim.under_way["Token"])
            await sim.__aexit__(None, None, None)
            with pytest.raises(httpx.TransportError):
                await hanging
        with pytest.raises(grpc.aio.AioRpcError):
            await stalled
