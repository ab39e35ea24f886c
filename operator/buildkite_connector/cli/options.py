"""Options that several commands have, and what they default to."""

import os
import socket
from typing import Annotated

import typer

DEFAULT_API_URL = "https://api.buildkite.com/v2"
"""As in `buildkite.settings`, whose libraries not every command waits for; a test holds them together."""
HTTP_ADDRESS = "BUILDKITE_CONNECTOR_HTTP_ADDRESS"
DEFAULT_HOST_ID = "buildkite-connector"
"""Where the machine has no name."""

ApiToken = Annotated[
    str,
    typer.Option(envvar="BATON_API_TOKEN", help="Buildkite API token; the variable keeps it out of the process list."),
]
OrganizationName = Annotated[
    str,
    typer.Option(envvar="BATON_ORGANIZATION", help="Slug; needed when the token reaches several organizations."),
]
ApiUrl = Annotated[
    str,
    typer.Option(envvar="BUILDKITE_API_URL", help="Buildkite's REST API; plain http only on loopback."),
]


def _nowhere_when_empty(address: str | None) -> str | None:
    """typer takes a variable that is empty for one that is not set; an empty address asks for no server."""
    return "" if address is None and os.environ.get(HTTP_ADDRESS) == "" else address


HttpAddress = Annotated[
    str | None,
    typer.Option(
        envvar=HTTP_ADDRESS,
        help="Where /healthz, /readyz and /metrics are served: host:port, or :port; empty for nowhere."
        "  [default: :8080, where it is free]",
        callback=_nowhere_when_empty,
    ),
]


def default_host_id() -> str:
    """This machine's name: in a pod, the pod's."""
    return socket.gethostname() or DEFAULT_HOST_ID
