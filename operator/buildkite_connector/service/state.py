"""Keeps the status without a cluster: transitions in the log, all of it in a file for the next process.

The file is a cache like the snapshots beside it: one that cannot be read is ignored.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.process.files import open_own, write_own

logger = logging.getLogger(__name__)

_NAME = "status.json"
_VERSION = 1
_LONGEST = 1 << 20
"""Bytes of a state file that are read."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """`encode` and `decode` are the status's JSON form.

    `identity`: the current owner, which changes with the client while the process runs. The state of one identity is
    never read as another's.
    """

    directory: Path
    encode: Callable[[ConnectorStatus], dict[str, Any]]
    decode: Callable[[object], ConnectorStatus | None]
    identity: Callable[[], str]

    @property
    def path(self) -> Path:
        return self.directory / _NAME

    def read(self) -> ConnectorStatus | None:
        """The status that the last process left; None where there is none that can be read."""
        try:
            with open_own(self.path) as file:
                content = json.loads(file.read(_LONGEST))
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("version") != _VERSION:
            return None
        if content.get("identity") != self.identity():
            return None
        return self.decode(content.get("status"))

    def write(self, status: ConnectorStatus) -> None:
        """Wholly or not at all. Raises OSError."""
        content = json.dumps(
            {"version": _VERSION, "identity": self.identity(), "status": self.encode(status)}, indent=1
        )
        write_own(self.path, content.encode())


class StatusLog:
    """The status's sink. `log` logs a transition where the operator would post an event."""

    def __init__(
        self, name: str, state: StateFile, log: Callable[[ConnectorStatus | None, ConnectorStatus], None]
    ) -> None:
        self._name = name
        self._state = state
        self._log = log
        self._kept = True

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        """Never fails: a state that cannot be written is logged once, and the connector goes on."""
        try:
            await asyncio.to_thread(self._state.write, after)
        except OSError as error:
            if self._kept:
                fields = {"connector": self._name, "error": f"{self._state.path}: {error.strerror or error}"}
                logger.warning("the state cannot be saved for the next start", extra=fields)
            self._kept = False
        else:
            self._kept = True
        self._log(before, after)
