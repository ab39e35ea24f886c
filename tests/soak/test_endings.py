"""A connector's process ends at random moments; nothing is torn, delivered twice, kept or left behind.

`make soak` runs it: KILLS and STOPS in the environment say how many, SEED which moments.
"""

import os
import random
import time

from harness.kubernetes_apis import Kubernetes
from soak.endings import endings

KILLS, STOPS = int(os.environ.get("KILLS", "2")), int(os.environ.get("STOPS", "2"))
SEED = int(os.environ.get("SEED", "0")) or time.time_ns() % 1_000_000


async def test_kills_and_stops_at_random_moments(kubernetes: Kubernetes) -> None:
    print(f"SEED={SEED}")
    ends = ["kill"] * KILLS + ["stop"] * STOPS
    random.Random(SEED).shuffle(ends)
    async with endings(kubernetes, "soak", SEED) as made:
        for number, end in enumerate(ends, 1):
            await (made.kill_once() if end == "kill" else made.stop_once())
            if number % 10 == 0:
                print(f"{number} of {len(ends)}: {made.tally}", flush=True)
        await made.settle()
        c1 = made.rig.c1
        print(f"{KILLS} kills and {STOPS} stops: {made.tally}; {len(c1.tasks)} tasks, {len(c1.ingested)} delivered")
