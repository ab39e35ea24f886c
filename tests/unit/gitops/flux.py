"""How Flux decides whether it may go on: its healthCheckExprs in CEL, and kstatus where it has none.

The rules are those of Flux's RFC 0009 and of kstatus' documentation; the expressions run in a CEL library.
"""

from pathlib import Path
from typing import Any

import cel

from harness.yaml_text import all_parsed

MANIFESTS = Path(__file__).parents[3] / "examples" / "flux" / "kustomizations.yaml"
KUSTOMIZATIONS = {each["metadata"]["name"]: each for each in all_parsed(MANIFESTS.read_text())}
[EXPRESSIONS] = KUSTOMIZATIONS["buildkite-connectors"]["spec"]["healthCheckExprs"]


def evaluate(resource: dict[str, Any]) -> str:
    """InProgress, Failed or Current. An expression that cannot be evaluated counts as not ready yet."""
    if not _is_observed(resource):
        return "InProgress"
    for field, result in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        try:
            if cel.evaluate(EXPRESSIONS[field], resource) is True:
                return result
        except RuntimeError:
            return "InProgress"
    return "InProgress"


def kstatus(resource: dict[str, Any]) -> str:
    """What a tool says that knows nothing but the conventions: `kubectl wait`'s peers, and Flux without expressions."""
    if "deletionTimestamp" in resource["metadata"]:
        return "Terminating"
    if not _is_observed(resource):
        return "InProgress"
    conditions = {each["type"]: each["status"] for each in resource.get("status", {}).get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def _is_observed(resource: dict[str, Any]) -> bool:
    generation = resource["metadata"]["generation"]
    return bool(resource.get("status", {}).get("observedGeneration", generation) == generation)
