"""The values that service mode works with, read from the settings and checked.

Settings that a resource has too are turned into its spec and checked by the resource's own model.
"""

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from buildkite_connector.buildkite import BuildkiteSettings, Timeouts
from buildkite_connector.c1 import C1Settings, parse_credentials
from buildkite_connector.c1.hosts import parse_endpoint, parse_patterns
from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE
from buildkite_connector.cli.flags import BY_NAME, TOKEN_EXCHANGE, flag_of_url
from buildkite_connector.cli.portal import check_portal_settings
from buildkite_connector.cli.settings import SettingError, Settings, default_host_id, is_serving
from buildkite_connector.kubernetes.resource import spec_error, to_spec
from buildkite_connector.kubernetes.schema.spec import LONGEST_HOST_ID, SpecModel
from buildkite_connector.model.credential_forms import Credential, mistake
from buildkite_connector.model.directory import DEFAULT_KINDS, Role
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_SECRET
from buildkite_connector.model.spec import (
    C1Access,
    ConnectorSpec,
    Credentials,
    TokenExchange,
    repeats_credential,
)
from buildkite_connector.process.files import write_own
from buildkite_connector.service.data_directory import Identity
from buildkite_connector.service.health import HealthAddress
from buildkite_connector.telemetry.logs import FORMATS, LEVELS, configure_logs
from buildkite_connector.telemetry.server import VARIABLE as HTTP_ADDRESS

HOST_ID = "BATON_HOST_ID"
DATA_DIRECTORY = "BUILDKITE_CONNECTOR_DATA_DIR"
_C1_IDS = ("c1-app-id", "c1-connector-id")
_READ_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """`credentials` reads them again and raises Failure; `started_with` are the credentials at the start.

    `c1_access` reads the access to C1's REST API and raises Failure; None without the IDs of app and connector.
    `directories`: where snapshots and state may be kept, the best first.
    """

    buildkite: BuildkiteSettings
    c1: C1Settings
    spec: ConnectorSpec
    credentials: Callable[[], Credentials] = field(repr=False)
    started_with: Credentials
    directories: tuple[Path, ...]
    c1_access: Callable[[], C1Access] | None = field(default=None, repr=False)
    health: HealthAddress | None = None
    http_address: str = ""
    most_tasks: int = 3
    accept_shrink: str | None = None

    def identity(self, credentials: Credentials) -> Identity:
        return Identity(credentials.client_id, self.spec.host_id, self.spec.organization or "", self.buildkite.api_url)

    def generation(self) -> int:
        """Stands in for a resource's generation: differs when settings or credentials differ.

        A snapshot of the previous process answers a task only if this number is the same.
        """
        spec, kinds = replace(self.spec, kinds=frozenset()), sorted(self.spec.kinds)
        digest = hashlib.sha256(repr((spec, kinds)).encode())
        digest.update(self.started_with.fingerprint())
        return int.from_bytes(digest.digest()[:6]) + 1


def service_settings(
    read: Callable[[], Settings], settings: Settings, environment: Mapping[str, str]
) -> ServiceSettings:
    """`read` reads the settings again. Raises SettingError."""
    if not is_serving(settings):
        raise SettingError(
            "--client-id", "service mode needs C1's client ID and client secret: BATON_CLIENT_ID, BATON_CLIENT_SECRET"
        )
    address = HealthAddress(settings.text("health-check-bind-address"), settings.number("health-check-port"))
    c1 = _c1_part(settings)
    return ServiceSettings(
        buildkite=buildkite_settings(settings),
        c1=_c1_settings(settings, environment),
        spec=connector_spec(settings, environment, c1),
        credentials=lambda: _read_again(read),
        started_with=read_credentials(settings),
        directories=_directories(settings, environment),
        c1_access=None if c1 is None else lambda: _read_access_again(read),
        health=address if settings.switch("health-check") else None,
        http_address=environment.get(HTTP_ADDRESS, "").strip(),
        most_tasks=settings.number("task-concurrency"),
        accept_shrink=settings.text("accept-shrink") or None,
    )


def start_logs(settings: Settings, *, terminal: bool) -> None:
    """Raises SettingError."""
    form = settings.text("log-format") or ("console" if terminal else "json")
    level, until = settings.text("log-level"), settings.text("log-level-debug-expires-at")
    debug_until = _moment(until) if until else None
    try:
        configure_logs(FORMATS[form], LEVELS[level], paths=settings.items("log-path"), debug_until=debug_until)
    except OSError as error:
        raise SettingError(
            "--log-path", f"{error.filename or 'the file'} cannot be written: {error.strerror}"
        ) from None


def buildkite_settings(settings: Settings) -> BuildkiteSettings:
    """The timeout is for one request; the time to wait for the next bytes changes only where the flag is set.

    Raises SettingError.
    """
    seconds = float(settings.number("http-timeout-seconds"))
    read = seconds if settings.is_set("http-timeout-seconds") else _READ_SECONDS
    try:
        return BuildkiteSettings(
            api_url=settings.text("buildkite-api-url"),
            exchange_url=settings.text("token-exchange-url"),
            portal_url=settings.text("portal-url"),
            timeouts=Timeouts(read=read, total=seconds),
        )
    except ValueError as error:
        raise SettingError(flag_of_url(error), str(error)) from None


_FLAGS = {
    "spec.organization": "--organization",
    "spec.schedule.interval": "--sync-interval",
    "spec.sync.timeout": "--sync-timeout",
    "spec.delivery.maxSnapshotAge": "--max-snapshot-age",
    "spec.provisioning.protectedTeams": "--protected-teams",
    "spec.portal.slug": "--portal-slug",
    "spec.c1.appID": "--c1-app-id",
    "spec.c1.connectorID": "--c1-connector-id",
    "spec.c1.auth.workloadIdentity.clientID": "--c1-workload-client-id",
}
"""Flags by the field that a sentence begins with; `flags` has the limits of the other fields."""


def connector_spec(
    settings: Settings, environment: Mapping[str, str], c1: dict[str, object] | None = None
) -> ConnectorSpec:
    """The spec of a resource with these settings. The model checks all but the host ID, since C1 accepts more of them.

    `c1`: the part of this name. Raises SettingError.
    """
    host_id = environment.get(HOST_ID, "").strip() or default_host_id()
    if len(host_id) > LONGEST_HOST_ID:
        raise SettingError(HOST_ID, f"it has {len(host_id)} characters; C1 allows at most {LONGEST_HOST_ID}")
    credentials = read_credentials(settings)
    organization, portal = settings.text("organization") or None, settings.text("portal-slug")
    spec = {
        "organization": organization,
        "credentialsSecretRef": {"name": "settings"},
        "schedule": {"interval": settings.text("sync-interval")},
        "sync": {
            "resourceTypes": list(dict.fromkeys(settings.items("sync-resource-types"))) or list(DEFAULT_KINDS),
            "timeout": settings.text("sync-timeout"),
            "quotaPercent": settings.number("quota-percent"),
        },
        "delivery": {
            "maxSnapshotAge": settings.text("max-snapshot-age"),
            "shrinkGuard": {"maxDropPercent": settings.number("max-drop-percent")},
        },
        "provisioning": {
            "enabled": settings.switch("provisioning"),
            "roles": list(dict.fromkeys(settings.items("provisioning-roles"))) or list(Role),
            "protectedTeams": list(settings.items("protected-teams")),
        },
        "portal": {"slug": portal} if portal else None,
        "c1": c1,
    }
    try:
        checked = to_spec(SpecModel.model_validate(spec), host_id)
    except ValidationError as error:
        sentence = spec_error(error)
        path = next((each for each in _FLAGS if sentence.startswith(each)), "spec")
        raise SettingError(_FLAGS.get(path, "settings"), sentence.removeprefix(path).lstrip(".0123456789: ")) from None
    if organization and repeats_credential(organization, credentials):
        raise SettingError("--organization", "it repeats a credential: write the slug of the organization")
    return checked


def read_credentials(settings: Settings) -> Credentials:
    """Raises SettingError."""
    client_id, client_secret, api_token, write_api_token = (
        _credential(settings, name) for name in ("client-id", "client-secret", "api-token", "write-api-token")
    )
    exchange = read_token_exchange(settings)
    if not api_token and exchange is None:
        raise SettingError("--api-token", "Buildkite's API token is missing; set BATON_API_TOKEN")
    credentials = Credentials(
        client_id,
        client_secret,
        api_token,
        write_api_token=write_api_token,
        token_exchange=exchange,
        portal_token=settings.text("portal-token"),
    )
    check_portal_settings(settings.text("portal-slug"), credentials, settings.items("sync-resource-types"))
    return credentials


def read_token_exchange(settings: Settings) -> TokenExchange | None:
    """None where none of it is set. Where the API token is set, which is used then, any value will do.

    Raises SettingError.
    """
    texts = [settings.text(name) for name in TOKEN_EXCHANGE]
    if not any(texts):
        return None
    exchange = TokenExchange(*texts)
    if not settings.text("api-token"):
        check_token_exchange(exchange, settings.text("organization"))
    return exchange


def check_token_exchange(exchange: TokenExchange, organization: str) -> None:
    """Raises SettingError where a part is missing, or has a form that cannot be right."""
    parts = (
        (exchange.client_id, Credential.EXCHANGE_CLIENT_ID),
        (exchange.private_key, Credential.EXCHANGE_KEY),
        (exchange.subject, Credential.EXCHANGE_SUBJECT),
    )
    for name, (text, kind) in zip(TOKEN_EXCHANGE, parts, strict=True):
        source = f"--{name} ({BY_NAME[name].variable})"
        if not text:
            raise SettingError(source, "it is missing; client ID, private key and subject belong together")
        if len(text) > LONGEST_SECRET:
            raise SettingError(source, f"it has more than {LONGEST_SECRET} characters: set only the value")
        if (wrong := mistake(text, kind)) is not None:
            raise SettingError(source, f"it {wrong}")
    if not organization:
        raise SettingError(
            "--organization (BATON_ORGANIZATION)", "it is missing; token exchange issues tokens for one organization"
        )


def _credential(settings: Settings, name: str) -> str:
    text, source = settings.text(name), f"--{name} ({BY_NAME[name].variable})"
    if len(text) > LONGEST_SECRET:
        raise SettingError(
            source, f"it has more than {LONGEST_SECRET} characters, more than any credential: set only the value"
        )
    if text and (not (text.isascii() and text.isprintable()) or " " in text):
        raise SettingError(
            source, "it has a space, line break or other character that is not part of a credential: set only the value"
        )
    return text


def _c1_part(settings: Settings) -> dict[str, object] | None:
    """The spec's part of the connector in C1; None where neither its IDs nor an access are set. Raises SettingError."""
    access = read_c1_access(settings)
    if not (access or any(map(settings.text, _C1_IDS))):
        return None
    app_id, connector_id = read_c1_ids(settings)
    if access is None:
        raise SettingError(
            "--c1-app-id",
            "it needs a client of C1's REST API: set C1_CLIENT_ID and C1_CLIENT_SECRET, or --c1-workload-client-id",
        )
    workload = {"workloadIdentity": {"clientID": access.client_id}}
    return {
        "appID": app_id,
        "connectorID": connector_id,
        "forceSync": settings.switch("c1-force-sync"),
        "auth": {"secretRef": {"name": "settings"}} if access.client_secret else workload,
    }


def read_c1_ids(settings: Settings) -> tuple[str, str]:
    """The IDs of the app and the connector. Raises SettingError where one is not set."""
    for name in _C1_IDS:
        if not settings.text(name):
            raise SettingError(
                f"--{name}",
                "C1's REST API needs the app ID, the connector ID and a client; set this one, or"
                f" {BY_NAME[name].variable}",
            )
    app_id, connector_id = map(settings.text, _C1_IDS)
    return app_id, connector_id


def read_c1_access(settings: Settings) -> C1Access | None:
    """Who asks C1's REST API; None where it is not set. Raises SettingError."""
    client_id, secret, workload = (
        _credential(settings, name) for name in ("c1-client-id", "c1-client-secret", "c1-workload-client-id")
    )
    if workload and (client_id or secret):
        raise SettingError(
            "--c1-workload-client-id", "C1_CLIENT_ID or C1_CLIENT_SECRET is set too; set one kind of client only"
        )
    if bool(client_id) != bool(secret):
        missing = BY_NAME["c1-client-secret" if client_id else "c1-client-id"]
        raise SettingError(
            f"--{missing.name}",
            f"the client ID and the client secret of C1's REST API must both be set; set it, or {missing.variable}",
        )
    return C1Access(client_id or workload, secret) if client_id or workload else None


def _read_access_again(read: Callable[[], Settings]) -> C1Access:
    """Raises Failure."""
    try:
        access = read_c1_access(read())
    except SettingError as error:
        raise Failure(Reason.SECRET_KEY_INVALID, str(error)) from None
    if access is None:
        raise Failure(
            Reason.SECRET_KEY_MISSING,
            "The configuration no longer has a client of C1's REST API: set C1_CLIENT_ID and C1_CLIENT_SECRET.",
            remedy=Remedy.CREDENTIALS,
        )
    return access


def _read_again(read: Callable[[], Settings]) -> Credentials:
    """Raises Failure. The connector goes on with the old credentials when the file cannot be read."""
    try:
        settings = read()
        is_serving(settings)
        credentials = read_credentials(settings)
    except SettingError as error:
        raise Failure(Reason.SECRET_KEY_INVALID, str(error)) from None
    if not credentials.client_id:
        raise Failure(
            Reason.SECRET_KEY_MISSING,
            "The configuration no longer has a client ID: set BATON_CLIENT_ID and BATON_CLIENT_SECRET.",
            remedy=Remedy.CREDENTIALS,
        )
    return credentials


def _c1_settings(settings: Settings, environment: Mapping[str, str]) -> C1Settings:
    """Without a list of hosts, allow the client IDs' own: the IDs are set by the same people as the variables."""
    c1 = C1Settings.from_environment(environment)
    if environment.get(ALLOWED_HOSTS_VARIABLE, "").strip():
        return c1
    try:
        endpoint = parse_credentials(settings.text("client-id"), settings.text("client-secret")).endpoint
        parse_patterns(str(endpoint))
    except (Failure, ValueError):  # the session says what is wrong
        return c1
    hosts = [str(endpoint)]
    for name in ("c1-client-id", "c1-workload-client-id"):
        with suppress(ValueError):  # the client of the REST API says what is wrong
            host = str(parse_endpoint(settings.text(name).partition("@")[2].partition("/")[0]))
            parse_patterns(host)
            hosts.append(host)
    return replace(c1, allowed_hosts=",".join(dict.fromkeys(hosts)))


def _directories(settings: Settings, environment: Mapping[str, str]) -> tuple[Path, ...]:
    named = [settings.text("c1z-temp-dir"), environment.get(DATA_DIRECTORY, "").strip()]
    bases = [Path(each) for each in named if each]
    try:
        bases.append(Path(tempfile.gettempdir()) / f"buildkite-connector-{os.geteuid()}")
    except FileNotFoundError:  # no temporary directory can be written
        if not bases:
            raise SettingError(
                "--c1z-temp-dir", "no temporary directory is writable: mount a volume and name it here or in TMPDIR"
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


# OpenTelemetry's variables

_TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
_BEGIN = b"-----BEGIN"


def telemetry_variables(settings: ServiceSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """OpenTelemetry's variables; without a server for `/metrics` its exporter is off."""
    exported = ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    counted = bool(settings.http_address) or any(environment.get(each) for each in exported)
    return dict(environment) if counted else {**environment, "OTEL_METRICS_EXPORTER": "none"}


def collector_variables(settings: Settings, environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The vendor's flags of the OTLP collector, to be added to the environment, whose own variables go before them.

    The vendor's connector sends traces and logs over gRPC; this one sends traces. A certificate that was given as text
    is put into `directory`. Raises SettingError.
    """
    if settings.switch("otel-tracing-disabled"):
        return {"OTEL_TRACES_EXPORTER": "none"}
    endpoint = settings.text("otel-collector-endpoint")
    if not endpoint or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environment.get(_TRACES + "ENDPOINT"):
        return {}
    insecure = settings.switch("otel-collector-endpoint-tls-insecure")
    scheme = "http" if insecure else "https"
    certificate = None if insecure else _certificate(settings, directory)
    variables = {
        _TRACES + "ENDPOINT": endpoint if "://" in endpoint else f"{scheme}://{endpoint}",
        _TRACES + "PROTOCOL": "grpc",
        **({_TRACES + "INSECURE": "true"} if insecure else {}),
        **({_TRACES + "CERTIFICATE": str(certificate)} if certificate is not None else {}),
    }
    return {name: value for name, value in variables.items() if not environment.get(name)}


def _certificate(settings: Settings, directory: Path) -> Path | None:
    if path := settings.text("otel-collector-endpoint-tls-cert-path"):
        return Path(path)
    text = settings.text("otel-collector-endpoint-tls-cert").encode()
    if not text:
        return None
    if not text.startswith(_BEGIN):
        try:
            text = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            text = b""
    if not text.startswith(_BEGIN):
        raise SettingError("--otel-collector-endpoint-tls-cert", "expected a certificate in PEM, or base64 of it")
    file = directory / "collector-ca.pem"
    write_own(file, text)
    return file
