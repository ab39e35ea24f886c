"""Where the status goes without a cluster: its transitions into the log, all of it into the state file."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from buildkite_connector.model.failure import Reason
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.service.state import StateFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """A transition that is worth a log line, at a level of `logging`."""

    level: int
    reason: Reason
    message: str


Notices = Callable[[ConnectorStatus | None, ConnectorStatus], Iterable[Notice]]


class StatusLog:
    """`notices` says which transitions are logged, as the operator posts events."""

    def __init__(self, name: str, notices: Notices, state: StateFile) -> None:
        self._name = name
        self._notices = notices
        self._state = state
        self._kept = True

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        """Never fails: a state that cannot be kept is logged once, and the connector goes on."""
        try:
            await asyncio.to_thread(self._state.write, after)
        except OSError as error:
            if self._kept:
                fields = {"connector": self._name, "error": f"{self._state.path}: {error.strerror or error}"}
                logger.warning("the state cannot be kept for the next start", extra=fields)
            self._kept = False
        else:
            self._kept = True
        for notice in self._notices(before, after):
            fields = {"connector": self._name, "reason": notice.reason.value, "detail": notice.message}
            logger.log(notice.level, "condition changed", extra=fields)
