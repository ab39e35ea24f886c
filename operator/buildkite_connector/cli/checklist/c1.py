"""C1's side of a check: the credentials, a request without a token, an access token, and Hello.

Hello is what every session begins with. It announces the connector under its host ID, and asks for nothing.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

from buildkite_connector.c1 import C1, C1Client, Credentials, open_c1, parse_credentials
from buildkite_connector.c1.hosts import Endpoint, parse_patterns
from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE
from buildkite_connector.cli.checklist.network import NEEDED, NetworkSteps
from buildkite_connector.cli.checklist.settings import CheckSettings
from buildkite_connector.cli.checklist.steps import Outcome, Step, failed, ok, skipped, warning
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import Code
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.server_time import clock_error, wrong_clock


class C1Steps:
    """Each step leaves what it found for those after it. `stack` closes the connections."""

    def __init__(self, settings: CheckSettings, network: NetworkSteps, clock: Clock, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._network = network
        self._clock = clock
        self._stack = stack
        self._clock_error: timedelta | None = None
        self._credentials: Credentials
        self._c1: C1
        self._client: C1Client

    @property
    def steps(self) -> Sequence[Step]:
        if not (self._settings.client_id or self._settings.client_secret):
            return [Step("c1", "C1", (), self._say_nothing)]
        return [
            Step("c1.client_id", "Client ID", (), self._read_client_id),
            Step("c1.client_secret", "Client secret", ("c1.client_id",), self._read_client_secret),
            Step("c1.host", "C1's host", (*NEEDED, "c1.client_secret"), self._choose_host),
            Step("c1.connection", "C1 connection", ("c1.host",), self._connect),
            Step("c1.clock", "Clock against C1", ("c1.connection",), self._compare_clocks),
            Step("c1.token", "C1's access token", ("c1.clock",), self._fetch_token),
            Step("c1.hello", "Hello", ("c1.token",), self._say_hello),
        ]

    async def _say_nothing(self) -> Outcome:
        return skipped("BATON_CLIENT_ID and BATON_CLIENT_SECRET are not set")

    async def _read_client_id(self) -> Outcome:
        if not self._settings.client_id:
            return failed(
                "BATON_CLIENT_SECRET is set and BATON_CLIENT_ID is not. Set both, as C1 showed them.",
                Code.INVALID_ARGUMENT,
            )
        try:
            parse_credentials(self._settings.client_id, self._settings.client_secret)
        except Failure as failure:
            if failure.reason is Reason.CLIENT_ID_INVALID:
                raise
        return ok("well formed")

    async def _read_client_secret(self) -> Outcome:
        if not self._settings.client_secret:
            return failed(
                "BATON_CLIENT_ID is set and BATON_CLIENT_SECRET is not. Set both, as C1 showed them.",
                Code.INVALID_ARGUMENT,
            )
        settings = self._settings
        self._credentials = parse_credentials(settings.client_id, settings.client_secret, settings.redactor)
        return ok("well formed, an Ed25519 key")

    async def _choose_host(self) -> Outcome:
        chosen, settings, network = self._credentials.endpoint, self._settings.c1, self._network.network
        try:
            self._c1 = await self._stack.enter_async_context(open_c1(settings, network, clock=self._clock))
        except Failure as failure:
            return failed(failure.message, Code.INVALID_ARGUMENT)
        allowed = True
        try:
            self._c1.endpoint(self._credentials)
        except Failure:
            if self._settings.hosts_listed or not _is_name(chosen):
                raise
            allowed = False
            settings = replace(settings, allowed_hosts=str(chosen))
            self._c1 = await self._stack.enter_async_context(open_c1(settings, network, clock=self._clock))
        client = self._c1.client(self._credentials, self._settings.host_id)
        self._client = await self._stack.enter_async_context(client)
        if not allowed:
            return warning(
                f"The client ID leads to {chosen}. Service mode goes there; the operator does not until "
                f"{ALLOWED_HOSTS_VARIABLE} lists it: it goes to {self._settings.c1.allowed_hosts} alone."
            )
        why = "BATON_C1_API_HOST" if settings.api_host else "the client ID's, and allowed"
        return ok(f"{self._c1.endpoint(self._credentials)} ({why})")

    async def _connect(self) -> Outcome:
        before, began = self._clock.now(), self._clock.monotonic()
        endpoint = self._c1.endpoint(self._credentials)
        proxy = self._network.network.proxy_for(f"https://{endpoint}")
        said = await self._c1.reach(self._credentials)
        took = self._clock.monotonic() - began
        if said is not None:
            self._clock_error = clock_error(said, before, self._clock.now())
        through = f" through the proxy {proxy}" if proxy else ""
        return ok(f"{endpoint} answers over TLS{through}, in {took * 1000:.0f} ms")

    async def _compare_clocks(self) -> Outcome:
        error = self._clock_error
        if error is None:
            return warning("C1's answer does not tell its time, so that the clock could not be compared.")
        wrong = wrong_clock(error, "C1's", self._clock.now())
        if wrong is None:
            return ok("within a minute")
        return failed(f"{wrong} C1 refuses a client whose clock is wrong.", Code.FAILED_PRECONDITION)

    async def _fetch_token(self) -> Outcome:
        await self._client.authenticate()
        return ok("C1 accepts the client ID and secret")

    async def _say_hello(self) -> Outcome:
        await self._client.hello()
        return ok(f"C1 knows this connector, as the host {self._settings.host_id}")


def _is_name(endpoint: Endpoint) -> bool:
    """Whether a client ID may lead there at all: never to an address."""
    try:
        parse_patterns(str(endpoint))
    except ValueError:
        return False
    return True
