"""Findings as lines for people, coloured on a terminal, and as JSON for tools."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildkite_connector.cli.checklist.steps import Finding, State

STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "bold red", State.SKIPPED: "dim"}
_STATE_WIDTH, _TITLE_WIDTH = 9, 26
_NARROWEST = 60
"""Columns of a terminal below which a line is not laid out."""


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
    """How many of each; last."""
    counts = Counter(finding.state for finding in findings)
    told = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
    worst = next((state for state in (State.FAILED, State.WARNING) if counts[state]), State.OK)
    console.print(Text(f"\n{told}", STYLES[worst]), soft_wrap=True)


def exit_code_of(findings: Sequence[Finding]) -> int:
    """That of the first that failed, 0 when none did."""
    return next((finding.code for finding in findings if finding.state is State.FAILED), 0)


def to_document(findings: Sequence[Finding]) -> dict[str, object]:
    """As plain JSON values; `reason` and `exitCode` of a finding are null unless it failed."""
    code = exit_code_of(findings)
    return {
        "ok": code == 0,
        "exitCode": code,
        "checks": [
            {
                "name": finding.name,
                "title": finding.title,
                "state": finding.state.value,
                "message": finding.message,
                "reason": finding.reason or None,
                "exitCode": finding.code or None,
            }
            for finding in findings
        ],
    }
