"""A real Prometheus that scrapes operators twice a second. Its program must be on PATH."""

import asyncio
import contextlib
import json
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.rig import PATIENCE
from harness.trust import plain_client

Sample = dict[str, Any]
"""An item of a query's result: `metric` (its labels) and `value`."""

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus on PATH (Debian's package has it)"
)


@dataclass(frozen=True)
class Prometheus:
    http: httpx.AsyncClient

    async def ask(
        self, query: str, wanted: Callable[[list[Sample]], object] = bool, later: float = 0.0
    ) -> list[Sample]:
        """The result of a query, once it is as wanted; `later`: as it would be so many seconds from now if nothing
        was scraped any more. AssertionError with the last result when that takes too long."""
        found: object = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    with contextlib.suppress(httpx.TransportError):  # it has not started yet
                        parameters: dict[str, str | float] = {"query": query, "time": time.time() + later}
                        answer = (await self.http.get("/api/v1/query", params=parameters)).json()
                        found = answer.get("data", {}).get("result", answer)
                        if isinstance(found, list) and wanted(found):
                            return found
                    await asyncio.sleep(0.2)  # it tells nobody when it has scraped
        except TimeoutError:
            raise AssertionError(f"not as wanted within {PATIENCE} s: {query}\n{json.dumps(found, indent=1)}") from None


@contextlib.asynccontextmanager
async def prometheus(directory: Path, targets: Mapping[str, Mapping[str, str]]) -> AsyncIterator[Prometheus]:
    """Scrapes each address, with these labels, as the chart's monitors do: an operator's own labels go before them.

    It begins five seconds after its start: what it shall see can happen meanwhile.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scraped = {
        "job_name": "operator",
        "scrape_interval": "500ms",
        "honor_labels": True,
        "static_configs": [{"targets": [target], "labels": dict(labels)} for target, labels in targets.items()],
    }
    (directory / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scraped]}))
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--query.lookback-delta=100h",  # for questions about later
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with plain_client(f"http://{address}") as http:
            yield Prometheus(http)
    finally:
        process.kill()  # nobody reads its data again
        await process.wait()
