"""How often the operator asked the API server for what."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from harness.audit import Request

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def count(requests: Iterable[Request], begin: datetime, end: datetime) -> Counter[str]:
    """By kind, in this time."""
    return Counter(request.kind for request in requests if begin <= request.at < end)


def busiest_second(requests: Iterable[Request], kind: str, begin: datetime, end: datetime) -> int:
    """The most requests of a kind in one second of this time."""
    seconds = Counter(
        int((each.at - begin).total_seconds()) for each in requests if begin <= each.at < end and each.kind == kind
    )
    return max(seconds.values(), default=0)
