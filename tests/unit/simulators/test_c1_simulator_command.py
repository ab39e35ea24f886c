"""The simulated C1 as a process of its own, driven over HTTP."""

import asyncio
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
from simulators.c1.process import C1Process
from simulators.c1.server import C1Simulator
from simulators.c1.tiny_snapshot import tiny_snapshot


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


async def test_stats_count_calls_by_rpc_and_code(sim: C1Simulator, admin: httpx.AsyncClient) -> None:
    async with probe(sim, host_id="acme") as host:
        await host.hello()
        await host.get_task()
    stats = (await admin.get("/_sim/stats")).json()
    assert stats["calls"] == {"Token": {"200": 1}, "Hello": {"OK": 1}, "GetTask": {"OK": 1}}
    assert stats["token_requests"] == 1
    assert [(session["host_id"], session["hellos"]) for session in stats["sessions"]] == [("acme", 1)]
    assert stats["violations"] == []


async def test_stats_tell_the_most_calls_that_were_under_way_at_once(
    sim: C1Simulator, admin: httpx.AsyncClient
) -> None:
    sim.stall("Hello", times=2)
    async with probe(sim, host_id="one") as one, probe(sim, host_id="two") as two:
        hellos = [asyncio.create_task(host.hello()) for host in (one, two)]
        await sim.wait_for(lambda: sim.under_way["Hello"] == 2)
        await admin.delete("/_sim/faults")
        await asyncio.gather(*hellos, return_exceptions=True)
        await one.hello()
    stats = (await admin.get("/_sim/stats")).json()
    assert stats["most_under_way"]["Hello"] == 2
    assert stats["under_way"]["Hello"] == 0


async def test_a_process_tells_where_it_is_its_client_and_its_stats() -> None:
    async with C1Process("--next-poll", "3") as process:
        assert process.client_id.endswith(f"@{process.address}/ccc")
        assert process.client_secret.startswith("secret-token:conductorone.com:v1:")
        assert (await process.stats())["sessions"] == []


async def test_the_transcript_names_each_call(sim: C1Simulator, admin: httpx.AsyncClient) -> None:
    async with probe(sim, host_id="acme") as host:
        await host.hello()
    calls = (await admin.get("/_sim/transcript")).json()
    assert [(call["rpc"], call["host_id"], call["code"]) for call in calls] == [
        ("Token", "", "200"),
        ("Hello", "acme", "OK"),
    ]


async def test_a_task_is_added_awaited_and_its_upload_shown(sim: C1Simulator, admin: httpx.AsyncClient) -> None:
    added = await admin.post("/_sim/tasks", json={"host_id": "acme", "options": {"skip_grants": False}})
    task_id = added.json()["id"]
    async with probe(sim, host_id="acme") as host:
        await host.hello()
        await host.get_task()
        await host.heartbeat(task_id)
        await host.upload(task_id, tiny_snapshot())
        await host.finish(task_id)
    task = (await admin.get(f"/_sim/tasks/{task_id}", params={"timeout": "10"})).json()
    assert (task["state"], task["outcome"]["code"], task["holder"]) == ("finished", 0, "acme")
    received = (await admin.get("/_sim/received", params={"ingested": "1", "timeout": "10"})).json()
    assert [(each["task_id"], each["resources"]) for each in received] == [(task_id, {"user": 2, "team": 1})]
    assert [each["id"] for each in (await admin.get("/_sim/tasks")).json()] == [task_id]


async def test_waiting_in_vain_is_a_timeout(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/_sim/received", params={"ingested": "1", "timeout": "0.01"})
    assert (answer.status_code, "last calls" in answer.json()["error"]) == (504, True)


async def test_a_task_is_cancelled(sim: C1Simulator, admin: httpx.AsyncClient) -> None:
    task_id = sim.add_task()
    assert (await admin.post(f"/_sim/tasks/{task_id}/cancel")).status_code == 204
    assert sim.tasks[task_id].cancelled


async def test_a_fault_is_scripted_and_cleared(sim: C1Simulator, admin: httpx.AsyncClient) -> None:
    fault = {"rpc": "Hello", "code": "PERMISSION_DENIED", "times": None}
    assert (await admin.post("/_sim/faults", json=fault)).status_code == 201
    async with probe(sim) as host:
        with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
            await host.hello()
        assert (await admin.delete("/_sim/faults")).status_code == 204
        await host.hello()


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


async def test_the_policy_is_changed_field_by_field(sim: C1Simulator, admin: httpx.AsyncClient) -> None:
    await admin.post("/_sim/policy", json={"next_poll": 9, "sync_every": 60})
    assert (sim.policy.next_poll, sim.policy.sync_every, sim.policy.validate) == (9, 60, True)


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
