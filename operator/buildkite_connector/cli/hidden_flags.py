"""The flags that the vendor's connector takes without showing them: accepted here, and as hidden."""

from buildkite_connector.cli.flags import Flag, Kind

_TICKETS = "Buildkite has no tickets"
_ONE_FILE = "a file holds one sync, so that there is nothing to compact or compare"
_LOGS = "logs are never sent to a collector; they are on standard error or where --log-path says"


def _action(name: str, kind: Kind = Kind.TEXT) -> Flag:
    return Flag(name, kind, "An action of the vendor's connector.", hidden=True, action=True)


def _part(name: str, idle: str, kind: Kind = Kind.TEXT) -> Flag:
    return Flag(name, kind, "Belongs to an action of the vendor's connector.", hidden=True, idle=idle)


_DETAIL = "it belongs to an action that this connector does not take from the command line"

_SETTINGS = (
    Flag(
        "c1z-temp-dir",
        Kind.TEXT,
        "Where snapshots and the state between restarts are kept; the temporary directory where nothing is named.",
        hidden=True,
    ),
    Flag(
        "health-check-bind-address",
        Kind.TEXT,
        "Address of the health server; 0.0.0.0 for a kubelet's probes.",
        default="127.0.0.1",
        hidden=True,
    ),
    Flag("otel-collector-endpoint-tls-cert-path", Kind.TEXT, "PEM file of the collector's CA.", hidden=True),
    Flag(
        "otel-collector-endpoint-tls-cert",
        Kind.TEXT,
        "The collector's CA in PEM or in base64 of it.",
        hidden=True,
    ),
    Flag("otel-collector-endpoint-tls-insecure", Kind.SWITCH, "No TLS to the collector.", default=False, hidden=True),
    Flag("otel-tracing-disabled", Kind.SWITCH, "No traces.", default=False, hidden=True),
    Flag("otel-logging-disabled", Kind.SWITCH, "No logs to the collector.", default=False, hidden=True, idle=_LOGS),
    Flag(
        "session-store-maximum-size",
        Kind.NUMBER,
        "Limit of the session store.",
        default=15 * 1024 * 1024,
        least=0,
        hidden=True,
        idle="there is no session store",
    ),
    Flag(
        "skip-grants",
        Kind.SWITCH,
        "No grants.",
        default=False,
        hidden=True,
        idle="it belongs to --sync-resources; C1's tasks say whether they want grants",
    ),
)
_GRANTS = (
    _action("grant-entitlement"),
    _part("grant-principal", _DETAIL),
    _part("grant-principal-type", _DETAIL),
    _action("revoke-grant"),
)
_ACCOUNTS = (
    _action("create-account-login"),
    _part("create-account-email", _DETAIL),
    _part("create-account-profile", _DETAIL),
    _part("create-account-resource-type", _DETAIL),
    _action("delete-resource"),
    _part("delete-resource-type", _DETAIL),
    _action("rotate-credentials"),
    _part("rotate-credentials-type", _DETAIL),
)
_EVENTS = (
    _action("event-feed"),
    _part("event-feed-id", _DETAIL),
    _part("event-feed-start-at", _DETAIL),
    _part("event-feed-cursor", _DETAIL),
)
_ACTIONS = (
    _action("invoke-action"),
    _part("invoke-action-args", _DETAIL),
    _part("invoke-action-resource-type", _DETAIL),
    _action("list-action-schemas", Kind.SWITCH),
    _part("list-action-schemas-resource-type", _DETAIL),
    _action("list-resource-actions"),
    _action("invoke-resource-action"),
    _part("invoke-resource-action-resource-type", _DETAIL),
    _part("invoke-resource-action-args", _DETAIL),
)
_FILES = (
    _action("diff-syncs", Kind.SWITCH),
    _part("base-sync-id", _ONE_FILE),
    _part("applied-sync-id", _ONE_FILE),
    _action("compact-syncs", Kind.SWITCH),
    _part("compact-file-paths", _ONE_FILE, Kind.LIST),
    _part("compact-sync-ids", _ONE_FILE, Kind.LIST),
    _part("compact-output-path", _ONE_FILE),
)
_TICKETING = (
    _action("create-ticket", Kind.SWITCH),
    _action("bulk-create-ticket", Kind.SWITCH),
    _action("get-ticket", Kind.SWITCH),
    _action("list-ticket-schemas", Kind.SWITCH),
    _part("ticket-id", _TICKETS),
    _part("ticket-template-path", _TICKETS),
    _part("bulk-ticket-template-path", _TICKETS),
)

HIDDEN = (*_SETTINGS, *_GRANTS, *_ACCOUNTS, *_EVENTS, *_ACTIONS, *_FILES, *_TICKETING)
