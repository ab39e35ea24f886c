"""Buildkite's side of a check: at most seven requests, of which five count against the token's quota."""

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial

from buildkite_connector.buildkite import Buildkite, BuildkiteClient, BuildkiteSettings, Patience, open_buildkite
from buildkite_connector.cli.checklist.network import NEEDED, NetworkSteps
from buildkite_connector.cli.checklist.settings import CheckSettings
from buildkite_connector.cli.checklist.steps import Outcome, Step, failed, ok, warning
from buildkite_connector.model.directory import Account, Organization, Team, TokenFacts
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.scope import ResourceKind
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.model.tasks import Code
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.ports import NotFound
from buildkite_connector.sync.preflight import find_organization, owner_is_administrator, required_scopes
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.server_time import clock_error, wrong_clock

PATIENCE = Patience(tries=2, first=0.5, longest=1.0, longest_retry_after=5.0, refusals=0)
"""A person waits: one more try, and no waiting for a rate limit."""
WARNED_DAYS = 14

_SCOPES_FOR = {
    "read_organizations": "the organization and its members",
    "read_teams": "teams and their members",
}


class BuildkiteSteps:
    """Each step leaves what it found for those after it. `stack` closes the connections."""

    def __init__(self, settings: CheckSettings, network: NetworkSteps, clock: Clock, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._network = network
        self._clock = clock
        self._stack = stack
        self._clock_error: timedelta | None = None
        self._buildkite: Buildkite
        self._client: BuildkiteClient
        self._token: TokenFacts
        self._organization: Organization
        self._accounts: Page[Account]

    @property
    def steps(self) -> Sequence[Step]:
        token = ("buildkite.token",)
        scope_steps = [
            Step(f"buildkite.scope.{scope}", f"Scope {scope}", token, partial(self._look_at_scope, scope))
            for scope in required_scopes(self._settings.kinds)
        ]
        may_read = "buildkite.scope.read_organizations"
        steps = [
            Step("buildkite.settings", "Buildkite settings", NEEDED, self._read_settings),
            Step("buildkite.connection", "Buildkite connection", ("buildkite.settings",), self._connect),
            Step("buildkite.clock", "Clock against Buildkite", ("buildkite.connection",), self._compare_clocks),
            Step("buildkite.token", "API token", ("buildkite.connection",), self._ask_for_token),
            Step("buildkite.expiry", "API token's end", token, self._look_at_expiry),
            *scope_steps,
            Step("buildkite.organization", "Organization", (may_read,), self._find_organization),
            Step("buildkite.accounts", "Accounts", ("buildkite.organization",), self._look_at_accounts),
            Step("buildkite.owner", "Token's owner", ("buildkite.accounts",), self._look_at_owner),
        ]
        if ResourceKind.TEAM in self._settings.kinds:
            needs = ("buildkite.organization", "buildkite.scope.read_teams")
            steps.append(Step("buildkite.teams", "Teams", needs, self._look_at_teams))
        return steps

    async def _read_settings(self) -> Outcome:
        settings = self._settings
        try:
            buildkite = BuildkiteSettings(api_url=settings.api_url, patience=PATIENCE)
        except ValueError as error:
            return failed(str(error), Code.INVALID_ARGUMENT)
        if not settings.api_token:
            return failed(
                "There is no Buildkite API token. Set BATON_API_TOKEN; Buildkite makes one under Personal Settings, "
                "API Access Tokens.",
                Code.INVALID_ARGUMENT,
            )
        opened = open_buildkite(buildkite, self._network.network, clock=self._clock)
        self._buildkite = await self._stack.enter_async_context(opened)
        try:
            self._client = self._buildkite.client(settings.api_token, settings.redactor)
        except Failure as failure:
            return failed(failure.message, Code.INVALID_ARGUMENT)
        return ok(f"BATON_API_TOKEN is set, BUILDKITE_API_URL is {buildkite.api_url}")

    async def _connect(self) -> Outcome:
        before, began = self._clock.now(), self._clock.monotonic()
        said = await self._buildkite.reach(self._settings.redactor)
        took = self._clock.monotonic() - began
        if said is not None:
            self._clock_error = clock_error(said, before, self._clock.now())
        proxy = self._network.network.proxy_for(self._settings.api_url)
        through = f" through the proxy {proxy}" if proxy else ""
        return ok(f"{self._settings.api_url} answers{through}, in {took * 1000:.0f} ms")

    async def _compare_clocks(self) -> Outcome:
        error = self._clock_error
        if error is None:
            return warning("Buildkite's answer does not tell its time, so that the clock could not be compared.")
        wrong = wrong_clock(error, "Buildkite's", self._clock.now())
        return ok("within a minute") if wrong is None else warning(wrong)

    async def _ask_for_token(self) -> Outcome:
        self._token = await self._client.token()
        return ok(f"Buildkite accepts it (token {self._token.uuid})" if self._token.uuid else "Buildkite accepts it")

    async def _look_at_expiry(self) -> Outcome:
        end = self._token.expires_at
        if end is None:
            return ok("it does not expire")
        days = (end - self._clock.now()) // timedelta(days=1)
        when = f"on {end:%Y-%m-%d %H:%M} UTC, in {days} days"
        if days >= WARNED_DAYS:
            return ok(f"it expires {when}")
        return warning(f"It expires {when}. Make another in Buildkite with the same scopes, and put it in its place.")

    async def _look_at_scope(self, scope: str) -> Outcome:
        what = _SCOPES_FOR.get(scope, "the sync")
        if scope in self._token.scopes:
            return ok(f"reads {what}")
        return failed(
            f"The API token lacks the scope {scope}, which reading {what} needs. Edit the token in Buildkite (Personal "
            f"Settings, API Access Tokens) and tick {scope}, or use another.",
            Code.PERMISSION_DENIED,
        )

    async def _find_organization(self) -> Outcome:
        chosen = self._settings.organization
        self._organization = await find_organization(self._client, OrganizationChoice(chosen) if chosen else None)
        return ok(f"{self._organization.slug} ({self._organization.name})")

    async def _look_at_accounts(self) -> Outcome:
        self._accounts = await self._client.accounts(self._organization.slug, 1)
        return ok(f"{_at_least(self._accounts)} members can be seen")

    async def _look_at_owner(self) -> Outcome:
        """By the first page of members."""
        administrator = owner_is_administrator(self._accounts.items, self._token)
        if administrator:
            return ok("an administrator of the organization, who sees secret teams too")
        if administrator is None:
            return ok("Buildkite tells neither role nor SSO mode of members, and so not whether it is an administrator")
        return warning(
            "The token's owner is no administrator of the organization. Others do not see the secret teams that they "
            "are no member of, and C1 would take those for gone. Make the token as an administrator, or accept that."
        )

    async def _look_at_teams(self) -> Outcome:
        slug = self._organization.slug
        teams = await self._client.teams(slug, 1)
        if not teams.items:
            return warning(
                "No team can be seen: teams are not enabled in the organization, or the token's owner may see none. "
                "A sync would give no teams and no memberships, and C1 would take those it has for gone. Look at "
                "Organization Settings, Teams, in Buildkite."
            )
        with suppress(NotFound):  # deleted meanwhile
            await self._client.members(slug, teams.items[0].id, 1)
        return ok(f"{_at_least(teams)} teams can be seen, and members of the first")


def _at_least(page: Page[Account] | Page[Team]) -> str:
    return str(len(page.items)) if page.last == 1 else f"more than {len(page.items)}"
