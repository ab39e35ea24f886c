"""The simulated C1 as a process of its own."""

import json
import signal
import ssl
import sys
from pathlib import Path

import httpx

from harness.forked_command import Running, fork_command, simulator_environment


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
            assert (await session.get("/_sim/stats")).json()["calls"] == {}
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
