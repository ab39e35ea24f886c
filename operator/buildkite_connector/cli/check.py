"""`check`: everything that a sync and a delivery need, one step after the other, each with a finding and what to do.

Read `run_checks` from top to bottom: the network, then Buildkite's side, then C1's, then C1's REST API if it is set.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from rich.console import Console

from buildkite_connector.buildkite import BuildkiteClient, BuildkiteSettings, Patience, open_buildkite
from buildkite_connector.c1 import C1, C1Settings, ClientCredentials, open_c1, parse_credentials
from buildkite_connector.c1.hosts import parse_patterns
from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE, TOKEN_FILE_VARIABLE
from buildkite_connector.c1.workload_identity import WorkloadIdentity
from buildkite_connector.cli.findings import Check, Finding, exit_code_of, print_finding, print_summary, to_document
from buildkite_connector.cli.printing import print_json
from buildkite_connector.cli.service_settings import read_c1_access, read_c1_ids
from buildkite_connector.cli.settings import SettingError, Settings
from buildkite_connector.model.directory import (
    DEFAULT_KINDS,
    Account,
    OrganizationSlug,
    ResourceKind,
    Team,
    TokenFacts,
    without_grants,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import Credentials, OrganizationChoice
from buildkite_connector.model.status import C1State, C1SyncState
from buildkite_connector.model.tasks import Code
from buildkite_connector.network import Network, Proxies, Proxy, Trust, read_proxies, read_trust
from buildkite_connector.sync.listing import Page
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
    kinds: frozenset[ResourceKind] = DEFAULT_KINDS

    @property
    def redactor(self) -> Redactor:
        """Knows all credentials, as each server may know those of the other."""
        unwrapped = Credentials(self.client_id, "".join(self.client_secret.split()), self.api_token)
        rest = self.c1_rest.text("c1-client-secret")
        return unwrapped.redactor.with_secrets(self.client_secret, rest, rest.rpartition(":")[2])


async def run_checks(
    settings: CheckSettings, listen: Callable[[Finding], None], clock: Clock | None = None
) -> list[Finding]:
    """Carry out all steps; `listen` gets each finding at once. Never raises Failure."""
    used = clock or SystemClock()
    check = Check(listen, settings.redactor.without(settings.client_id))
    async with AsyncExitStack() as stack:
        reach = await _check_network(check, settings.environment)
        await _check_buildkite(check, settings, reach, used, stack)
        if settings.client_id or settings.client_secret:
            await _check_c1(check, settings, reach, used, stack)
        else:
            async with check.step("c1", "C1") as c1:
                c1.skip("BATON_CLIENT_ID and BATON_CLIENT_SECRET are not set")
        if settings.c1_rest.given:
            await _check_c1_rest(check, settings, reach, used, stack)
    return check.findings


# The network


@dataclass(frozen=True, slots=True)
class _Reach:
    """The network, and the findings that every step needs before it connects."""

    network: Network
    findings: tuple[Finding, ...]

    def through(self, url: str) -> str:
        proxy = self.network.proxy_for(url)
        return f" through the proxy {proxy}" if proxy else ""


async def _check_network(check: Check, environment: Mapping[str, str]) -> _Reach:
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
    return _Reach(Network(trust, proxies), (certificates, named))


# Buildkite's side: at most ten requests, of which eight count against the token's quota


async def _check_buildkite(  # noqa: PLR0912, PLR0915  (one step after the other)
    check: Check, settings: CheckSettings, reach: _Reach, clock: Clock, stack: AsyncExitStack
) -> None:
    async with check.step("buildkite.settings", "Buildkite settings") as configured:
        configured.needs(*reach.findings)
        try:
            chosen = BuildkiteSettings(api_url=settings.api_url, patience=PATIENCE)
        except ValueError as error:
            configured.fail(str(error), Code.INVALID_ARGUMENT)
        if not settings.api_token:
            configured.fail(
                "The Buildkite API token is not set. Set BATON_API_TOKEN; create a token in Buildkite under Personal "
                "Settings, API Access Tokens.",
                Code.INVALID_ARGUMENT,
            )
        buildkite = await stack.enter_async_context(open_buildkite(chosen, reach.network, clock=clock))
        try:
            client = buildkite.client(settings.api_token, settings.redactor)
        except Failure as failure:
            configured.fail(failure.message, Code.INVALID_ARGUMENT)
        configured.ok(f"BATON_API_TOKEN is set, BUILDKITE_API_URL is {chosen.api_url}")
    async with check.step("buildkite.connection", "Buildkite connection") as connection:
        connection.needs(configured)
        before, began = clock.now(), clock.monotonic()
        server_time = await buildkite.reach(settings.redactor)
        took = clock.monotonic() - began
        off = None if server_time is None else clock_error(server_time, before, clock.now())
        through = reach.through(settings.api_url)
        connection.ok(f"{settings.api_url} answers{through}, in {took * 1000:.0f} ms")
    async with check.step("buildkite.clock", "Clock against Buildkite") as compared:
        compared.needs(connection)
        if off is None:
            compared.warn("Buildkite's answer does not include the time, so the clock cannot be compared.")
        elif wrong := wrong_clock(off, "Buildkite's", clock.now()):
            compared.warn(wrong)
        else:
            compared.ok("within a minute")
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
        organization = await find_organization(client, choice)
        found.ok(f"{organization.slug} ({organization.name})")
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
            some_team = await _look_at_teams(teams, client, organization.slug)
    if ResourceKind.ORGANIZATION in settings.kinds:
        async with check.step("buildkite.roles", "Organization roles") as roles:
            roles.needs(seen)
            _look_at_roles(roles, accounts)
    if ResourceKind.PIPELINE in settings.kinds:
        async with check.step("buildkite.pipelines", "Pipelines") as pipelines:
            pipelines.needs(found, scopes["read_pipelines"])
            await _look_at_pipelines(pipelines, client, organization.slug, some_team)
    if ResourceKind.CLUSTER in settings.kinds:
        async with check.step("buildkite.clusters", "Clusters") as clusters:
            clusters.needs(found, scopes["read_clusters"])
            listed = await client.clusters(organization.slug, 1)
            if not listed.items:
                clusters.warn(_sees_none("cluster", "permissions"))
            else:
                clusters.ok(f"the token can see {_at_least(listed)} clusters")


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
            "The token's owner is not an administrator of the organization. Other users cannot see secret teams that "
            "they do not belong to, and C1 would treat those teams as deleted. Create the token as an administrator, "
            "or accept this."
        )


async def _look_at_teams(teams: Finding, client: BuildkiteClient, slug: OrganizationSlug) -> Team | None:
    """Returns the first team."""
    page = await client.teams(slug, 1)
    if not page.items:
        teams.warn(
            "The token cannot see any team: teams are not enabled in the organization, or the token's owner cannot see "
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
    pipelines: Finding, client: BuildkiteClient, slug: OrganizationSlug, team: Team | None
) -> None:
    page = await client.pipelines(slug, 1)
    if not page.items:
        pipelines.warn(_sees_none("pipeline", "teams"))
        return
    seen = f"the token can see {_at_least(page)} pipelines"
    if team is not None:
        with suppress(NotFound):  # deleted meanwhile
            await client.team_pipelines(slug, team.id, 1)
        seen += ", and those of the first team"
    pipelines.ok(seen)


def _sees_none(what: str, because_of: str) -> str:
    return (
        f"The token cannot see any {what}: the organization has none, or the token's owner cannot see any. A sync "
        f"would deliver no {what}s, and C1 would treat those it has as deleted. Check the owner's {because_of} in "
        "Buildkite."
    )


def _at_least(page: Page[Any]) -> str:
    return str(len(page.items)) if page.last == 1 else f"more than {len(page.items)}"


# C1's side: the credentials, a request without a token, an access token, and Hello, which every session begins with.
# It announces the connector under its host ID, and asks for nothing.


async def _check_c1(check: Check, settings: CheckSettings, reach: _Reach, clock: Clock, stack: AsyncExitStack) -> None:
    client_id, client_secret = settings.client_id, settings.client_secret
    async with check.step("c1.client_id", "Client ID") as identified:
        if not client_id:
            message = "BATON_CLIENT_SECRET is set, but BATON_CLIENT_ID is not. Set both to the values from C1."
            identified.fail(message, Code.INVALID_ARGUMENT)
        try:
            parse_credentials(client_id, client_secret)
        except Failure as failure:
            if failure.reason is Reason.CLIENT_ID_INVALID:
                raise
        identified.ok("well formed")
    async with check.step("c1.client_secret", "Client secret") as secret:
        secret.needs(identified)
        if not client_secret:
            message = "BATON_CLIENT_ID is set, but BATON_CLIENT_SECRET is not. Set both to the values from C1."
            secret.fail(message, Code.INVALID_ARGUMENT)
        credentials = parse_credentials(client_id, client_secret, settings.redactor)
        secret.ok("well formed, an Ed25519 key")
    async with check.step("c1.host", "C1's host") as host:
        host.needs(*reach.findings, secret)
        c1 = await _choose_host(host, settings, reach.network, credentials, clock, stack)
        client = await stack.enter_async_context(c1.client(credentials, settings.host_id))
    async with check.step("c1.connection", "C1 connection") as connection:
        connection.needs(host)
        before, began = clock.now(), clock.monotonic()
        endpoint = c1.endpoint(credentials)
        server_time = await c1.reach(credentials)
        took = clock.monotonic() - began
        off = None if server_time is None else clock_error(server_time, before, clock.now())
        through = reach.through(f"https://{endpoint}")
        connection.ok(f"{endpoint} answers over TLS{through}, in {took * 1000:.0f} ms")
    async with check.step("c1.clock", "Clock against C1") as compared:
        compared.needs(connection)
        if off is None:
            compared.warn("C1's answer does not include the time, so the clock cannot be compared.")
        elif wrong := wrong_clock(off, "C1's", clock.now()):
            compared.fail(f"{wrong} C1 refuses a client whose clock is wrong.", Code.FAILED_PRECONDITION)
        else:
            compared.ok("within a minute")
    async with check.step("c1.token", "C1's access token") as token:
        token.needs(compared)
        await client.authenticate()
        token.ok("C1 accepts the client ID and secret")
    async with check.step("c1.hello", "Hello") as hello:
        hello.needs(token)
        await client.hello()
        hello.ok(f"C1 knows this connector as host {settings.host_id}")


async def _choose_host(
    host: Finding,
    settings: CheckSettings,
    network: Network,
    credentials: ClientCredentials | WorkloadIdentity,
    clock: Clock,
    stack: AsyncExitStack,
) -> C1:
    """C1 at the client ID's host. Without a list of allowed hosts, also a host that only service mode connects to."""
    chosen = credentials.endpoint
    try:
        c1 = await stack.enter_async_context(open_c1(settings.c1, network, clock=clock))
    except Failure as failure:
        host.fail(failure.message, Code.INVALID_ARGUMENT)
    try:
        endpoint = c1.endpoint(credentials)
    except Failure as failure:
        if settings.hosts_listed:
            raise
        try:
            parse_patterns(str(chosen))  # a client ID never leads to an address
        except ValueError:
            raise failure from None
        host.warn(
            f"The client ID points to {chosen}. Service mode connects to it; the operator does not unless "
            f"{ALLOWED_HOSTS_VARIABLE} lists it: it connects only to {settings.c1.allowed_hosts}."
        )
        allowed = replace(settings.c1, allowed_hosts=str(chosen))
        return await stack.enter_async_context(open_c1(allowed, network, clock=clock))
    why = "BATON_C1_API_HOST" if settings.c1.api_host else "the client ID's, and allowed"
    host.ok(f"{endpoint} ({why})")
    return c1


# C1's REST API: an access token, and one request, for the connector. Nothing is changed there: whether the client may
# make C1 sync, only a sync shows.


async def _check_c1_rest(
    check: Check, settings: CheckSettings, reach: _Reach, clock: Clock, stack: AsyncExitStack
) -> None:
    async with check.step("c1_rest.client", "REST client") as identified:
        try:
            access = read_c1_access(settings.c1_rest)
        except SettingError as error:
            identified.fail(f"{error}.", Code.INVALID_ARGUMENT)
        if access is None:
            identified.fail(
                "--c1-app-id and --c1-connector-id need a client of C1's REST API. Set C1_CLIENT_ID and "
                "C1_CLIENT_SECRET, or --c1-workload-client-id.",
                Code.INVALID_ARGUMENT,
            )
        who: ClientCredentials | WorkloadIdentity
        if access.client_secret:
            who = parse_credentials(access.client_id, access.client_secret, settings.redactor)
            identified.ok("well formed, with an Ed25519 key")
        else:
            who = WorkloadIdentity.parse(access.client_id, settings.c1.token_file)
            identified.ok(f"a workload identity, with the token in {TOKEN_FILE_VARIABLE}")
    async with check.step("c1_rest.host", "REST API's host") as host:
        host.needs(*reach.findings, identified)
        c1 = await _choose_host(host, settings, reach.network, who, clock, stack)
        client = c1.rest(access)
        stack.push_async_callback(client.aclose)
    async with check.step("c1_rest.token", "REST access token") as token:
        token.needs(host)
        await client.authenticate()
        token.ok("C1 accepts the client")
    async with check.step("c1_rest.connector", "Connector in C1") as connector:
        connector.needs(token)
        if not (settings.c1_rest.text("c1-app-id") or settings.c1_rest.text("c1-connector-id")):
            connector.skip("--c1-app-id and --c1-connector-id are not set")
        try:
            ids = read_c1_ids(settings.c1_rest)
        except SettingError as error:
            connector.fail(f"{error}.", Code.INVALID_ARGUMENT)
        _look_at_connector(connector, await client.connector(*ids))


def _look_at_connector(connector: Finding, shown: C1State) -> None:
    if shown.paused_at is not None or shown.state is C1SyncState.DISABLED:
        paused = "is paused in C1"
        if shown.paused_at is not None:
            paused = f"has been paused in C1 since {shown.paused_at:%Y-%m-%d %H:%M} UTC"
        why = f" ({shown.paused_reason})" if shown.paused_reason else ""
        connector.warn(
            f"The connector {paused}{why}: C1 does not sync it. Resume it on its page in C1; after a "
            "drop in data, select Confirm changes there."
        )
    elif shown.state is C1SyncState.ERROR:
        connector.warn(f"C1's last sync of the connector failed: {shown.last_error or 'C1 does not say why'}.")
    elif shown.state is None:
        connector.ok("C1 shows it, and has not synced it yet")
    else:
        ended = f", last sync ended {shown.completed_at:%Y-%m-%d %H:%M} UTC" if shown.completed_at is not None else ""
        connector.ok(f"C1 shows it: {shown.state}{ended}")


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
