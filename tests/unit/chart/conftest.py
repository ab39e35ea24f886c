"""The cases of cases.yaml, and sets of values made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.helm_chart import CHART, Values, merged, nested
from harness.yaml_text import parsed

CASES: dict[str, dict[str, Any]] = parsed((Path(__file__).parent / "cases.yaml").read_text())
SWITCHED_ON: dict[str, Values] = {
    "serviceMonitor": {"serviceMonitor": {"enabled": True, "renderMode": "alwaysRender"}},
    "podMonitor": {"podMonitor": {"enabled": True, "renderMode": "alwaysRender"}},
    "prometheusRule": {"prometheusRule": {"enabled": True, "renderMode": "alwaysRender"}},
    "grafanaDashboard": {"grafanaDashboard": {"enabled": True}},
    "podDisruptionBudget": {"podDisruptionBudget": {"enabled": True}},
    "networkPolicy": {"networkPolicy": {"enabled": True}},
    "metrics": {"metrics": {"service": {"enabled": True}}},
    "otel": {"otel": {"endpoint": "http://collector:4318"}},
}
"""What a case under this key needs, to be rendered at all."""
LESS = {
    *("data.existingClaim", "watchNamespaces", "podDisruptionBudget.minAvailable"),
    *("leaderElection.enabled", "rbac.create", "crds.enabled", "serviceAccount.create", "namespaceOverride"),
    *("proxy.httpsProxy", "c1.workloadIdentity.enabled", "c1.workloadIdentity.audience"),
    *(f"{probe}Probe.enabled" for probe in ("startup", "liveness", "readiness")),
    *(case for case in CASES if case.startswith("podMonitor.")),
}
"""Cases that forbid others, leave something out or need one another."""


def _values_of(path: str) -> dict[str, Any]:
    """The values of one case, with what it needs."""
    case = CASES[path]
    return merged(SWITCHED_ON.get(path.split(".", 1)[0], {}), case.get("with", {}), nested(path, case["value"]))


def _everything() -> dict[str, Any]:
    """All that can be asked for at once."""
    return merged(*(_values_of(path) for path in CASES if path not in LESS))


SETS: dict[str, Values] = {
    "defaults": {},
    "everything": _everything(),
    "namespaces": merged(_everything(), {"watchNamespaces": ["team-a", "team-b"]}),
    "high availability": parsed((CHART / "values-ha.yaml").read_text()),
    "proxy": parsed((CHART / "values-proxy.yaml").read_text()),
    "workload identity": {"c1": {"workloadIdentity": {"enabled": True, "audience": "acme.conductor.one"}}},
    "own namespace, pods scraped": merged({"watchNamespaces": ["ops"]}, SWITCHED_ON["podMonitor"]),
    "bare": {
        "leaderElection": {"enabled": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False},
        "crds": {"enabled": False},
    },
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> str:
    """The path of each value in turn."""
    return str(request.param)


@pytest.fixture(params=list(SETS))
def values(request: pytest.FixtureRequest) -> Values:
    """Each set of values in turn."""
    return SETS[request.param]


@pytest.fixture
def everything() -> Values:
    """All that can be asked for at once."""
    return SETS["everything"]


@pytest.fixture
def values_of() -> Callable[[str], dict[str, Any]]:
    """The values of one case, with what it needs."""
    return _values_of
