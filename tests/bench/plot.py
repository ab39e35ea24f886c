"""Draws how requests kept to what the windows allow, as SVG by hand: a few lines of text need no library."""

from collections.abc import Sequence
from itertools import pairwise

from bench.measurement import Measurement

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
