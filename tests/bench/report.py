"""Reports what was measured: a line a case on the terminal while it runs, then docs/benchmarks.md and its plot."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from bench.machine import Machine
from bench.measurement import Expansion, Measurement
from bench.promises import MB, ConditionValue

COLUMNS = (
    "Case",
    "Requests (minimum)",
    "429s",
    "Wall, median",
    "best",
    "CPU",
    "Peak",
    "Stall",
    "Snapshot",
    "Others",
)
QUOTA_COLUMNS = (
    "Case",
    "Window",
    "Limit",
    "Second tool",
    "Share",
    "Ours each window",
    "Allowed",
    "Took",
    "Ratio",
    "429s",
)

EXPANSION_COLUMNS = ("Case", "Grants", "Wall", "each grant", "CPU", "Peak", "Staged", "Expanded")

INTRODUCTION = """\
# Benchmarks

Written by `make bench`, {date}, on {machine}.

The cases are 1k (1,000 accounts, 50 teams, 3,800 memberships), 10k (10,000, 500, 38,000) and 100k (100,000, 2,000,
400,000); Buildkite answers at once or, with 20ms and under a quota, 20 ms later. The cases with access sync all
resource types: 10k-access has 2,000 pipelines, two for each team and 20 clusters, and 1k-access a tenth of that.

The real `buildkite-connector sync` command runs in its own process, the Buildkite simulator in another on the
same machine, over plain HTTP on loopback. A measurement counts only if the snapshot can be opened and is complete.
[benchmarks-fleet.md](benchmarks-fleet.md) measures one operator with many connectors.

- **Requests**: of one sync, including {preflight} for the preflight; in brackets the minimum of the listings' pages.
- **Wall**: from the process's start to its end, including the interpreter's start and imports.
- **CPU**: user and system time of the median run. **Peak**: resident memory, the largest of all runs.
- **Stall**: the longest time that the event loop was blocked, of all probes, in separate runs with a
  watcher on the loop; in brackets, how long it also waited for a processor that another process used.
- **Others**: cores that other processes used during the measurement. Much more than 0 slows it down.
"""

EXPANSION_INTRODUCTION = """\
## Expanded grants

`buildkite-connector sync` writes what each person can do through a team into its file, so the cases with access above
include that. The operator stages the file without it, and adds it for a task of C1 that leaves `skip_expand_grants`
unset. This table is of such a task: a process that opens the staged file and makes the expanded one of it.
"""

QUOTA_INTRODUCTION = """\
## Under a quota

Answers take 20 ms. **Allowed** is the least that any client with this share can take from its first request to the
last answer: (⌈requests / ours each window⌉ - 1) windows and one answer. **Took** is the same span as the simulator
saw it. Buildkite's window is a minute; all but one case shorten it. In a shorter window, the cost of each new window (a
round trip and a margin of 10 ms) weighs more: at 20 ms per request, 3 % of a window of a second, 0.05 % of a minute.
"""

PLOT = """\
![Requests over time: each case's steps keep to its allowance](benchmarks-quota.svg)

Dashed: what the windows and the share allow. Solid: requests as they arrived.
"""


def case_table(measured: Iterable[Measurement] = ()) -> Table:
    table = Table(*COLUMNS)
    for one in measured:
        table.add_row(*case_row(one))
    return table


def print_verdicts(found: Sequence[ConditionValue], console: Console) -> None:
    table = Table("Promise", "Measured", "")
    for verdict in found:
        table.add_row(verdict.promise, verdict.measured, "[green]kept[/]" if verdict.kept else "[red]missed[/]")
    console.print(table)


def markdown(
    measured: Mapping[str, Measurement],
    found: Sequence[ConditionValue],
    machine: Machine,
    date: datetime,
    *,
    preflight: int,
) -> str:
    """The whole page."""
    limited = [one for one in measured.values() if one.case.quota is not None]
    free = [one for one in measured.values() if one.case.quota is None]
    expanded = [(one, one.expansion) for one in free if one.expansion is not None]
    sections = [
        INTRODUCTION.format(date=f"{date:%Y-%m-%d}", machine=machine, preflight=preflight),
        "## Promises\n",
        markdown_table(
            ("Promise", "Measured", ""),
            [(verdict.promise, verdict.measured, "kept" if verdict.kept else "**missed**") for verdict in found],
        ),
        "## Without a quota\n",
        markdown_table(COLUMNS, [case_row(one) for one in free]),
        EXPANSION_INTRODUCTION,
        markdown_table(EXPANSION_COLUMNS, [_expansion_row(one, expansion) for one, expansion in expanded]),
        QUOTA_INTRODUCTION,
        markdown_table(QUOTA_COLUMNS, [_quota_row(one) for one in limited]),
        PLOT,
        markdown_table(COLUMNS, [case_row(one) for one in limited]),
    ]
    return "\n".join(sections)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def case_row(one: Measurement) -> tuple[str, ...]:
    stall = one.stall
    return (
        one.case.name,
        f"{one.requests:,} ({one.minimum:,})",
        str(one.refused),
        f"{one.wall:.2f} s",
        f"{one.best_wall:.2f} s" if len(one.runs) > 1 else "one run",
        f"{one.cpu:.2f} s",
        f"{one.peak / MB:.0f} MB",
        f"{stall.seconds * 1e3:.0f} ms (+ {stall.waited * 1e3:.0f})" if stall else "–",
        f"{one.snapshot_bytes / MB:.2f} MB",
        f"{one.others:.2f} cores",
    )


def _expansion_row(one: Measurement, expansion: Expansion) -> tuple[str, ...]:
    run = expansion.run
    return (
        one.case.name,
        f"{expansion.grants:,}",
        f"{run.wall:.2f} s",
        f"{run.wall / expansion.grants * 1e6:.1f} µs",
        f"{run.cpu:.2f} s",
        f"{run.peak / MB:.0f} MB",
        f"{expansion.plain_bytes / MB:.2f} MB",
        f"{one.snapshot_bytes / MB:.2f} MB",
    )


def _quota_row(one: Measurement) -> tuple[str, ...]:
    quota, least = one.case.quota, one.least_seconds
    if quota is None or least is None:
        raise ValueError(f"{one.case.name} has no quota")
    return (
        one.case.name,
        f"{quota.window:g} s",
        str(quota.limit),
        f"{quota.others}, {'spread' if quota.spread else 'at the opening'}" if quota.others else "–",
        f"{quota.percent} %",
        str(quota.each_window),
        f"{least:.2f} s",
        f"{one.exchange:.2f} s",
        f"{one.exchange / least:.3f}",
        str(one.refused),
    )


WIDTH, HEIGHT = 900, 420
LEFT, TOP, RIGHT, BOTTOM = 60, 20, 210, 45
COLOURS = ("#1b6ca8", "#c2571a", "#2e7d4f", "#8a3f8f", "#6b6b6b", "#a08000")
Point = tuple[float, float]


def svg(measured: Sequence[Measurement]) -> str:
    """Requests over seconds for cases under a quota: as they arrived, and dashed as they were allowed to."""
    seconds = max(one.exchange for one in measured) * 1.02
    most = max(one.requests for one in measured) * 1.05
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(point: Point) -> Point:
        return LEFT + point[0] / seconds * plot_width, TOP + plot_height - point[1] / most * plot_height

    def line(points: Sequence[Point], style: str) -> str:
        placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points))
        return f'<polyline points="{placed}" fill="none" {style}/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="13" fill="#444">',
        "<style>text { font-family: sans-serif }</style><title>Requests over time under a quota</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        line([(0, most), (0, 0), (seconds, 0)], 'stroke="#444"'),
    ]
    for tick in _ticks(seconds):
        x, y = place((tick, 0))
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in _ticks(most):
        x, y = place((0, tick))
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{LEFT + plot_width / 2}" y="{HEIGHT - 8}" text-anchor="middle">seconds</text>')
    parts.append(f'<text x="{LEFT + 8}" y="{TOP + 12}">requests</text>')
    for index, one in enumerate(measured):
        colour = COLOURS[index % len(COLOURS)]
        parts.append(line(_allowed(one), f'stroke="{colour}" stroke-dasharray="2 3"'))
        parts.append(line(_steps(one.sent), f'stroke="{colour}" stroke-width="1.5"'))
        label = TOP + 14 + 20 * index
        parts.append(f'<text x="{WIDTH - RIGHT + 16}" y="{label}" fill="{colour}">{one.case.name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _allowed(one: Measurement) -> list[Point]:
    quota = one.case.quota
    if quota is None:
        return []
    points: list[Point] = []
    count = 0
    for window in range(-(-one.requests // quota.each_window)):
        points.append((window * quota.window, count))
        count = min(one.requests, count + quota.each_window)
        points.append((window * quota.window, count))
    return points


def _steps(sent: Sequence[float]) -> list[Point]:
    """The corners of the staircase; arrivals closer than a tenth of a second are one step."""
    corners: list[Point] = [(0.0, 0.0)]
    for count, (before, at) in enumerate(pairwise(sent), start=1):
        if at - before > 0.1:
            corners += [(before, count), (at, count)]
    return [*corners, (sent[-1], len(sent))]


def _ticks(most: float) -> list[float]:
    """Round numbers up to `most`, about six."""
    step = next(step for power in range(6) for step in (10**power, 2 * 10**power, 5 * 10**power) if most / step <= 6)
    return [step * number for number in range(int(most / step) + 1)]
