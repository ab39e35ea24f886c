"""Every flag and variable of the vendor's connector (SDK v0.25), and the few of this one's own.

What each does here stands in `docs/migration.md`; a test holds the two and `--help` together. The actions and
other flags that the vendor hides are in `hidden_flags`.
"""

from buildkite_connector.cli.flags import Flag, Kind, Variable
from buildkite_connector.cli.hidden_flags import HIDDEN
from buildkite_connector.cli.options import DEFAULT_API_URL
from buildkite_connector.telemetry.logs import FORMATS, LEVELS

_OWN = "BUILDKITE_CONNECTOR_"
_FILE_ONLY = "it is for writing one file, and this is service mode"
_PAGES = "pages are read side by side as Buildkite's quota allows, whatever this says"
_EXTERNAL = "accounts are matched by C1, not by a second file"

VISIBLE = (
    Flag("client-id", Kind.TEXT, "C1's client ID; with it the command serves C1, without it writes one file."),
    Flag("client-secret", Kind.TEXT, "C1's client secret; the variable keeps it out of the process list."),
    Flag("api-token", Kind.TEXT, "Buildkite API token; the variable keeps it out of the process list."),
    Flag("organization", Kind.TEXT, "Slug; needed when the token reaches several organizations."),
    Flag(
        "file",
        Kind.TEXT,
        "Where the one snapshot is written, without a client ID.",
        default="sync.c1z",
        short="-f",
        idle_serving=_FILE_ONLY,
    ),
    Flag(
        "log-level",
        Kind.TEXT,
        "The least severe records to log.",
        default="info",
        choices=tuple(LEVELS),
    ),
    Flag(
        "log-format",
        Kind.TEXT,
        "json, or lines for people; lines on a terminal.",
        choices=tuple(FORMATS),
    ),
    Flag(
        "log-path", Kind.LIST, "Where to log: files, stderr or stdout; several by commas; stderr where none is named."
    ),
    Flag("log-level-debug-expires-at", Kind.TEXT, "RFC 3339 time: debug records only until then, info after."),
    Flag(
        "provisioning",
        Kind.SWITCH,
        "Grant and revoke memberships when C1 asks for it.",
        default=False,
        short="-p",
        idle_once="C1 asks for changes in service mode only",
    ),
    Flag(
        "ticketing",
        Kind.SWITCH,
        "External ticketing.",
        default=False,
        idle="Buildkite has no tickets",
    ),
    Flag(
        "skip-full-sync",
        Kind.SWITCH,
        "Refused: an empty snapshot would tell C1 that everybody is gone.",
        default=False,
    ),
    Flag("workers", Kind.NUMBER, "Workers of a sync.", default=0, least=-1, idle=_PAGES),
    Flag("parallel-sync", Kind.SWITCH, "Sync with several workers.", default=False, idle=_PAGES),
    Flag(
        "sync-resources",
        Kind.LIST,
        "Sync single resources.",
        idle="this connector always reads the whole organization, which costs Buildkite no more",
    ),
    Flag("sync-resource-types", Kind.LIST, "Sync only these types.", choices=("user", "team")),
    Flag(
        "skip-entitlements-and-grants",
        Kind.SWITCH,
        "Write resources only.",
        default=False,
        idle_serving="in service mode C1's tasks say whether they want entitlements and grants",
    ),
    Flag("external-resource-c1z", Kind.TEXT, "Match identities from another file.", idle=_EXTERNAL),
    Flag("external-resource-entitlement-id-filter", Kind.TEXT, "Match identities of one entitlement.", idle=_EXTERNAL),
    Flag("external-resource-traits", Kind.LIST, "Match identities of these traits.", idle=_EXTERNAL),
    Flag(
        "keep-previous-sync-c1z",
        Kind.SWITCH,
        "Keep the last upload.",
        default=False,
        idle="the newest snapshot is kept in any case",
    ),
    Flag(
        "storage-engine",
        Kind.TEXT,
        "Form of the snapshot file: sqlite.",
        choices=("sqlite", "pebble"),
        idle="this connector writes the sqlite form, which C1 takes as well",
        suits=("sqlite",),
    ),
    Flag("task-concurrency", Kind.NUMBER, "C1's tasks at once, in service mode.", default=3, least=1, most=100),
    Flag(
        "http-timeout-seconds",
        Kind.NUMBER,
        "How long one request to Buildkite may take.",
        default=300,
        least=1,
        most=1800,
    ),
    Flag(
        "otel-collector-endpoint",
        Kind.TEXT,
        "OTLP collector for traces, over gRPC: host:port, or a URL. OTEL_* variables go before it.",
        idle_once="traces are made in service mode only",
    ),
    Flag("health-check", Kind.SWITCH, "Serve /health, /ready and /live, in service mode.", default=False),
    Flag("health-check-port", Kind.NUMBER, "Port of the health server.", default=8081, least=0, most=65535),
    Flag(
        "auth-method",
        Kind.TEXT,
        "Which credentials to use.",
        idle="Buildkite has one kind of credentials, the API token",
    ),
)

OWN = (
    Flag(
        "buildkite-api-url",
        Kind.TEXT,
        "Buildkite's REST API; plain http only on loopback.",
        default=DEFAULT_API_URL,
        own_variable="BUILDKITE_API_URL",
    ),
    Flag(
        "sync-interval",
        Kind.TEXT,
        "How often a snapshot is taken, C1's tasks aside; 5m to 168h.",
        default="1h",
        own_variable=_OWN + "SYNC_INTERVAL",
    ),
    Flag(
        "max-snapshot-age",
        Kind.TEXT,
        "A snapshot younger than this answers C1's task at once; 0s: always sync afresh.",
        default="10m",
        own_variable=_OWN + "MAX_SNAPSHOT_AGE",
    ),
    Flag(
        "sync-timeout", Kind.TEXT, "Give one sync up after this long.", default="2h", own_variable=_OWN + "SYNC_TIMEOUT"
    ),
    Flag(
        "quota-percent",
        Kind.NUMBER,
        "How much of each of Buildkite's rate-limit windows may be used before waiting.",
        default=80,
        least=10,
        most=100,
        own_variable=_OWN + "QUOTA_PERCENT",
    ),
    Flag(
        "max-drop-percent",
        Kind.NUMBER,
        "Hold a snapshot that lost more than this since the last delivery; 0: never.",
        default=50,
        least=0,
        most=100,
        own_variable=_OWN + "MAX_DROP_PERCENT",
    ),
    Flag(
        "provisioning-roles",
        Kind.LIST,
        "Which roles may be granted, with --provisioning: member, maintainer; both where none is named.",
        choices=("member", "maintainer"),
        own_variable=_OWN + "PROVISIONING_ROLES",
    ),
    Flag(
        "protected-teams",
        Kind.LIST,
        "Slugs of teams that are never changed, with --provisioning.",
        own_variable=_OWN + "PROTECTED_TEAMS",
    ),
    Flag(
        "write-api-token",
        Kind.TEXT,
        "Buildkite API token that changes memberships; without it the API token does. The variable hides it.",
    ),
    Flag(
        "accept-shrink",
        Kind.TEXT,
        "ID of a held sync, as its log line names it: let its snapshot go.",
        own_variable=_OWN + "ACCEPT_SHRINK",
    ),
)

FLAGS = (*VISIBLE, *OWN, *HIDDEN)
BY_NAME = {flag.name: flag for flag in FLAGS}

_CACHE = "answers of Buildkite are not cached: each sync reads the organization as it is"
_DECODER = "this connector decodes no file of others"

VARIABLES = (
    Variable("BATON_HOST_ID", "what C1 shows; the host's name where it is not set"),
    Variable("BATON_C1_API_HOST", "host or host:port in place of the client ID's"),
    Variable("BATON_CONFIG_PATH", "the YAML file; must end in .yaml or .yml"),
    Variable(
        "BATON_GET_TASKS", "fetch tasks in batches", idle="tasks are fetched one by one and worked on side by side"
    ),
    Variable("BATON_DECODER_MAX_DECODED_SIZE_MB", "limit of decoded files", idle=_DECODER),
    Variable("BATON_DECODER_MAX_MEMORY_MB", "limit of the decoder's memory", idle=_DECODER),
    Variable("BATON_KEEP_SYNC_COUNT", "syncs kept in one file", idle="a file holds one sync"),
    Variable("BATON_SKIP_CLEANUP", "keep old syncs in the file", idle="a file holds one sync"),
    Variable("BATON_HTTP_CACHE_BACKEND", "cache of answers", idle=_CACHE),
    Variable("BATON_HTTP_CACHE_TTL", "cache of answers", idle=_CACHE),
    Variable("BATON_HTTP_CACHE_MAX_SIZE", "cache of answers", idle=_CACHE),
    Variable("BATON_DISABLE_HTTP_CACHE", "no cache of answers", idle=_CACHE),
    Variable(
        "BATON_DEBUG_PRINT_RESPONSE_BODY",
        "log whole answers",
        idle="answers hold people's names and addresses, and are never logged",
    ),
    Variable("BATON_C1Z_FINALIZE_TIMEOUT", "limit of writing the file", idle="writing takes seconds and has no limit"),
)
"""Variables that are no flags."""
