"""The chart, rendered by Helm's own code without a cluster."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import helm_python

from harness.yaml_text import all_parsed

CHART = Path(__file__).parents[2] / "charts" / "buildkite-connector"
RELEASE, NAMESPACE = "bc", "ops"
FULL_NAME = "bc-buildkite-connector"

REGISTRY = {"image": {"registry": "registry.example.com"}}
"""The values without which the chart is not rendered."""

Manifest = dict[str, Any]
Values = Mapping[str, Any]


@cache
def chart() -> helm_python.Chart:
    """Loaded once a process: it is immutable."""
    return helm_python.Chart.load(CHART)


def render(values: Values | None = None, *, name: str = RELEASE, namespace: str = NAMESPACE) -> list[Manifest]:
    """What a release consists of. Raises helm_python.HelmError for values that the schema or a template refuses."""
    return [each for each in _documents(values, name, namespace) if not _is_hook(each)]


def hooks(values: Values | None = None, *, name: str = RELEASE, namespace: str = NAMESPACE) -> list[Manifest]:
    """What Helm creates beside the release, for a moment. Raises as `render`."""
    return [each for each in _documents(values, name, namespace) if _is_hook(each)]


def _is_hook(document: Manifest) -> bool:
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def _documents(values: Values | None, name: str, namespace: str) -> list[Manifest]:
    texts = _rendered(json.dumps(merged(REGISTRY, values or {})), name, namespace)
    return [
        document for template, text in texts.items() if not template.endswith("NOTES.txt") for document in _parsed(text)
    ]


@cache
def _rendered(values: str, name: str, namespace: str) -> Mapping[str, str]:
    """Template to text, once for the same values: the defaults are asked for again and again."""
    return chart().render(json.loads(values), name=name, namespace=namespace)


@cache
def _parsed(text: str) -> list[Manifest]:
    """Once for each text: the definition is long and seldom differs. Nobody changes what is rendered."""
    return all_parsed(text)


def of_kind(documents: list[Manifest], kind: str) -> list[Manifest]:
    return [document for document in documents if document["kind"] == kind]


def one(documents: list[Manifest], kind: str = "") -> Manifest:
    """The only one, of this kind when it is named."""
    (found,) = of_kind(documents, kind) if kind else documents
    return found


def workload(documents: list[Manifest]) -> Manifest:
    """The Deployment, or the StatefulSet in its place."""
    return one([each for each in documents if each["kind"] in {"Deployment", "StatefulSet"}])


def identity(document: Manifest) -> tuple[str, str, str]:
    """Kind, namespace (empty: of the cluster) and name."""
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def at(document: Any, path: str) -> Any:
    """What is at `spec/ports/0/name`; None when a part of the path is missing. `name=http` finds an item of a list."""
    found = document
    for part in path.split("/"):
        if isinstance(found, list):
            if "=" in part:
                key, value = part.split("=")
                found = next((item for item in found if item.get(key) == value), None)
            else:
                found = found[int(part)] if int(part) < len(found) else None
        else:
            found = (found or {}).get(part.replace("~1", "/"))
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    """`nested("image.tag", 1)` is `{"image": {"tag": 1}}`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def merged(*all_values: Values) -> dict[str, Any]:
    """Values laid over each other, the last on top; maps are merged."""
    result: dict[str, Any] = {}
    for values in all_values:
        for key, value in values.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else deepcopy(value)
    return result


def empty_parts(node: Any, path: str = "") -> Iterator[str]:
    """The paths of nulls, empty texts, lists and maps."""
    if node is None or (isinstance(node, str | list | dict) and not node):
        yield path
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from empty_parts(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from empty_parts(value, f"{path}/{index}")
