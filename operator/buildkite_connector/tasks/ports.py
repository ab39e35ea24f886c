"""What answering C1's tasks needs: C1 itself, and snapshots."""

from pathlib import Path
from typing import Protocol

from buildkite_connector.model.tasks import Heartbeat, Poll, TaskID, TaskOutcome


class TaskService(Protocol):
    """C1's BatonService, for one connector. Every method but `aclose` raises Failure."""

    async def hello(self, task_id: TaskID | None = None) -> None: ...

    async def next_task(self) -> Poll: ...

    async def heartbeat(self, task_id: TaskID) -> Heartbeat: ...

    async def upload(self, task_id: TaskID, path: Path, sha256: str) -> None: ...

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None: ...

    async def aclose(self) -> None: ...
