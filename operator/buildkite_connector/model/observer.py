"""What the connectors of a process do, reported once: `telemetry.observer` makes logs, metrics and spans of it.

A piece of work is opened with what is known of it, learns more while it runs, and is closed by leaving its context. No
fact holds a credential, an e-mail address or a text that a server sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

Fact = str | int | float | bool


class Work(StrEnum):
    """Kinds of work that are measured, each with its facts: those known at its start; those known later."""

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
    """method; status or error."""
    C1_REST = "request to C1's REST API"
    """method, call; status or error."""


class Result(StrEnum):
    """How a sync, task or delivery ended."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"


class Operation:
    """One piece of work under way, with what is known of it."""

    __slots__ = ("facts",)

    def __init__(self, facts: dict[str, Fact]) -> None:
        self.facts = facts

    def tell(self, **facts: Fact) -> None:
        """Add facts; a later one of the same name counts."""
        self.facts.update(facts)


class Observer:
    """Hears of work, and keeps nothing; `telemetry.observer` and tests override `operation`."""

    @contextmanager
    def operation(self, work: Work, **facts: Fact) -> Iterator[Operation]:  # noqa: ARG002
        """Open for as long as the work lasts. Neither raises nor awaits."""
        yield Operation(facts)


SILENT = Observer()
"""For processes and tests that do not listen."""
