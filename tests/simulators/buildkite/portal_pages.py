"""Pages of a GraphQL connection, the newest first. A cursor is a place in that order, so it stays good when others join
or leave, and when the one whom it was made of has left.
"""

import base64
import binascii
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from simulators.buildkite.listing import Record
from simulators.buildkite.portal_sdl import LARGEST_PAGE

T = TypeVar("T")
Place = tuple[float, str]


@dataclass(frozen=True)
class Connection(Generic[T]):
    """`made`: when an item was made; `key`: what tells it from others; `shown`: its record."""

    made: Callable[[T], datetime]
    key: Callable[[T], str]
    shown: Callable[[T], Record]

    def page(self, items: Sequence[T], asked: Mapping[str, Any]) -> Record:
        """Raises ValueError, whose text the client gets, for arguments that make no sense."""
        ordered = sorted(items, key=self._place)
        start, end = 0, len(ordered)
        if asked.get("after") is not None:
            start = bisect_right(ordered, _read(asked["after"]), key=self._place)
        if asked.get("before") is not None:
            end = bisect_left(ordered, _read(asked["before"]), key=self._place)
        first, last = _number(asked, "first"), _number(asked, "last")
        size = LARGEST_PAGE if first is None and last is None else first
        if size is not None:
            end = max(start, min(end, start + size))
        if last is not None:
            start = max(start, end - last)
        page = ordered[start:end]
        nodes = [self.shown(each) for each in page]
        cursors = [_cursor(self._place(each)) for each in page]
        return {
            "edges": [{"cursor": cursor, "node": node} for cursor, node in zip(cursors, nodes, strict=True)],
            "nodes": nodes,
            "pageInfo": {
                "endCursor": cursors[-1] if cursors else None,
                "hasNextPage": end < len(ordered),
                "hasPreviousPage": start > 0,
                "startCursor": cursors[0] if cursors else None,
            },
            "count": len(ordered),
        }

    def _place(self, item: T) -> Place:
        return -self.made(item).timestamp(), self.key(item)


def _number(asked: Mapping[str, Any], name: str) -> int | None:
    number: int | None = asked.get(name)
    if number is not None and not 0 <= number <= LARGEST_PAGE:
        raise ValueError(f"`{name}` must be between 0 and {LARGEST_PAGE}")
    return number


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read(cursor: str) -> Place:
    try:
        made, key = json.loads(base64.urlsafe_b64decode(cursor))
        return float(made), str(key)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError(f"Invalid cursor: {cursor[:100]!r}") from None
