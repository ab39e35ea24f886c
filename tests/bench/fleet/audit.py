"""What the operator asked of the API server, by the server's own audit log."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Request:
    """`resource` with its subresource: `buildkiteconnectors/status`. `name`: empty for a list, a watch, a create."""

    at: datetime
    verb: str
    resource: str
    name: str
    status: int

    @property
    def kind(self) -> str:
        return f"{self.verb} {self.resource}"


def read_requests(log: Path, user: str) -> list[Request]:
    """All of this user's so far, in the log's order; a watch counts once it has begun."""
    with log.open(encoding="utf-8") as lines:
        return [*_requests(lines, user)]


def _requests(lines: Iterable[str], user: str) -> Iterator[Request]:
    for line in lines:
        if not line.endswith("\n"):
            return  # is being written
        event: dict[str, Any] = json.loads(line)
        counted = "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
        if event["user"]["username"] != user or event["stage"] != counted:
            continue
        about = event.get("objectRef", {})
        names = (about.get("resource", event["requestURI"]), about.get("subresource", ""))
        yield Request(
            datetime.fromisoformat(event["requestReceivedTimestamp"]),
            event["verb"],
            "/".join(name for name in names if name),
            about.get("name", ""),
            event.get("responseStatus", {}).get("code", 0),
        )


def count(requests: Iterable[Request], begin: datetime, end: datetime) -> Counter[str]:
    """By kind, in this time."""
    return Counter(request.kind for request in requests if begin <= request.at < end)


def busiest_second(requests: Iterable[Request], kind: str, begin: datetime, end: datetime) -> int:
    """The most requests of a kind in one second of this time."""
    seconds = Counter(
        int((each.at - begin).total_seconds()) for each in requests if begin <= each.at < end and each.kind == kind
    )
    return max(seconds.values(), default=0)
