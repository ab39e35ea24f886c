"""C1's part of `check`: the session's client and Hello, then C1's REST API if it is set."""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from buildkite_connector.c1 import C1, ClientCredentials, open_c1, parse_credentials
from buildkite_connector.c1.hosts import parse_patterns
from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE, TOKEN_FILE_VARIABLE
from buildkite_connector.c1.workload_identity import WorkloadIdentity
from buildkite_connector.cli.findings import Check, Finding
from buildkite_connector.cli.service_settings import read_c1_access, read_c1_ids
from buildkite_connector.cli.settings import SettingError
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import C1State, C1SyncState
from buildkite_connector.model.tasks import Code
from buildkite_connector.network import Network
from buildkite_connector.timing.clock import Clock, clock_error, wrong_clock

if TYPE_CHECKING:
    from buildkite_connector.cli.check import CheckedNetwork, CheckSettings

# C1's side: the credentials, a request without a token, an access token, and Hello, which every session begins with.
# It announces the connector under its host ID, and asks for nothing.


async def check_c1(
    check: Check, settings: "CheckSettings", checked: "CheckedNetwork", clock: Clock, stack: AsyncExitStack
) -> None:
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
        host.needs(*checked.findings, secret)
        c1 = await _choose_host(host, settings, checked.network, credentials, clock, stack)
        client = await stack.enter_async_context(c1.client(credentials, settings.host_id))
    async with check.step("c1.connection", "C1 connection") as connection:
        connection.needs(host)
        before, began = clock.now(), clock.monotonic()
        endpoint = c1.endpoint(credentials)
        server_time = await c1.reach(credentials)
        took = clock.monotonic() - began
        off = None if server_time is None else clock_error(server_time, before, clock.now())
        through = checked.through(f"https://{endpoint}")
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
    settings: "CheckSettings",
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


async def check_c1_rest(
    check: Check, settings: "CheckSettings", checked: "CheckedNetwork", clock: Clock, stack: AsyncExitStack
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
        host.needs(*checked.findings, identified)
        c1 = await _choose_host(host, settings, checked.network, who, clock, stack)
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
