"""The page of the dashboard's picture shows every panel's data, and refuses to show a panel that has none."""

import json
import math
import re

import pytest

from dashboard.page import NAMED, Series, to_page
from harness.helm_chart import CHART

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
LINE = Series(
    {"result": "failed", "namespace": "connectors", "name": "held"}, [(0.0, 1.0), (1.0, math.nan), (2.0, 3.0)]
)


def answers(**changed: list[Series]) -> dict[int, list[Series]]:
    """One line for each panel but those `changed`, by title."""
    return {panel["id"]: changed.get(panel["title"], [LINE]) for panel in DASHBOARD["panels"]}


def test_every_panel_of_the_dashboard_is_on_the_page_with_its_data() -> None:
    page = to_page(DASHBOARD, answers(), "Not Grafana & <told>")
    assert all(f"<h2>{panel['title'].replace(chr(39), '&#x27;')}</h2>" in page for panel in DASHBOARD["panels"])
    assert "Not Grafana &amp; &lt;told&gt;" in page
    assert page.count('<div class="stat"') == 4
    assert ">failed</text>" in page
    assert ">connectors/held</text>" in page
    assert page.count("<polyline") == 4


@pytest.mark.parametrize(
    ("title", "value", "colour"),
    [
        ("Ready", 0.0, "green"),
        ("Needs action", 0.0, "green"),
        ("Needs action", 1.0, "red"),
        ("Acting operators", 0.0, "red"),
        ("Acting operators", 1.0, "green"),
        ("Acting operators", 2.0, "red"),
    ],
)
def test_a_number_is_red_when_something_is_wrong(title: str, value: float, colour: str) -> None:
    page = to_page(DASHBOARD, answers(**{title: [Series({}, [(0.0, value)])]}), "")
    assert f'style="color:{NAMED[colour]}">{value:g}</div>' in page


@pytest.mark.parametrize(("result", "colour"), [("success", "green"), ("failed", "red"), ("cancelled", "orange")])
def test_each_result_of_a_sync_has_its_colour_in_whatever_order(result: str, colour: str) -> None:
    other = Series({"result": "other"}, LINE.points)
    page = to_page(DASHBOARD, answers(**{"Syncs by result": [other, Series({"result": result}, LINE.points)]}), "")
    assert set(re.findall(rf'fill="(#\w+)"/><text [^>]*>{result}<', page)) == {NAMED[colour]}


@pytest.mark.parametrize("series", [[], [Series({}, [(0.0, math.nan)])]])
def test_a_panel_without_data_is_refused(series: list[Series]) -> None:
    with pytest.raises(ValueError, match="'Ready' has no data"):
        to_page(DASHBOARD, answers(Ready=series), "")
