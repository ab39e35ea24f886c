"""A Buildkite simulator with a portal that stores the document of this version, and clients of it in virtual time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from buildkite_connector.buildkite import Buildkite, BuildkiteSettings, PortalClient, open_buildkite
from buildkite_connector.buildkite.portal_document import MARK, portal_document
from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.redactor import Redactor
from fakes.buildkite_setup import HASTY, NO_LIMITS, tiny_organization
from fakes.virtual_time import VirtualClock
from harness.trust import DIRECT
from simulators.buildkite.organization import Organization
from simulators.buildkite.portal import Portal
from simulators.buildkite.server import BuildkiteSimulator, Config

SLUG = "c1-connector"
PATH = f"/portal/organizations/acme/portals/{SLUG}"
NOTHING = Redactor()

USER = "5ad1a4b2-1b1e-4c1f-a3b0-8a7b6c5d4e3f"
TOKEN = "0b7c6d5e-4f3a-4b2c-9d1e-0f1a2b3c4d5e"
PAGE_INFO: dict[str, Any] = {"endCursor": "next", "hasNextPage": False}


def member(**changes: object) -> dict[str, Any]:
    """An edge of members as Buildkite sends it."""
    node = {
        "user": {"uuid": USER, "machineUser": False},
        "lastSeenAt": "2026-02-20T17:05:09Z",
        "createdAt": "2021-03-14T00:49:55Z",
        "security": {"twoFactorEnabled": True},
    }
    return {"node": {**node, **changes}}


def api_token(**changes: object) -> dict[str, Any]:
    node = {
        "uuid": TOKEN,
        "description": "Deploys",
        "createdAt": "2024-01-10T08:30:00Z",
        "expiresAt": None,
        "lastAccessedAt": None,
        "scopes": ["READ_TEAMS", "READ_ORGANIZATIONS"],
        "owner": {"uuid": USER},
    }
    return {**node, **changes}


def members(*edges: object, info: object = PAGE_INFO) -> dict[str, Any]:
    """An organization in an answer."""
    return {"members": {"edges": list(edges), "pageInfo": info}}


def api_tokens(*nodes: object, info: object = PAGE_INFO) -> dict[str, Any]:
    return {"apiAccessTokens": {"nodes": list(nodes), "pageInfo": info}}


def answer(organization: object, **more: object) -> dict[str, Any]:
    return {"data": {MARK: "Query", "organization": organization}, **more}


@dataclass
class Setup:
    sim: BuildkiteSimulator
    buildkite: Buildkite
    portal: Portal
    clock: VirtualClock

    def client(
        self, redactor: Redactor = NOTHING, *, slug: str = SLUG, token: str | None = None, **how: Any
    ) -> PortalClient:
        organization = OrganizationSlug(self.sim.organization.slug)
        return self.buildkite.portal(organization, slug, token or str(self.portal.token), redactor, **how)

    @property
    def requests(self) -> int:
        """To portals, whatever came of them."""
        return sum(each.path.startswith("/portal/") for each in self.sim.requests)

    @property
    def refused(self) -> int:
        return sum(each.status == 429 for each in self.sim.requests)


@asynccontextmanager
async def serving(
    *,
    settings: BuildkiteSettings = HASTY,
    observer: Observer = SILENT,
    organization: Organization | None = None,
    may_send: Callable[[], None] = lambda: None,
    **config: Any,
) -> AsyncIterator[Setup]:
    time = VirtualClock()
    served = Config([organization or tiny_organization()], **{"limits": NO_LIMITS, **config})
    async with BuildkiteSimulator(served, monotonic=time.monotonic, now=time.now) as sim:
        portal = sim.portals.create(SLUG, portal_document())
        chosen = replace(settings, api_url=sim.url, portal_url=sim.portal_url)
        async with open_buildkite(chosen, DIRECT, clock=time, observer=observer, may_send=may_send) as buildkite:
            yield Setup(sim, buildkite, portal, time)
