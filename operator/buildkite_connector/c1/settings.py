"""How this process talks to C1: the operator's settings, the same for every connector in it."""

from collections.abc import Mapping
from dataclasses import dataclass

HOST_VARIABLE = "BATON_C1_API_HOST"
ALLOWED_HOSTS_VARIABLE = "BUILDKITE_CONNECTOR_C1_HOSTS"
TOKEN_FILE_VARIABLE = "BUILDKITE_CONNECTOR_C1_TOKEN_FILE"  # noqa: S105

DEFAULT_ALLOWED_HOSTS = "*.conductor.one,*.conductorone.com"
"""C1's tenants are at the first; its deploy page names the second for egress."""


@dataclass(frozen=True, slots=True)
class C1Settings:
    """Hosts and deadlines. Times in seconds; each deadline includes authentication."""

    api_host: str = ""
    """`host` or `host:port` to reach in place of the client ID's; the assertion's audience stays."""
    allowed_hosts: str = DEFAULT_ALLOWED_HOSTS
    """Hosts that a client ID may lead to: comma-separated names or `*.domain`, each with `:port` where that is not 443.
    Without effect where `api_host` is set, as nothing is sent to the client ID's host then."""
    token_file: str = ""
    """Where Kubernetes projects this process's service-account token for C1. Empty: there is no workload identity."""
    connect_timeout: float = 8.0
    """How long the token endpoint may take to accept a connection: less than a first Hello may take in all
    (`tasks/session.py`), so that what is reported then says whom it was that did not answer."""
    call_timeout: float = 30.0
    """Deadline of Hello, Heartbeat and FinishTask, of each call of the REST API, and of each fetching of a token,
    whatever call it is for."""
    poll_timeout: float = 90.0
    """Deadline of GetTask, which C1 may hold open while there is no task."""
    upload_timeout: float = 1800.0
    """Deadline of one whole upload, all its attempts together."""
    idle_timeout: float = 45.0
    """How long a gRPC connection may stand idle before this side closes it: less than load balancers allow (60 s and
    more), which forget a connection without a word. Pings would have to come oftener than servers accept."""
    upload_attempts: int = 3
    """How often an upload is begun, each time from the file's start."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "C1Settings":
        """Read the variables named above."""
        return cls(
            api_host=environ.get(HOST_VARIABLE, "").strip(),
            allowed_hosts=environ.get(ALLOWED_HOSTS_VARIABLE, "").strip() or DEFAULT_ALLOWED_HOSTS,
            token_file=environ.get(TOKEN_FILE_VARIABLE, "").strip(),
        )
