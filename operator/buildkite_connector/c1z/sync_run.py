"""The row of a snapshot that describes its sync: the id, the times, the scope and the counts.

Columns about the Go SDK's own machinery stay empty: `ingest_invariant_*` (its verifier did not run here) and the
resume state and timings in `sync_token`. What holds for every finished sync of ours is written as the reference
writes it: nothing left to do (`version` alone in the token), what was skipped on request, whether grants were expanded
(`needs_expansion`), that what expands is in a column (`grants_backfilled`, and `supports_diff` where grants were in
scope).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from buildkite_connector.model.directory import (
    AccessLevel,
    Counts,
    OrganizationRole,
    ResourceKind,
    Role,
    SyncScope,
)
from buildkite_connector.model.snapshot import SyncID

FULL, RESOURCES_ONLY = "full", "resources_only"

_EPOCH = 1_400_000_000
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 27


@dataclass(frozen=True, slots=True)
class StoredSync:
    """A finished sync. Times are aware; `counts` are the rows in the file but for those that others expand to."""

    sync_id: SyncID
    started_at: datetime
    ended_at: datetime
    scope: SyncScope
    counts: Counts

    @property
    def resources(self) -> dict[ResourceKind, int]:
        """How many of each kind that is in scope."""
        found = {
            ResourceKind.USER: self.counts.accounts,
            ResourceKind.TEAM: self.counts.teams,
            ResourceKind.ORGANIZATION: 1,
            ResourceKind.PIPELINE: self.counts.pipelines or 0,
            ResourceKind.CLUSTER: self.counts.clusters or 0,
            ResourceKind.API_TOKEN: self.counts.api_tokens or 0,
        }
        return {kind: found[kind] for kind in resource_kinds(self.scope)}

    @property
    def entitlements(self) -> dict[ResourceKind, int]:
        """How many on resources of each kind that has any."""
        if not self.scope.entitlements:
            return {}
        return _positive({kind: count * _OFFERS[kind] for kind, count in self.resources.items()})

    @property
    def grants(self) -> dict[ResourceKind, int]:
        """How many on resources of each kind that has any, those that others expand to left out."""
        return _positive(
            {
                ResourceKind.TEAM: self.counts.memberships,
                ResourceKind.ORGANIZATION: self.counts.organization_roles or 0,
                ResourceKind.PIPELINE: self.counts.pipeline_access or 0,
                ResourceKind.CLUSTER: self.counts.all_cluster_maintainers or 0,
            }
        )


_OFFERS = {
    ResourceKind.USER: 0,
    ResourceKind.TEAM: len(Role),
    ResourceKind.ORGANIZATION: len(OrganizationRole),
    ResourceKind.PIPELINE: len(AccessLevel),
    ResourceKind.CLUSTER: 1,
    ResourceKind.API_TOKEN: 0,
}
"""Entitlements on one resource."""


def _positive(counts: Mapping[ResourceKind, int]) -> dict[ResourceKind, int]:
    return {kind: count for kind, count in counts.items() if count}


def new_sync_id(now: datetime, randomness: Callable[[int], bytes]) -> SyncID:
    """A sync id of `now` (aware); `randomness` returns that many random bytes, as `secrets.token_bytes` does.

    C1 gives and expects KSUIDs: 27 base-62 characters that sort by time. They encode 20 bytes, big-endian: seconds
    since 2014-05-13T16:53:20Z in 4, then 16 random ones. A clock beyond what 4 bytes hold gives the nearest time.
    """
    seconds = min(max(int(now.timestamp()) - _EPOCH, 0), 2**32 - 1)
    number = int.from_bytes(seconds.to_bytes(4, "big") + randomness(16), "big")
    digits = ""
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return SyncID(digits)


def resource_kinds(scope: SyncScope) -> list[ResourceKind]:
    """The resource types of a file, in the reference's order."""
    return [kind for kind in ResourceKind if kind in scope.kinds]


def to_row(run: StoredSync) -> dict[str, str | int]:
    """The row's columns; the others have their defaults."""
    return {
        "sync_id": run.sync_id,
        "started_at": to_text(run.started_at),
        "ended_at": to_text(run.ended_at),
        "sync_token": _token(run.scope),
        "sync_type": FULL if run.scope.entitlements else RESOURCES_ONLY,
        "supports_diff": int(run.scope.entitlements),
        "grants_backfilled": 1,
        "stats": stats(run),
    }


def scope_of(kinds: frozenset[ResourceKind], sync_type: str, token: str) -> SyncScope:
    """The scope that a row describes. Raises ValueError when the token is not that of a finished sync."""
    flags = json.loads(token) if token else {}
    if not isinstance(flags, dict):
        raise ValueError("its sync token is not a JSON object")  # noqa: TRY004
    return SyncScope(
        kinds=kinds,
        entitlements=sync_type != RESOURCES_ONLY,
        grants=not flags.get("should_skip_grants", False),
        expanded=bool(flags.get("needs_expansion", False)),
    )


def to_text(time: datetime) -> str:
    """An aware time as the file has it: local wall clock without a zone."""
    return time.astimezone().replace(tzinfo=None).isoformat(sep=" ")


def from_text(text: str) -> datetime:
    """The reverse, in UTC; of an hour that a zone has twice, the first. Raises ValueError."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time that UTC has") from None


def _token(scope: SyncScope) -> str:
    token: dict[str, bool | int] = {}
    if scope.expanded:
        token["needs_expansion"] = True
    if not scope.entitlements:
        token["should_skip_entitlements_and_grants"] = True
    if not scope.grants:
        token["should_skip_grants"] = True
    token["version"] = 1
    return json.dumps(token, separators=(",", ":"))


def stats(run: StoredSync, expanded: Mapping[ResourceKind, int] | None = None) -> str:
    """The counts by kind and by resource type, as JSON. `expanded`: the rows that grants expanded to."""
    grants = dict(run.grants)
    for kind, count in (expanded or {}).items():
        grants[kind] = grants.get(kind, 0) + count
    counts: dict[str, int | dict[ResourceKind, int]] = {
        "resource_types": len(run.scope.kinds),
        "resources": sum(run.resources.values()),
        "entitlements": sum(run.entitlements.values()),
        "grants": sum(grants.values()),
        "resources_by_resource_type": run.resources,
        "grants_by_resource_type": grants,
        "entitlements_by_resource_type": run.entitlements,
    }
    return json.dumps({key: value for key, value in counts.items() if value}, separators=(",", ":"))
