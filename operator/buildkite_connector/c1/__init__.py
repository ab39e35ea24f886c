"""C1 as this project speaks to it: a session with BatonService for each connector.

Start at `client` (the calls), then `token` and `credentials` (who we are), `allowed_hosts` (where calls may go),
`channel` (what connectors share), `messages` and `errors` (translation to `tasks` and `failure`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from buildkite_connector.c1.allowed_hosts import HostPattern, parse_patterns
from buildkite_connector.c1.channel import ChannelPool
from buildkite_connector.c1.client import C1Client
from buildkite_connector.c1.credentials import Credentials, parse_credentials
from buildkite_connector.c1.endpoint import Endpoint, parse_endpoint
from buildkite_connector.c1.reachability import reach
from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE, HOST_VARIABLE, C1Settings
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.spec import ConnectorSpec
from buildkite_connector.model.spec import Credentials as SecretCredentials
from buildkite_connector.network import Network
from buildkite_connector.timing.clock import Clock, SystemClock, system_jitter

__all__ = ["C1", "C1Client", "C1Settings", "Credentials", "open_c1", "parse_credentials"]

_HOST_ID_LIMIT = 256


def _ignore(_: Failure | None) -> None: ...


class C1:
    """This process's access to C1: makes a client for each connector, all on shared channels."""

    def __init__(
        self,
        settings: C1Settings,
        channels: ChannelPool,
        clock: Clock,
        jitter: Jitter,
        observer: Observer,
        may_send: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._channels = channels
        self._clock = clock
        self._jitter = jitter
        self._observer = observer
        self._may_send = may_send
        self._instead = _endpoint_override(settings)
        self._allowed = _allowed_hosts(settings)

    def connect(
        self, credentials: SecretCredentials, spec: ConnectorSpec, greeted: Callable[[Failure | None], None] = _ignore
    ) -> C1Client:
        """The client of the connector with these credentials and this spec, as `client` makes it.

        Raises Failure for credentials that are malformed too.
        """
        parsed = parse_credentials(credentials.client_id, credentials.client_secret, credentials.redactor)
        return self.client(parsed, spec.host_id, provisions=spec.provisioning.enabled, greeted=greeted)

    def client(
        self,
        credentials: Credentials,
        host_id: str,
        *,
        provisions: bool = False,
        greeted: Callable[[Failure | None], None] = _ignore,
    ) -> C1Client:
        """A session for one connector, which C1 knows as `host_id`; no call is made yet.

        `provisions`: it tells C1 that it grants and revokes memberships. `greeted` is called after each Hello, with the
        failure of one that C1 did not answer.

        Raises Failure SPEC_INVALID for a host ID that C1 would not take, CLIENT_ID_INVALID for a client ID whose host
        the settings do not allow.
        """
        if not 1 <= len(host_id) <= _HOST_ID_LIMIT:
            raise Failure(
                Reason.SPEC_INVALID,
                f"The host ID must have 1 to {_HOST_ID_LIMIT} characters and has {len(host_id)}; set "
                "delivery.hostID to a shorter name.",
                remedy=Remedy.EDIT,
            )
        channel = self._channels.acquire(self.endpoint(credentials))
        return C1Client(
            channel,
            self._channels,
            credentials=self._naming_the_host(credentials),
            host_id=host_id,
            settings=self._settings,
            clock=self._clock,
            jitter=self._jitter,
            observer=self._observer,
            may_send=self._may_send,
            provisions=provisions,
            greeted=greeted,
        )

    def endpoint(self, credentials: Credentials) -> Endpoint:
        """Where calls go. Raises Failure CLIENT_ID_INVALID for a host that the settings do not allow."""
        return self._instead or self._allowed_endpoint(credentials)

    async def reach(self, credentials: Credentials) -> datetime | None:
        """Ask once without a token whether C1 answers there; see `reachability`. Raises what `client` raises."""
        channel = self._channels.acquire(self.endpoint(credentials))
        try:
            return await reach(channel, self._settings.call_timeout, self._naming_the_host(credentials).redactor)
        finally:
            await self._channels.release(channel)

    def _naming_the_host(self, credentials: Credentials) -> Credentials:
        """What C1's texts say of the client ID's host may be shown where calls go to it."""
        if self._instead is not None:
            return credentials
        return replace(credentials, redactor=credentials.redactor.without(credentials.client_id))

    def _allowed_endpoint(self, credentials: Credentials) -> Endpoint:
        """Where the client ID leads. Checked before a channel is made: a refused host is not even resolved.

        It is not named either: what stands in a Secret may be public only once the operator's setting admits it.
        """
        endpoint = credentials.endpoint
        if any(pattern.admits(endpoint) for pattern in self._allowed):
            return endpoint
        raise Failure(
            Reason.CLIENT_ID_INVALID,
            f"The client ID leads to a host that is not allowed: {ALLOWED_HOSTS_VARIABLE} allows "
            f"{self._settings.allowed_hosts}, on port 443 unless it says another, and never an address. Copy the "
            "client ID whole, as C1 showed it; should your tenant be there, add its host there.",
            remedy=Remedy.CREDENTIALS,
        )


@asynccontextmanager
async def open_c1(
    settings: C1Settings,
    network: Network,
    *,
    clock: Clock | None = None,
    jitter: Jitter | None = None,
    observer: Observer = SILENT,
    may_send: Callable[[], None] = lambda: None,
) -> AsyncIterator[C1]:
    """Open the process's access to C1; what is still open at the end is closed.

    `may_send` is called before each call and each part of an upload, and raises Failure when this process may not act.
    Raises Failure C1_UNREACHABLE when a setting (host, allowed hosts) cannot work.
    """
    channels = await asyncio.to_thread(ChannelPool, settings, network)
    try:
        yield C1(settings, channels, clock or SystemClock(), jitter or system_jitter(), observer, may_send)
    finally:
        await channels.aclose()


def _endpoint_override(settings: C1Settings) -> Endpoint | None:
    if not settings.api_host:
        return None
    try:
        return parse_endpoint(settings.api_host)
    except ValueError as error:
        raise Failure(Reason.C1_UNREACHABLE, f"{HOST_VARIABLE} {error}; correct it.") from None


def _allowed_hosts(settings: C1Settings) -> tuple[HostPattern, ...]:
    try:
        return parse_patterns(settings.allowed_hosts)
    except ValueError as error:
        raise Failure(Reason.C1_UNREACHABLE, f"{ALLOWED_HOSTS_VARIABLE} {error}; correct it.") from None
