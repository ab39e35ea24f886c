"""One channel to each C1 host, shared by all connectors of the process that speak to that host.

A channel is an HTTP client for the token endpoint and a gRPC channel, with the same authorities and proxy. It
carries no credentials: each call brings its own connector's token. The last connector to leave closes it.
"""

import asyncio
import socket
import ssl

import grpc
import httpx

from buildkite_connector import __version__
from buildkite_connector.c1.hosts import Endpoint
from buildkite_connector.c1.settings import C1Settings
from buildkite_connector.network import Network, NoCookies
from buildkite_connector.network.connection_errors import close_half_open
from buildkite_connector.proto.baton_pb2_grpc import BatonServiceStub

USER_AGENT = f"buildkite-connector/{__version__}"
TOKEN_CONNECTIONS = 20
"""At most this many at once to a host's token endpoint: a thousand connectors start together."""

RECEIVE_BUFFER = 8 * 1024
"""Bytes that the system keeps of a token endpoint's answer (Linux doubles it). All that is there is worked off before
another task gets its turn, and the usual 64 KB hold 2,300 answers of 103 Early Hints, which take 200 ms."""

LONGEST_MESSAGE = 512 * 1024
"""Bytes of one answer. C1's are a few hundred, and tasks that this connector refuses some thousand; an answer of
nothing but empty items takes 60 times its length in memory once it is read."""
MOST_METADATA = 16 * 1024
"""Bytes of an answer's headers or trailers, the status's details among them."""

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.primary_user_agent", USER_AGENT),
    # No more often than the five minutes that servers allow by default. Keepalive also bounds how long
    # unacknowledged data may wait, so a connection that died silently is noticed at the next call.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_reconnect_backoff_ms", 30_000),
    # A stated bound on what a server may send: an answer to GetTask or Heartbeat, a status and its details.
    ("grpc.max_receive_message_length", LONGEST_MESSAGE),
    # Answers are small. With the probe the window grows with the speed of whoever floods it, to 20 MB and more.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_metadata_size", MOST_METADATA),
    ("grpc.absolute_max_metadata_size", MOST_METADATA),
    # C1 publishes no service config: without this each lookup would also ask for a TXT record.
    ("grpc.service_config_disable_resolution", 1),
)


class Channel:
    """The HTTP client and the gRPC stub of one host."""

    def __init__(
        self, endpoint: Endpoint, settings: C1Settings, network: Network, tls: ssl.SSLContext, roots: bytes
    ) -> None:
        """`tls` and `roots`: the network's trust, for httpx and for gRPC."""
        self.endpoint = endpoint
        self.proxy = network.proxy_for(f"https://{endpoint}")
        self.http = httpx.AsyncClient(
            base_url=f"https://{endpoint}",
            transport=httpx.AsyncHTTPTransport(
                verify=tls,
                proxy=self.proxy.url if self.proxy else None,
                trust_env=False,
                limits=httpx.Limits(max_connections=TOKEN_CONNECTIONS),
                socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)],
            ),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(settings.call_timeout, connect=settings.connect_timeout),
            cookies=NoCookies(),
            event_hooks={"request": [close_half_open]},
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        )
        self.channel = grpc.aio.secure_channel(
            f"dns:///{endpoint}",
            grpc.ssl_channel_credentials(root_certificates=roots),
            options=(
                *CHANNEL_OPTIONS,
                ("grpc.client_idle_timeout_ms", round(settings.idle_timeout * 1000)),
                *network.grpc_options(str(endpoint)),
            ),
        )
        self.stub = BatonServiceStub(self.channel)  # type: ignore[no-untyped-call]  # generated code

    @property
    def connecting(self) -> bool:
        """Whether there is no connection, and the attempts to make one have not succeeded yet."""
        return self.channel.get_state() in {
            grpc.ChannelConnectivity.CONNECTING,
            grpc.ChannelConnectivity.TRANSIENT_FAILURE,
        }

    async def aclose(self) -> None:
        """Close both; calls under way end cancelled."""
        try:
            await self.channel.close()
        finally:
            await self.http.aclose()


class ChannelPool:
    """The channels of this process by endpoint, each with the number of its users."""

    def __init__(self, settings: C1Settings, network: Network) -> None:
        """Loads certificates, which takes its time."""
        self._settings = settings
        self._network = network
        self._tls = network.trust.ssl_context()
        self._roots = network.trust.pem
        self._channels: dict[Endpoint, Channel] = {}
        self._users: dict[Endpoint, int] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def acquire(self, endpoint: Endpoint) -> Channel:
        """The channel to `endpoint`, made if there is none; each acquire asks for one release."""
        if endpoint not in self._channels:
            self._channels[endpoint] = Channel(endpoint, self._settings, self._network, self._tls, self._roots)
        self._users[endpoint] = self._users.get(endpoint, 0) + 1
        return self._channels[endpoint]

    async def release(self, channel: Channel) -> None:
        """Give a channel back; the last user's release closes it. One that `aclose` has closed needs no more."""
        if self._channels.get(channel.endpoint) is not channel:
            return
        self._users[channel.endpoint] -= 1
        if self._users[channel.endpoint] == 0:
            del self._users[channel.endpoint]
            await self._channels.pop(channel.endpoint).aclose()

    async def aclose(self) -> None:
        """Close every channel, used or not."""
        channels, self._channels, self._users = list(self._channels.values()), {}, {}
        await asyncio.gather(*(channel.aclose() for channel in channels))
