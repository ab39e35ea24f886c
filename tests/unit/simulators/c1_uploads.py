"""What the tests of the simulated C1's uploads call it with, and how they alter a snapshot."""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from simulators.c1.probe import Probe
from simulators.c1.server import C1Simulator

Alteration = Callable[[sqlite3.Connection], object]


async def running_task(sim: C1Simulator, host: Probe, *, debug: bool = False, **options: Any) -> str:
    task_id = sim.add_task(debug=debug, **options)
    await host.get_task()
    await host.heartbeat(task_id)
    return task_id


async def refusal(call: Awaitable[object], code: StatusCode = StatusCode.INVALID_ARGUMENT) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code
    return str(caught.value.details())


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def sql(statement: str) -> Alteration:
    return lambda database: database.execute(statement)
