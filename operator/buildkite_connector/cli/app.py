"""The `buildkite-connector` command: flags and variables in, one clear sentence out when something is wrong.

The vendor's commands are in `vendor`. Imports are inside the commands, so that none waits for another's libraries.
"""

import asyncio
import gc
import os
import sys
import tempfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from buildkite_connector.cli import portal, token_exchange, vendor
from buildkite_connector.cli.exit import end, ended_by_signals, one_sentence
from buildkite_connector.cli.flags import (
    BY_NAME,
    DEFAULT_API_URL,
    DEFAULT_EXCHANGE_URL,
    DEFAULT_PORTAL_URL,
    flag_of_url,
    from_go,
)
from buildkite_connector.cli.settings import Settings, default_host_id
from buildkite_connector.model.directory import DEFAULT_KINDS, OrganizationSlug, ResourceKind, SyncScope
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
    help="Sync Buildkite accounts, teams and access to C1 (ConductorOne), from Kubernetes.",
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _set_by(variable: str, text: str, *names: str, **others: Any) -> Any:
    return typer.Option(*names, envvar=variable, help=text, **others)


def _as_in_service_mode(name: str, *names: str, **others: Any) -> Any:
    """An option with the variable and the help of a flag of `cli.flags`."""
    return _set_by(BY_NAME[name].variable, BY_NAME[name].help, *names, **others)


def _one_of(names: Mapping[str, _T]) -> dict[str, Any]:
    """For an option that takes a name in upper or lower case."""

    def read(given: str) -> _T:
        try:
            return names[given.strip().lower()]
        except KeyError:
            raise typer.BadParameter(f"write one of {', '.join(names)}") from None

    return {"parser": read, "metavar": f"[{'|'.join(names)}]"}


def _nowhere_when_empty(address: str | None) -> str | None:
    """typer takes a variable that is empty for one that is not set; an empty address asks for no server."""
    return "" if address is None and os.environ.get(HTTP_ADDRESS) == "" else address


def _resource_types(given: str) -> tuple[ResourceKind, ...]:
    """An option's value: types with commas between them. Of a variable, each part between white space comes alone."""
    names = given.strip(" ,")
    try:
        return tuple(ResourceKind(each.strip()) for each in names.split(",")) if names else ()
    except ValueError:
        raise typer.BadParameter(f"write any of {', '.join(ResourceKind)}") from None


def _kinds(given: list[Any] | None) -> frozenset[ResourceKind]:
    """The types of all `--resource-type` options together, by default user and team."""
    found = frozenset(chain.from_iterable(given or [DEFAULT_KINDS]))
    if not found:
        raise typer.BadParameter(f"write any of {', '.join(ResourceKind)}", param_hint="--resource-type")
    return found


ResourceTypes = Annotated[
    list[Any] | None,
    _as_in_service_mode(
        "sync-resource-types", "--resource-type", "--sync-resource-types", parser=_resource_types, metavar="TYPES"
    ),
]
Output = Annotated[
    Literal["table", "json"], typer.Option("--output", "-o", help="The output format, for people or for tools.")
]
Level = Annotated[LogLevel, _as_in_service_mode("log-level", **_one_of(LEVELS))]
Format = Annotated[
    LogFormat,
    _set_by("BATON_LOG_FORMAT", "The log format: json for machines, text for people.", **_one_of(FORMATS)),
]
ApiToken = Annotated[str, _as_in_service_mode("api-token")]
OrganizationName = Annotated[str, _as_in_service_mode("organization")]
ApiUrl = Annotated[str, _as_in_service_mode("buildkite-api-url")]
ExchangeUrl = Annotated[str, _as_in_service_mode("token-exchange-url")]
PortalSlug = Annotated[str, _as_in_service_mode("portal-slug")]
PortalToken = Annotated[str, _as_in_service_mode("portal-token")]
PortalUrl = Annotated[str, _as_in_service_mode("portal-url")]


@app.command()
def operator(
    namespace: Annotated[
        list[str] | None,
        _set_by("WATCH_NAMESPACE", "Watch only these namespaces. The default is all namespaces.", "--namespace", "-n"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        _set_by(
            "BUILDKITE_CONNECTOR_DATA_DIR",
            "The directory for staged snapshots. Use a separate one for each process.",
        ),
    ] = None,
    concurrency: Annotated[
        int,
        _set_by("BUILDKITE_CONNECTOR_CONCURRENCY", "The maximum number of concurrent syncs.", min=1),
    ] = 32,
    http_address: Annotated[
        str | None,
        _set_by(
            HTTP_ADDRESS,
            "The address for /healthz, /readyz and /metrics: host:port or :port. An empty value disables them."
            "  [default: :8080, if it is free]",
            callback=_nowhere_when_empty,
        ),
    ] = None,
    selector: Annotated[
        str,
        _set_by(
            "BUILDKITE_CONNECTOR_SELECTOR",
            "Watch only resources with these labels, as in kubectl get --selector. The default is all resources.",
        ),
    ] = "",
    leader_election: Annotated[
        bool,
        _set_by(
            "BUILDKITE_CONNECTOR_LEADER_ELECTION",
            "Act only while holding a Lease, so that several replicas can run.",
        ),
    ] = False,
    lease_name: Annotated[
        str,
        _set_by(
            "BUILDKITE_CONNECTOR_LEASE_NAME", "The name of the Lease. Use a separate one for each set of replicas."
        ),
    ] = "buildkite-connector",
    lease_namespace: Annotated[
        str,
        _set_by(
            "BUILDKITE_CONNECTOR_LEASE_NAMESPACE",
            "The namespace of the Lease. The default is the pod's own (POD_NAMESPACE, or the service account's).",
        ),
    ] = "",
    lease_duration: Annotated[
        str,
        _set_by(
            "BUILDKITE_CONNECTOR_LEASE_DURATION",
            "How long standbys wait for a leader that does not renew its Lease.",
            metavar="DURATION",
        ),
    ] = "15s",
    renew_deadline: Annotated[
        str,
        _set_by(
            "BUILDKITE_CONNECTOR_RENEW_DEADLINE",
            "How long a leader tries to renew its Lease before it stops acting. Shorter than the lease duration.",
            metavar="DURATION",
        ),
    ] = "10s",
    retry_period: Annotated[
        str,
        _set_by(
            "BUILDKITE_CONNECTOR_RETRY_PERIOD",
            "How often the leader renews its Lease. Standbys check it twice as often.",
            metavar="DURATION",
        ),
    ] = "2s",
    buildkite_api_url: ApiUrl = DEFAULT_API_URL,
    token_exchange_url: ExchangeUrl = DEFAULT_EXCHANGE_URL,
    portal_url: PortalUrl = DEFAULT_PORTAL_URL,
    log_level: Level = LogLevel.INFO,
    log_format: Format = LogFormat.JSON,
) -> None:
    """Watch BuildkiteConnector resources and sync them.

    The operator connects to the cluster in KUBECONFIG, or to the cluster it runs in. SSL_CERT_FILE, SSL_CERT_DIR,
    HTTPS_PROXY and NO_PROXY apply to all connections, as in Go programs. BUILDKITE_CONNECTOR_C1_HOSTS lists the hosts
    that client IDs can point to (default *.conductor.one and *.conductorone.com); BATON_C1_API_HOST replaces the host
    of all client IDs.
    OpenTelemetry's variables (OTEL_*) set where to send metrics and traces; without them, metrics are at /metrics.
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
        buildkite=_buildkite(buildkite_api_url, portal_url, token_exchange_url),
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
    file: Annotated[Path, _set_by("BATON_FILE", "The file to write the snapshot to.", "--file", "-f")] = Path(
        "sync.c1z"
    ),
    api_token: ApiToken = "",
    organization: OrganizationName = "",
    resource_type: ResourceTypes = None,
    quota_percent: Annotated[
        int, typer.Option(min=10, max=100, help="The percentage of each rate-limit window to use before waiting.")
    ] = 80,
    timeout: Annotated[str, typer.Option(help="The maximum duration of the sync.", metavar="DURATION")] = "2h",
    portal_slug: PortalSlug = "",
    portal_token: PortalToken = "",
    buildkite_api_url: ApiUrl = DEFAULT_API_URL,
    portal_url: PortalUrl = DEFAULT_PORTAL_URL,
    log_level: Level = LogLevel.WARNING,
    log_format: Format = LogFormat.TEXT,
) -> None:
    """Write a snapshot of an organization to a file. An existing file is replaced when the new one is complete."""
    from buildkite_connector.cli.sync import Interrupted, SyncSettings, sync_and_print
    from buildkite_connector.model.spec import Credentials, repeats_credential

    configure_logs(log_format, log_level)
    gc.set_threshold(700, 10, 1_000_000)  # young garbage only: a full collection would stall the event loop
    if not api_token:
        raise typer.BadParameter("set it, or preferably the variable BATON_API_TOKEN", param_hint="--api-token")
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
    credentials = Credentials("", "", api_token.strip(), portal_token=portal_token.strip())
    if repeats_credential(organization, credentials):
        raise typer.BadParameter("it repeats a credential: use the organization's slug", param_hint="--organization")
    kinds, slug = _kinds(resource_type), portal_slug.strip()
    with one_sentence():
        portal.check_portal_settings(slug, credentials, kinds)
    settings = SyncSettings(
        buildkite=_buildkite(buildkite_api_url, portal_url),
        credentials=credentials,
        organization=OrganizationSlug(organization) if organization else None,
        file=file,
        scope=SyncScope(kinds, expanded=True),
        quota_percent=quota_percent,
        timeout=seconds,
        portal=slug,
    )
    network = _network()
    with one_sentence(1):
        try:
            asyncio.run(sync_and_print(settings, network))
        except Interrupted as interrupted:
            end(str(interrupted), 128 + interrupted.number)
        except TimeoutError:
            end(f"The sync took longer than --timeout {timeout}; {file} is unchanged.", 1)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .c1z snapshot.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The output format: table or json.", metavar="FORM")
    ] = "table",
    limit: Annotated[int, typer.Option(min=0, help="The maximum number of rows per table; 0 shows all.")] = 20,
) -> None:
    """Show the contents of a snapshot: counts, accounts, teams, memberships, roles, pipelines and clusters."""
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
    client_id: Annotated[str, _set_by("BATON_CLIENT_ID", "The C1 client ID. Without it, C1 is not checked.")] = "",
    client_secret: Annotated[str, _as_in_service_mode("client-secret")] = "",
    host_id: Annotated[str, _set_by("BATON_HOST_ID", "The host that C1 shows.  [default: this machine's name]")] = "",
    resource_type: ResourceTypes = None,
    c1_app_id: Annotated[str, _as_in_service_mode("c1-app-id")] = "",
    c1_connector_id: Annotated[str, _as_in_service_mode("c1-connector-id")] = "",
    c1_client_id: Annotated[str, _as_in_service_mode("c1-client-id")] = "",
    c1_client_secret: Annotated[str, _as_in_service_mode("c1-client-secret")] = "",
    c1_workload_client_id: Annotated[str, _as_in_service_mode("c1-workload-client-id")] = "",
    buildkite_api_url: ApiUrl = DEFAULT_API_URL,
    token_exchange_client_id: Annotated[str, _as_in_service_mode("token-exchange-client-id")] = "",
    token_exchange_private_key: Annotated[str, _as_in_service_mode("token-exchange-private-key")] = "",
    token_exchange_subject: Annotated[str, _as_in_service_mode("token-exchange-subject")] = "",
    token_exchange_url: ExchangeUrl = DEFAULT_EXCHANGE_URL,
    portal_slug: PortalSlug = "",
    portal_token: PortalToken = "",
    portal_url: PortalUrl = DEFAULT_PORTAL_URL,
    output: Output = "table",
) -> None:
    """Check the settings, network, clock and credentials for Buildkite and C1, without changing anything.

    SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, NO_PROXY, BATON_C1_API_HOST and BUILDKITE_CONNECTOR_C1_HOSTS apply as
    for the connector.
    Exit code: 0 if nothing failed, otherwise the gRPC code of the first failure: 3 malformed setting, 7 missing
    permission, 9 failed precondition, 14 unreachable, 16 rejected credentials.
    """
    os.environ.setdefault(*vendor.SILENT_GRPC)
    from buildkite_connector.c1 import C1Settings
    from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE
    from buildkite_connector.cli.check import CheckSettings, check_and_print
    from buildkite_connector.model.spec import TokenExchange

    rest = {
        "c1-app-id": c1_app_id,
        "c1-connector-id": c1_connector_id,
        "c1-client-id": c1_client_id,
        "c1-client-secret": c1_client_secret,
        "c1-workload-client-id": c1_workload_client_id,
    }
    exchange = [token_exchange_client_id.strip(), token_exchange_private_key.strip(), token_exchange_subject.strip()]
    settings = CheckSettings(
        api_url=buildkite_api_url.strip(),
        exchange_url=token_exchange_url.strip(),
        api_token=api_token.strip(),
        token_exchange=TokenExchange(*exchange) if any(exchange) else None,
        portal=portal_slug.strip(),
        portal_token=portal_token.strip(),
        portal_url=portal_url.strip(),
        organization=organization.strip(),
        client_id=client_id.strip(),
        client_secret=client_secret.strip(),
        host_id=host_id.strip() or default_host_id(),
        kinds=_kinds(resource_type),
        c1=C1Settings.from_environment(os.environ),
        environment=os.environ,
        hosts_listed=bool(os.environ.get(ALLOWED_HOSTS_VARIABLE, "").strip()),
        c1_rest=Settings({name: text.strip() for name, text in rest.items() if text.strip()}),
    )
    with one_sentence():
        raise SystemExit(asyncio.run(check_and_print(settings, as_json=output == "json")))


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A .c1z snapshot.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later .c1z snapshot.")],
    output: Output = "table",
    limit: Annotated[
        int, typer.Option(min=0, help="The maximum number of lines per kind of change; 0 shows all.")
    ] = 50,
) -> None:
    """Show the differences between two snapshots: which accounts, teams, roles and access were gained, lost or changed.

    Exit code: 0 if they are equal, 1 if they differ, 2 if one cannot be read.
    """
    from rich.console import Console

    from buildkite_connector.c1z import compare
    from buildkite_connector.cli.diff_report import print_difference, to_document
    from buildkite_connector.cli.printing import print_json

    as_json = output == "json"
    with one_sentence(2), ended_by_signals():
        difference = compare(before, after, MOST_LISTED if as_json or not limit else limit)
    console = Console()
    if as_json:
        print_json(to_document(difference, before, after), console)
    else:
        print_difference(difference, console)
    raise SystemExit(0 if difference.is_empty else 1)


@app.command()
def access(
    file: Annotated[Path, typer.Argument(help="A .c1z snapshot.")],
    user: Annotated[str, typer.Option(help="A person's e-mail address, login or ID.")] = "",
    team: Annotated[str, typer.Option(help="A team's slug or ID.")] = "",
    pipeline: Annotated[str, typer.Option(help="A pipeline's slug or ID.")] = "",
    cluster: Annotated[str, typer.Option(help="A cluster's name or ID.")] = "",
    output: Annotated[
        Literal["table", "json", "csv"],
        typer.Option("--output", "-o", help="The output format, for people, tools or spreadsheets."),
    ] = "table",
    limit: Annotated[int, typer.Option(min=0, help="The maximum number of rows per table; 0 shows all.")] = 50,
) -> None:
    """Show what a person or a team can reach, or who can reach a pipeline or maintains a cluster.

    Exit code: 0, 1 if the file cannot be read, 2 if the snapshot does not contain what you ask about.
    """
    from rich.console import Console

    from buildkite_connector.c1z import read_snapshot
    from buildkite_connector.cli.access_report import notes, print_answer, print_csv, to_document
    from buildkite_connector.cli.printing import print_json
    from buildkite_connector.cli.reach import answer

    options = {
        ResourceKind.USER: user,
        ResourceKind.TEAM: team,
        ResourceKind.PIPELINE: pipeline,
        ResourceKind.CLUSTER: cluster,
    }
    asked = [(kind, text) for kind, text in options.items() if text.strip()]
    if len(asked) != 1:
        raise typer.BadParameter("write exactly one of them", param_hint="--user, --team, --pipeline, --cluster")
    with one_sentence(1), ended_by_signals():
        snapshot = read_snapshot(file)
        found = answer(snapshot.directory, *asked[0])
    console = Console()
    if output == "json":
        print_json(to_document(found, snapshot.run, file), console)
    elif output == "csv":
        for note in notes(found):
            typer.echo(f"note: {note}", err=True)
        print_csv(found, console)
    else:
        print_answer(found, snapshot.run, limit, console)


@app.command()
def crd() -> None:
    """Print the CRD, for `kubectl apply -f -`."""
    from buildkite_connector.kubernetes.schema.crd import to_yaml

    typer.echo(to_yaml(), nl=False)


token_exchange.register(app)
portal.register(app)
vendor.register(app)


def main() -> None:
    """Run the command; `entry` is the console script."""
    app(args=from_go(sys.argv[1:]))


def _network() -> "Network":
    """A variable that cannot be used ends every command with code 3."""
    with one_sentence():
        return vendor.process_network()


def _buildkite(api_url: str, portal_url: str, exchange_url: str = DEFAULT_EXCHANGE_URL) -> "BuildkiteSettings":
    from buildkite_connector.buildkite import BuildkiteSettings

    try:
        return BuildkiteSettings(api_url=api_url, exchange_url=exchange_url, portal_url=portal_url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag_of_url(error)) from None
