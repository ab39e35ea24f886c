"""How steps are carried out: in order, each heard of at once, none after a need that failed, none for ever."""

import asyncio

from buildkite_connector.cli.checklist.steps import (
    LONGEST_MESSAGE,
    Finding,
    Outcome,
    State,
    Step,
    carry_out,
    failed,
    ok,
    skipped,
    warning,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import Code

SECRET = "5ec4e75ec4e7"


def step(name: str, outcome: Outcome | Exception, *needs: str) -> Step:
    async def run() -> Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Step(name, f"Title of {name}", needs, run)


async def carried_out(*steps: Step) -> dict[str, Finding]:
    heard: list[Finding] = []
    findings = await carry_out(steps, heard.append, Redactor([SECRET]), 0.05)
    assert heard == findings
    return {finding.name: finding for finding in findings}


async def test_a_step_is_skipped_after_a_need_that_failed_or_was_skipped_and_not_after_a_warning() -> None:
    found = await carried_out(
        step("a", failed("no", Code.UNAVAILABLE)),
        step("b", warning("hm")),
        step("c", ok("yes"), "a"),
        step("d", ok("yes"), "b"),
        step("e", ok("yes"), "b", "c"),
        step("f", skipped("not asked for")),
    )
    states = {name: finding.state for name, finding in found.items()}
    assert "".join(state[0] for state in states.values()) == "fwsoss"
    assert found["e"].message == "needs: Title of c"


async def test_a_failure_gives_its_reason_its_sentence_and_its_exit_code() -> None:
    failure = Failure(Reason.TOKEN_SCOPE_MISSING, "It lacks one.", remedy=Remedy.CREDENTIALS)
    finding = (await carried_out(step("a", failure)))["a"]
    assert finding == Finding("a", "Title of a", State.FAILED, "It lacks one.", "TokenScopeMissing", 7)


async def test_an_unexpected_error_is_one_finding_whose_text_is_not_repeated() -> None:
    found = await carried_out(step("a", RuntimeError("some inner text")), step("b", ok("yes")))
    assert found["a"].state is State.FAILED
    assert found["a"].code != 0
    assert "some inner text" not in found["a"].message
    assert "RuntimeError" in found["a"].message
    assert found["b"].state is State.OK


async def test_a_step_without_an_end_fails_by_time() -> None:
    async def run() -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    finding = (await carried_out(Step("a", "A", (), run)))["a"]
    assert (finding.state, finding.code) == (State.FAILED, 4)
    assert "within 0.05 s" in finding.message


async def test_a_message_is_one_bounded_printable_line_without_credentials() -> None:
    finding = (await carried_out(step("a", ok(f"\x1b[2J{SECRET}\n" + "x" * 5000))))["a"]
    assert SECRET not in finding.message
    assert finding.message.isprintable()
    assert len(finding.message) <= LONGEST_MESSAGE
