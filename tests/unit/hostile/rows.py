"""A row of the table of hostile answers: what a server does, what the product does there, and the bound that holds.

`buildkite_rows` holds Buildkite's rows. Another table is another module with a `ROWS`, and a test that gives each of
its rows to `measure.Child.measure`.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

STALL_STEP = 0.005
"""Seconds between two looks at whether the event loop comes round: a stall seems shorter by so much at most."""
NEIGHBOUR_PAUSE = 0.25
"""Seconds between two syncs of the neighbour: what keeps it waiting seems shorter by so much at most."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one hostile answer may cost. Memory in MB over the baseline, times in seconds.

    The times are wide, since others use the machine too: they notice what grows with the size of an answer. `make
    bench` holds the promise, a tenth of a second.
    """

    peak: float = 64.0
    kept: float = 16.0
    """What is still held after the operation, once garbage is collected and the allocator gave back its pages."""
    ends_within: float = 10.0
    stall: float = 0.5
    neighbour: float = 2.0
    """The longest sync of another connector, in the same process and against an honest server."""
    sentence: int = 600
    """Characters of the failure's message."""


@dataclass(frozen=True, slots=True)
class Row:
    """`serve` runs in the test's process and gives the address that `operation` is called with in the child's.

    `operation` opens what the product keeps for long, and gives the call that is measured. `outcome`: a regular
    expression found in the failure's message, or None where the product copes. `secrets`: what must be shown nowhere.
    """

    name: str
    serve: Callable[[], AbstractAsyncContextManager[str]]
    operation: Callable[[str], AbstractAsyncContextManager[Callable[[], Awaitable[object]]]]
    outcome: str | None
    secrets: tuple[str, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
