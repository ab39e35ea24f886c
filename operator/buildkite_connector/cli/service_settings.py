"""What service mode works with, made of the configuration: frozen values, each checked with a sentence."""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from buildkite_connector.buildkite import BuildkiteSettings, Timeouts
from buildkite_connector.c1 import C1Settings, parse_credentials
from buildkite_connector.c1.allowed_hosts import parse_patterns
from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE
from buildkite_connector.cli.configuration import Configuration, SettingError
from buildkite_connector.cli.flags import Flag
from buildkite_connector.cli.options import default_host_id
from buildkite_connector.cli.service_flags import BY_NAME
from buildkite_connector.kubernetes.schema.validation import SLUG_PATTERN
from buildkite_connector.model.directory import OrganizationSlug, Role
from buildkite_connector.model.duration import parse_duration
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.provisioning import Provisioning
from buildkite_connector.model.schedule import Interval
from buildkite_connector.model.scope import ResourceKind
from buildkite_connector.model.spec import ConnectorSpec, Credentials, repeats_credential
from buildkite_connector.model.untrusted_text import LONGEST_SECRET
from buildkite_connector.service.directory import Identity
from buildkite_connector.service.health import HealthAddress
from buildkite_connector.telemetry.logs import FORMATS, LEVELS, LogFormat, LogLevel
from buildkite_connector.telemetry.server import VARIABLE as HTTP_ADDRESS

HOST_ID = "BATON_HOST_ID"
DATA_DIRECTORY = "BUILDKITE_CONNECTOR_DATA_DIR"
LONGEST_HOST_ID = 256
SHORTEST_INTERVAL, LONGEST_INTERVAL = 300.0, 7 * 86400.0
_READ_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """`credentials` reads them anew and raises Failure; `started_with` are those of the start.

    `directories`: where snapshots and state may be kept, the best first.
    """

    buildkite: BuildkiteSettings
    c1: C1Settings
    spec: ConnectorSpec
    credentials: Callable[[], Credentials] = field(repr=False)
    started_with: Credentials
    directories: tuple[Path, ...]
    health: HealthAddress | None = None
    http_address: str = ""
    most_tasks: int = 3
    accept_shrink: str | None = None

    def identity(self, credentials: Credentials) -> Identity:
        return Identity(credentials.client_id, self.spec.host_id, self.spec.organization or "", self.buildkite.api_url)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`debug_until`: debug records only until then."""

    form: LogFormat
    level: LogLevel
    paths: tuple[str, ...]
    debug_until: datetime | None


def generation(settings: ServiceSettings) -> int:
    """What stands in for a resource's generation: another number for other settings or credentials.

    A snapshot of the last process answers a task only where this number is the same.
    """
    spec = replace(settings.spec, kinds=frozenset())
    kinds = sorted(settings.spec.kinds)
    digest = hashlib.sha256(repr((spec, kinds)).encode())
    digest.update(settings.started_with.fingerprint())
    return int.from_bytes(digest.digest()[:6]) + 1


def is_serving(configuration: Configuration) -> bool:
    """Whether a client ID is set. Raises SettingError when only one of ID and secret is."""
    client_id, secret = configuration.text("client-id"), configuration.text("client-secret")
    if bool(client_id) != bool(secret):
        missing = BY_NAME["client-secret" if client_id else "client-id"]
        raise SettingError(
            f"--{missing.name}", f"client ID and client secret belong together; set it, or {missing.variable}"
        )
    return bool(client_id)


def refuse_skipped_sync(configuration: Configuration) -> None:
    """Raises SettingError."""
    if configuration.switch("skip-full-sync"):
        raise SettingError(
            "--skip-full-sync",
            "it makes an empty snapshot, and C1 takes everybody who is not in one for gone; unset it",
        )


def service_settings(
    read: Callable[[], Configuration], configuration: Configuration, environment: Mapping[str, str]
) -> ServiceSettings:
    """`read` reads the configuration anew. Raises SettingError."""
    if not is_serving(configuration):
        raise SettingError(
            "--client-id", "service mode needs C1's client ID and client secret: BATON_CLIENT_ID, BATON_CLIENT_SECRET"
        )
    refuse_skipped_sync(configuration)
    health = configuration.switch("health-check") or None
    return ServiceSettings(
        buildkite=buildkite_settings(configuration),
        c1=_c1_settings(configuration, environment),
        spec=_spec(configuration, environment),
        credentials=lambda: _read_again(read),
        started_with=read_credentials(configuration),
        directories=_directories(configuration, environment),
        health=health
        and HealthAddress(configuration.text("health-check-bind-address"), configuration.number("health-check-port")),
        http_address=environment.get(HTTP_ADDRESS, "").strip(),
        most_tasks=configuration.number("task-concurrency"),
        accept_shrink=configuration.text("accept-shrink") or None,
    )


def log_settings(configuration: Configuration, *, terminal: bool) -> LogSettings:
    """Raises SettingError."""
    form = configuration.text("log-format") or ("console" if terminal else "json")
    level, until = configuration.text("log-level"), configuration.text("log-level-debug-expires-at")
    return LogSettings(
        FORMATS[form],
        LEVELS[level],
        configuration.items("log-path"),
        _moment(until) if until else None,
    )


def buildkite_settings(configuration: Configuration) -> BuildkiteSettings:
    """The timeout is of one request; the wait for the next bytes grows only where somebody set it.

    Raises SettingError.
    """
    seconds = float(configuration.number("http-timeout-seconds"))
    read = seconds if configuration.is_set("http-timeout-seconds") else _READ_SECONDS
    try:
        return BuildkiteSettings(
            api_url=configuration.text("buildkite-api-url"), timeouts=Timeouts(read=read, total=seconds)
        )
    except ValueError as error:
        raise SettingError("--buildkite-api-url", str(error)) from None


def read_credentials(configuration: Configuration) -> Credentials:
    """Raises SettingError."""
    values = {
        name: _credential(configuration, name)
        for name in ("client-id", "client-secret", "api-token", "write-api-token")
    }
    if not values["api-token"]:
        raise SettingError("--api-token", "Buildkite's API token is missing; set BATON_API_TOKEN")
    return Credentials(
        values["client-id"],
        values["client-secret"],
        values["api-token"],
        write_api_token=values["write-api-token"],
    )


def organization(configuration: Configuration) -> OrganizationSlug | None:
    """Raises SettingError."""
    slug = configuration.text("organization")
    if slug and re.fullmatch(SLUG_PATTERN, slug) is None:
        raise SettingError(
            "--organization", "it is not the slug of an organization: write the slug from its address, such as acme-inc"
        )
    if slug and repeats_credential(slug, read_credentials(configuration)):
        raise SettingError("--organization", "it repeats a credential: write the slug of the organization")
    return OrganizationSlug(slug) if slug else None


def kinds(configuration: Configuration) -> frozenset[ResourceKind]:
    """The resource types to sync; all where none is named."""
    return frozenset(ResourceKind(each) for each in configuration.items("sync-resource-types")) or frozenset(
        ResourceKind
    )


def duration(configuration: Configuration, name: str) -> float:
    """Seconds. Raises SettingError."""
    try:
        return parse_duration(configuration.text(name))
    except ValueError as error:
        raise SettingError(f"--{name}", str(error)) from None


def _c1_settings(configuration: Configuration, environment: Mapping[str, str]) -> C1Settings:
    """Whoever sets the client ID sets the process's variables too: its host is allowed where none are listed."""
    settings = C1Settings.from_environment(environment)
    if environment.get(ALLOWED_HOSTS_VARIABLE, "").strip():
        return settings
    try:
        endpoint = parse_credentials(configuration.text("client-id"), configuration.text("client-secret")).endpoint
        parse_patterns(str(endpoint))
    except (Failure, ValueError):  # the session says what is wrong
        return settings
    return replace(settings, allowed_hosts=str(endpoint))


def _spec(configuration: Configuration, environment: Mapping[str, str]) -> ConnectorSpec:
    interval = duration(configuration, "sync-interval")
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        raise SettingError("--sync-interval", "expected 5m to 168h")
    return ConnectorSpec(
        host_id=_host_id(environment),
        organization=organization(configuration),
        schedule=Interval(interval),
        kinds=kinds(configuration),
        sync_timeout=duration(configuration, "sync-timeout"),
        quota_percent=configuration.number("quota-percent"),
        max_snapshot_age=duration(configuration, "max-snapshot-age"),
        max_drop_percent=configuration.number("max-drop-percent"),
        provisioning=_provisioning(configuration),
    )


def _provisioning(configuration: Configuration) -> Provisioning:
    teams = configuration.items("protected-teams")
    for slug in teams:
        if re.fullmatch(SLUG_PATTERN, slug) is None:
            raise SettingError(
                "--protected-teams",
                "expected slugs of teams, with commas between: letters, digits, '-' and '_'",
            )
    return Provisioning(
        enabled=configuration.switch("provisioning") or False,
        roles=tuple(Role(each) for each in configuration.items("provisioning-roles")) or tuple(Role),
        protected_teams=tuple(teams),
    )


def _host_id(environment: Mapping[str, str]) -> str:
    host_id = environment.get(HOST_ID, "").strip() or default_host_id()
    if len(host_id) > LONGEST_HOST_ID:
        raise SettingError(HOST_ID, f"it has {len(host_id)} characters, and C1 takes {LONGEST_HOST_ID}")
    return host_id


def _credential(configuration: Configuration, name: str) -> str:
    text, flag = configuration.text(name), BY_NAME[name]
    if len(text) > LONGEST_SECRET:
        raise SettingError(
            _source(flag), f"it has more than {LONGEST_SECRET} characters, and no credential has: set the value alone"
        )
    if text and (not (text.isascii() and text.isprintable()) or " " in text):
        raise SettingError(
            _source(flag), "it has a space, line break or other character that no credential has: set the value alone"
        )
    return text


def _source(flag: Flag) -> str:
    return f"--{flag.name} ({flag.variable})"


def _read_again(read: Callable[[], Configuration]) -> Credentials:
    """A file that cannot be read now is no reason to stop working with what was read before."""
    try:
        configuration = read()
        is_serving(configuration)
        credentials = read_credentials(configuration)
    except SettingError as error:
        raise Failure(Reason.SECRET_KEY_INVALID, str(error)) from None
    if not credentials.client_id:
        raise Failure(
            Reason.SECRET_KEY_MISSING,
            "The configuration has no client ID any more: set BATON_CLIENT_ID and BATON_CLIENT_SECRET.",
            remedy=Remedy.CREDENTIALS,
        )
    return credentials


def _directories(configuration: Configuration, environment: Mapping[str, str]) -> tuple[Path, ...]:
    named = [configuration.text("c1z-temp-dir"), environment.get(DATA_DIRECTORY, "").strip()]
    bases = [Path(each) for each in named if each]
    try:
        bases.append(Path(tempfile.gettempdir()) / f"buildkite-connector-{os.geteuid()}")
    except FileNotFoundError:  # no temporary directory can be written
        if not bases:
            raise SettingError(
                "--c1z-temp-dir", "no temporary directory can be written: mount a volume and name it here or in TMPDIR"
            ) from None
    return tuple(bases)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SettingError("--log-level-debug-expires-at", "expected a time such as 2026-11-30T18:00:00Z")
    return moment
