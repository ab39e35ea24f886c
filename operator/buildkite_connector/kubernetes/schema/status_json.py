"""The status as JSON, both ways: what people read, and all that the operator remembers over a restart."""

from collections.abc import Mapping
from typing import Any

from buildkite_connector.kubernetes.schema.status import (
    LONGEST_MESSAGE,
    ChangeJson,
    ConditionJson,
    HistoryJson,
    LastDeliveryJson,
    LastSyncJson,
    OrganizationJson,
    ProtectedTeamJson,
    ProvisioningJson,
    SnapshotJson,
    StatusJson,
    TokenJson,
)
from buildkite_connector.model.directory import Counts, Organization, OrganizationSlug, TeamID
from buildkite_connector.model.provisioning import ChangeRecord, ProtectedTeam, ProvisioningRecord
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    HISTORY_LENGTH,
    Condition,
    ConnectorStatus,
    DeliveryRecord,
    HistoryEntry,
    Phase,
    SyncRecord,
    TokenAccess,
)
from buildkite_connector.model.tasks import TaskID


def status_to_json(status: ConnectorStatus) -> dict[str, Any]:
    """What is written under `status`: times in whole seconds, messages bounded, without what is not known."""
    access = status.token_access or TokenAccess()
    token = TokenJson(
        expires_at=status.token_expires_at,
        missing_scopes=list(status.missing_scopes) or None,
        administrator=access.administrator,
        secret_teams=status.token_access and access.secret_teams,
        secret_teams_before=access.secret_teams_before or None,
    )
    return StatusJson(
        observed_generation=status.observed_generation,
        phase=status.phase,
        conditions=[_condition_to_json(each) for each in status.conditions],
        organization=status.organization
        and OrganizationJson(slug=status.organization.slug, name=status.organization.name, id=status.organization.id),
        token=token if token != TokenJson() else None,
        last_sync_time=status.last_sync_time,
        last_successful_sync_time=status.last_successful_sync_time,
        next_sync_time=status.next_sync_time,
        consecutive_failures=status.consecutive_failures,
        last_sync=status.last_sync and _sync_to_json(status.last_sync),
        last_delivery=status.last_delivery and _delivery_to_json(status.last_delivery),
        last_handled_sync_request=status.last_handled_sync_request,
        provisioning=status.provisioning and _provisioning_to_json(status.provisioning),
        history=[_entry_to_json(each) for each in status.history] or None,
    ).model_dump(mode="json", by_alias=True, exclude_none=True)


def status_from_json(value: object) -> ConnectorStatus | None:
    """The status as far as it can be read; None when there is none. Never raises for what it finds."""
    if not isinstance(value, Mapping) or not value:
        return None
    found = StatusJson.model_validate(value)
    return ConnectorStatus(
        observed_generation=found.observed_generation or 0,
        phase=found.phase or Phase.PENDING,
        conditions=tuple(_condition_from_json(each) for each in found.conditions or () if each),
        organization=_organization_from_json(found.organization) if found.organization else None,
        token_expires_at=found.token.expires_at if found.token else None,
        missing_scopes=tuple(found.token.missing_scopes or () if found.token else ()),
        token_access=_access_from_json(found.token) if found.token else None,
        last_sync_time=found.last_sync_time,
        last_successful_sync_time=found.last_successful_sync_time,
        next_sync_time=found.next_sync_time,
        consecutive_failures=found.consecutive_failures or 0,
        last_sync=_sync_from_json(found.last_sync) if found.last_sync else None,
        last_delivery=_delivery_from_json(found.last_delivery) if found.last_delivery else None,
        last_handled_sync_request=found.last_handled_sync_request,
        provisioning=_provisioning_from_json(found.provisioning) if found.provisioning else None,
        history=tuple(_entry_from_json(each) for each in found.history or () if each)[:HISTORY_LENGTH],
    )


def bounded_message(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"


def _organization_from_json(found: OrganizationJson) -> Organization:
    return Organization(found.id, OrganizationSlug(found.slug), found.name)


def _access_from_json(found: TokenJson) -> TokenAccess | None:
    if found.secret_teams is None:
        return None
    return TokenAccess(found.administrator, found.secret_teams, found.secret_teams_before or 0)


def _condition_to_json(condition: Condition) -> ConditionJson:
    return ConditionJson(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=bounded_message(condition.message),
        observed_generation=condition.observed_generation,
        last_transition_time=condition.last_transition_time,
    )


def _condition_from_json(found: ConditionJson) -> Condition:
    return Condition(
        found.type,
        found.status,
        found.reason,
        found.message,
        found.observed_generation or 0,
        found.last_transition_time,
    )


def _sync_to_json(record: SyncRecord) -> LastSyncJson:
    return LastSyncJson(
        id=record.id,
        trigger=record.trigger,
        started_at=record.started_at,
        finished_at=record.finished_at,
        accounts=record.counts.accounts,
        teams=record.counts.teams,
        memberships=record.counts.memberships,
        requests=record.requests,
        throttled_seconds=round(record.throttled_seconds, 1),
        snapshot=SnapshotJson(sha256=record.snapshot_sha256, bytes=record.snapshot_bytes),
    )


def _sync_from_json(found: LastSyncJson) -> SyncRecord:
    return SyncRecord(
        SyncID(found.id),
        found.trigger,
        found.started_at,
        found.finished_at,
        found.to_counts(),
        found.requests,
        found.throttled_seconds,
        found.snapshot.sha256,
        found.snapshot.bytes,
    )


def _delivery_to_json(record: DeliveryRecord) -> LastDeliveryJson:
    return LastDeliveryJson(
        time=record.time,
        task_id=record.task_id,
        sync_id=record.sync_id,
        sha256=record.sha256,
        bytes=record.bytes,
        engine_asked=record.engine_asked or None,
        accounts=record.counts.accounts,
        teams=record.counts.teams,
        memberships=record.counts.memberships,
    )


def _delivery_from_json(found: LastDeliveryJson) -> DeliveryRecord:
    return DeliveryRecord(
        found.time,
        TaskID(found.task_id),
        SyncID(found.sync_id),
        found.sha256,
        found.bytes,
        found.to_counts(),
        found.engine_asked or "",
    )


def _entry_to_json(entry: HistoryEntry) -> HistoryJson:
    counts = entry.counts
    return HistoryJson(
        id=entry.id,
        trigger=entry.trigger,
        started_at=entry.started_at,
        finished_at=entry.finished_at,
        succeeded=entry.succeeded,
        reason=entry.reason,
        accounts=counts and counts.accounts,
        teams=counts and counts.teams,
        memberships=counts and counts.memberships,
    )


def _entry_from_json(found: HistoryJson) -> HistoryEntry:
    known = found.accounts is not None and found.teams is not None and found.memberships is not None
    return HistoryEntry(
        SyncID(found.id),
        found.trigger,
        found.started_at,
        found.finished_at,
        found.succeeded,
        found.reason,
        Counts(found.accounts or 0, found.teams or 0, found.memberships or 0) if known else None,
    )


def _provisioning_to_json(record: ProvisioningRecord) -> ProvisioningJson:
    last = record.last_change
    return ProvisioningJson(
        granted=record.granted,
        revoked=record.revoked,
        refused=record.refused,
        last_change=last
        and ChangeJson(
            time=last.time,
            action=last.action,
            team=last.team,
            role=last.role,
            user=last.user,
            task_id=last.task_id,
            result=last.result,
            reason=bounded_message(last.reason) or None,
        ),
        protected_teams=[
            ProtectedTeamJson(slug=each.slug, id=each.team, slug_now=each.slug_now or None) for each in record.protected
        ]
        or None,
    )


def _provisioning_from_json(found: ProvisioningJson) -> ProvisioningRecord:
    """What waited for its event in another process was that process's."""
    change, last = None, found.last_change
    if last is not None:
        change = ChangeRecord(
            0,
            last.time,
            last.action,
            last.team,
            last.role,
            last.user,
            TaskID(last.task_id),
            last.result,
            last.reason or "",
        )
    protected = tuple(
        ProtectedTeam(each.slug, TeamID(each.id), each.slug_now or "") for each in found.protected_teams or () if each
    )
    return ProvisioningRecord(found.granted, found.revoked, found.refused, change, protected=protected)
