"""`stall.py FILE API_URL SLUG`: one sync with a watcher on its event loop; prints the longest stall as JSON.

The product has no such mode: this runs what the `sync` command runs, in a process of its own. The token comes in
BATON_API_TOKEN.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from buildkite_connector.buildkite import BuildkiteSettings
from buildkite_connector.commands.sync import SyncSettings, sync
from buildkite_connector.directory import FULL_SCOPE, OrganizationSlug

STEP = 0.001
"""Seconds that the watcher sleeps: what it oversleeps, the loop was busy or the machine was."""


@dataclass
class Stall:
    """Seconds that the loop was late, and what of them this process was on a processor (all its threads)."""

    seconds: float = 0.0
    cpu: float = 0.0


async def watch(longest: Stall) -> None:
    """Keep the longest stall, until cancelled."""
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(STEP)
        late = time.perf_counter() - wall - STEP
        if late > longest.seconds:
            longest.seconds, longest.cpu = late, time.process_time() - cpu


async def watched(settings: SyncSettings) -> Stall:
    longest = Stall()
    watcher = asyncio.create_task(watch(longest))
    try:
        await sync(settings, None)
    finally:
        watcher.cancel()
    return longest


def main() -> None:
    file, api_url, slug = sys.argv[1:]
    settings = SyncSettings(
        buildkite=BuildkiteSettings(api_url=api_url),
        api_token=os.environ["BATON_API_TOKEN"],
        organization=OrganizationSlug(slug),
        file=Path(file),
        scope=FULL_SCOPE,
        quota_percent=80,
        timeout=600.0,
    )
    print(json.dumps(asdict(asyncio.run(watched(settings)))))


if __name__ == "__main__":
    main()
