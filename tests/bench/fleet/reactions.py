"""How soon a change acts: on a few connectors each a sync asked for, an edit, a changed Secret."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

from bench.fleet.cluster import FleetCluster, Manifest
from bench.fleet.measurement import Reaction
from buildkite_connector.kubernetes.schema import API_VERSION, KIND, SYNC_REQUESTED_AT
from simulators.buildkite.control import BuildkiteProcess

TRIES = 5
BUSY = 50
"""Syncs that run meanwhile."""
PAGE_SECONDS = 12.0
"""What a page of a team's members takes then."""
SECONDS = 600.0


class Changes:
    """Changes objects, and waits for the status that tells of it. `slug`: what all Secrets may name."""

    def __init__(self, cluster: FleetCluster, slug: str) -> None:
        self._cluster = cluster
        self._slug = slug

    async def react(self, names: Sequence[str], tell: Callable[[str], None]) -> dict[str, Reaction]:
        """By what was changed; each of the names is changed once."""
        found = {}
        for first, (what, change) in enumerate(
            (("annotation", self.ask_for_sync), ("edit", self._edit), ("Secret", self._renew_secret))
        ):
            took = await asyncio.gather(*(change(name) for name in names[first::3]))
            found[what] = Reaction(len(took), statistics.median(took), max(took))
            tell(f"{what}: {max(took):.2f} s at most")
        return found

    async def ask_for_sync(self, name: str) -> float:
        """Another request that comes meanwhile counts as well: its time is later."""
        wanted = datetime.now(UTC).isoformat()
        change = {"metadata": {"annotations": {SYNC_REQUESTED_AT: wanted}}}
        return await self._time(name, change, lambda status: status.get("lastHandledSyncRequest", "") >= wanted)

    async def _edit(self, name: str) -> float:
        generation = self._cluster.seen[name].status["observedGeneration"] + 1
        change = {"spec": {"sync": {"timeout": "59m"}}}
        return await self._time(name, change, lambda status: status.get("observedGeneration") == generation)

    async def _renew_secret(self, name: str) -> float:
        last = self._cluster.seen[name].status["lastSync"]["id"]
        change = {"stringData": {"BATON_ORGANIZATION": self._slug}}
        return await self._time(
            name, change, lambda status: status["phase"] == "Syncing" or status["lastSync"]["id"] != last, secret=True
        )

    async def _time(
        self, name: str, change: Manifest, told: Callable[[Manifest], bool], *, secret: bool = False
    ) -> float:
        kind = ("v1", "Secret") if secret else (API_VERSION, KIND)
        manifest = {"apiVersion": kind[0], "kind": kind[1], **change}
        manifest["metadata"] = {**change.get("metadata", {}), "name": name}
        began = time.monotonic()
        await self._cluster.merge(manifest)
        await self._cluster.until(lambda: told(self._cluster.seen[name].status), SECONDS)
        return time.monotonic() - began

    @contextlib.asynccontextmanager
    async def all_syncing(self, buildkite: BuildkiteProcess, names: Sequence[str]) -> AsyncIterator[None]:
        """Each of the names syncs for as long as the context lasts: its pages are slow, and it is asked again."""
        await buildkite.control(
            "fault",
            effect="slow",
            arguments={"seconds": PAGE_SECONDS},
            path="/v2/organizations/*/teams/*/members",
            times=None,
        )
        keeping = [asyncio.create_task(self._keep_syncing(name)) for name in names]
        try:
            await self._cluster.until(lambda: all(map(self._is_syncing, names)), SECONDS)
            yield
            for each in keeping:
                if each.done():
                    each.result()
        finally:
            for each in keeping:
                each.cancel()
            await asyncio.wait(keeping)
            await buildkite.control("clear_faults")

    async def _keep_syncing(self, name: str) -> None:
        while True:
            await self.ask_for_sync(name)
            await self._cluster.until(lambda: not self._is_syncing(name), SECONDS)

    def _is_syncing(self, name: str) -> bool:
        return bool(self._cluster.seen[name].status["phase"] == "Syncing")
