"""The connector's status as a file: what the next process goes on from, as the operator does from the resource.

The file is a cache like the snapshots beside it: what cannot be read counts as not there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.process.files import open_own, write_own

_NAME = "status.json"
_VERSION = 1
_LONGEST = 1 << 20
"""Bytes of a state file that is believed."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """`encode` and `decode` are the status's JSON form.

    `identity`: whose state it is now. A client that changes while the process runs changes it, and the state of one
    identity is never read as another's.
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
