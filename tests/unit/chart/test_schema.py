"""values.schema.json refuses what cannot work, in words that name the value."""

from typing import Any

import helm_python
import pytest

from chart_values import read_values, to_schema, to_table
from harness.helm_chart import chart, nested, render

BAD: tuple[tuple[str, Any, str], ...] = (
    ("replicas", 2, "additional properties 'replicas' not allowed"),
    ("leaderElection.enable", True, "additional properties 'enable' not allowed"),
    ("image.digest", "sha256:1", "image/digest': 'sha256:1' does not match pattern"),
    ("image.pullPolicy", "Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
    ("image.repository", "", "image/repository'"),
    ("replicaCount", "2", "replicaCount': got string, want integer"),
    ("replicaCount", -1, "replicaCount'"),
    ("watchNamespaces", "team-a", "watchNamespaces': got string, want array"),
    ("watchNamespaces", ["Team_A"], "watchNamespaces/0': 'Team_A' does not match pattern"),
    ("watchNamespaces", ["a", "a"], "watchNamespaces': items at 0 and 1 are equal"),
    ("leaderElection.leaseDuration", 15, "leaderElection/leaseDuration': got number, want string"),
    ("leaderElection.leaseDuration", "soon", "does not match pattern"),
    ("commonLabels", {"a": 1}, "commonLabels/a': got number, want string"),
    ("c1.workloadIdentity.audience", "https://acme.conductor.one", "workloadIdentity/audience': 'https:"),
    ("http.port", 80, "http/port'"),
    ("log.level", "trace", "value must be one of 'debug', 'info', 'warn', 'warning', 'error'"),
    ("otel.endpoint", "collector:4318", "otel/endpoint': 'collector:4318' does not match pattern"),
    ("extraEnv", [{"value": "a"}], "missing property 'name'"),
    ("data.sizeLimit", "much", "data/sizeLimit'"),
    ("fullnameOverride", "Upper", "fullnameOverride'"),
    ("podDisruptionBudget.minAvailable", [1], "podDisruptionBudget/minAvailable'"),
    ("networkPolicy.egress.apiServer.ports", [], "networkPolicy/egress/apiServer/ports'"),
    ("serviceMonitor.renderMode", "maybe", "value must be one of 'skipIfMissing', 'failIfMissing', 'alwaysRender'"),
    ("prometheusRule.rules.BuildkiteConnectorStalled.threshold", 1, "additional properties 'threshold' not allowed"),
    ("prometheusRule.rules.Mine", {"enabled": True}, "additional properties 'Mine' not allowed"),
)


@pytest.mark.parametrize(("path", "value", "words"), BAD)
def test_a_bad_value_is_refused_in_words_that_name_it(path: str, value: Any, words: str) -> None:
    with pytest.raises(helm_python.HelmError) as caught:
        render(nested(path, value))
    assert words in str(caught.value)


def test_a_parent_chart_may_switch_this_one_and_pass_its_globals() -> None:
    assert render({"enabled": True, "global": {"storageClass": "x", "imageRegistry": "r"}})


def test_a_map_with_defaults_may_take_other_keys_where_kubernetes_has_them() -> None:
    assert render({"resources": {"limits": {"cpu": 1}}, "podSecurityContext": {"supplementalGroups": [1]}})


def test_every_key_has_a_title_and_its_default() -> None:
    schema = chart().schema
    assert schema is not None
    assert schema["properties"]["image"]["properties"]["tag"] == {
        "title": "image.tag",
        "description": "Tag. Default: the chart's appVersion.",
        "type": "string",
        "default": "",
    }


VALUES = """
# Above all.

# How many.
# @schema {minimum: 1}
count: 1
part:
  # Free.
  # @schema {free: true}
  map: {a: b}
"""


def test_the_schema_is_made_of_defaults_and_comments() -> None:
    schema = to_schema(read_values(VALUES))
    assert schema["properties"]["count"] == {
        "title": "count",
        "description": "How many.",
        "type": "integer",
        "minimum": 1,
        "default": 1,
    }
    assert schema["properties"]["part"]["additionalProperties"] is False
    assert "additionalProperties" not in schema["properties"]["part"]["properties"]["map"]


def test_the_table_has_a_row_for_each_leaf() -> None:
    assert to_table(read_values(VALUES)).splitlines()[2:] == [
        "| `count`<br><small>default `1`</small> | How many. |",
        '| `part.map`<br><small>default `{"a": "b"}`</small> | Free. |',
    ]


def test_a_schema_comment_that_is_no_map_is_refused_with_its_key() -> None:
    with pytest.raises(ValueError, match=r"part\.map: @schema takes a map"):
        read_values(VALUES.replace("{free: true}", "free"))
