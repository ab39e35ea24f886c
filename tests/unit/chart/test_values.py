"""Every value does what values.yaml says of it: the table is cases.yaml."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from chart_values import read_values
from harness.helm_chart import CHART, Manifest, at, merged, of_kind, render

CASES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text())


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
    workload = [each for each in documents if each["kind"] in {"Deployment", "StatefulSet"}][0]
    if "env" in case:
        return at(workload, f"{pod}/containers/name=operator/env/name={case['env']}/value")
    if "container" in case:
        return at(workload, f"{pod}/containers/name=operator/{case['container']}")
    if "pod" in case:
        return at(workload, f"{pod}/{case['pod']}")
    objects = [each for each in of_kind(documents, case["kind"]) if case.get("name") in {None, each["metadata"]["name"]}]
    if case["at"] is None:
        return objects[0] if objects else None
    return at(objects[0], case["at"])


def test_the_value_is_rendered(case: str, values_of: Callable[[str], dict[str, Any]]) -> None:
    assert found(render(values_of(case)), CASES[case]) == CASES[case]["is"]


def test_the_value_makes_the_difference(case: str, values_of: Callable[[str], dict[str, Any]]) -> None:
    needed = merged(values_of(case))
    parent = needed
    *above, last = case.split(".")
    for key in above:
        parent = parent[key]
    del parent[last]
    if CASES[case].get("kind") in {None, *(each["kind"] for each in render(needed))}:
        assert found(render(needed), CASES[case]) != CASES[case]["is"]
