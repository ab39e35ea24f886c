"""The two ways in which the connector runs as a process, as the soak needs them: the operator and the service."""

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from harness.kubernetes_apis import Kubernetes
from harness.rig import COMMAND, PATIENCE, OperatorProcess, Rig
from harness.service_rig import ServiceRig, service_rig
from scenarios.tenant import Tenant
from simulators.buildkite.api import BASE_PATH
from simulators.buildkite.server import BuildkiteSimulator
from simulators.c1.server import C1Simulator

LOCK, STATE = "lock", "status.json"
AFRESH: Mapping[str, Any] = {"delivery": {"maxSnapshotAge": "0s"}}


class Mode(Protocol):
    """One connector on the simulators, whose processes come and go. It syncs afresh for each task."""

    @property
    def c1(self) -> C1Simulator: ...

    @property
    def buildkite(self) -> BuildkiteSimulator: ...

    @property
    def processes(self) -> list[OperatorProcess]:
        """All that were made, oldest first."""
        ...

    @property
    def reads(self) -> int:
        """Requests to Buildkite that syncs made, those of checks left out."""
        ...

    @property
    def files(self) -> list[Path]:
        """What stands in the data directory, a directory counted as one; what each process has for good left out."""
        ...

    @property
    def stray(self) -> list[Path]:
        """What stands where nothing should be left."""
        ...

    def process(self) -> OperatorProcess:
        """Another process of the connector; enter or begin it to start it."""
        ...

    async def prepare(self) -> None:
        """With a process that runs: whatever a connector needs before C1 may ask it for a sync."""
        ...

    def add_task(self, **options: Any) -> str: ...

    async def until_told(self, task_id: str) -> None:
        """Once the status names this task's delivery as the last one."""
        ...


class OperatorMode:
    """The operator with one resource. A process is as good as its Kubernetes API, which outlives it.

    `spec`: what differs from the defaults. `writes`: the connector may change memberships.
    """

    def __init__(self, rig: Rig, temporary: Path, spec: Mapping[str, Any] = AFRESH, *, writes: bool = False) -> None:
        self.c1, self.buildkite, self.processes = rig.c1, rig.buildkite, rig.operators
        self.tenant = Tenant(rig, "acme", writes=writes)
        self._rig = rig
        self._spec = spec
        self._temporary = temporary

    def process(self) -> OperatorProcess:
        return self._rig.operator(TMPDIR=str(self._temporary))

    async def prepare(self) -> None:
        await self.tenant.become_ready(**self._spec)

    def add_task(self, **options: Any) -> str:
        return self.tenant.add_task(**options)

    async def until_told(self, task_id: str) -> None:
        await self.tenant.until(lambda status: status["lastDelivery"]["taskID"] == task_id)

    @property
    def reads(self) -> int:
        return len(self.tenant.collecting)

    @property
    def files(self) -> list[Path]:
        return self._rig.staged

    @property
    def stray(self) -> list[Path]:
        return list(self._temporary.iterdir())


class ServiceMode:
    """`buildkite-connector service` in the vendor's environment. All that it keeps is in its TMPDIR."""

    def __init__(self, rig: ServiceRig) -> None:
        self.c1, self.buildkite, self.processes = rig.c1, rig.buildkite, rig.processes
        self._rig = rig

    def process(self) -> OperatorProcess:
        return self._rig.service(COMMAND, "service", BUILDKITE_CONNECTOR_MAX_SNAPSHOT_AGE="0s")

    async def prepare(self) -> None:
        """Its environment is all that it needs."""

    def add_task(self, **options: Any) -> str:
        return self.c1.add_task(client=self._rig.client, **options)

    async def until_told(self, task_id: str) -> None:
        """The state file is written soon after C1 took the task's end, with more calls to C1 to follow."""
        await self.c1.wait_for(lambda: self._told() == task_id, PATIENCE)

    def _told(self) -> str:
        """The task of the last delivery in the state file."""
        (state,) = self._kept.glob(STATE)
        status = json.loads(state.read_text())["status"]
        return str(status["lastDelivery"]["taskID"])

    @property
    def reads(self) -> int:
        folder = f"{BASE_PATH}/organizations/{self.buildkite.organization.slug}/"
        return sum(each.path.startswith(folder) for each in self.buildkite.requests)

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self._kept.glob("*") if path.name not in {LOCK, STATE})

    @property
    def stray(self) -> list[Path]:
        kept = self._kept
        return [
            each for each in (*self._rig.temporary.iterdir(), *kept.parent.iterdir()) if not kept.is_relative_to(each)
        ]

    @property
    def _kept(self) -> Path:
        """The directory of the connector's identity: the first that was made there."""
        return min(self._rig.temporary.glob("buildkite-connector-*/*/"), key=lambda path: (len(path.name), path.name))


@contextlib.asynccontextmanager
async def operator_mode(
    kubernetes: Kubernetes, spec: Mapping[str, Any] = AFRESH, *, writes: bool = False
) -> AsyncIterator[OperatorMode]:
    async with Rig(kubernetes, "soak") as rig:
        with tempfile.TemporaryDirectory() as folder:
            yield OperatorMode(rig, Path(folder), spec, writes=writes)


@contextlib.asynccontextmanager
async def service_mode() -> AsyncIterator[Mode]:
    async with service_rig(strict=False) as rig:
        yield ServiceMode(rig)


OpenedMode = AbstractAsyncContextManager[Mode]
