"""Every value does what values.yaml says of it: the table is cases.yaml."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python
import pytest

from chart_values import read_values
from harness.helm_chart import CHART, Manifest, at, chart, merged, nested, of_kind, render, workload
from harness.yaml_text import parsed

CASES: dict[str, dict[str, Any]] = parsed((Path(__file__).parent / "cases.yaml").read_text())


def test_every_value_has_a_case() -> None:
    values = read_values((CHART / "values.yaml").read_text())
    assert {".".join(leaf.path) for top in values for leaf in top.leaves()} == set(CASES)


def test_every_value_is_described() -> None:
    undescribed = {"periodSeconds", "timeoutSeconds", "failureThreshold"}
    for top in read_values((CHART / "values.yaml").read_text()):
        for leaf in top.leaves():
            assert leaf.description or leaf.path[-1] in undescribed, leaf.path


def found(documents: list[Manifest], case: dict[str, Any]) -> Any:
    pod = "spec/template/spec"
    if "env" in case:
        return at(workload(documents), f"{pod}/containers/name=operator/env/name={case['env']}/value")
    if "container" in case:
        return at(workload(documents), f"{pod}/containers/name=operator/{case['container']}")
    if "pod" in case:
        return at(workload(documents), f"{pod}/{case['pod']}")
    names = {None, case.get("name")}
    objects = [each for each in of_kind(documents, case["kind"]) if names <= {None, each["metadata"]["name"]}]
    if case["at"] is None:
        return objects[0] if objects else None
    return at(objects[0], case["at"])


def without(values: dict[str, Any], path: str) -> dict[str, Any]:
    """No empty maps are left: most cases then have the same default, which is rendered once."""
    first, _, rest = path.partition(".")
    less = without(values[first], rest) if rest else {}
    return {key: value for key, value in (values | {first: less}).items() if key != first or value}


def test_the_value_is_rendered_and_nothing_else_renders_it(
    case: str, values_of: Callable[[str], dict[str, Any]]
) -> None:
    values, expected = values_of(case), CASES[case]
    assert found(render(values), expected) == expected["is"]
    if expected.get("required"):
        with pytest.raises(helm_python.HelmRenderError, match=f"{case} is not set"):
            render(without(values, case))
        return
    default = render(without(values, case))
    if expected.get("kind") in {None, *(each["kind"] for each in default)}:
        assert found(default, expected) != expected["is"]


NO_TEXTS = {
    *("podDisruptionBudget.minAvailable", "podDisruptionBudget.maxUnavailable"),
    *("proxy.httpProxy", "proxy.httpsProxy", "extraObjects"),
}
"""Numbers or percentages, URLs, and YAML."""
SHOWN = {
    "grafanaDashboard": {"enabled": True},
    "c1": {"workloadIdentity": {"enabled": True}},
    "otel": {"endpoint": "http://collector:4318"},
    "caBundle": {"configMapName": "ca"},
    "serviceMonitor": {"enabled": True, "renderMode": "alwaysRender"},
    "prometheusRule": {"enabled": True, "renderMode": "alwaysRender"},
    "metrics": {"service": {"enabled": True}},
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
}


def texts(schema: dict[str, Any], text: str) -> Any:
    """A value of this schema that is made of the text; None where it takes none."""
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "string" in types:
        return text
    if "array" in types and "string" in schema.get("items", {}).get("type", ()):
        return [text]
    return {"key": text} if schema.get("additionalProperties") == {"type": "string"} else None


def test_a_text_that_yaml_takes_for_something_else_stays_a_text() -> None:
    """A namespace may be called 123, and a priority class `on`."""
    plain: dict[str, Any] = {}
    tried = set()
    for leaf in (leaf for top in read_values((CHART / "values.yaml").read_text()) for leaf in top.leaves()):
        path = ".".join(leaf.path)
        if path in NO_TEXTS or (value := texts(leaf.schema, "plain")) is None:
            continue
        try:
            chart().validate_schema(nested(path, value))
        except helm_python.HelmError:
            continue  # takes no word, but one of a few or a form
        plain = merged(plain, nested(path, value))
        tried.add(path)
    expected = json.dumps(render(merged(SHOWN, plain)))
    for text in ("123", "on"):
        values = json.loads(json.dumps(plain).replace("plain", text))
        assert render(merged(SHOWN, values)) == json.loads(expected.replace("plain", text))
    assert {
        "fullnameOverride",
        "namespaceOverride",
        "watchNamespaces",
        "serviceAccount.name",
        "imagePullSecrets",
    } <= tried
