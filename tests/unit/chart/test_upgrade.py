"""An upgrade works whatever values it brings along.

`--reuse-values` lays the old chart's defaults under the user's values, in place of the new chart's: keys that are new
are missing then, and keys that are gone are there. `--reset-then-reuse-values` lays the new chart's defaults under
them, and `--reset-values` nothing else.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from chart_values import Value, read_values
from harness.helm_chart import CHART, NAMESPACE, RELEASE, Values, at, merged, nested, render, workload
from harness.yaml_text import all_parsed

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
OLDEST: dict[str, Any] = yaml.safe_load((CHART.parents[1] / "tests/data/oldest-chart/values.yaml").read_text())
VALUES = read_values((CHART / "values.yaml").read_text())
FREE = {".".join(leaf.path) for top in VALUES for leaf in top.leaves() if leaf.free}

Rendered = list[dict[str, Any]]
Upgrade = Callable[[Values, Values], Rendered]


def nodes(values: tuple[Value, ...] = VALUES) -> Iterator[str]:
    for value in values:
        yield ".".join(value.path)
        yield from nodes(value.children)


def without(values: Values, path: str) -> dict[str, Any]:
    less = merged(values)
    *above, last = path.split(".")
    parent: Any = less
    for key in above:
        parent = parent.get(key, {})
    parent.pop(last, None)
    return less


@pytest.fixture
def upgrade(tmp_path: Path) -> Upgrade:
    """The chart's objects with other defaults than its own."""
    copied = tmp_path / CHART.name
    shutil.copytree(CHART, copied)

    def rendered(defaults: Values, values: Values) -> Rendered:
        (copied / "values.yaml").write_text(yaml.safe_dump(dict(defaults)))
        with helm_python.Chart.load(copied) as chart:
            texts = chart.render(dict(values), name=RELEASE, namespace=NAMESPACE, is_upgrade=True)
        return [each for name, text in texts.items() if not name.endswith("NOTES.txt") for each in all_parsed(text)]

    return rendered


@pytest.mark.parametrize("path", list(nodes()))
def test_a_value_that_is_missing_is_its_default(path: str, upgrade: Upgrade, everything: Values) -> None:
    values = without(everything, path)
    rendered = upgrade(without(DEFAULTS, path), values)
    if path not in FREE:
        assert rendered == upgrade(DEFAULTS, values)


@pytest.mark.parametrize("path", sorted(FREE))
def test_null_takes_a_map_away_that_has_a_default(path: str) -> None:
    assert path in {"podSecurityContext", "securityContext", "resources", "nodeSelector"}
    where = "containers/0/" if path in {"securityContext", "resources"} else ""
    name = "securityContext" if path == "podSecurityContext" else path
    assert at(workload(render()), f"spec/template/spec/{where}{name}")
    assert at(workload(render(nested(path, None))), f"spec/template/spec/{where}{name}") is None


def test_the_oldest_charts_values_are_reused(upgrade: Upgrade, values: Values) -> None:
    assert upgrade(OLDEST, values) == render(values)


def test_the_oldest_charts_values_may_all_have_been_set_by_hand() -> None:
    assert render(OLDEST) == render()
