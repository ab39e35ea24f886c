"""The golden organization with pipelines and clusters, served by the Buildkite simulator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from harness.organization import ACCESS_ORG
from harness.trust import plain_client
from simulators.buildkite.api import ACCESS_SCOPES, Token
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config

TOKEN = Token(scopes=ACCESS_SCOPES)
HERE = "/organizations/acme-access"
GOLDEN = Organization.load(ACCESS_ORG)
USERS = {member["email"].partition("@")[0]: member["id"] for member in GOLDEN.members.records}
PLATFORM, DEPLOY, SECURITY = (team["id"] for team in GOLDEN.teams.records)
DEFAULT, OPEN_SOURCE = (cluster["id"] for cluster in GOLDEN.access.clusters.records)
API = GOLDEN.access.pipelines.records[0]["id"]

SCOPES = {
    f"{HERE}/pipelines": "read_pipelines",
    f"{HERE}/teams/{PLATFORM}/pipelines": "read_teams",
    f"{HERE}/teams/{PLATFORM}/pipelines/{API}": "read_teams",
    f"{HERE}/clusters": "read_clusters",
    f"{HERE}/clusters/{DEFAULT}": "read_clusters",
    f"{HERE}/clusters/{DEFAULT}/maintainers": "read_clusters",
}
"""Each call, and the scope that it takes."""
LISTS = [path for path in SCOPES if path.endswith(("/pipelines", "/clusters", "/maintainers"))]


@asynccontextmanager
async def serving(
    token: Token = TOKEN, organization: Organization | None = None
) -> AsyncIterator[tuple[BuildkiteSimulator, httpx.AsyncClient]]:
    config = Config([organization or Organization.load(ACCESS_ORG)], [token], limits=Limits(None, None))
    async with (
        BuildkiteSimulator(config) as sim,
        plain_client(sim.url, headers={"Authorization": f"Bearer {token.value}"}) as client,
    ):
        yield sim, client
