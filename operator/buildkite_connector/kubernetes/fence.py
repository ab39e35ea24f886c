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
from typing import NoReturn

from buildkite_connector.model.failure import Failure, Reason
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
