"""Every flag and variable of the vendor's connector (SDK v0.25) and the few of this one's own, each declared once.

The command line, the variables, the YAML file (`settings`) and the JSON schema are made of this table.
`docs/migration.md` says what each does here; a test compares the two and `--help`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated, Any, TypeVar

import typer

from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.telemetry.logs import FORMATS, LEVELS

Value = str | int | bool | tuple[str, ...]
"""The value of a flag: text, number, switch or list."""
DEFAULT_API_URL = "https://api.buildkite.com/v2"
DEFAULT_EXCHANGE_URL = "https://buildkite.com/oauth/token"
DEFAULT_PORTAL_URL = "https://portal.buildkite.com"
"""As in `buildkite.settings`, whose libraries load slowly; a test compares them."""


class Effect(Enum):
    """What a flag does here. A flag without an effect is accepted and named in a warning."""

    ACTS = auto()
    SERVING = auto()
    """Acts in service mode."""
    ONE_FILE = auto()
    """Acts when one file is written."""
    NONE = auto()
    ACTION = auto()
    """Makes the vendor's connector do one thing instead of a sync. Rejected when one file is written."""
    REJECTED = auto()


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting. `least` and `most` bound a number; `choices` a text, or each item of a list."""

    name: str
    help: str
    default: Value | None = None
    kind: type[str | int | bool | tuple[str, ...]] = str
    effect: Effect = Effect.ACTS
    short: str = ""
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()
    hidden: bool = False
    own_variable: str = ""

    @property
    def variable(self) -> str:
        """The environment variable: the vendor's rule, or a name of this project's own."""
        return self.own_variable or f"BATON_{self.name.upper().replace('-', '_')}"

    @property
    def parameter(self) -> str:
        """The flag's name in Python."""
        return self.name.replace("-", "_")

    def default_value(self) -> Value:
        """The default, or an empty value of the flag's kind."""
        return self.kind() if self.default is None else self.default


def _own(name: str, *arguments: Any, **others: Any) -> Flag:
    variable = f"BUILDKITE_CONNECTOR_{name.upper().replace('-', '_')}"
    return Flag(name, *arguments, **{"own_variable": variable, **others})


def _idle(name: str, text: str, default: Value | None = None, kind: Any = str, **others: Any) -> Flag:
    return Flag(name, text, default, kind, Effect.NONE, **others)


VISIBLE = (
    Flag("client-id", "The C1 client ID. With it, the command serves C1; without it, the command writes one file."),
    Flag("client-secret", "The C1 client secret. Use the variable to keep it out of the process list."),
    Flag("api-token", "The Buildkite API token. Use the variable to keep it out of the process list."),
    Flag("organization", "The organization's slug. Required if the token can access several organizations."),
    Flag(
        "file",
        "The file to write the snapshot to, without a client ID.",
        "sync.c1z",
        effect=Effect.ONE_FILE,
        short="-f",
    ),
    Flag("log-level", "The lowest log level to write.", "info", choices=tuple(LEVELS)),
    Flag(
        "log-format",
        "The log format: json, or lines for people. On a terminal, the default is lines for people.",
        choices=tuple(FORMATS),
    ),
    Flag(
        "log-path",
        "Where to write logs: files, stderr or stdout, separated by commas. The default is stderr.",
        kind=tuple,
    ),
    Flag("log-level-debug-expires-at", "An RFC 3339 time. Until then debug records are written, afterwards info."),
    Flag("provisioning", "Grant and revoke memberships when C1 asks.", False, bool, Effect.SERVING, short="-p"),
    _idle("ticketing", "External ticketing.", False, bool),
    Flag(
        "skip-full-sync",
        "Rejected: C1 would treat everyone in its empty snapshot as deleted.",
        False,
        bool,
        Effect.REJECTED,
    ),
    _idle("workers", "Workers of a sync.", 0, int, least=-1),
    _idle("parallel-sync", "Sync with several workers.", False, bool),
    _idle("sync-resources", "Sync single resources.", kind=tuple),
    Flag(
        "sync-resource-types",
        "The resource types to sync: user, team, organization, pipeline, cluster, api_token. The default is user and"
        " team.",
        kind=tuple,
        choices=tuple(ResourceKind),
    ),
    Flag("skip-entitlements-and-grants", "Write resources only.", False, bool, Effect.ONE_FILE),
    _idle("external-resource-c1z", "Match identities from another file."),
    _idle("external-resource-entitlement-id-filter", "Match identities of one entitlement."),
    _idle("external-resource-traits", "Match identities of these traits.", kind=tuple),
    _idle("keep-previous-sync-c1z", "Keep the last upload.", False, bool),
    _idle("storage-engine", "Form of the snapshot file: sqlite.", choices=("sqlite", "pebble")),
    Flag("task-concurrency", "The maximum number of concurrent C1 tasks, in service mode.", 3, int, least=1, most=100),
    Flag("http-timeout-seconds", "The timeout of one request to Buildkite, in seconds.", 300, int, least=1, most=1800),
    Flag(
        "otel-collector-endpoint",
        "The OTLP collector for traces, over gRPC: host:port or a URL. OTEL_* variables take precedence.",
        effect=Effect.SERVING,
    ),
    Flag("health-check", "Serve /health, /ready and /live, in service mode.", False, bool),
    Flag("health-check-port", "The port of the health server.", 8081, int, least=0, most=65535),
    _idle("auth-method", "Which credentials to use."),
)

OWN = (
    _own(
        "buildkite-api-url",
        "The URL of Buildkite's REST API. Plain HTTP is allowed for loopback addresses only.",
        DEFAULT_API_URL,
        own_variable="BUILDKITE_API_URL",
    ),
    _own("sync-interval", "How often to sync without a task from C1, from 5m to 168h.", "1h"),
    _own(
        "max-snapshot-age",
        "When C1 asks for a sync, deliver the staged snapshot if it is younger than this. 0s: always sync first.",
        "10m",
    ),
    _own("sync-timeout", "The maximum duration of a sync.", "2h"),
    _own(
        "quota-percent",
        "The percentage of each Buildkite rate-limit window to use before waiting.",
        80,
        int,
        least=10,
        most=100,
    ),
    _own(
        "max-drop-percent",
        "Hold a snapshot that lost more than this percentage since the last delivery. 0: never.",
        50,
        int,
        least=0,
        most=100,
    ),
    _own(
        "provisioning-roles",
        "The roles that can be granted with --provisioning: member, maintainer. The default is both.",
        kind=tuple,
        choices=("member", "maintainer"),
    ),
    _own("protected-teams", "Slugs of teams that --provisioning never changes.", kind=tuple),
    Flag(
        "write-api-token",
        "A Buildkite API token that changes memberships. The default is the API token. Use the variable to hide it.",
    ),
    _own(
        "token-exchange-client-id",
        "The client ID of a token exchange app in Buildkite, in place of the API token. Requires --organization.",
        own_variable="BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID",
    ),
    _own(
        "token-exchange-private-key",
        "The private key of the token exchange app, in PEM format; \\n can stand for its line breaks. Use the variable"
        " to keep it out of the process list.",
        own_variable="BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY",
    ),
    _own(
        "token-exchange-subject",
        "The e-mail address or UUID of the person as whom the connector acts.",
        own_variable="BUILDKITE_TOKEN_EXCHANGE_SUBJECT",
    ),
    _own(
        "token-exchange-url",
        "Where tokens are exchanged. Plain HTTP is allowed for loopback addresses only.",
        DEFAULT_EXCHANGE_URL,
        own_variable="BUILDKITE_TOKEN_EXCHANGE_URL",
    ),
    _own(
        "portal-slug",
        "The slug of a Buildkite portal, which shows last logins and API tokens. Requires --portal-token.",
        own_variable="BUILDKITE_PORTAL_SLUG",
    ),
    _own(
        "portal-token",
        "The portal's long-lived service token. Use the variable to keep it out of the process list.",
        own_variable="BUILDKITE_PORTAL_TOKEN",
    ),
    _own(
        "portal-url",
        "The URL of Buildkite's portals. Plain HTTP is allowed for loopback addresses only.",
        DEFAULT_PORTAL_URL,
        own_variable="BUILDKITE_PORTAL_URL",
    ),
    _own("accept-shrink", "The ID of a held sync, as in its log line: release its snapshot."),
    _own("c1-app-id", "The ID of the app in C1. With it, C1's state of the connector is read.", effect=Effect.SERVING),
    _own("c1-connector-id", "The ID of the connector in C1. Required with --c1-app-id.", effect=Effect.SERVING),
    _own(
        "c1-force-sync",
        "Make C1 sync after each sync. --c1-force-sync=false: only read C1's state.",
        True,
        bool,
        effect=Effect.SERVING,
    ),
    _own(
        "c1-client-id",
        "The client ID for C1's REST API, with --c1-app-id: of a service principal or a personal API key.",
        own_variable="C1_CLIENT_ID",
        effect=Effect.SERVING,
    ),
    _own(
        "c1-client-secret",
        "The client secret for C1's REST API. Use the variable to keep it out of the process list.",
        own_variable="C1_CLIENT_SECRET",
        effect=Effect.SERVING,
    ),
    _own(
        "c1-workload-client-id",
        "The client ID of a trust in C1, in place of --c1-client-id: the token in BUILDKITE_CONNECTOR_C1_TOKEN_FILE is"
        " exchanged.",
        effect=Effect.SERVING,
    ),
)

TOKEN_EXCHANGE = ("token-exchange-client-id", "token-exchange-private-key", "token-exchange-subject")
"""The settings that take the place of the API token."""

_COLLECTOR = "otel-collector-endpoint-tls-"
_TEXT_ACTIONS = """grant-entitlement revoke-grant create-account-login delete-resource rotate-credentials event-feed
invoke-action list-resource-actions invoke-resource-action"""
_SWITCH_ACTIONS = """list-action-schemas diff-syncs compact-syncs create-ticket bulk-create-ticket get-ticket
list-ticket-schemas"""
_OF_ACTIONS = """grant-principal grant-principal-type create-account-email create-account-profile
create-account-resource-type delete-resource-type rotate-credentials-type event-feed-id event-feed-start-at
event-feed-cursor invoke-action-args invoke-action-resource-type list-action-schemas-resource-type
invoke-resource-action-resource-type invoke-resource-action-args base-sync-id applied-sync-id compact-output-path
ticket-id ticket-template-path bulk-ticket-template-path"""
_LISTS_OF_ACTIONS = "compact-file-paths compact-sync-ids"
_ACTION, _OF_ACTION = "An action of the vendor's connector.", "Belongs to an action of the vendor's connector."

HIDDEN = (
    Flag(
        "c1z-temp-dir",
        "The directory for snapshots and for the state between restarts. The default is the temporary directory.",
        hidden=True,
    ),
    Flag(
        "health-check-bind-address",
        "The address of the health server. Use 0.0.0.0 for the kubelet's probes.",
        "127.0.0.1",
        hidden=True,
    ),
    Flag(_COLLECTOR + "cert-path", "PEM file of the collector's CA.", hidden=True),
    Flag(_COLLECTOR + "cert", "The collector's CA as PEM, or as base64-encoded PEM.", hidden=True),
    Flag(_COLLECTOR + "insecure", "No TLS to the collector.", False, bool, hidden=True),
    Flag("otel-tracing-disabled", "No traces.", False, bool, hidden=True),
    _idle("otel-logging-disabled", "No logs to the collector.", False, bool, hidden=True),
    _idle("session-store-maximum-size", "Limit of the session store.", 15 * 1024 * 1024, int, least=0, hidden=True),
    _idle("skip-grants", "No grants.", False, bool, hidden=True),
    *(Flag(each, _ACTION, effect=Effect.ACTION, hidden=True) for each in _TEXT_ACTIONS.split()),
    *(Flag(each, _ACTION, kind=bool, effect=Effect.ACTION, hidden=True) for each in _SWITCH_ACTIONS.split()),
    *(_idle(each, _OF_ACTION, hidden=True) for each in _OF_ACTIONS.split()),
    *(_idle(each, _OF_ACTION, kind=tuple, hidden=True) for each in _LISTS_OF_ACTIONS.split()),
)
"""Flags that the vendor's connector accepts but does not show: settings, and actions with their parameters."""

FLAGS = (*VISIBLE, *OWN, *HIDDEN)
BY_NAME = {flag.name: flag for flag in FLAGS}


def flag_of_url(error: ValueError) -> str:
    """The flag of the URL that `BuildkiteSettings` refuses, whose sentence begins with the variable."""
    others = ("token-exchange-url", "portal-url")
    name = next((each for each in others if str(error).startswith(BY_NAME[each].variable)), "buildkite-api-url")
    return f"--{name}"


IDLE_VARIABLES = (
    "BATON_GET_TASKS",
    "BATON_DECODER_MAX_DECODED_SIZE_MB",
    "BATON_DECODER_MAX_MEMORY_MB",
    "BATON_KEEP_SYNC_COUNT",
    "BATON_SKIP_CLEANUP",
    "BATON_HTTP_CACHE_BACKEND",
    "BATON_HTTP_CACHE_TTL",
    "BATON_HTTP_CACHE_MAX_SIZE",
    "BATON_DISABLE_HTTP_CACHE",
    "BATON_DEBUG_PRINT_RESPONSE_BODY",
    "BATON_C1Z_FINALIZE_TIMEOUT",
)
"""Variables of the vendor's connector that have no effect here."""


# The JSON schema of the YAML file

_TYPES = {str: "string", int: "integer", bool: "boolean", tuple: "string"}


def config_schema() -> dict[str, Any]:
    """Draft 2020-12. `x-env` is the variable, `x-hidden` set where `--help` is silent."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "buildkite-connector",
        "type": "object",
        "properties": {flag.name: _property(flag) for flag in FLAGS},
        "anyOf": [{"required": ["api-token"]}, {"required": list(TOKEN_EXCHANGE)}],
        "dependentRequired": {
            "client-id": ["client-secret"],
            "client-secret": ["client-id"],
            "portal-slug": ["portal-token"],
            "portal-token": ["portal-slug"],
        },
    }


def _property(flag: Flag) -> dict[str, Any]:
    item = {"type": _TYPES[flag.kind], **({"enum": list(flag.choices)} if flag.choices else {})}
    schema: dict[str, Any] = {"type": "array", "items": item} if flag.kind is tuple else item
    bounds = {"minimum": flag.least, "maximum": flag.most, "default": flag.default}
    schema |= {name: value for name, value in bounds.items() if value is not None}
    hidden = {"x-hidden": True} if flag.hidden else {}
    return {**schema, "description": flag.help, "x-env": flag.variable, **hidden}


# The command line

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NO = "no_"


def with_flags(*, hidden: bool = False) -> Callable[[_Command], _Command]:
    """Give a command every declared flag, as keywords for `given_flags`. `hidden`: none is in its help."""

    def add(command: _Command) -> _Command:
        own = [
            each
            for each in inspect.signature(command, eval_str=True).parameters.values()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        parameters = [*own, *(each for flag in FLAGS for each in _parameters(flag, hidden=hidden))]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return add


def given_flags(values: Mapping[str, object]) -> dict[str, object]:
    """The flags that were on the command line, by name."""
    given: dict[str, object] = {}
    for flag in FLAGS:
        value = False if values.get(_NO + flag.parameter) else values.get(flag.parameter)
        if value is not None and value != []:
            given[flag.name] = value
    return given


def from_go(arguments: Sequence[str]) -> list[str]:
    """`--flag=true` and `--flag=false`, as Go's flags of this kind are written, in typer's form."""
    return list(map(_from_go, arguments))


def _from_go(argument: str) -> str:
    name, equals, value = argument.removeprefix("--").partition("=")
    flag = BY_NAME.get(name)
    if not equals or not argument.startswith("--") or flag is None or flag.kind is not bool:
        return argument
    match value.lower():
        case "1" | "t" | "true":
            return f"--{name}"
        case "0" | "f" | "false":
            return f"--no-{name}"
        case _:
            return argument


def _parameters(flag: Flag, *, hidden: bool) -> Iterator[inspect.Parameter]:
    kind: Any = {bool: bool | None, tuple: list[str] | None}.get(flag.kind, str | None)
    option = typer.Option(
        f"--{flag.name}",
        *([flag.short] if flag.short else []),
        help=_help(flag),
        hidden=hidden or flag.hidden,
        show_default=False,
        metavar={str: "TEXT", int: "INTEGER", tuple: "LIST"}.get(flag.kind),
    )
    yield _keyword(flag.parameter, Annotated[kind, option])
    if flag.kind is bool:
        no = typer.Option(f"--no-{flag.name}", hidden=True, help=f"--{flag.name}=false.")
        yield _keyword(_NO + flag.parameter, Annotated[bool | None, no])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(flag: Flag) -> str:
    """In parentheses: typer takes square brackets for markup."""
    default = f", default {str(flag.default).lower() if flag.kind is bool else flag.default}" if flag.default else ""
    return f"{flag.help} ({flag.variable}{default})"
