"""What can come up in a connector's random life: edits, Secrets, answers of Buildkite and C1, lengths of time."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from buildkite_connector.model.directory import (
    ALL_KINDS,
    DEFAULT_KINDS,
    Counts,
    Organization,
    OrganizationSlug,
    ResourceKind,
    SyncScope,
    TokenFacts,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials, Cron, Interval
from buildkite_connector.sync.preflight import Preflight
from fakes.c1_rest import C1_SPEC, busy, denied, not_found, rejected, unavailable

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PREFLIGHT = Preflight(
    TokenFacts("uuid", frozenset({"read_teams"}), datetime(2027, 1, 1, tzinfo=UTC)),
    Organization("0f7d", OrganizationSlug("acme-inc"), "Acme Inc"),
)

SECONDS = (0.5, 5.0, 20.0, 45.0, 100.0, 400.0, 1000.0, 4000.0, 22000.0)
JUMPS = (30.0, 90.0, 3600.0, 86400.0)
"""By how much the wall clock is set forward."""

USERS, TEAMS = frozenset({ResourceKind.USER}), frozenset({ResourceKind.TEAM})
EDITS: tuple[dict[str, object], ...] = (
    {"suspend": True},
    {"suspend": False},
    {"suspend": False},
    {"kinds": DEFAULT_KINDS},
    {"kinds": USERS},
    {"kinds": TEAMS},
    {"kinds": ALL_KINDS},
    {"kinds": DEFAULT_KINDS | {ResourceKind.PIPELINE}},
    {"kinds": USERS | {ResourceKind.ORGANIZATION, ResourceKind.CLUSTER}},
    {"kinds": TEAMS | {ResourceKind.CLUSTER}},
    {"schedule": Interval(300.0)},
    {"schedule": Interval(86400.0)},
    {"schedule": Cron("*/20 * * * *", "Europe/Berlin")},
    {"schedule": Cron("no cron")},
    {"max_snapshot_age": 0.0},
    {"max_snapshot_age": 1200.0},
    {"max_drop_percent": 0},
    {"max_drop_percent": 25},
    {"host_id": "another"},
    {"sync_timeout": 60.0},
    {"c1": C1_SPEC},
    {"c1": replace(C1_SPEC, force_sync=False)},
    {"c1": replace(C1_SPEC, connector_id="another")},
    {"c1": None},
)
SPEC_INVALID = Failure(Reason.SPEC_INVALID, "spec.schedule: give an interval or a cron.", remedy=Remedy.EDIT)

GOOD = Credentials("client", "secret", "token")
MISSING = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret of this name.", remedy=Remedy.CREDENTIALS)
UNREADABLE = Failure(Reason.KUBERNETES_UNAVAILABLE, "The Kubernetes API did not answer.", retry_after=20.0)
SECRETS: tuple[Credentials | Failure, ...] = (
    GOOD,
    GOOD,
    Credentials("client", "secret", "another token"),
    Credentials("client", "another secret", "token"),
    Credentials("another client", "secret", "token"),
    MISSING,
    UNREADABLE,
    Failure(Reason.SECRET_KEY_MISSING, "The Secret has no key of this name.", remedy=Remedy.CREDENTIALS),
)

TOKEN_REJECTED = Failure(Reason.TOKEN_REJECTED, "Buildkite rejected the token.", remedy=Remedy.CREDENTIALS)
NO_ORGANIZATION = Failure(Reason.ORGANIZATION_NOT_FOUND, "There is no such organization.", remedy=Remedy.EDIT)
UNREACHABLE = Failure(Reason.BUILDKITE_UNREACHABLE, "Buildkite did not answer.")
RATE_LIMITED = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite said 429.", retry_after=1800.0)
UNAVAILABLE = Failure(Reason.BUILDKITE_UNAVAILABLE, "Buildkite said 503.", retry_after=100_000.0)
INTERNAL = Failure(Reason.INTERNAL_ERROR, "Internal error.")
CHECK_FAILURES = (TOKEN_REJECTED, NO_ORGANIZATION, UNREACHABLE, RATE_LIMITED, UNAVAILABLE)
SYNC_FAILURES = (
    UNREACHABLE,
    UNREACHABLE,
    RATE_LIMITED,
    RATE_LIMITED,
    UNAVAILABLE,
    TOKEN_REJECTED,
    NO_ORGANIZATION,
    Failure(Reason.SYNC_TIMEOUT, "The sync took too long."),
    Failure(Reason.STORAGE_FAILED, "The disk is full."),
    INTERNAL,
)
C1_PASSING = (
    Failure(Reason.C1_UNREACHABLE, "C1 did not answer."),
    Failure(Reason.C1_UNAVAILABLE, "C1 said UNAVAILABLE.", retry_after=60.0),
)
C1_FINAL = (
    Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS),
    Failure(Reason.C1_REQUEST_REJECTED, "C1 refused the host.", remedy=Remedy.EDIT),
    INTERNAL,
)
UPLOAD_FAILURES = (
    Failure(Reason.UPLOAD_FAILED, "C1 refused the file."),
    Failure(Reason.C1_UNREACHABLE, "C1 did not answer."),
    Failure(Reason.SNAPSHOT_INVALID, "The file is damaged."),
    Failure(Reason.STORAGE_FAILED, "The file cannot be read."),
)

REST_FAILURES = (denied(), not_found(), unavailable(), busy(), rejected(), INTERNAL)

COUNTS = (
    Counts(100, 10, 300, 100, 50, 80, 4, 12, 6),
    Counts(100, 10, 300, 100, 50, 80, 4, 12, 6),
    Counts(101, 10, 310, 101, 51, 85, 4, 12, 6),
    Counts(70, 8, 200, 70, 40, 60, 3, 9, 5),
    Counts(30, 10, 90, 30, 50, 80, 4, 12, 6),
    Counts(100, 2, 300, 100, 50, 20, 4, 12, 6),
    Counts(100, 10, 300, 100, 20, 80, 1, 12, 6),
    Counts(100, 10, 300, 10, 50, 80, 4, 3, 1),
    Counts(0, 0, 0, 0, 0, 0, 0, 0, 0),
)
SCOPES = (
    SyncScope(),
    SyncScope(),
    SyncScope(USERS),
    SyncScope(TEAMS),
    SyncScope(grants=False),
    SyncScope(entitlements=False, grants=False),
    SyncScope(ALL_KINDS),
    SyncScope(ALL_KINDS, expanded=True),
    SyncScope(ALL_KINDS, grants=False),
    SyncScope(USERS | {ResourceKind.CLUSTER}, expanded=True),
)

T = TypeVar("T")


def pick(options: tuple[T, ...], number: int) -> T:
    return options[number % len(options)]
