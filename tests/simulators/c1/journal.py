"""What happened at the simulated C1, and a way to wait for it without polling.

The transcript names calls, hosts and tasks; tokens, assertions and secrets never reach it.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Call:
    """One call that ended. `code` is a gRPC status name, or an HTTP status for REST and `Token`, the token endpoint."""

    at: datetime
    rpc: str
    code: str
    client_id: str = ""
    host_id: str = ""
    task_id: str = ""
    detail: str = ""

    def __str__(self) -> str:
        told = f" ({self.detail})" if self.detail else ""
        return f"{self.rpc} host={self.host_id} task={self.task_id}: {self.code}{told}"


class Journal:
    """The transcript, the violations of the contract, and the waiting for either to change.

    `system_log`: why workload federation refused a token, as (client ID, reason).
    `under_way`: how many calls of each rpc have begun and not ended; `most_under_way`: the most there ever were.
    """

    def __init__(self) -> None:
        self.transcript: deque[Call] = deque(maxlen=100_000)
        self.violations: list[str] = []
        self.system_log: list[tuple[str, str]] = []
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def begin(self, rpc: str) -> None:
        self.under_way[rpc] += 1
        self.most_under_way[rpc] = max(self.most_under_way[rpc], self.under_way[rpc])
        self.announce()

    def end(self, call: Call) -> None:
        self.under_way[call.rpc] -= 1
        self.transcript.append(call)
        self.announce()

    def violate(self, sentence: str) -> None:
        self.violations.append(sentence)
        self.announce()

    def announce(self) -> None:
        """Wake whoever waits: something they may wait for has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, predicate: Callable[[], object], timeout: float) -> None:  # noqa: ASYNC109
        """Return once `predicate` holds. Raises TimeoutError, with what happened last, after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not predicate():
                    await self._changed.wait()
        except TimeoutError:
            last = "; ".join(str(call) for call in list(self.transcript)[-5:]) or "no call came"
            told = f"not within {timeout} s; last calls: {last}; violations: {self.violations or 'none'}"
            raise TimeoutError(told) from None
