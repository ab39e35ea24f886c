"""The smallest kopf operator, as a process of its own, that tells each event that it gets.

It shows that kopf works on a Kubernetes API, the double or a real one, apart from what our operator does.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import kopf

from simulators.kubernetes.client import DEADLINE, GROUP

Told = Callable[[str, str], Awaitable[str | None]]


@asynccontextmanager
async def observing(kubeconfig: Path, namespace: str) -> AsyncIterator[Told]:
    """Run the operator on a namespace; what it gives waits until it has told of this widget in this size.

    The type of that event comes back: None for what kopf found in a list.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulators.kubernetes.probe",
        namespace,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    output = process.stdout
    assert output is not None

    async def telling(name: str, size: str) -> str | None:
        async with asyncio.timeout(DEADLINE):
            while line := await output.readline():
                event: dict[str, str | None] = json.loads(line)
                if (event["name"], event["size"]) == (name, size):
                    return event["type"]
        raise AssertionError("the operator ended")

    try:
        yield telling
    finally:
        process.terminate()
        await process.wait()


def run(namespace: str) -> None:
    """Be the operator: print every event as a line of JSON, until SIGTERM."""

    @kopf.on.startup()
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.networking.error_backoffs = [0.2] * 100
        settings.watching.reconnect_backoff = 0.1

    @kopf.on.event(GROUP, "v1", "widgets")
    def tell(type: str | None, name: str, spec: kopf.Spec, **_: Any) -> None:  # noqa: A002 - kopf's names
        sys.stdout.write(json.dumps({"type": type, "name": name, "size": spec.get("size")}) + "\n")
        sys.stdout.flush()

    kopf.run(standalone=True, namespaces=[namespace])


if __name__ == "__main__":
    run(sys.argv[1])
