"""A connector's process ends at random moments of 20 interleaved grants and revokes: none is lost, none made twice.

`make soak` runs it: CHANGE_ENDS in the environment says how many ends, half of them kills; SEED which moments.
"""

import os
import random

from harness.kubernetes_apis import Kubernetes
from soak.changes import SPEC, Changes
from soak.endings import endings
from soak.modes import operator_mode
from soak.test_endings import SEED

ENDS = int(os.environ.get("CHANGE_ENDS", "4"))


async def test_changes_while_the_process_ends_at_random_moments(kubernetes: Kubernetes) -> None:
    print(f"SEED={SEED}")
    ends = ["kill", "stop"] * (ENDS // 2)
    random.Random(SEED).shuffle(ends)
    async with endings(operator_mode(kubernetes, SPEC, writes=True), SEED, Changes) as made:
        for number, end in enumerate(ends, 1):
            await (made.kill_once() if end == "kill" else made.stop_once())
            if number % 10 == 0:
                print(f"{number} of {len(ends)}: {made.tally}; {made.told}", flush=True)
        await made.settle()
        print(f"{len(ends)} ends: {made.tally}; {made.told}")
