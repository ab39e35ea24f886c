"""What the connectors of a process do, told once: logs, metrics and spans are made of it (`telemetry`).

A piece of work is opened with what is known of it, told more while it runs, and closed by leaving its context. No fact
holds a credential, an e-mail address or a text that a server sent.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from typing import Protocol

Fact = str | int | float | bool


class Work(StrEnum):
    """Kinds of work, with the facts that each is opened with and told."""

    SYNC = "sync"
    """connector, sync_id, trigger; result (Result), reason."""
    TASK = "task"
    """connector, task_id, kind; result."""
    DELIVERY = "delivery"
    """connector, task_id, bytes; result."""
    CHANGE = "change of a membership"
    """connector, task_id, action; result (ChangeResult, or why it failed)."""
    BUILDKITE_REQUEST = "request to Buildkite"
    """method, path; status or error, and what is left of the rate-limit windows."""
    C1_CALL = "call to C1"
    """method, host_id; code or error."""
    C1_TOKEN = "request for an access token of C1"  # noqa: S105
    """status or error."""


class Result(StrEnum):
    """How a sync, task or delivery ended."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"


class Operation(Protocol):
    """One piece of work under way."""

    def tell(self, **facts: Fact) -> None:
        """Facts that are known now; a later one of the same name counts."""
        ...


class Observer(Protocol):
    """Hears of work. None of its methods raises or awaits."""

    def operation(self, work: Work, **facts: Fact) -> AbstractContextManager[Operation]: ...


class _Nothing:
    def tell(self, **facts: Fact) -> None:
        """Nobody listens."""


class _Silent:
    @contextmanager
    def operation(self, work: Work, **facts: Fact) -> Iterator[Operation]:  # noqa: ARG002
        yield _NOTHING


_NOTHING = _Nothing()
SILENT: Observer = _Silent()
"""For processes and tests that do not listen."""
