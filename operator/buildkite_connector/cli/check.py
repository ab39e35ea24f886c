"""`check`: everything that a sync and a delivery need, one step after the other, each with a finding and what to do.

Read `run_checks` from top to bottom: the network, then Buildkite's side, then C1's, then C1's REST API if it is set.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rich.console import Console

from buildkite_connector.buildkite import Buildkite, BuildkiteClient, BuildkiteSettings, Patience, open_buildkite
from buildkite_connector.c1 import C1Settings
from buildkite_connector.cli.check_c1 import check_c1, check_c1_rest
from buildkite_connector.cli.findings import Check, Finding, exit_code_of, print_finding, print_summary, to_document
from buildkite_connector.cli.flags import DEFAULT_EXCHANGE_URL, DEFAULT_PORTAL_URL
from buildkite_connector.cli.portal import check_portal_settings
from buildkite_connector.cli.printing import print_json
from buildkite_connector.cli.service_settings import check_token_exchange
from buildkite_connector.cli.settings import Settings
from buildkite_connector.model.directory import (
    DEFAULT_KINDS,
    Account,
    OrganizationSlug,
    ResourceKind,
    Team,
    TokenFacts,
    without_grants,
)
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import (
    BuildkiteCredential,
    Credentials,
    ExchangeRequest,
    OrganizationChoice,
    TokenExchange,
)
from buildkite_connector.model.tasks import Code
from buildkite_connector.model.words import TokenWords, capital
from buildkite_connector.network import Network, Proxies, Proxy, Trust, read_proxies, read_trust
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.portal import check_portal
from buildkite_connector.sync.ports import NotFound
from buildkite_connector.sync.preflight import find_organization, owner_is_administrator, required_scopes
from buildkite_connector.timing.clock import Clock, SystemClock, clock_error, wrong_clock

PATIENCE = Patience(tries=2, first=0.5, longest=1.0, longest_retry_after=5.0, refusals=0)
"""One retry, and no wait for a rate limit, as a person waits."""
WARNED_DAYS = 14

_SCOPES_FOR = {
    "read_organizations": "the organization and its members",
    "read_teams": "teams and their members",
    "read_pipelines": "pipelines",
    "read_clusters": "clusters and their maintainers",
}


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """Texts without white space around them, empty where they are not set. `host_id`: what C1 shows.

    `environment`: where proxies and authorities are read from. `hosts_listed`: whether a list of allowed C1 hosts
    is set. `c1_rest`: the settings of C1's REST API, as in service mode; none of them is required.
    """

    api_url: str
    api_token: str = field(repr=False)
    host_id: str
    c1: C1Settings
    environment: Mapping[str, str] = field(repr=False)
    organization: str = ""
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    hosts_listed: bool = False
    c1_rest: Settings = field(default_factory=lambda: Settings({}))
    exchange_url: str = DEFAULT_EXCHANGE_URL
    token_exchange: TokenExchange | None = None
    portal: str = ""
    portal_token: str = field(default="", repr=False)
    portal_url: str = DEFAULT_PORTAL_URL
    kinds: frozenset[ResourceKind] = DEFAULT_KINDS

    @property
    def credentials(self) -> Credentials:
        """The client secret without the line breaks that it may have been wrapped with."""
        return Credentials(
            self.client_id,
            "".join(self.client_secret.split()),
            self.api_token,
            token_exchange=self.token_exchange,
            portal_token=self.portal_token,
        )

    @property
    def redactor(self) -> Redactor:
        """Knows all credentials, as each server may know those of the other."""
        rest = self.c1_rest.text("c1-client-secret")
        return self.credentials.redactor.with_secrets(self.client_secret, rest, rest.rpartition(":")[2])

    def credential(self) -> BuildkiteCredential:
        """What Buildkite is asked with. Raises ValueError with what is missing or cannot be right."""
        if self.api_token:
            return self.api_token
        if self.token_exchange is None:
            raise ValueError(
                "The Buildkite API token is not set. Set BATON_API_TOKEN; create a token in Buildkite under Personal "
                "Settings, API Access Tokens."
            )
        check_token_exchange(self.token_exchange, self.organization)
        return ExchangeRequest(self.token_exchange, self.organization, frozenset(required_scopes(self.kinds)))


async def run_checks(
    settings: CheckSettings, listen: Callable[[Finding], None], clock: Clock | None = None
) -> list[Finding]:
    """Carry out all steps; `listen` gets each finding at once. Never raises Failure."""
    used = clock or SystemClock()
    check = Check(listen, settings.redactor.without(settings.client_id))
    async with AsyncExitStack() as stack:
        checked = await _check_network(check, settings.environment)
        await _check_buildkite(check, settings, checked, used, stack)
        if settings.client_id or settings.client_secret:
            await check_c1(check, settings, checked, used, stack)
        else:
            async with check.step("c1", "C1") as c1:
                c1.skip("BATON_CLIENT_ID and BATON_CLIENT_SECRET are not set")
        if settings.c1_rest.given:
            await check_c1_rest(check, settings, checked, used, stack)
    return check.findings


# The network


@dataclass(frozen=True, slots=True)
class CheckedNetwork:
    """The network, and the findings that every step needs before it connects."""

    network: Network
    findings: tuple[Finding, ...]

    def through(self, url: str) -> str:
        proxy = self.network.proxy_for(url)
        return f" through the proxy {proxy}" if proxy else ""


async def _check_network(check: Check, environment: Mapping[str, str]) -> CheckedNetwork:
    trust, proxies = Trust(), Proxies()
    async with check.step("certificates", "CA certificates") as certificates:
        trust = await asyncio.to_thread(read_trust, environment)
        if trust.warnings:
            certificates.warn(" ".join(trust.warnings))
        else:
            certificates.ok(f"servers are verified by {' and '.join(trust.sources)}")
    async with check.step("proxies", "Proxies") as named:
        proxies = read_proxies(environment)
        used = {each.variable: each for each in (proxies.https, proxies.http) if isinstance(each, Proxy)}
        if proxies.warnings:
            named.warn(" ".join(proxies.warnings))
        elif used:
            named.ok(", ".join(f"{proxy} ({variable})" for variable, proxy in used.items()))
        else:
            named.ok("none: all connections are direct")
    return CheckedNetwork(Network(trust, proxies), (certificates, named))


# Buildkite's side: at most ten requests, of which eight count against the token's quota, and two to a portal


async def _check_buildkite(  # noqa: PLR0912, PLR0915  (one step after the other)
    check: Check, settings: CheckSettings, checked: CheckedNetwork, clock: Clock, stack: AsyncExitStack
) -> None:
    exchanges = settings.token_exchange is not None and not settings.api_token
    async with check.step("buildkite.settings", "Buildkite settings") as configured:
        configured.needs(*checked.findings)
        try:
            chosen = BuildkiteSettings(
                settings.api_url, settings.exchange_url, portal_url=settings.portal_url, patience=PATIENCE
            )
            credential = settings.credential()
            check_portal_settings(settings.portal, settings.credentials, settings.kinds)
        except ValueError as error:
            configured.fail(str(error), Code.INVALID_ARGUMENT)
        buildkite = await stack.enter_async_context(open_buildkite(chosen, checked.network, clock=clock))
        try:
            client = buildkite.client(credential, settings.redactor)
        except Failure as failure:
            configured.fail(failure.message, Code.INVALID_ARGUMENT)
        what = f"token exchange at {chosen.exchange_url}" if exchanges else "BATON_API_TOKEN"
        configured.ok(f"{what} is set, BUILDKITE_API_URL is {chosen.api_url}")
    async with check.step("buildkite.connection", "Buildkite connection") as connection:
        connection.needs(configured)
        before, began = clock.now(), clock.monotonic()
        server_time = await buildkite.reach(settings.redactor)
        took = clock.monotonic() - began
        off = None if server_time is None else clock_error(server_time, before, clock.now())
        connection.ok(f"{settings.api_url} answers{checked.through(settings.api_url)}, in {took * 1000:.0f} ms")
    async with check.step("buildkite.clock", "Clock against Buildkite") as compared:
        compared.needs(connection)
        if off is None:
            compared.warn("Buildkite's answer does not include the time, so the clock cannot be compared.")
        elif wrong := wrong_clock(off, "Buildkite's", clock.now()):
            compared.warn(wrong)
        else:
            compared.ok("within a minute")
    if exchanges:
        async with check.step("buildkite.exchange", "Token exchange") as token:
            token.needs(connection)
            facts = await client.token()
            through = checked.through(settings.exchange_url)
            token.ok(f"Buildkite issues tokens with the scopes {', '.join(sorted(facts.scopes))}{through}")
    else:
        async with check.step("buildkite.token", "API token") as token:
            token.needs(connection)
            facts = await client.token()
            token.ok(f"Buildkite accepts it (token {facts.uuid})" if facts.uuid else "Buildkite accepts it")
        async with check.step("buildkite.expiry", "API token's expiry") as expiry:
            expiry.needs(token)
            _look_at_expiry(expiry, facts, clock)
    scopes = {}
    for scope in required_scopes(settings.kinds):
        async with check.step(f"buildkite.scope.{scope}", f"Scope {scope}") as scopes[scope]:
            scopes[scope].needs(token)
            what = _SCOPES_FOR.get(scope, "the sync")
            if scope not in facts.scopes:
                scopes[scope].fail(
                    f"The API token lacks the scope {scope}, which is required to read {what}. Edit the token in "
                    f"Buildkite (Personal Settings, API Access Tokens) and select {scope}, or use another token.",
                    Code.PERMISSION_DENIED,
                )
            scopes[scope].ok(f"reads {what}")
    async with check.step("buildkite.organization", "Organization") as found:
        found.needs(scopes["read_organizations"])
        choice = OrganizationChoice(settings.organization) if settings.organization else None
        organization = await find_organization(client, choice, facts.words)
        found.ok(f"{organization.slug} ({organization.name})")
    if settings.portal:
        async with check.step("buildkite.portal", "Portal") as portal:
            portal.needs(found)
            await _look_at_portal(portal, buildkite, organization.slug, settings, checked)
    async with check.step("buildkite.accounts", "Accounts") as seen:
        seen.needs(found)
        accounts = await client.accounts(organization.slug, 1)
        seen.ok(f"the token can see {_at_least(accounts)} members")
    async with check.step("buildkite.owner", "Token's owner") as owner:
        owner.needs(seen)
        _look_at_owner(owner, accounts, facts)
    if lacking := without_grants(settings.kinds):
        async with check.step("buildkite.types", "Resource types") as types:
            types.warn(f"Add the missing types to --resource-type: {lacking}.")
    some_team: Team | None = None
    if ResourceKind.TEAM in settings.kinds:
        async with check.step("buildkite.teams", "Teams") as teams:
            teams.needs(found, scopes["read_teams"])
            some_team = await _look_at_teams(teams, client, organization.slug, facts.words)
    if ResourceKind.ORGANIZATION in settings.kinds:
        async with check.step("buildkite.roles", "Organization roles") as roles:
            roles.needs(seen)
            _look_at_roles(roles, accounts)
    if ResourceKind.PIPELINE in settings.kinds:
        async with check.step("buildkite.pipelines", "Pipelines") as pipelines:
            pipelines.needs(found, scopes["read_pipelines"])
            await _look_at_pipelines(pipelines, client, organization.slug, some_team, facts.words)
    if ResourceKind.CLUSTER in settings.kinds:
        async with check.step("buildkite.clusters", "Clusters") as clusters:
            clusters.needs(found, scopes["read_clusters"])
            listed = await client.clusters(organization.slug, 1)
            if not listed.items:
                clusters.warn(_sees_none("cluster", "permissions", facts.words))
            else:
                clusters.ok(f"the token can see {_at_least(listed)} clusters")


async def _look_at_portal(
    found: Finding, buildkite: Buildkite, slug: OrganizationSlug, settings: CheckSettings, checked: CheckedNetwork
) -> None:
    """Run the operations that a sync needs, with one item each."""
    operations = {ResourceKind.USER: "members", ResourceKind.API_TOKEN: "API tokens"}
    shown = [name for kind, name in operations.items() if kind in settings.kinds]
    if not shown:
        found.skip("no resource type to sync needs it")
    portal = buildkite.portal(slug, settings.portal, settings.portal_token, settings.redactor)
    await check_portal(portal, settings.kinds)
    through = checked.through(settings.portal_url)
    found.ok(f"{settings.portal} stores this version's document, and shows {' and '.join(shown)}{through}")


def _look_at_expiry(expiry: Finding, facts: TokenFacts, clock: Clock) -> None:
    end = facts.expires_at
    if end is None:
        expiry.ok("it does not expire")
        return
    days = (end - clock.now()) // timedelta(days=1)
    when = f"on {end:%Y-%m-%d %H:%M} UTC, in {days} days"
    if days >= WARNED_DAYS:
        expiry.ok(f"it expires {when}")
    else:
        expiry.warn(f"It expires {when}. Create a new one in Buildkite with the same scopes, and replace this one.")


def _look_at_owner(owner: Finding, accounts: Page[Account], facts: TokenFacts) -> None:
    """By the first page of members."""
    administrator = owner_is_administrator(accounts.items, facts)
    if administrator:
        owner.ok("an administrator of the organization, who can see secret teams")
    elif administrator is None:
        owner.ok("unknown: Buildkite does not report the role or SSO mode of members")
    else:
        owner.warn(
            f"{capital(facts.words.owner)} is not an administrator of the organization. Other users cannot see secret "
            "teams that they do not belong to, and C1 would treat those teams as deleted. Make "
            f"{facts.words.they} an administrator, {facts.words.instead}, or accept this."
        )


async def _look_at_teams(
    teams: Finding, client: BuildkiteClient, slug: OrganizationSlug, words: TokenWords
) -> Team | None:
    """Returns the first team."""
    page = await client.teams(slug, 1)
    if not page.items:
        teams.warn(
            f"The token cannot see any team: teams are not enabled in the organization, or {words.owner} cannot see "
            "any. A sync would deliver no teams and no memberships, and C1 would treat those it has as deleted. Check "
            "Organization Settings, Teams, in Buildkite."
        )
        return None
    with suppress(NotFound):  # deleted meanwhile
        await client.members(slug, page.items[0].id, 1)
    teams.ok(f"the token can see {_at_least(page)} teams, and the members of the first one")
    return page.items[0]


def _look_at_roles(roles: Finding, accounts: Page[Account]) -> None:
    """By the first page of members."""
    known = sum(account.role is not None for account in accounts.items)
    if known:
        roles.ok(f"Buildkite reports the role of {known} of the first {len(accounts.items)} members")
    else:
        roles.warn("Buildkite does not report the role of members, so the organization would have no grants in C1.")


async def _look_at_pipelines(
    pipelines: Finding, client: BuildkiteClient, slug: OrganizationSlug, team: Team | None, words: TokenWords
) -> None:
    page = await client.pipelines(slug, 1)
    if not page.items:
        pipelines.warn(_sees_none("pipeline", "teams", words))
        return
    seen = f"the token can see {_at_least(page)} pipelines"
    if team is not None:
        with suppress(NotFound):  # deleted meanwhile
            await client.team_pipelines(slug, team.id, 1)
        seen += ", and those of the first team"
    pipelines.ok(seen)


def _sees_none(what: str, because_of: str, words: TokenWords) -> str:
    return (
        f"The token cannot see any {what}: the organization has none, or {words.owner} cannot see any. A sync "
        f"would deliver no {what}s, and C1 would treat those it has as deleted. Check {words.they}'s {because_of} "
        "in Buildkite."
    )


def _at_least(page: Page[Any]) -> str:
    return str(len(page.items)) if page.last == 1 else f"more than {len(page.items)}"


# What people and tools see


async def check_and_print(settings: CheckSettings, *, as_json: bool) -> int:
    """The whole command; returns its exit code."""
    console = Console()
    findings = await run_checks(settings, lambda found: None if as_json else print_finding(found, console))
    if as_json:
        print_json(to_document(findings), console)
    else:
        print_summary(findings, console)
    return exit_code_of(findings)
