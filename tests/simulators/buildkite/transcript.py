"""What was asked of the Buildkite simulator, for tests and benches that count requests.

Token values never come here; a request is ascribed to its token's description.
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `at` and `seconds` count from the start and from its arrival; without `status`, the
    client never got a whole answer. `token`: its description, empty when none was accepted. `host`: as asked for."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    status: int | None
    at: float
    seconds: float
    token: str
    host: str = ""


@dataclass(slots=True)
class Transcript:
    """Requests in the order in which they were done with, and how many were in the air at once."""

    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0

    def reset(self) -> None:
        """Forgets what has been; what is in the air stays counted."""
        self.requests.clear()
        self.connections = 0
        self.peak_in_flight = self.in_flight

    @property
    def throttled(self) -> int:
        """Requests that were refused with 429."""
        return sum(request.status == 429 for request in self.requests)

    @property
    def repeats(self) -> dict[tuple[str, str, tuple[tuple[str, str], ...]], int]:
        """What was asked more than once, query in any order, and how often."""
        asked = Counter((request.method, request.path, request.query) for request in self.requests)
        return {key: times for key, times in asked.items() if times > 1}

    def arrived(self) -> None:
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def left(self, request: Request) -> None:
        self.in_flight -= 1
        self.requests.append(request)
