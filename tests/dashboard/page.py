"""The chart's dashboard as one HTML page with the answers to its queries: our own drawing, for want of Grafana."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Panel = dict[str, Any]
Point = tuple[float, float]
"""A time in seconds since the epoch, and a value."""
ROW, COLUMN = 34, 56
"""Pixels of a unit of `gridPos`."""
COLOURS = ("#2563eb", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#6b7280")
"""Of lines that the dashboard gives no colour."""
NAMED = {"green": "#16a34a", "red": "#dc2626", "orange": "#d97706", "blue": "#2563eb"}
"""Grafana's names of colours."""
STYLE = """
body { margin: 0; font: 13px sans-serif; color: #1f2328; background: #eef1f4 }
header { padding: 10px 16px } h1 { font-size: 17px; margin: 0 0 2px } header p { margin: 0; color: #57606a }
main { position: relative } section { position: absolute; background: #fff; border: 1px solid #d0d7de;
border-radius: 4px; box-sizing: border-box; padding: 8px 10px; overflow: hidden }
h2 { font-size: 13px; margin: 0 0 4px }
.stat { font-size: 44px; text-align: center; padding-top: 14px } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: 5px 8px; border-bottom: 1px solid #e5e8eb }
text { font: 11px sans-serif; fill: #57606a }
"""


@dataclass(frozen=True)
class Series:
    """A line of a panel, or a row of a table. `points` of a table or a number: the last one counts."""

    labels: Mapping[str, str]
    points: Sequence[Point]


def to_page(dashboard: Mapping[str, Any], answers: Mapping[int, Sequence[Series]], told: str) -> str:
    """`answers` by the panel's id; `told`: the sentence under the title. ValueError for a panel without data."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW
    drawn = "".join(_panel(panel, answers[panel["id"]]) for panel in panels)
    return (
        f'<!doctype html><meta charset="utf-8"><title>{html.escape(dashboard["title"])}</title><style>{STYLE}</style>'
        f"<header><h1>{html.escape(dashboard['title'])}</h1><p>{html.escape(told)}</p></header>"
        f'<main style="height:{height}px">{drawn}</main>'
    )


def _panel(panel: Panel, series: Sequence[Series]) -> str:
    shown = [each for each in series if any(not math.isnan(value) for _, value in each.points)]
    if not shown:
        raise ValueError(f"the panel {panel['title']!r} has no data")
    place = panel["gridPos"]
    left, top, width, high = place["x"] * COLUMN, place["y"] * ROW, place["w"] * COLUMN - 6, place["h"] * ROW - 6
    kinds = {"stat": _stat, "table": _table}
    body = kinds[panel["type"]](panel, shown) if panel["type"] in kinds else _lines(panel, shown, width - 22, high - 34)
    return (
        f'<section style="left:{left + 4}px;top:{top}px;width:{width}px;height:{high}px">'
        f"<h2>{html.escape(panel['title'])}</h2>{body}</section>"
    )


def _stat(panel: Panel, series: Sequence[Series]) -> str:
    value = series[0].points[-1][1]
    return f'<div class="stat" style="color:{_of_value(panel, value)}">{value:g}</div>'


def _of_value(panel: Panel, value: float) -> str:
    """The colour of a number: fixed, or that of the highest threshold that it has reached."""
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["color"]["mode"] == "fixed":
        return NAMED[defaults["color"]["fixedColor"]]
    reached = [each for each in defaults["thresholds"]["steps"] if each["value"] is None or value >= each["value"]]
    return NAMED[reached[-1]["color"]]


def _of_line(panel: Panel, name: str, number: int) -> str:
    """The colour of a line: its own, the panel's, or the next one."""
    fixed = panel["fieldConfig"]["defaults"].get("color")
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            [fixed] = [each["value"] for each in override["properties"] if each["id"] == "color"]
    return NAMED[fixed["fixedColor"]] if fixed else COLOURS[number % len(COLOURS)]


def _table(_panel: Panel, series: Sequence[Series]) -> str:
    names = sorted({name for each in series for name in each.labels})
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = ("".join(f"<td>{html.escape(each.labels.get(name, ''))}</td>" for name in names) for each in series)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _lines(panel: Panel, series: Sequence[Series], width: int, height: int) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    legend = panel["targets"][0].get("legendFormat", "")
    every = [point for each in series for point in each.points if not math.isnan(point[1])]
    first, last = min(time for time, _ in every), max(time for time, _ in every)
    most = max(value for _, value in every) * 1.1 or 1.0
    left, bottom = 54, height - 40

    def at(point: Point) -> str:
        x = left + (point[0] - first) / max(last - first, 1.0) * (width - left - 4)
        return f"{x:.1f},{bottom - point[1] / most * (bottom - 6):.1f}"

    parts = []
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - 6)
        parts.append(f'<path d="M{left} {y:.1f}H{width}" stroke="#e5e8eb"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_value(most * share, unit)}</text>')
    parts.append(f'<text x="{left}" y="{bottom + 15}">0 s</text>')
    parts.append(f'<text x="{width}" y="{bottom + 15}" text-anchor="end">{last - first:.0f} s</text>')
    x = left
    for number, each in enumerate(series):
        name = _name(legend, each.labels)
        colour = _of_line(panel, name, number)
        line = " ".join(at(point) for point in each.points if not math.isnan(point[1]))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<rect x="{x}" y="{height - 16}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="{height - 7}">{html.escape(name)}</text>')
        x += 34 + 7 * len(name)
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def _name(legend: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend or json.dumps(dict(labels))


def _value(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.0%}"
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} s" if unit == "s" else number
