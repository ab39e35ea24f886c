"""The `buildkite-connector` command: flags and variables in, one clear sentence out when something is wrong.

Configuration is read here, once, into frozen settings; the other modules of this package do the work. Imports are
inside the commands, so that none waits for another's libraries.
"""

import asyncio
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from buildkite_connector.cli import leadership_options as options
from buildkite_connector.cli import service_commands
from buildkite_connector.cli.check import check
from buildkite_connector.cli.diff import diff
from buildkite_connector.cli.flag_parameters import from_go
from buildkite_connector.cli.options import DEFAULT_API_URL, ApiToken, ApiUrl, HttpAddress, OrganizationName
from buildkite_connector.cli.signals import ended_by_signals
from buildkite_connector.model.directory import OrganizationSlug, ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import parse_duration
from buildkite_connector.telemetry.logs import FORMATS, LEVELS, LogFormat, LogLevel, configure_logs

if TYPE_CHECKING:
    from buildkite_connector.buildkite import BuildkiteSettings
    from buildkite_connector.network import Network

# ruff: noqa: PLC0415  (see above)

_T = TypeVar("_T")

app = typer.Typer(
    name="buildkite-connector",
    help="Buildkite's accounts and teams for C1 (ConductorOne), from Kubernetes.",
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _one_of(names: Mapping[str, _T]) -> Callable[[str], _T]:
    """Reads a name in upper or lower case."""

    def read(text: str) -> _T:
        try:
            return names[text.strip().lower()]
        except KeyError:
            raise typer.BadParameter(f"write one of {', '.join(names)}") from None

    return read


Level = Annotated[
    LogLevel,
    typer.Option(
        envvar="BATON_LOG_LEVEL",
        help="The least severe records to log.",
        parser=_one_of(LEVELS),
        metavar=f"[{'|'.join(LEVELS)}]",
    ),
]
Form = Annotated[
    LogFormat,
    typer.Option(
        envvar="BATON_LOG_FORMAT",
        help="Logs for machines or for people.",
        parser=_one_of(FORMATS),
        metavar=f"[{'|'.join(FORMATS)}]",
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
    selector: options.Selector = "",
    leader_election: options.LeaderElection = False,
    lease_name: options.LeaseName = "buildkite-connector",
    lease_namespace: options.LeaseNamespace = "",
    lease_duration: options.LeaseDuration = "15s",
    renew_deadline: options.RenewDeadline = "10s",
    retry_period: options.RetryPeriod = "2s",
    shards: options.Shards = 1,
    buildkite_api_url: ApiUrl = DEFAULT_API_URL,
    log_level: Level = LogLevel.INFO,
    log_format: Form = LogFormat.JSON,
) -> None:
    """Watch BuildkiteConnector resources and sync them.

    The cluster is the one of KUBECONFIG, or the one that the process runs in. SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY
    and NO_PROXY count for all connections, as in Go's programs. BUILDKITE_CONNECTOR_C1_HOSTS lists the hosts that
    client IDs may lead to (default *.conductor.one and *.conductorone.com); BATON_C1_API_HOST replaces the host of all
    client IDs.
    OpenTelemetry's own variables (OTEL_*) say where metrics and traces go; without any, metrics are at /metrics.
    """
    # gRPC's own lines on standard error are no JSON, and may repeat what a server sends (the words of a GOAWAY).
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from buildkite_connector.c1 import C1Settings
    from buildkite_connector.cli.leadership import read_leadership
    from buildkite_connector.cli.operator import OperatorSettings, run_operator

    try:
        leadership = read_leadership(
            os.environ,
            enabled=leader_election,
            lease=lease_name,
            namespace=lease_namespace,
            times=(parse_duration(lease_duration), parse_duration(renew_deadline), parse_duration(retry_period)),
            shards=shards,
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
    with _one_sentence():
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
    log_format: Form = LogFormat.TEXT,
) -> None:
    """Write one snapshot of an organization to a file; the old file stays until the new one is complete."""
    from rich.console import Console

    from buildkite_connector.cli.sync import Interrupted, SyncSettings, print_result, sync_until_signalled
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
    console, errors = Console(), Console(stderr=True)
    with _one_sentence():
        try:
            result = asyncio.run(sync_until_signalled(settings, network, errors))
        except Interrupted as interrupted:
            _say(f"interrupted; {file} is as it was.")
            raise SystemExit(128 + interrupted.number) from None
        except TimeoutError:
            raise SystemExit(_say(f"The sync took longer than --timeout {timeout}; {file} is as it was.")) from None
        print_result(result, console)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .c1z snapshot.")],
    output: Annotated[str, typer.Option("--output", "-o", help="table or json", metavar="FORM")] = "table",
    limit: Annotated[int, typer.Option(min=0, help="Rows a table shows; 0 shows all.")] = 20,
) -> None:
    """Show what a snapshot holds: counts, accounts, teams, memberships."""
    from rich.console import Console

    from buildkite_connector.cli.inspect import inspect as show

    if output not in {"table", "json"}:
        raise typer.BadParameter("write table or json", param_hint="--output")
    with _one_sentence(), ended_by_signals():
        show(file, as_json=output == "json", limit=limit, console=Console())


app.command()(check)
app.command()(diff)


@app.command()
def crd() -> None:
    """Print the custom resource definition, for `kubectl apply -f -`."""
    from buildkite_connector.kubernetes.schema.crd import to_yaml

    typer.echo(to_yaml(), nl=False)


service_commands.register(app)


def main() -> None:
    """Run the command; `entry` is the console script."""
    app(args=from_go(sys.argv[1:]))


def _buildkite(url: str) -> "BuildkiteSettings":
    from buildkite_connector.buildkite import BuildkiteSettings

    try:
        return BuildkiteSettings(api_url=url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--buildkite-api-url") from None


def _network() -> "Network":
    """A variable that cannot be used ends the command with code 3, as in service mode."""
    try:
        return service_commands.process_network()
    except Failure as failure:
        from buildkite_connector.cli.exit_codes import exit_code  # it brings gRPC along, which `sync` does not need

        _say(failure.message)
        raise SystemExit(exit_code(failure)) from None


@contextmanager
def _one_sentence() -> Iterator[None]:
    """A failure ends the command with its sentence and code 1, never with a traceback."""
    try:
        yield
    except Failure as failure:
        raise SystemExit(_say(failure.message)) from None
    except BaseExceptionGroup as group:
        failures, others = group.split(Failure)
        if failures is None or others is not None:
            raise
        raise SystemExit(_say(str(_first(failures)))) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _say(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def _first(group: BaseExceptionGroup[Failure]) -> Failure:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
