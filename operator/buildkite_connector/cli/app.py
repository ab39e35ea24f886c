"""The `buildkite-connector` command: flags and variables in, one clear sentence out when something is wrong.

The vendor's commands are in `vendor`. Imports are inside the commands, so that none waits for another's libraries.
"""

import asyncio
import gc
import os
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from buildkite_connector.cli import vendor
from buildkite_connector.cli.exit import end, ended_by_signals, one_sentence
from buildkite_connector.cli.flags import DEFAULT_API_URL, from_go
from buildkite_connector.cli.settings import default_host_id
from buildkite_connector.model.directory import OrganizationSlug, ResourceKind, SyncScope
from buildkite_connector.model.spec import parse_duration
from buildkite_connector.telemetry.logs import FORMATS, LEVELS, LogFormat, LogLevel, configure_logs

if TYPE_CHECKING:
    from buildkite_connector.buildkite import BuildkiteSettings
    from buildkite_connector.network import Network

# ruff: noqa: PLC0415  (see above)

HTTP_ADDRESS = "BUILDKITE_CONNECTOR_HTTP_ADDRESS"

MOST_LISTED = 100_000
"""Entries of one list in JSON; the counts are whole."""

_T = TypeVar("_T")

app = typer.Typer(
    name="buildkite-connector",
    help="Buildkite's accounts and teams for C1 (ConductorOne), from Kubernetes.",
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _one_of(names: Mapping[str, _T], variable: str, text: str) -> Any:
    """An option that takes a name in upper or lower case."""

    def read(given: str) -> _T:
        try:
            return names[given.strip().lower()]
        except KeyError:
            raise typer.BadParameter(f"write one of {', '.join(names)}") from None

    return typer.Option(envvar=variable, help=text, parser=read, metavar=f"[{'|'.join(names)}]")


class Form(StrEnum):
    """How a command prints what it found."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Form, typer.Option("--output", "-o", help="For people or for tools.")]
Level = Annotated[LogLevel, _one_of(LEVELS, "BATON_LOG_LEVEL", "The least severe records to log.")]
Format = Annotated[LogFormat, _one_of(FORMATS, "BATON_LOG_FORMAT", "Logs for machines or for people.")]
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

Selector = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_SELECTOR",
        help="Watch only resources with these labels, as in kubectl get --selector; all when empty.",
    ),
]
LeaderElection = Annotated[
    bool,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEADER_ELECTION",
        help="Act only while holding a Lease, so that several replicas can run.",
    ),
]
LeaseName = Annotated[
    str, typer.Option(envvar="BUILDKITE_CONNECTOR_LEASE_NAME", help="The Lease; one for each set of replicas.")
]
LeaseNamespace = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEASE_NAMESPACE",
        help="Where the Lease is; the pod's own namespace when empty (POD_NAMESPACE, or the service account's).",
    ),
]
LeaseDuration = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEASE_DURATION",
        help="How long others wait for a leader that is not heard of.",
        metavar="DURATION",
    ),
]
RenewDeadline = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_RENEW_DEADLINE",
        help="When a leader that cannot renew its Lease begins to stop acting; shorter than the duration.",
        metavar="DURATION",
    ),
]
RetryPeriod = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_RETRY_PERIOD",
        help="How often the Lease is renewed; others look at it twice as often.",
        metavar="DURATION",
    ),
]


@app.command()
def operator(
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", envvar="WATCH_NAMESPACE", help="Watch only these; all when none is given."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="BUILDKITE_CONNECTOR_DATA_DIR", help="Where snapshots wait; this process's own."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(envvar="BUILDKITE_CONNECTOR_CONCURRENCY", min=1, help="Syncs at once, of all connectors.")
    ] = 32,
    http_address: HttpAddress = None,
    selector: Selector = "",
    leader_election: LeaderElection = False,
    lease_name: LeaseName = "buildkite-connector",
    lease_namespace: LeaseNamespace = "",
    lease_duration: LeaseDuration = "15s",
    renew_deadline: RenewDeadline = "10s",
    retry_period: RetryPeriod = "2s",
    buildkite_api_url: ApiUrl = DEFAULT_API_URL,
    log_level: Level = LogLevel.INFO,
    log_format: Format = LogFormat.JSON,
) -> None:
    """Watch BuildkiteConnector resources and sync them.

    The cluster is the one of KUBECONFIG, or the one that the process runs in. SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY
    and NO_PROXY count for all connections, as in Go's programs. BUILDKITE_CONNECTOR_C1_HOSTS lists the hosts that
    client IDs may lead to (default *.conductor.one and *.conductorone.com); BATON_C1_API_HOST replaces the host of all
    client IDs.
    OpenTelemetry's own variables (OTEL_*) say where metrics and traces go; without any, metrics are at /metrics.
    """
    os.environ.setdefault(*vendor.SILENT_GRPC)
    from buildkite_connector.c1 import C1Settings
    from buildkite_connector.cli.run_operator import OperatorSettings, read_leadership, run_operator

    try:
        leadership = read_leadership(
            os.environ,
            enabled=leader_election,
            lease=lease_name,
            namespace=lease_namespace,
            times=(parse_duration(lease_duration), parse_duration(renew_deadline), parse_duration(retry_period)),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    configure_logs(log_format, log_level)
    settings = OperatorSettings(
        buildkite=_buildkite(buildkite_api_url),
        c1=C1Settings.from_environment(os.environ),
        data_directory=data_dir or Path(tempfile.gettempdir()) / "buildkite-connector",
        namespaces=tuple(each for names in namespace or () for each in names.split(",") if each),
        selector=selector,
        concurrency=concurrency,
        http_address=http_address,
        leadership=leadership,
    )
    network = _network()
    gc.freeze()  # what is loaded now stays: no collection need look at it
    with one_sentence(1):
        asyncio.run(run_operator(settings, network))


@app.command()
def sync(
    file: Annotated[
        Path, typer.Option("--file", "-f", envvar="BATON_FILE", help="Where to write the snapshot.")
    ] = Path("sync.c1z"),
    api_token: ApiToken = "",
    organization: OrganizationName = "",
    resource_type: Annotated[
        list[ResourceKind] | None, typer.Option(help="Sync only these; both when none is given.")
    ] = None,
    quota_percent: Annotated[
        int, typer.Option(min=10, max=100, help="How much of each rate-limit window may be used before waiting.")
    ] = 80,
    timeout: Annotated[str, typer.Option(help="Give up after this long.", metavar="DURATION")] = "2h",
    buildkite_api_url: ApiUrl = DEFAULT_API_URL,
    log_level: Level = LogLevel.WARNING,
    log_format: Format = LogFormat.TEXT,
) -> None:
    """Write one snapshot of an organization to a file; the old file stays until the new one is complete."""
    from buildkite_connector.cli.sync import Interrupted, SyncSettings, sync_and_print
    from buildkite_connector.model.spec import Credentials, repeats_credential

    configure_logs(log_format, log_level)
    gc.set_threshold(700, 10, 1_000_000)  # young garbage only: a full collection would stall the event loop
    if not api_token:
        raise typer.BadParameter("set it, or better the variable BATON_API_TOKEN", param_hint="--api-token")
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
    if repeats_credential(organization, Credentials("", "", api_token)):
        raise typer.BadParameter("it repeats the API token: write the organization's slug", param_hint="--organization")
    settings = SyncSettings(
        buildkite=_buildkite(buildkite_api_url),
        api_token=api_token.strip(),
        organization=OrganizationSlug(organization) if organization else None,
        file=file,
        scope=SyncScope(frozenset(resource_type or ResourceKind)),
        quota_percent=quota_percent,
        timeout=seconds,
    )
    network = _network()
    with one_sentence(1):
        try:
            asyncio.run(sync_and_print(settings, network))
        except Interrupted as interrupted:
            end(str(interrupted), 128 + interrupted.number)
        except TimeoutError:
            end(f"The sync took longer than --timeout {timeout}; {file} is as it was.", 1)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .c1z snapshot.")],
    output: Annotated[str, typer.Option("--output", "-o", help="table or json", metavar="FORM")] = "table",
    limit: Annotated[int, typer.Option(min=0, help="Rows a table shows; 0 shows all.")] = 20,
) -> None:
    """Show what a snapshot holds: counts, accounts, teams, memberships."""
    from rich.console import Console

    from buildkite_connector.cli.inspect_report import inspect as show

    if output not in {"table", "json"}:
        raise typer.BadParameter("write table or json", param_hint="--output")
    with one_sentence(1), ended_by_signals():
        show(file, as_json=output == "json", limit=limit, console=Console())


@app.command()
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
    os.environ.setdefault(*vendor.SILENT_GRPC)
    from buildkite_connector.c1 import C1Settings
    from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE
    from buildkite_connector.cli.check import CheckSettings, check_and_print

    settings = CheckSettings(
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
    with one_sentence():
        raise SystemExit(asyncio.run(check_and_print(settings, as_json=output is Form.JSON)))


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A .c1z snapshot.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later one.")],
    output: Output = Form.TABLE,
    limit: Annotated[int, typer.Option(min=0, help="Lines of each kind of change; 0 shows all.")] = 50,
) -> None:
    """Show what two snapshots differ in: accounts, teams, memberships and roles gained, lost and changed.

    Exit code: 0 when they say the same, 1 when they differ, 2 when one cannot be read.
    """
    from rich.console import Console

    from buildkite_connector.c1z import compare
    from buildkite_connector.cli.diff_report import print_difference, to_document
    from buildkite_connector.cli.printing import print_json

    as_json = output is Form.JSON
    with one_sentence(2), ended_by_signals():
        difference = compare(before, after, MOST_LISTED if as_json or not limit else limit)
    console = Console()
    if as_json:
        print_json(to_document(difference, before, after), console)
    else:
        print_difference(difference, console)
    raise SystemExit(0 if difference.is_empty else 1)


@app.command()
def crd() -> None:
    """Print the custom resource definition, for `kubectl apply -f -`."""
    from buildkite_connector.kubernetes.schema.crd import to_yaml

    typer.echo(to_yaml(), nl=False)


vendor.register(app)


def main() -> None:
    """Run the command; `entry` is the console script."""
    app(args=from_go(sys.argv[1:]))


def _network() -> "Network":
    """A variable that cannot be used ends every command with code 3."""
    with one_sentence():
        return vendor.process_network()


def _buildkite(url: str) -> "BuildkiteSettings":
    from buildkite_connector.buildkite import BuildkiteSettings

    try:
        return BuildkiteSettings(api_url=url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--buildkite-api-url") from None
