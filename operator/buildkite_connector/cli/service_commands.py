"""The vendor's command line: no sub-command at all, `service`, `capabilities`, `config`, `health-check`, `completion`.

Imports are inside the commands, so that none waits for another's libraries.
"""

import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from buildkite_connector import __version__
from buildkite_connector.cli.configuration import Configuration, SettingError, idle_settings, read_configuration
from buildkite_connector.cli.flag_parameters import given_flags, with_flags
from buildkite_connector.model.failure import Failure
from buildkite_connector.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from buildkite_connector.cli.service_settings import ServiceSettings
    from buildkite_connector.network import Network

# ruff: noqa: PLC0415  (see above)

logger = logging.getLogger(__name__)

USAGE = 2
"""The exit code of settings that cannot be used: gRPC's UNKNOWN, and what a wrong flag ends with anyway."""
COMMANDS = frozenset({"service", "capabilities", "config", "health-check", "completion"})
COMPLETE = "_BUILDKITE_CONNECTOR_COMPLETE"


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


class Endpoint(StrEnum):
    HEALTH = "health"
    READY = "ready"
    LIVE = "live"


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
    """Buildkite's accounts and teams for C1 (ConductorOne), from Kubernetes.

    Without a command it takes the place of the vendor's connector: with a client ID it serves C1 (as `service` does),
    without one it writes one snapshot to --file and ends.
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit
    given = given_flags(flags)
    ctx.obj = given
    if ctx.invoked_subcommand is None:
        _run(given, serving=None)
    elif given and ctx.invoked_subcommand not in COMMANDS:
        raise typer.BadParameter(
            f"the flags of {ctx.invoked_subcommand} stand behind it", param_hint=f"--{next(iter(given))}"
        )


@with_flags()
def service(ctx: typer.Context, **flags: Any) -> None:
    """Serve C1 as one connector, without a cluster: settings from flags, variables and a YAML file, status in the log.

    The file is .baton.yaml in the working directory, or the one that BATON_CONFIG_PATH names. BATON_HOST_ID is what C1
    shows; BATON_C1_API_HOST, BUILDKITE_CONNECTOR_C1_HOSTS, SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, NO_PROXY and
    OTEL_* count as for the operator.
    """
    _run(_merged(ctx, flags), serving=True)


@with_flags(hidden=True)
def capabilities(ctx: typer.Context, **flags: Any) -> None:
    """Print as JSON what the connector can do, as C1 is told: with --provisioning more than without."""
    from buildkite_connector.c1.hello import capabilities_json

    with _sentences():
        provisions = read_configuration(_merged(ctx, flags), os.environ).switch("provisioning")
    typer.echo(capabilities_json(provisions=bool(provisions)))


@with_flags(hidden=True)
def config(**_: Any) -> None:
    """Print the JSON schema of the settings."""
    from buildkite_connector.cli.config_schema import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))


@with_flags(hidden=True)
def health_check(
    ctx: typer.Context,
    endpoint: Annotated[Endpoint, typer.Option(help="What to ask for.")] = Endpoint.HEALTH,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds.")] = 5.0,
    **flags: Any,
) -> None:
    """Ask the health server of a running service; exit code 0 when it answers 200."""
    from buildkite_connector.cli.health_check import ask_health

    with _sentences():
        configuration = read_configuration(_merged(ctx, flags), os.environ)
        host, port = configuration.text("health-check-bind-address"), configuration.number("health-check-port")
    well, said = ask_health(host, port, endpoint.value, timeout)
    if not well:
        _fail(said, USAGE)
    typer.echo(said)


def completion(shell: Annotated[Shell, typer.Argument(help="For which shell.")]) -> None:
    """Print a script that completes this command's flags: source it in the shell."""
    os.environ[COMPLETE] = f"source_{shell.value}"
    from buildkite_connector.cli.app import app

    app(args=[], prog_name="buildkite-connector")


def _merged(ctx: typer.Context, flags: Mapping[str, object]) -> dict[str, object]:
    """The flags before the command's name and those behind it, which count more."""
    return {**(ctx.obj or {}), **given_flags(flags)}


def _run(given: Mapping[str, object], *, serving: bool | None) -> None:
    """`serving` None: as the configuration says."""
    # gRPC's own lines on standard error are no JSON, and may repeat what a server sends (the words of a GOAWAY).
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from buildkite_connector.cli.service_settings import is_serving

    with _sentences():
        configuration = read_configuration(given, os.environ)
        serves = serving or is_serving(configuration)
        _start_logs(configuration)
        network = process_network()
        code = _serve(given, configuration, network) if serves else _write(configuration, network)
    raise SystemExit(code)


def process_network() -> "Network":
    """The proxies and authorities of this process, read once; what counts in part or not at all is logged.

    Raises Failure.
    """
    from buildkite_connector.network import read_network

    network = read_network(os.environ)
    for sentence in network.warnings:
        logger.warning("the environment is not as it seems", extra={"detail": sentence})
    return network


def _serve(given: Mapping[str, object], configuration: Configuration, network: "Network") -> int:
    """Raises Failure and SettingError."""
    from buildkite_connector.c1 import parse_credentials
    from buildkite_connector.cli.collector import collector_variables
    from buildkite_connector.cli.service import run_service, telemetry_variables
    from buildkite_connector.cli.service_settings import service_settings
    from buildkite_connector.service.directory import open_directory

    environment = dict(os.environ)
    settings: ServiceSettings = service_settings(
        lambda: read_configuration(given, environment), configuration, environment
    )
    _warn(configuration, serving=True)
    # What is malformed is told before anything is asked for: Buildkite's answer may take a while.
    parse_credentials(settings.started_with.client_id, settings.started_with.client_secret)
    with open_directory(settings.directories, settings.identity(settings.started_with)) as directory:
        # The exporters read the process's own variables.
        os.environ.update(collector_variables(configuration, environment, directory))
        gc.freeze()  # what is loaded now stays: no collection need look at it
        variables = telemetry_variables(settings, os.environ)
        refused = asyncio.run(run_service(settings, network, directory, variables))
    if refused is not None:
        raise refused
    return 0


def _write(configuration: Configuration, network: "Network") -> int:
    """Raises Failure and SettingError."""
    from buildkite_connector.cli.one_shot import one_shot_settings, write_one_file

    settings = one_shot_settings(configuration)
    _warn(configuration, serving=False)
    gc.set_threshold(700, 10, 1_000_000)  # young garbage only: a full collection would stall the event loop
    return write_one_file(settings, network)


def _start_logs(configuration: Configuration) -> None:
    """Raises SettingError."""
    from buildkite_connector.cli.service_settings import log_settings

    logs = log_settings(configuration, terminal=sys.stderr.isatty())
    try:
        configure_logs(logs.form, logs.level, paths=logs.paths, debug_until=logs.debug_until)
    except OSError as error:
        raise SettingError(
            "--log-path", f"{error.filename or 'the file'} cannot be written: {error.strerror}"
        ) from None


def _warn(configuration: Configuration, *, serving: bool) -> None:
    """One line for each setting that does nothing here."""
    for note in configuration.notes:
        logger.warning("the configuration is not as it seems", extra={"detail": note})
    for setting, why in idle_settings(configuration, os.environ, serving=serving):
        logger.warning("a setting has no effect", extra={"setting": setting, "why": why})


@contextmanager
def _sentences() -> Iterator[None]:
    """A failure ends the command with its sentence and its code, never with a traceback."""
    from buildkite_connector.cli.exit_codes import exit_code

    try:
        yield
    except SettingError as error:
        _fail(str(error), USAGE)
    except Failure as failure:
        _fail(failure.message, exit_code(failure))
    except BaseExceptionGroup as group:
        failures, others = group.split(Failure)
        if failures is None or others is not None:
            raise
        first = _first(failures)
        _fail(first.message, exit_code(first))


def _first(group: BaseExceptionGroup[Failure]) -> Failure:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _fail(sentence: str, code: int) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(code) from None
