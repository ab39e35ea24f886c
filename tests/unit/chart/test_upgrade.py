"""An upgrade works whatever values it brings along.

`--reuse-values` lays the old chart's defaults under the user's values, in place of the new chart's: keys that are new
are missing then, and keys that are gone are there. `--reset-then-reuse-values` lays the new chart's defaults under
them, and `--reset-values` nothing else.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from chart_values import Value, read_values
from harness.helm_chart import CHART, NAMESPACE, REGISTRY, RELEASE, Values, at, merged, nested, render, workload

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
OLDEST: dict[str, Any] = yaml.safe_load((CHART.parents[1] / "tests/data/oldest-chart/values.yaml").read_text())
VALUES = read_values((CHART / "values.yaml").read_text())
FREE = {".".join(leaf.path) for top in VALUES for leaf in top.leaves() if leaf.free}

BATCHES = 20

Upgrade = Callable[[Values, Values], Mapping[str, str]]


def nodes(values: tuple[Value, ...] = VALUES) -> Iterator[str]:
    for value in values:
        yield ".".join(value.path)
        yield from nodes(value.children)


def batches() -> list[list[str]]:
    """Each value in one batch, in which nothing is part of another: one batch costs what one value would."""
    found: list[list[str]] = [[] for _ in range(BATCHES)]
    for place, top in enumerate(VALUES):
        for number, path in enumerate(nodes((top,))):
            found[(place + number) % BATCHES].append(path)
    return found


def without(values: Values, paths: Sequence[str]) -> dict[str, Any]:
    less = merged(values)
    for path in paths:
        *above, last = path.split(".")
        parent: Any = less
        for key in above:
            parent = parent.get(key, {})
        parent.pop(last, None)
    return less


@pytest.fixture
def upgrade(tmp_path: Path) -> Upgrade:
    """The chart's templates, rendered with other defaults than its own."""
    copied = tmp_path / CHART.name
    shutil.copytree(CHART, copied)

    def rendered(defaults: Values, values: Values) -> Mapping[str, str]:
        (copied / "values.yaml").write_text(json.dumps(defaults))
        with helm_python.Chart.load(copied) as chart:
            texts = chart.render(merged(REGISTRY, values), name=RELEASE, namespace=NAMESPACE, is_upgrade=True)
        return {name: text for name, text in texts.items() if not name.endswith("NOTES.txt")}

    return rendered


@pytest.mark.parametrize("batch", batches(), ids=lambda batch: batch[0])
def test_values_that_are_missing_are_their_defaults(batch: list[str], upgrade: Upgrade, everything: Values) -> None:
    if not is_default(batch, upgrade, everything):
        assert [path for path in batch if not is_default([path], upgrade, everything)] == []
        pytest.fail(f"together, not alone: {batch}")


def is_default(paths: list[str], upgrade: Upgrade, everything: Values) -> bool:
    try:
        if free := [path for path in paths if path in FREE]:
            upgrade(without(DEFAULTS, free), without(everything, free))
        paths = [path for path in paths if path not in FREE]
        values = without(everything, paths)
        return upgrade(without(DEFAULTS, paths), values) == upgrade(DEFAULTS, values)
    except helm_python.HelmError:
        return False


@pytest.mark.parametrize("path", sorted(FREE))
def test_null_takes_a_map_away_that_has_a_default(path: str) -> None:
    assert path in {"podSecurityContext", "securityContext", "resources", "nodeSelector"}
    where = "containers/0/" if path in {"securityContext", "resources"} else ""
    name = "securityContext" if path == "podSecurityContext" else path
    assert at(workload(render()), f"spec/template/spec/{where}{name}")
    assert at(workload(render(nested(path, None))), f"spec/template/spec/{where}{name}") is None


def test_the_oldest_charts_values_are_reused(upgrade: Upgrade, values: Values) -> None:
    assert upgrade(OLDEST, values) == upgrade(DEFAULTS, values)


def test_the_oldest_charts_values_may_all_have_been_set_by_hand() -> None:
    assert render(merged(OLDEST, REGISTRY)) == render()
