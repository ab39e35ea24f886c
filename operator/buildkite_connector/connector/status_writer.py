"""Writes one connector's status when it changed, one write at a time; what cannot be written now is written later."""

import asyncio
import logging

from buildkite_connector.connector.ports import StatusSink
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.timing.clock import BETWEEN_REPORTS, Clock

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0
"""How long a write that is under way is awaited at shutdown."""


class StatusWriter:
    """`written` is the status that a former process left. A status that is replaced before its turn is not written."""

    def __init__(
        self, name: str, sink: StatusSink, written: ConnectorStatus | None, clock: Clock, jitter: Jitter
    ) -> None:
        self._name = name
        self._sink = sink
        self._written = written
        self._wanted = written
        self._clock = clock
        self._jitter = jitter
        self._writing: asyncio.Task[None] | None = None
        self._closed = False
        self._progress = asyncio.Event()

    @property
    def written(self) -> ConnectorStatus | None:
        """The status as it was last written."""
        return self._written

    async def wait(self) -> None:
        """Wait until a status is written."""
        await self._progress.wait()

    def write(self, status: ConnectorStatus) -> None:
        self._wanted = status
        if self._writing is None and status != self._written and not self._closed:
            self._writing = asyncio.create_task(self._write(), name=f"{self._name}/status")
            self._writing.add_done_callback(self._ended)

    async def close(self) -> None:
        """What was begun is finished: what was written must be known to have been."""
        self._closed = True
        if (writing := self._writing) is not None:
            await asyncio.wait({writing}, timeout=CLOSE_SECONDS)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self) -> None:
        failures = 0
        while self._wanted is not None and self._wanted != self._written:
            status = self._wanted
            try:
                await self._sink.report(self._written, status)
            except Exception as error:
                failures += 1
                self._log(error, failures)
                if self._closed:
                    return
                retry_after = error.retry_after if isinstance(error, Failure) else None
                await self._clock.sleep(BETWEEN_REPORTS.wait(failures, self._jitter.uniform(0.0, 1.0), retry_after))
            else:
                failures = 0
                self._written = status
                progress, self._progress = self._progress, asyncio.Event()
                progress.set()

    def _log(self, error: Exception, failures: int) -> None:
        fields = {"connector": self._name}
        if isinstance(error, Failure):
            logger.warning("the status could not be written", extra={**fields, "error": error.message})
        elif failures == 1:
            logger.error("a status write failed unexpectedly", extra=fields, exc_info=error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._writing = None
        if not task.cancelled() and self._wanted is not None:
            self.write(self._wanted)  # it may have come after the last look and before this
