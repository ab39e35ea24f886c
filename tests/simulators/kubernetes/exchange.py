"""What one request to the Kubernetes simulator is: its target, its outcome, a fault asked for."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from simulators.kubernetes.fields import Manifest
from simulators.kubernetes.resources import Resource

BOOKMARK_SECONDS = 60.0


BOOKMARK_BEFORE_END = 2.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and how it was answered; `status` is None when the connection was cut instead.

    Holds no body and no header, so that no secret is in it.
    """

    method: str
    path: str
    status: int | None
    resource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Requests to fail, by method (any, when empty) and path, and the HTTP status; None cuts the connection.

    `watches` True: watches alone; False: all but watches. `body` None: the `Status` that the API server would send.
    """

    status: int | None
    methods: frozenset[str]
    path: re.Pattern[str]
    watches: bool | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None

    def hits(self, method: str, path: str, *, watch: bool) -> bool:
        """Whether a request is one of those."""
        return (
            (not self.methods or method in self.methods)
            and self.watches in {None, watch}
            and self.path.search(path) is not None
        )


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL path names: a collection, when it has no name."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


@dataclass(frozen=True, slots=True)
class Watch:
    """What a client asked to be told. `since` 0: begin with what there is; `seconds` until it ends."""

    target: Target
    selected: Callable[[Manifest], bool]
    since: int
    seconds: float
    bookmarks: bool

    def selects(self, manifest: Manifest) -> bool:
        """Whether an object of its resource is one that it asked for."""
        here = self.target.namespace in {"", manifest["metadata"].get("namespace")}
        return here and self.selected(manifest)

    def next_bookmark(self, now: float, end: float) -> float:
        """When to tell how far the watch is, by the loop's time: each minute, and shortly before the end."""
        if not self.bookmarks:
            return math.inf
        last = end - BOOKMARK_BEFORE_END
        return min(now + BOOKMARK_SECONDS, last if last > now else math.inf)
