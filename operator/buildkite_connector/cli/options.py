"""Options that several commands have, and what they default to."""

import socket
from typing import Annotated

import typer

DEFAULT_API_URL = "https://api.buildkite.com/v2"
"""As in `buildkite.settings`, whose libraries not every command waits for; a test holds them together."""
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


def default_host_id() -> str:
    """This machine's name: in a pod, the pod's."""
    return socket.gethostname() or DEFAULT_HOST_ID
