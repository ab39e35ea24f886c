"""Keeps a process that is not the leader any more from acting.

Three guards, each for what the one before it cannot do. The election cancels the work and awaits its end (`election`).
`Fence.check` refuses a call to Kubernetes, C1 or Buildkite that begins after the time for which this process may act:
so that nothing leaves when the process was stopped, or its event loop stuck, and goes on late. `watchdog` ends the
process from a thread of its own when acting has not ended in time.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from buildkite_connector.connector.ports import Clients
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.tasks import Heartbeat, Poll, TaskID, TaskOutcome
from buildkite_connector.sync.ports import Source
from buildkite_connector.tasks.ports import TaskService
from buildkite_connector.timing.clock import Clock

EXIT_CODE = 70
"""Of a process that had to end because it could not stop acting in time."""
WATCH_SECONDS = 1.0
TOO_LATE = "it had to stop acting, because its Lease may be another's now, and did not in time"

_logger = logging.getLogger(__name__)


class Fence:
    """Until when this process may act, in monotonic seconds. Read by the watchdog's thread too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._acts_until = float("-inf")
        self.must_end_by: float | None = None
        """When acting must have ended, or the process ends; None while it does not act."""

    def extend(self, until: float) -> None:
        """It may act until then, and must have ended by then."""
        self._acts_until = self.must_end_by = until

    def close(self, must_end_by: float) -> None:
        """Nothing may begin any more; what goes on must have ended by then."""
        self._acts_until = float("-inf")
        self.must_end_by = must_end_by

    def ended(self) -> None:
        """It does not act."""
        self._acts_until = float("-inf")
        self.must_end_by = None

    @property
    def open(self) -> bool:
        return self._clock.monotonic() < self._acts_until

    @property
    def seconds_left(self) -> float:
        """Until acting must have ended; infinite while it does not act."""
        return float("inf") if (end := self.must_end_by) is None else end - self._clock.monotonic()

    def check(self) -> None:
        """Raises Failure when this process may not act now."""
        if not self.open:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "This process is not the leader any more, and does nothing.")


def end_process(why: str) -> NoReturn:
    """At once, whatever still runs."""
    _logger.critical("the process ends at once", extra={"why": why})
    os._exit(EXIT_CODE)


@contextmanager
def watchdog(fence: Fence, end: Callable[[str], object] = end_process) -> Iterator[None]:
    """Calls `end` when acting has not ended in time, in a thread that no event loop holds up."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_next_look(fence)):
            if fence.seconds_left <= 0:
                end(TOO_LATE)
                return

    thread = threading.Thread(target=watch, name="lease-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _next_look(fence: Fence) -> float:
    """A lease lasts longer than WATCH_SECONDS, so that one taken meanwhile does not end before the next look."""
    return min(WATCH_SECONDS, max(fence.seconds_left, 0.0))


@dataclass(frozen=True, slots=True)
class FencedClients:
    """`Clients` whose calls to C1 are behind a fence. Requests to Buildkite ask it one by one (`may_send`)."""

    clients: Clients
    fence: Fence

    def source(self, credentials: Credentials, spec: ConnectorSpec) -> Source:
        return self.clients.source(credentials, spec)

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService:
        return _FencedTaskService(self.clients.task_service(credentials, spec), self.fence)


@dataclass(frozen=True, slots=True)
class _FencedTaskService:
    service: TaskService
    fence: Fence

    async def hello(self, task_id: TaskID | None = None) -> None:
        self.fence.check()
        await self.service.hello(task_id)

    async def next_task(self) -> Poll:
        self.fence.check()
        return await self.service.next_task()

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        self.fence.check()
        return await self.service.heartbeat(task_id)

    async def upload(self, task_id: TaskID, path: Path, sha256: str, sent: Callable[[], None]) -> None:
        self.fence.check()
        await self.service.upload(task_id, path, sha256, sent)

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        self.fence.check()
        await self.service.finish(task_id, outcome)

    async def aclose(self) -> None:
        await self.service.aclose()
