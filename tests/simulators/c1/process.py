"""The simulated C1 as a process of its own, and what `/_sim` of it offers to whoever started it."""

import asyncio
import contextlib
import json
import os
import ssl
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

START_SECONDS = 60.0
STOP_SECONDS = 10.0


class C1Process:
    """The simulator's command as a child process: `async with C1Process("--next-poll", "60") as c1`.

    Takes the command's own arguments. `client_id` and `client_secret` are of the client that it has registered.
    """

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._opened = contextlib.AsyncExitStack()
        self.address = ""

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opening:
            folder = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="c1-process-")))
            self.ca_file, credentials = folder / "ca.pem", folder / "credentials.json"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "simulators.c1", f"--ca-out={self.ca_file}"),
                *(f"--credentials-out={credentials}", *self._arguments),
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
            opening.push_async_callback(_stop, process)
            async with asyncio.timeout(START_SECONDS):
                assert process.stdout is not None
                self.address = (await process.stdout.readline()).decode().strip()
            if not self.address:
                raise RuntimeError(f"the simulator ended with {await process.wait()} before it was ready")
            client: dict[str, str] = json.loads(credentials.read_bytes())
            self.client_id, self.client_secret = client["client_id"], client["client_secret"]
            tls = ssl.create_default_context(cafile=self.ca_file)
            self._http = httpx.AsyncClient(
                base_url=f"https://{self.address}", verify=tls, timeout=30.0, trust_env=False
            )
            await opening.enter_async_context(self._http)
            self._opened = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def stats(self) -> dict[str, Any]:
        """See `http`."""
        return await self._get("stats")

    async def journal(self) -> dict[str, Any]:
        """See `control`."""
        return await self._get("journal")

    async def connectors(self) -> dict[str, Any]:
        """See `control`."""
        return await self._get("connectors")

    async def control(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Carries out an order of `control`; what it made. Raises ValueError for one that makes no sense."""
        answer = await self._http.post("/_sim/control", json={"do": do, **arguments})
        if answer.status_code == httpx.codes.BAD_REQUEST:
            raise ValueError(answer.json()["message"])
        return dict(answer.raise_for_status().json())

    async def _get(self, what: str) -> dict[str, Any]:
        answer = await self._http.get(f"/_sim/{what}")
        return dict(answer.raise_for_status().json())


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
