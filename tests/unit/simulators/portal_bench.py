"""A portal at a simulator, and one call to it that a test may change."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from buildkite_connector.buildkite.portal_document import MEMBERS
from fakes.portal_setup import PORTAL, open_portal
from harness.trust import plain_client
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.portal import Portal
from simulators.buildkite.server import BuildkiteSimulator, Config


@dataclass
class Seconds:
    passed: float = 1000.0

    def __call__(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return datetime(2026, 3, 2, 9, 0, tzinfo=UTC) + timedelta(seconds=self.passed)


@dataclass
class Bench:
    """`variables`: of each call."""

    sim: BuildkiteSimulator
    client: httpx.AsyncClient
    time: Seconds
    portal: Portal
    variables: Any = field(default_factory=lambda: {"organization": "acme", "first": 500, "after": None})

    async def call(
        self,
        operation: str | None = MEMBERS,
        *,
        slug: str = PORTAL,
        organization: str = "acme",
        token: str | None = None,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.portal.token if token is None else token}", **(headers or {})}
        return await self.client.request(
            method,
            f"{self.sim.portal_url}/organizations/{organization}/portals/{slug}",
            params={} if operation is None else {"operation_name": operation},
            headers=headers,
            **({"json": self.variables} if content is None else {"content": content}),
        )

    async def data(self, operation: str = MEMBERS) -> dict[str, Any]:
        """What an answer without errors has of the organization."""
        answer = await self.call(operation)
        assert (answer.status_code, answer.json().keys()) == (200, {"data"})
        return dict(answer.json()["data"]["organization"])

    async def refused(self, operation: str | None = MEMBERS) -> list[str]:
        """The messages of an answer without data."""
        answer = await self.call(operation)
        assert (answer.status_code, answer.json().keys()) == (200, {"errors"})
        return [error["message"] for error in answer.json()["errors"]]


@asynccontextmanager
async def portal_bench(accounts: int = 4, **config: Any) -> AsyncIterator[Bench]:
    """Two organizations, the first of which, acme, has the portal."""
    time = Seconds()
    organizations = [make_organization(accounts, 2, 3, slug="acme"), make_organization(2, 1, 1, 1, "globex")]
    async with (
        BuildkiteSimulator(Config(organizations, **config), monotonic=time, now=time.now) as sim,
        plain_client() as client,
    ):
        yield Bench(sim, client, time, open_portal(sim))
