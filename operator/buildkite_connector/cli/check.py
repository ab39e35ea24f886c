"""`check`: everything that a sync and a delivery need, asked by hand, each with what to do where it is not so."""

import asyncio
import os
from typing import Annotated

import typer

from buildkite_connector.cli.diff import Form, Output
from buildkite_connector.cli.options import DEFAULT_API_URL, ApiToken, ApiUrl, OrganizationName, default_host_id
from buildkite_connector.model.directory import ResourceKind

# ruff: noqa: PLC0415  (as in `app`: no command waits for another's libraries)


def check(
    api_token: ApiToken = "",
    organization: OrganizationName = "",
    client_id: Annotated[
        str, typer.Option(envvar="BATON_CLIENT_ID", help="C1's client ID; without it C1 is not asked.")
    ] = "",
    client_secret: Annotated[
        str,
        typer.Option(
            envvar="BATON_CLIENT_SECRET", help="C1's client secret; the variable keeps it out of the process list."
        ),
    ] = "",
    host_id: Annotated[
        str, typer.Option(envvar="BATON_HOST_ID", help="What C1 shows.  [default: this machine's name]")
    ] = "",
    resource_type: Annotated[
        list[ResourceKind] | None, typer.Option(help="What is to be synced; both when none is given.")
    ] = None,
    buildkite_api_url: ApiUrl = DEFAULT_API_URL,
    output: Output = Form.TABLE,
) -> None:
    """Check settings, network, clock, and what Buildkite and C1 say to the credentials; change nothing.

    SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, NO_PROXY, BATON_C1_API_HOST and BUILDKITE_CONNECTOR_C1_HOSTS count as for
    the connector.
    Exit code: 0 when nothing failed, else the gRPC code of the first failure: 3 a malformed setting, 7 a right that is
    missing, 9 something to change first, 14 not reachable, 16 credentials.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines on standard error may repeat what a server sends
    from rich.console import Console

    from buildkite_connector.c1 import C1Settings
    from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE
    from buildkite_connector.cli import checklist
    from buildkite_connector.cli.printing import print_json

    settings = checklist.CheckSettings(
        api_url=buildkite_api_url.strip(),
        api_token=api_token.strip(),
        organization=organization.strip(),
        client_id=client_id.strip(),
        client_secret=client_secret.strip(),
        host_id=host_id.strip() or default_host_id(),
        kinds=frozenset(resource_type or ResourceKind),
        c1=C1Settings.from_environment(os.environ),
        environment=os.environ,
        hosts_listed=bool(os.environ.get(ALLOWED_HOSTS_VARIABLE, "").strip()),
    )
    console = Console()
    as_json = output is Form.JSON

    def listen(finding: checklist.Finding) -> None:
        if not as_json:
            checklist.print_finding(finding, console)

    try:
        findings = asyncio.run(checklist.run_checks(settings, listen))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if as_json:
        print_json(checklist.to_document(findings), console)
    else:
        checklist.print_summary(findings, console)
    raise SystemExit(checklist.exit_code_of(findings))
