"""Carries out the steps of a check in order, and says of each what was found. A step whose need failed is skipped."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from buildkite_connector.cli.exit_codes import exit_code
from buildkite_connector.model.failure import Failure, internal_error
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import Code

LONGEST_MESSAGE = 1200
"""Characters of one finding."""
STEP_SECONDS = 90.0
"""A step that takes longer has failed."""


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step says of itself. `code`: the exit code where it failed."""

    state: State
    message: str
    code: int = 0


def ok(message: str) -> Outcome:
    return Outcome(State.OK, message)


def warning(message: str) -> Outcome:
    return Outcome(State.WARNING, message)


def skipped(message: str) -> Outcome:
    return Outcome(State.SKIPPED, message)


def failed(message: str, code: Code) -> Outcome:
    return Outcome(State.FAILED, message, int(code))


@dataclass(frozen=True, slots=True)
class Step:
    """`needs`: names of steps before it without which it makes no sense. `run` may raise Failure."""

    name: str
    title: str
    needs: tuple[str, ...]
    run: Callable[[], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is so of one step: fit to be shown, without credentials. `reason`: that of the failure, or empty."""

    name: str
    title: str
    state: State
    message: str
    reason: str = ""
    code: int = 0


async def carry_out(
    steps: Sequence[Step], listen: Callable[[Finding], None], redactor: Redactor, seconds: float = STEP_SECONDS
) -> list[Finding]:
    """Run the steps one after the other; `listen` hears of each finding at once."""
    findings: dict[str, Finding] = {}
    titles = {step.name: step.title for step in steps}
    for step in steps:
        missing = [need for need in step.needs if findings[need].state in {State.FAILED, State.SKIPPED}]
        if missing:
            finding = Finding(step.name, step.title, State.SKIPPED, f"needs: {titles[missing[0]]}")
        else:
            finding = await _finding(step, redactor, seconds)
        findings[step.name] = finding
        listen(finding)
    return list(findings.values())


async def _finding(step: Step, redactor: Redactor, seconds: float) -> Finding:
    reason = ""
    try:
        async with asyncio.timeout(seconds):
            outcome = await step.run()
    except TimeoutError:
        outcome = failed(
            f"No result within {seconds:g} s. Check the network between here and there, and try again.",
            Code.DEADLINE_EXCEEDED,
        )
    except Failure as failure:
        outcome, reason = Outcome(State.FAILED, failure.message, exit_code(failure)), failure.reason.value
    except Exception as error:  # a check that breaks says so in its line, and the others go on
        broken = internal_error(error)
        outcome, reason = Outcome(State.FAILED, broken.message, exit_code(broken)), broken.reason.value
    return Finding(
        step.name, step.title, outcome.state, redactor.quote(outcome.message, LONGEST_MESSAGE), reason, outcome.code
    )
