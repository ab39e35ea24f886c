"""Every value does what values.yaml says of it: the table is cases.yaml."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from chart_values import read_values
from harness.helm_chart import CHART, Manifest, at, merged, of_kind, render, workload
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
    less = merged(values)
    parent = less
    *above, last = path.split(".")
    for key in above:
        parent = parent[key]
    del parent[last]
    return less


def test_the_value_is_rendered_and_nothing_else_renders_it(
    case: str, values_of: Callable[[str], dict[str, Any]]
) -> None:
    values, expected = values_of(case), CASES[case]
    assert found(render(values), expected) == expected["is"]
    default = render(without(values, case))
    if expected.get("kind") in {None, *(each["kind"] for each in default)}:
        assert found(default, expected) != expected["is"]
