"""The preflight by hand: each thing that must hold before a sync and a delivery, as a step with a finding.

Start at `run`; `buildkite` and `c1` have the steps of each side, `steps` carries them out one after the other, `report`
prints what they found.
"""

from buildkite_connector.cli.checklist.report import exit_code_of, print_finding, print_summary, to_document
from buildkite_connector.cli.checklist.run import CheckSettings, run_checks
from buildkite_connector.cli.checklist.steps import Finding, State

__all__ = [
    "CheckSettings",
    "Finding",
    "State",
    "exit_code_of",
    "print_finding",
    "print_summary",
    "run_checks",
    "to_document",
]
