"""What one step of `check` finds, and how people and tools see it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildkite_connector.cli.exit import exit_code
from buildkite_connector.cli.printing import in_camel_case
from buildkite_connector.model.failure import Failure, internal_error
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import Code

LONGEST_MESSAGE = 1200
"""Characters of one finding."""
STEP_SECONDS = 90.0
"""Timeout of a step."""


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class _Decided(Exception):  # noqa: N818
    """Leaves a step whose finding is complete."""


@dataclass
class Finding:
    """What one step found. `reason`: that of a Failure, or empty. `code`: the exit code when the step failed.

    The step fills it in with these methods; `skip` and `fail` also leave the step.
    """

    name: str
    title: str
    state: State = State.OK
    message: str = ""
    reason: str = ""
    code: int = 0

    def needs(self, *others: "Finding") -> None:
        """Skip this step if one of `others` failed or was skipped."""
        for each in others:
            if each.state in {State.FAILED, State.SKIPPED}:
                self.skip(f"needs: {each.title}")

    def ok(self, message: str) -> None:
        self.message = message

    def warn(self, message: str) -> None:
        self.state, self.message = State.WARNING, message

    def skip(self, message: str) -> NoReturn:
        self.state, self.message = State.SKIPPED, message
        raise _Decided

    def fail(self, message: str, code: int) -> NoReturn:
        self.set_failed(message, code)
        raise _Decided

    def set_failed(self, message: str, code: int, reason: str = "") -> None:
        self.state, self.message, self.reason, self.code = State.FAILED, message, reason, int(code)


class Check:
    """Runs steps in order; `listen` gets each finding at once. A step that takes `seconds` has failed."""

    def __init__(self, listen: Callable[[Finding], None], redactor: Redactor, seconds: float = STEP_SECONDS) -> None:
        self.findings: list[Finding] = []
        self._listen = listen
        self._redactor = redactor
        self._seconds = seconds

    @asynccontextmanager
    async def step(self, name: str, title: str) -> AsyncIterator[Finding]:
        """The body is the step. What it raises becomes the finding, so that the next step still runs."""
        found = Finding(name, title)
        try:
            async with asyncio.timeout(self._seconds):
                yield found
        except _Decided:
            pass
        except TimeoutError:
            advice = "Check the network, and try again."
            found.set_failed(f"No result within {self._seconds:g} s. {advice}", Code.DEADLINE_EXCEEDED)
        except Failure as failure:
            found.set_failed(failure.message, exit_code(failure), failure.reason.value)
        except Exception as error:  # a step that breaks says so in its line, and the others go on
            broken = internal_error(error)
            found.set_failed(broken.message, exit_code(broken), broken.reason.value)
        found.message = self._redactor.quote(found.message, LONGEST_MESSAGE)
        self.findings.append(found)
        self._listen(found)


# What people and tools see


STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "bold red", State.SKIPPED: "dim"}
_STATE_WIDTH, _TITLE_WIDTH = 9, 26
_NARROWEST = 60
"""Columns of a terminal below which lines have no layout."""


def print_finding(finding: Finding, console: Console) -> None:
    """One line; on a terminal its message is folded beside its title."""
    state = Text(f"{finding.state.value:<{_STATE_WIDTH}}", STYLES[finding.state])
    title = Text(f"{finding.title:<{_TITLE_WIDTH}}", "dim" if finding.state is State.SKIPPED else "")
    message = Text(finding.message, "dim" if finding.state is State.SKIPPED else "")
    if not console.is_terminal or console.width < _NARROWEST:
        console.print(Text.assemble(state, title, message), soft_wrap=True)
        return
    line = Table.grid()
    line.add_column(width=_STATE_WIDTH)
    line.add_column(width=_TITLE_WIDTH)
    line.add_column(overflow="fold")
    line.add_row(state, title, message)
    console.print(line)


def print_summary(findings: Sequence[Finding], console: Console) -> None:
    """The last line: how many findings of each state."""
    counts = Counter(finding.state for finding in findings)
    counted = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
    worst = next((state for state in (State.FAILED, State.WARNING) if counts[state]), State.OK)
    console.print(Text(f"\n{counted}", STYLES[worst]), soft_wrap=True)


def exit_code_of(findings: Sequence[Finding]) -> int:
    """The exit code of the first failed step, or 0."""
    return next((finding.code for finding in findings if finding.state is State.FAILED), 0)


def to_document(findings: Sequence[Finding]) -> dict[str, object]:
    """As plain JSON values; `reason` and `exitCode` of a finding are null unless it failed."""
    code = exit_code_of(findings)
    return {
        "ok": code == 0,
        "exitCode": code,
        "checks": [
            in_camel_case(each, ("name", "title", "state", "message"))
            | {"reason": each.reason or None, "exitCode": each.code or None}
            for each in findings
        ],
    }
