"""The simulated C1's apps, connectors and credentials, and their JSON: every field is there, whatever its value."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from simulators.c1.token import Client

BATON = "2HErg7BRmNdHgX8sTCWVq4E1fyh"
"""The catalog ID of self-hosted connectors."""
BUILDKITE = "2CAxwRi97USAHvLdVPpyuoITull"
CATALOG = (BATON, BUILDKITE)

Json = dict[str, Any]


class SyncState(StrEnum):
    UNSPECIFIED = "SYNC_STATUS_UNSPECIFIED"
    RUNNING = "SYNC_STATUS_RUNNING"
    DONE = "SYNC_STATUS_DONE"
    ERROR = "SYNC_STATUS_ERROR"
    DISABLED = "SYNC_STATUS_DISABLED"


def stamp(when: datetime | None) -> str | None:
    """RFC 3339 in UTC, or null."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z") if when else None


@dataclass(slots=True)
class App:
    """`owners`: user IDs."""

    id: str
    created_at: datetime
    updated_at: datetime
    display_name: str
    description: str = ""
    instructions: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    owners: list[str] = field(default_factory=list)
    others: Json = field(default_factory=dict)
    """What else was said at its creation, by its names in JSON."""
    deleted_at: datetime | None = None

    def json(self) -> Json:
        return {
            "id": self.id,
            "displayName": self.display_name,
            "description": self.description,
            "instructions": self.instructions,
            "annotations": dict(self.annotations),
            "accessModel": "APP_ACCESS_MODEL_UNSPECIFIED",
            "appAccountId": "",
            "appAccountName": "",
            "appOwners": [{"id": owner} for owner in self.owners],
            "certifyPolicyId": "",
            "grantPolicyId": "",
            "revokePolicyId": "",
            "connectorVersion": 0,
            "createdAt": stamp(self.created_at),
            "updatedAt": stamp(self.updated_at),
            "deletedAt": stamp(self.deleted_at),
            "defaultRequestCatalogId": "",
            "enableConnectorSourcedOwnership": False,
            "iconUrl": "",
            "logoUri": "",
            "identityMatching": "APP_USER_IDENTITY_MATCHING_UNSPECIFIED",
            "isDirectory": False,
            "isManuallyManaged": False,
            "monthlyCostUsd": 0,
            "parentAppId": "",
            "revokeGrantSources": False,
            "strictAccessEntitlementProvisioning": False,
            "userCount": "0",
            **self.others,
        }


@dataclass(frozen=True, slots=True)
class Paused:
    """Why C1 does not sync a connector, and since when."""

    at: datetime
    category: str
    reason: str
    can_resume: bool = True


@dataclass(slots=True)
class Connector:
    """`clients`: the IDs of its credentials' clients that are good. `state`: of its last sync, paused or not.

    `shows_disabled`: whether its status is DISABLED while it is paused.
    """

    app_id: str
    id: str
    created_at: datetime
    updated_at: datetime
    catalog_id: str = BATON
    display_name: str = ""
    description: str = ""
    owners: list[str] = field(default_factory=list)
    clients: set[str] = field(default_factory=set)
    state: SyncState = SyncState.UNSPECIFIED
    started_at: datetime | None = None
    completed_at: datetime | None = None
    changed_at: datetime | None = None
    last_error: str = ""
    paused: Paused | None = None
    schedule: Json | None = None
    deleted_at: datetime | None = None

    def json(self, *, shows_disabled: bool = True) -> Json:
        paused = self.paused
        return {
            "id": self.id,
            "appId": self.app_id,
            "catalogId": self.catalog_id,
            "displayName": self.display_name,
            "description": self.description,
            "userIds": list(self.owners),
            "status": self._status(SyncState.DISABLED if paused and shows_disabled else self.state),
            "syncDisabledAt": stamp(paused.at) if paused else None,
            "syncDisabledCategory": paused.category if paused else "",
            "syncDisabledReason": paused.reason if paused else "",
            "canResumeSync": bool(paused and paused.can_resume),
            "disableCheckBadSync": False,
            "connectorSyncCronSchedule": self.schedule,
            "syncConfig": None,
            "parallelSyncWorkerCount": None,
            "profileAllowList": [],
            "profileIgnoreList": [],
            "config": None,
            "configUpdatedAt": None,
            "connectorApiVersion": 0,
            "oauthAuthorizedAs": None,
            "downloadUrl": "",
            "createdAt": stamp(self.created_at),
            "updatedAt": stamp(self.updated_at),
            "deletedAt": stamp(self.deleted_at),
        }

    def _status(self, state: SyncState) -> Json | None:
        if state is SyncState.UNSPECIFIED and self.changed_at is None:
            return None
        return {
            "status": state,
            "startedAt": stamp(self.started_at),
            "completedAt": stamp(self.completed_at),
            "updatedAt": stamp(self.changed_at),
            "lastError": self.last_error,
        }


def view(connector: Connector, *, shows_disabled: bool = True) -> Json:
    """A ConnectorView that nothing is expanded in."""
    told = connector.json(shows_disabled=shows_disabled)
    return {"connector": told, "appPath": "", "usersPath": "", "capabilitiesPath": ""}


@dataclass(slots=True)
class Credential:
    """Of one connector. Its secret is in the answer that created it and nowhere else."""

    id: str
    app_id: str
    connector_id: str
    client: Client
    created_at: datetime
    expires_at: datetime | None = None
    deleted_at: datetime | None = None

    def json(self, last_used_at: datetime | None, *, with_secret: bool = False) -> Json:
        return {
            "id": self.id,
            "appId": self.app_id,
            "connectorId": self.connector_id,
            "clientId": self.client.client_id,
            "clientSecret": self.client.client_secret if with_secret else "",
            "displayName": self.client.client_id.partition("@")[0],
            "expiresTime": stamp(self.expires_at),
            "lastUsedAt": stamp(last_used_at),
            "createdAt": stamp(self.created_at),
            "updatedAt": stamp(self.created_at),
            "deletedAt": stamp(self.deleted_at),
        }
