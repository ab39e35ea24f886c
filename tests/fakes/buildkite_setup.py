"""A Buildkite simulator and a client of it, quick to lose patience, for tests over a real socket."""

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buildkite_connector.buildkite import (
    Buildkite,
    BuildkiteClient,
    BuildkiteSettings,
    Patience,
    Timeouts,
    open_buildkite,
)
from buildkite_connector.c1z import SnapshotStore, new_sync_id
from buildkite_connector.model.directory import FULL_SCOPE, Collection, Directory
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import preflight
from buildkite_connector.timing.clock import Clock
from fakes.virtual_time import VirtualClock
from harness.organization import directory_of
from harness.trust import DIRECT
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config

KEY = "team-a.acme"
NO_LIMITS = Limits(None, None)
HASTY = BuildkiteSettings(
    page_size=10,
    timeouts=Timeouts(connect=2.0, read=0.3, write=2.0, total=3.0),
    patience=Patience(tries=4, first=0.01, longest=0.02, blind_pause=0.05, refusals=5),
)
"""Small pages make small organizations do, and nothing here takes long on purpose."""


@dataclass
class Setup:
    """A simulator, and clients of it with its first token."""

    sim: BuildkiteSimulator
    buildkite: Buildkite
    store: SnapshotStore
    page_size: int = HASTY.page_size

    async def stage(self, directory: Directory) -> StagedSnapshot:
        """What a sync that gave this directory stages."""
        now = datetime.now(UTC)
        return await self.store.stage(KEY, directory, sync_id=new_sync_id(now, secrets.token_bytes), started_at=now)

    def client(self, quota_percent: int = 80, token: str | None = None) -> BuildkiteClient:
        return self.buildkite.client(token or self.sim.token.value, quota_percent=quota_percent)

    async def sync(self, quota_percent: int = 80) -> Collection:
        """A preflight and a collection, as the connector does them."""
        client = self.client(quota_percent)
        found = await preflight(client, OrganizationChoice(self.sim.organization.slug), FULL_SCOPE.kinds)
        return await collect(client, found.organization, FULL_SCOPE)

    async def sync_and_stage(self) -> StagedSnapshot:
        """The same, and what came of it takes the place of the snapshot that was staged."""
        return await self.stage((await self.sync()).directory)

    @property
    def expected(self) -> Directory:
        """What the simulator's organization holds now."""
        document = self.sim.organization.document()
        document["organization"].pop("created_at")
        return directory_of(document)

    @property
    def minimum(self) -> int:
        """The fewest requests that show the whole organization."""
        return self.sim.organization.requests_at(self.page_size)


TINY_PAGES = replace(HASTY, page_size=4)
"""For `tiny_organization`."""


def tiny_organization() -> Organization:
    """The shape of `small_organization` in two thirds of the requests, when a page holds 4."""
    return make_organization(9, 5, 22, slug="acme")


def small_organization() -> Organization:
    """Three pages of accounts, two of teams, and teams with two pages of members."""
    return make_organization(25, 12, 80, slug="acme")


@asynccontextmanager
async def serving(
    organization: Organization | None = None,
    *,
    settings: BuildkiteSettings = HASTY,
    clock: Clock | None = None,
    jitter: Jitter | None = None,
    **config: Any,
) -> AsyncIterator[Setup]:
    """In virtual time."""
    served = [organization or small_organization()]
    time = VirtualClock()
    async with (
        BuildkiteSimulator(
            Config(served, **{"limits": NO_LIMITS, **config}), monotonic=time.monotonic, now=time.now
        ) as sim,
        open_buildkite(replace(settings, api_url=sim.url), DIRECT, clock=clock or time, jitter=jitter) as buildkite,
    ):
        with tempfile.TemporaryDirectory() as folder:
            yield Setup(sim, buildkite, SnapshotStore(Path(folder)), settings.page_size)
