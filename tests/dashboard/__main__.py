"""Draws docs/dashboard.png (`make dashboard`): the dashboard's queries, answered by a Prometheus that scraped a run."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from dashboard.page import Series, to_page
from harness.helm_chart import CHART
from harness.prometheus import Prometheus
from harness.rig import Rig, simulated_api
from scenarios.queries import scraped
from scenarios.tenant import Tenant
from simulators.buildkite.quota import Limits

PICTURE = Path(__file__).parents[2] / "docs" / "dashboard.png"
SECONDS = 100.0
"""How long the run goes on once every connector is in its state."""
PAUSE = 4.0
INTERVAL = "20s"
"""What stands for Grafana's rate interval: the run is short."""
WIDTH, HEIGHT = 1360, 1010


async def go_on(rig: Rig, tenants: list[Tenant]) -> None:
    """Asks each connector for a sync again and again; the organization's rate limit makes them wait in turn."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        throttled = (end - time.monotonic()) % 40 > 20
        limit = 15 if throttled else None
        rig.buildkite.quota.limits = Limits(user=None, organization=limit, window=1.0, reset_decimals=3)
        for tenant in tenants:
            await tenant.request_sync()
        await asyncio.sleep(PAUSE)


async def answers(server: Prometheus, dashboard: dict[str, Any], began: float) -> dict[int, list[Series]]:
    """Each panel's answer, from the run's beginning until now."""
    found = {}
    for panel in dashboard["panels"]:
        [target] = panel["targets"]
        query = target["expr"].replace("$namespace", ".*").replace("$__rate_interval", INTERVAL)
        instant = panel["type"] != "timeseries"
        span = {"time": time.time()} if instant else {"start": began, "end": time.time(), "step": 1}
        path = "/api/v1/query" if instant else "/api/v1/query_range"
        result = (await server.http.get(path, params={"query": query, **span})).json()["data"]["result"]
        found[panel["id"]] = [
            Series(each["metric"], [(float(at), float(value)) for at, value in each.get("values") or [each["value"]]])
            for each in result
        ]
    return found


def take(page: str, chromium: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page)
        subprocess.run(  # noqa: S603 - the browser found on PATH, on a page of our own
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={folder}/profile",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={PICTURE}",
                file.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,  # what the browser misses of a desktop
            timeout=120,
        )


async def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None or shutil.which("prometheus") is None:
        sys.exit("make dashboard needs prometheus and chromium on PATH (Debian's packages have them)")
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        async with simulated_api() as kubernetes, Rig(kubernetes, "connectors") as rig:
            began = time.time()
            async with scraped(rig, Path(folder)) as (server, _):
                names = ("well", "failing", "held")
                await go_on(rig, [Acquainted(rig, name) for name in names])
                found = await answers(server, dashboard, began)
    told = (
        "Not Grafana: a page of our own with the answers of a Prometheus that scraped two operators on simulators. "
        f"{SECONDS:.0f} s of asking for syncs follow the set-up; rates over {INTERVAL}."
    )
    take(to_page(dashboard, found, told), chromium)


class Acquainted(Tenant):
    """A connector that is there already, by its name alone."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig, self.name = rig, name


if __name__ == "__main__":
    asyncio.run(main())
