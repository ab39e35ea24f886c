"""The vendor's command line: no sub-command at all, `service`, `capabilities`, `config`, `health-check`, `completion`.

Imports are inside the commands, so that none waits for another's libraries.
"""

import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from buildkite_connector import __version__
from buildkite_connector.cli.exit import CANCELLED, USAGE, end, one_sentence
from buildkite_connector.cli.flags import config_schema, given_flags, with_flags
from buildkite_connector.cli.settings import SettingError, Settings, is_serving, read_settings
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason

if TYPE_CHECKING:
    from buildkite_connector.cli.sync import SyncSettings
    from buildkite_connector.network import Network

# ruff: noqa: PLC0415  (see above)

logger = logging.getLogger(__name__)

COMMANDS = frozenset({"service", "capabilities", "config", "health-check", "completion"})
"""Commands that accept the root's flags before their name too."""
COMPLETE = "_BUILDKITE_CONNECTOR_COMPLETE"
SILENT_GRPC = ("GRPC_VERBOSITY", "NONE")
"""gRPC's own lines on standard error are not JSON, and may repeat what a server sends (the text of a GOAWAY)."""


def register(app: typer.Typer) -> None:
    """Add the root's flags and these commands."""
    app.callback(invoke_without_command=True)(root)
    app.command()(service)
    app.command()(capabilities)
    app.command()(config)
    app.command("health-check")(health_check)
    app.command()(completion)


@with_flags()
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-v", help="Print the version and exit.")] = False,
    **flags: Any,
) -> None:
    """Sync Buildkite accounts, teams and access to C1 (ConductorOne), from Kubernetes.

    Without a command, it replaces ConductorOne's own connector: with a client ID, it serves C1 (as `service` does);
    without one, it writes one snapshot to --file and exits.
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit
    given = ctx.obj = given_flags(flags)
    if ctx.invoked_subcommand is None:
        _run(given, serving=None)
    elif given and ctx.invoked_subcommand not in COMMANDS:
        raise typer.BadParameter(
            f"put the flags of {ctx.invoked_subcommand} after it", param_hint=f"--{next(iter(given))}"
        )


@with_flags()
def service(ctx: typer.Context, **flags: Any) -> None:
    """Serve C1 as one connector, without a cluster.

    Settings come from flags, variables and a YAML file; the status is in the log. The file is .baton.yaml in the
    working directory, or the file in BATON_CONFIG_PATH. BATON_HOST_ID is the host that C1 shows. BATON_C1_API_HOST,
    BUILDKITE_CONNECTOR_C1_HOSTS, SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, NO_PROXY and OTEL_* apply as for the
    operator.
    """
    _run(_merged(ctx, flags), serving=True)


@with_flags(hidden=True)
def capabilities(ctx: typer.Context, **flags: Any) -> None:
    """Print the connector's capabilities as JSON, as reported to C1; --provisioning adds more."""
    from buildkite_connector.c1.hello import capabilities_json

    with one_sentence():
        provisions = read_settings(_merged(ctx, flags), os.environ).switch("provisioning")
    typer.echo(capabilities_json(provisions=provisions))


@with_flags(hidden=True)
def config(**_: Any) -> None:
    """Print the JSON schema of the settings."""
    typer.echo(json.dumps(config_schema(), indent=2))


@with_flags(hidden=True)
def health_check(
    ctx: typer.Context,
    endpoint: Annotated[
        Literal["health", "ready", "live", "readyz"],
        typer.Option(help="The endpoint to ask; readyz is the operator's."),
    ] = "health",
    timeout: Annotated[float, typer.Option(min=0.1, help="The timeout in seconds.")] = 5.0,
    **flags: Any,
) -> None:
    """Ask the health server of a running service or operator. The exit code is 0 if it answers 200."""
    from buildkite_connector.service.health import ask_health

    with one_sentence():
        settings = read_settings(_merged(ctx, flags), os.environ)
    host, port = settings.text("health-check-bind-address"), settings.number("health-check-port")
    healthy, text = ask_health(host, port, endpoint, timeout)
    if not healthy:
        end(text, USAGE)
    typer.echo(text)


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish", "powershell"], typer.Argument(help="The shell.")],
) -> None:
    """Print a script that completes this command's flags. Source it in your shell."""
    os.environ[COMPLETE] = f"source_{shell}"
    from buildkite_connector.cli.app import app

    app(args=[], prog_name="buildkite-connector")


def process_network() -> "Network":
    """Read the proxies and authorities of this process; variables that are ignored are logged.

    Raises Failure.
    """
    from buildkite_connector.network import read_network

    network = read_network(os.environ)
    for sentence in network.warnings:
        logger.warning("a variable is partly ignored", extra={"detail": sentence})
    return network


def _merged(ctx: typer.Context, flags: Mapping[str, object]) -> dict[str, object]:
    """The flags before the command's name, overridden by those behind it."""
    return {**(ctx.obj or {}), **given_flags(flags)}


def _run(given: Mapping[str, object], *, serving: bool | None) -> NoReturn:
    """Serve C1 or write one file. `serving` None: as the settings say."""
    os.environ.setdefault(*SILENT_GRPC)
    from buildkite_connector.cli.service_settings import start_logs

    with one_sentence():
        settings = read_settings(given, os.environ)
        serves = serving or is_serving(settings)
        start_logs(settings, terminal=sys.stderr.isatty())
        settings.reject(serving=serves)
        network = process_network()
        code = _serve(given, settings, network) if serves else _write_one_file(settings, network)
    raise SystemExit(code)


def _serve(given: Mapping[str, object], settings: Settings, network: "Network") -> int:
    """Raises Failure and SettingError."""
    from buildkite_connector.c1 import parse_credentials
    from buildkite_connector.cli.service import run_service
    from buildkite_connector.cli.service_settings import collector_variables, service_settings, telemetry_variables
    from buildkite_connector.service.data_directory import open_directory

    environment = dict(os.environ)
    found = service_settings(lambda: read_settings(given, environment), settings, environment)
    _warn(settings, serving=True)
    # Report malformed credentials before any request: Buildkite's answer may take a while.
    parse_credentials(found.started_with.client_id, found.started_with.client_secret)
    with open_directory(found.directories, found.identity(found.started_with)) as directory:
        # The exporters read the process's own variables.
        os.environ.update(collector_variables(settings, environment, directory))
        gc.freeze()  # what is loaded now stays: no collection need look at it
        refused = asyncio.run(run_service(found, network, directory, telemetry_variables(found, os.environ)))
    if refused is not None:
        raise refused
    return 0


def _write_one_file(settings: Settings, network: "Network") -> int:
    """Raises Failure and SettingError."""
    from buildkite_connector.cli.sync import Interrupted, sync_and_print

    found = one_file_settings(settings)
    _warn(settings, serving=False)
    gc.set_threshold(700, 10, 1_000_000)  # young garbage only: a full collection would stall the event loop
    try:
        asyncio.run(sync_and_print(found, network))
    except TimeoutError:
        raise Failure(
            Reason.SYNC_TIMEOUT,
            f"The sync took longer than --sync-timeout ({found.timeout:.0f} s); {found.file} is unchanged.",
        ) from None
    except Interrupted as interrupted:
        end(str(interrupted), CANCELLED)
    return 0


def one_file_settings(settings: Settings) -> "SyncSettings":
    """Raises SettingError."""
    from buildkite_connector.cli.service_settings import buildkite_settings, connector_spec, read_credentials
    from buildkite_connector.cli.sync import SyncSettings

    file = settings.text("file")
    if "://" in file:
        raise SettingError(
            "--file", "the snapshot is written to a local file only; write it there, and upload it with another tool"
        )
    spec = connector_spec(settings, {})
    everything = not settings.switch("skip-entitlements-and-grants")
    return SyncSettings(
        buildkite=buildkite_settings(settings),
        credentials=read_credentials(settings),
        organization=spec.organization,
        portal=spec.portal,
        file=Path(file),
        scope=SyncScope(spec.kinds, entitlements=everything, grants=everything, expanded=True),
        quota_percent=spec.quota_percent,
        timeout=spec.sync_timeout,
    )


def _warn(settings: Settings, *, serving: bool) -> None:
    """Log one line that names all settings without effect, and one for each oddity of the file."""
    for note in settings.notes:
        logger.warning("the configuration has a problem", extra={"detail": note})
    if named := [*settings.without_effect(os.environ, serving=serving)]:
        logger.warning("settings have no effect", extra={"settings": ", ".join(named)})
