"""The chart's alerts and its dashboard read metrics that the operator has."""

import json
import re
from typing import Any

from harness.helm_chart import CHART, Values, merged, of_kind, one, render

METRICS = set(re.findall(r"`(buildkite_connector_\w+)`", (CHART.parents[1] / "docs" / "metrics.md").read_text()))
RULES: Values = {"prometheusRule": {"enabled": True, "renderMode": "alwaysRender"}}


def alerts(values: Values) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = one(render(merged(RULES, values)), "PrometheusRule")["spec"]["groups"][0]["rules"]
    return rules


def read_by(expression: str) -> set[str]:
    return {name.removesuffix("_bucket") for name in re.findall(r"buildkite_connector_\w+", expression)}


def test_every_alert_reads_metrics_that_exist_and_says_what_is_wrong() -> None:
    found = alerts({})
    assert len(found) == 14
    for alert in found:
        assert read_by(alert["expr"]), alert["alert"]
        assert read_by(alert["expr"]) <= METRICS, alert["alert"]
        assert set(alert["annotations"]) == {"summary", "description"}


def test_the_alerts_on_leaders_go_with_leader_election() -> None:
    def leaders(values: Values) -> list[str]:
        return [each["alert"] for each in alerts(values) if "_leader" in each["expr"]]

    assert leaders({}) == ["BuildkiteConnectorMultipleLeaders", "BuildkiteConnectorNoLeader"]
    assert leaders({"leaderElection": {"enabled": False}}) == []


def test_without_an_alert_there_is_no_rule() -> None:
    names = [alert["alert"] for alert in alerts({})]
    off = {"prometheusRule": {"rules": {name: {"enabled": False} for name in names}}}
    assert of_kind(render(merged(RULES, off)), "PrometheusRule") == []


def test_every_panel_reads_metrics_that_exist() -> None:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert read_by(target["expr"]), panel["title"]
            assert read_by(target["expr"]) <= METRICS, panel["title"]


def test_the_config_map_holds_the_dashboard_as_it_is() -> None:
    rendered = one(render({"grafanaDashboard": {"enabled": True}}), "ConfigMap")["data"]["buildkite-connector.json"]
    assert json.loads(rendered) == json.loads((CHART / "files" / "dashboard.json").read_text())
