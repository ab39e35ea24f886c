"""A connector's process ends at random moments; nothing is torn, delivered twice, kept or left behind.

`make soak` runs it in both modes: KILLS and STOPS in the environment say how many in each, SEED which moments.
"""

import os
import random
import time

from buildkite_connector.model.tasks import Code
from harness.kubernetes_apis import Kubernetes
from soak.endings import Endings, endings
from soak.modes import OpenedMode, operator_mode, service_mode

KILLS, STOPS = int(os.environ.get("KILLS", "2")), int(os.environ.get("STOPS", "2"))
SEED = int(os.environ.get("SEED", "0")) or time.time_ns() % 1_000_000


async def test_the_operator_is_killed_and_stopped_at_random_moments(kubernetes: Kubernetes) -> None:
    await end_at_random_moments(operator_mode(kubernetes))


async def test_the_service_is_killed_and_stopped_at_random_moments() -> None:
    await end_at_random_moments(service_mode())


async def end_at_random_moments(opened: OpenedMode) -> None:
    print(f"SEED={SEED}")
    ends = ["kill"] * KILLS + ["stop"] * STOPS
    random.Random(SEED).shuffle(ends)
    async with endings(opened, SEED, Endings) as made:
        for number, end in enumerate(ends, 1):
            await (made.kill_once() if end == "kill" else made.stop_once())
            if number % 10 == 0:
                print(f"{number} of {len(ends)}: {made.tally}", flush=True)
        await made.settle()
        c1 = made.mode.c1
        cut = sum(call.code != "OK" for call in c1.calls("UploadAsset"))
        back = sum(task.outcome is not None and task.outcome.code == Code.ABORTED for task in c1.tasks.values())
        came = f"{len(c1.tasks)} tasks: {len(c1.ingested)} delivered, {back} handed back; {cut} uploads cut short"
        print(f"{KILLS} kills and {STOPS} stops: {made.tally}; {came}")
