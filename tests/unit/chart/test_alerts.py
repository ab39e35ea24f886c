"""Each alert fires when it should and not before, by promtool on the rendered rules; and has a runbook."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.helm_chart import CHART, one, render
from harness.yaml_text import parsed

CASES: dict[str, dict[str, Any]] = parsed((Path(__file__).parent / "alerts.yaml").read_text())
RUNBOOKS = CHART.parents[1] / "docs" / "runbooks"
URL = "https://git.example.com/docs/runbooks/{alert}.md"
SHOWN = {"prometheusRule": {"enabled": True, "renderMode": "alwaysRender", "runbookUrl": URL}}
[GROUP] = one(render(SHOWN), "PrometheusRule")["spec"]["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
LASTING = "400m"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on PATH (Debian's package prometheus has it)"
)


def promtool(directory: Path, rules: Iterable[dict[str, Any]], *arguments: str) -> str:
    """What promtool says; these rules are in rules.yaml. AssertionError when it is not content."""
    groups = {"groups": [{"name": "rendered", "rules": list(rules)}]}
    (directory / "rules.yaml").write_text(yaml.safe_dump(groups))
    done = subprocess.run(  # noqa: S603 - no shell
        ["promtool", *arguments],  # noqa: S607 - the one on PATH
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expected(alert: str, at: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """That it does not fire then, or that it does with these labels and the case's texts."""
    case = CASES[alert]
    texts = {"summary": case["summary"], "description": case["description"], "runbook_url": URL.format(alert=alert)}
    severity = {"severity": ALERTS[alert]["labels"]["severity"]}
    fires = [] if labels is None else [{"exp_labels": labels | severity, "exp_annotations": texts}]
    return {"eval_time": at, "alertname": alert, "exp_alerts": fires}


def run(series: list[str], *checks: dict[str, Any]) -> dict[str, Any]:
    written = [each.rpartition("} ") for each in series]
    inputs = [{"series": f"buildkite_connector_{name}}}", "values": values} for name, _, values in written]
    return {"interval": "1m", "input_series": inputs, "alert_rule_test": list(checks)}


def cases_of(alert: str) -> list[dict[str, Any]]:
    case = CASES[alert]
    before = f"{int(case['at'].removesuffix('m')) - 1}m"
    return [
        run(case["series"], expected(alert, before), expected(alert, case["at"], case["labels"])),
        *(run(series, expected(alert, LASTING)) for series in case["quiet"].values()),
    ]


@needs_promtool
@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_when_it_should_and_not_before(alert: str, tmp_path: Path) -> None:
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases_of(alert)}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool(tmp_path, [ALERTS[alert]], "test", "rules", "tests.yaml")


@needs_promtool
def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    assert f"{len(ALERTS)} rules found" in promtool(
        tmp_path, ALERTS.values(), "check", "rules", "--lint-fatal", "rules.yaml"
    )


def test_every_alert_has_cases_and_every_case_an_alert() -> None:
    assert set(CASES) == set(ALERTS)
    assert all(case["quiet"] for case in CASES.values())


def test_every_alert_has_a_runbook_that_its_url_leads_to() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook_url"] == URL.format(alert=name)


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_a_runbook_has_meaning_diagnosis_and_mitigation(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.+)$", text, re.M) == ["Meaning", "Diagnosis", "Mitigation"]
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert (page.parent / target).exists(), target
