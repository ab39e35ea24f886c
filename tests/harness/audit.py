"""What a service account asked of the API server, by the server's own audit log."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """`resource` with its subresource: `buildkiteconnectors/status`; a path when no resource was asked for.

    `name`: empty for a list, a watch, a create. `group`: the API group, empty for the core's. `namespace`: empty for
    what was asked of all.
    """

    at: datetime
    verb: str
    resource: str
    name: str
    status: int
    group: str = ""
    namespace: str = ""

    @property
    def kind(self) -> str:
        return f"{self.verb} {self.resource}"


def read_requests(log: Path, user: str) -> list[Request]:
    """All of this user's so far, in the log's order; a watch counts once it has begun, or was refused."""
    with log.open(encoding="utf-8") as lines:
        return [*_requests(lines, user)]


def _requests(lines: Iterable[str], user: str) -> Iterator[Request]:
    for line in lines:
        if not line.endswith("\n"):
            return  # is being written
        event: dict[str, Any] = json.loads(line)
        status = event.get("responseStatus", {}).get("code", 0)
        begins = event["verb"] == "watch" and status < 400
        counted = "ResponseStarted" if begins else "ResponseComplete"
        if event["user"]["username"] != user or event["stage"] != counted:
            continue
        about = event.get("objectRef", {})
        names = (about.get("resource", event["requestURI"]), about.get("subresource", ""))
        yield Request(
            datetime.fromisoformat(event["requestReceivedTimestamp"]),
            event["verb"],
            "/".join(name for name in names if name),
            about.get("name", ""),
            status,
            about.get("apiGroup", ""),
            about.get("namespace", ""),
        )
