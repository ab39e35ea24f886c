"""The simulated C1 as a process of its own, driven over HTTP."""

import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from harness.forked_command import Running, fork_command, simulator_environment
from simulators.c1.probe import http, probe
from simulators.c1.server import C1Simulator


@pytest.fixture
async def admin(sim: C1Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with http(sim) as session:
        yield session


async def start(*arguments: str | Path) -> tuple[Running, str]:
    words = (sys.executable, "-m", "simulators.c1", *map(str, arguments))
    process = await fork_command(words, simulator_environment(), errors=None)
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def test_the_command_says_where_it_listens_and_stops_on_sigterm(tmp_path: Path) -> None:
    ca, credentials, kept = tmp_path / "ca.pem", tmp_path / "credentials.json", tmp_path / "kept"
    options = ("--ca-out", ca, "--credentials-out", credentials, "--keep-uploads", kept, "--next-poll", "3")
    process, address = await start(*options)
    try:
        assert address.startswith("localhost:")
        client = json.loads(credentials.read_text())
        assert client["client_id"].endswith(f"@{address}/ccc")
        assert client["client_secret"].startswith("secret-token:conductorone.com:v1:")
        assert credentials.stat().st_mode & 0o077 == 0
        assert kept.is_dir()
        trust = ssl.create_default_context(cafile=str(ca))
        async with httpx.AsyncClient(base_url=f"https://{address}", verify=trust, trust_env=False) as session:
            policy = (await session.post("/_sim/policy", json={})).json()
            assert (policy["next_poll"], policy["sync_on_hello"]) == (3.0, True)
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_waiting_in_vain_is_a_timeout(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/_sim/received", params={"ingested": "1", "timeout": "0.01"})
    assert (answer.status_code, "last calls" in answer.json()["error"]) == (504, True)


async def test_a_client_is_registered_refused_and_accepted_again(sim: C1Simulator, admin: httpx.AsyncClient) -> None:
    client = (await admin.post("/_sim/clients", json={"address": "acme.test"})).json()
    assert client["client_id"].endswith("@acme.test/ccc")
    registered = sim.authority.clients[0]
    assert (await admin.post("/_sim/clients/refuse", json={"client_id": client["client_id"]})).status_code == 204
    with pytest.raises(httpx.HTTPStatusError):
        async with probe(sim, registered):
            pass
    await admin.post("/_sim/clients/accept", json={"client_id": client["client_id"]})
    async with probe(sim, registered) as host:
        await host.hello()


async def test_tokens_are_expired_the_certificate_changed_and_the_port_closed(
    sim: C1Simulator, admin: httpx.AsyncClient
) -> None:
    async with probe(sim) as host:
        assert (await admin.post("/_sim/tokens/expire")).status_code == 204
        with pytest.raises(grpc.RpcError, match="expired"):
            await host.hello()
    assert (await admin.post("/_sim/certificate", json={"certificate": "expired"})).status_code == 204
    async with http(sim) as anew:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await anew.get("/_sim/stats")
    with pytest.raises(httpx.TransportError):
        await admin.post("/_sim/close", json={"seconds": 60})
    assert not sim.listening


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tasks", {"kind": "no_such_kind"}),
        ("tasks", {"options": {"no_such_option": 1}}),
        ("tasks", {"host": "acme"}),
        ("faults", {"rpc": "Nothing"}),
        ("faults", {"rpc": "Hello", "action": "explode"}),
        ("policy", {"next_poll": "soon"}),
        ("policy", {"next_pole": 1}),
        ("certificate", {"certificate": "nice"}),
    ],
)
async def test_an_order_that_makes_no_sense_is_a_bad_request(
    admin: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    answer = await admin.post(f"/_sim/{path}", json=body)
    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


async def test_a_task_that_there_is_not_is_not_found(admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/_sim/tasks/nothing/cancel")).status_code == 404
