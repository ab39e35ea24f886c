"""A Buildkite simulator with a token exchange app, and clients of it in virtual time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from buildkite_connector.buildkite import Buildkite, BuildkiteClient, BuildkiteSettings, open_buildkite
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import OrganizationChoice
from fakes.buildkite_setup import HASTY, NO_LIMITS, tiny_organization
from fakes.exchange_setup import Registered, register
from fakes.virtual_time import VirtualClock
from harness.trust import DIRECT
from simulators.buildkite.organization import Organization
from simulators.buildkite.server import BuildkiteSimulator, Config

NOTHING = Redactor()


@dataclass
class Exchanging:
    sim: BuildkiteSimulator
    buildkite: Buildkite
    registered: Registered
    clock: VirtualClock

    def client(self, *scopes: str, redactor: Redactor = NOTHING, **how: Any) -> BuildkiteClient:
        return self.buildkite.client(self.registered.request(*scopes), redactor, **how)

    async def ask(self, client: BuildkiteClient) -> str:
        """One request to the API; the organization's name."""
        return (await client.organization(OrganizationChoice(self.sim.organization.slug))).name

    @property
    def exchanges(self) -> int:
        """Requests to the endpoint, whatever came of them."""
        return sum(each.path == "/oauth/token" for each in self.sim.requests)

    @property
    def unauthorized(self) -> int:
        return sum(each.status == 401 for each in self.sim.requests if each.path != "/oauth/token")


@asynccontextmanager
async def exchanging(
    *,
    settings: BuildkiteSettings = HASTY,
    observer: Observer = SILENT,
    config: dict[str, Any] | None = None,
    pem: str | None = None,
    organization: Organization | None = None,
    may_send: Callable[[], None] = lambda: None,
    **app: Any,
) -> AsyncIterator[Exchanging]:
    """An app with `app`'s settings, whose private key is `pem`."""
    time = VirtualClock()
    served = {"limits": NO_LIMITS, **(config or {})}
    async with BuildkiteSimulator(
        Config([organization or tiny_organization()], **served), monotonic=time.monotonic, now=time.now
    ) as sim:
        chosen = replace(settings, api_url=sim.url, exchange_url=sim.exchange_url)
        async with open_buildkite(chosen, DIRECT, clock=time, observer=observer, may_send=may_send) as buildkite:
            yield Exchanging(sim, buildkite, register(sim, pem, **app), time)
