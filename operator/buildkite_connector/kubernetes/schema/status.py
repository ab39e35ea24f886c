"""The status's models: what people read in it, and the definition's schema of it.

`status_json` turns a status into them and back, `crd` makes the schema of them. Reading is tolerant: what is missing,
foreign, out of range or from another version is None, and never an error: whoever may write statuses chooses what is
read. The schema has no enums or limits of its own, as a status that the API server refuses would be a status that
nobody sees.
"""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from buildkite_connector.model.directory import Counts, Role
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.provisioning import ChangeAction, ChangeResult
from buildkite_connector.model.status import (
    ConditionStatus,
    ConditionType,
    Phase,
    Trigger,
)

LONGEST_MESSAGE = 1024
MOST = 2**63 - 1
"""What the API server's integers hold."""


def _none_if_unreadable(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return read(value)
    except ValidationError:
        return None


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise ValueError("not a time that UTC has") from None


def _cut(text: str) -> str:
    return text[:LONGEST_MESSAGE]


def _in_range(number: float) -> float:
    if not 0 <= number <= MOST:  # nor NaN
        raise ValueError("not an amount")
    return number


def _rfc3339(time: datetime) -> str:
    return f"{time.replace(tzinfo=None).isoformat()}Z"


_T = TypeVar("_T")
_Maybe = Annotated[_T | None, WrapValidator(_none_if_unreadable)]
_Time = Annotated[
    AwareDatetime,
    AfterValidator(_in_utc),
    PlainSerializer(_rfc3339),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
_STRING = WithJsonSchema({"type": "string"})
_ExpiryTime = Annotated[_Time, _STRING]
_Text = Annotated[str, AfterValidator(_cut)]
_Amount = Annotated[int, AfterValidator(_in_range)]
_Seconds = Annotated[float, AfterValidator(_in_range)]
_Phase = Annotated[Phase, _STRING]
_ConditionType = Annotated[ConditionType, _STRING]
_Reason = Annotated[Reason, _STRING]
_Trigger = Annotated[Trigger, _STRING]
_Action = Annotated[ChangeAction, _STRING]
_Result = Annotated[ChangeResult, _STRING]
_Role = Annotated[Role, _STRING]


class _Json(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="ignore", frozen=True
    )


class _Counted(_Json):
    accounts: _Amount = Field(description="Accounts in the snapshot.")
    teams: _Amount = Field(description="Teams in the snapshot.")
    memberships: _Amount = Field(description="Memberships of accounts in teams in the snapshot.")

    def to_counts(self) -> Counts:
        return Counts(self.accounts, self.teams, self.memberships)


class ConditionJson(_Json):
    """One aspect of the connector's state, as in the Kubernetes API conventions."""

    type: _ConditionType = Field(
        description="Ready, CredentialsValid, Synced or Delivered; ProvisioningReady while provisioning is enabled;"
        " and only while true, Reconciling and Stalled."
    )
    status: Annotated[ConditionStatus, _STRING] = Field(description="True, False or Unknown.")
    reason: _Reason = Field(description="Why, as one CamelCase word of a closed list.")
    message: _Text = Field(description="Why, as a sentence, and what to do about it.")
    observed_generation: _Maybe[_Amount] = Field(None, description="The metadata.generation that this was found for.")
    last_transition_time: _Time = Field(description="When status changed last.")


class OrganizationJson(_Json):
    """The organization that the API token was found to reach."""

    slug: _Text = Field(description="Its slug.")
    name: _Text = Field(description="Its name.")
    id: _Text = Field(description="Buildkite's id of it.")


class TokenJson(_Json):
    """What Buildkite says of the API token."""

    expires_at: _Maybe[_ExpiryTime] = Field(None, description="When it expires; absent when it does not.")
    missing_scopes: _Maybe[list[_Text]] = Field(None, description="The scopes that it lacks.")
    administrator: _Maybe[bool] = Field(
        None,
        description="Whether its owner is an administrator of the organization, who sees all teams; absent where"
        " Buildkite does not say.",
    )
    secret_teams: _Maybe[int] = Field(None, description="How many secret teams the last sync saw.")
    secret_teams_before: _Maybe[int] = Field(
        None, description="How many it saw before most of them were lost; absent while none are."
    )


class SnapshotJson(_Json):
    """The file that the sync wrote."""

    sha256: _Text = Field(description="Its checksum, in hexadecimal.")
    bytes: _Amount = Field(description="Its size.")


class LastSyncJson(_Counted):
    """The last sync that succeeded."""

    id: _Text = Field(description="The sync's id, the same in the snapshot and the logs.")
    trigger: _Trigger = Field(description="Why it ran: Schedule, Request, Task or Change.")
    started_at: _Time = Field(description="When it started.")
    finished_at: _Time = Field(description="When it finished.")
    requests: _Amount = Field(description="How many requests it made to Buildkite.")
    throttled_seconds: _Seconds = Field(description="How long it waited for Buildkite's rate limits.")
    snapshot: SnapshotJson


class LastDeliveryJson(_Counted):
    """The last snapshot that C1 took. The shrink guard compares with its counts."""

    time: _Time = Field(description="When C1 took it.")
    task_id: _Text = Field(alias="taskID", description="C1's task that it answered.")
    sync_id: _Text = Field(alias="syncID", description="The sync that made it.")
    sha256: _Text = Field(description="Its checksum, in hexadecimal.")
    bytes: _Amount = Field(description="Its size.")
    engine_asked: _Maybe[_Text] = Field(
        None, description="The form of file that C1 asked for, where it is not sqlite, which is what it got."
    )


class HistoryJson(_Json):
    """One sync, whether it succeeded or not."""

    id: _Text = Field(description="The sync's id.")
    trigger: _Trigger = Field(description="Why it ran: Schedule, Request, Task or Change.")
    started_at: _Time = Field(description="When it started.")
    finished_at: _Time = Field(description="When it ended.")
    succeeded: bool = Field(description="Whether it succeeded.")
    reason: _Reason = Field(description="SyncSucceeded, or why it failed.")
    accounts: _Maybe[_Amount] = Field(None, description="Accounts, when it succeeded.")
    teams: _Maybe[_Amount] = Field(None, description="Teams, when it succeeded.")
    memberships: _Maybe[_Amount] = Field(None, description="Memberships, when it succeeded.")


class ChangeJson(_Json):
    """The newest change of a membership that C1 asked for, or refusal of one."""

    time: _Time = Field(description="When it was made.")
    action: _Action = Field(description="grant or revoke.")
    team: _Text = Field(description="The team's name, or its id.")
    role: _Role = Field(description="member or maintainer.")
    user: _Text = Field(description="The person's name, or their id.")
    task_id: _Text = Field(alias="taskID", description="C1's task.")
    result: _Result = Field(description="Granted, RoleChanged, Revoked or Refused.")
    reason: _Maybe[_Text] = Field(None, description="Why it was refused.")


class ProtectedTeamJson(_Json):
    """A team with a protected slug. It stays protected when it is renamed."""

    slug: str = Field(description="The slug in spec.provisioning.protectedTeams.")
    id: str = Field(description="Buildkite's id of the team.")
    slug_now: _Maybe[str] = Field(None, description="The slug that it has now; absent when it is not listed.")


class ProvisioningJson(_Json):
    """What C1's grant and revoke tasks changed since the resource was made."""

    granted: _Amount = Field(description="Memberships made, or given another role.")
    revoked: _Amount = Field(description="Memberships removed.")
    refused: _Amount = Field(description="Tasks refused by spec.provisioning.")
    last_change: _Maybe[ChangeJson] = None
    protected_teams: _Maybe[list[_Maybe[ProtectedTeamJson]]] = Field(
        None,
        description="The teams of spec.provisioning.protectedTeams, by id since they were first seen.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class StatusJson(_Json):
    """What the operator found and did. Nothing here is set by hand."""

    observed_generation: _Maybe[_Amount] = Field(None, description="The metadata.generation that this status is about.")
    phase: _Maybe[_Phase] = Field(
        None,
        description="A word for people: Pending, Syncing, Connected, Degraded, Error or Suspended."
        " Machines read the conditions.",
    )
    conditions: _Maybe[list[_Maybe[ConditionJson]]] = Field(
        None,
        description="Ready, CredentialsValid, Synced and Delivered; ProvisioningReady while provisioning is enabled;"
        " and only while true, Reconciling and Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    organization: _Maybe[OrganizationJson] = None
    token: _Maybe[TokenJson] = None
    last_sync_time: _Maybe[_Time] = Field(None, description="When the last sync ended, whether it succeeded or not.")
    last_successful_sync_time: _Maybe[_Time] = Field(None, description="When the last sync that succeeded ended.")
    next_sync_time: _Maybe[_Time] = Field(None, description="When the next scheduled sync starts.")
    consecutive_failures: _Maybe[_Amount] = Field(None, description="How many syncs have failed since one succeeded.")
    last_sync: _Maybe[LastSyncJson] = None
    last_delivery: _Maybe[LastDeliveryJson] = None
    last_handled_sync_request: _Maybe[_Text] = Field(
        None,
        description="The value of the annotation connectors.c1.ai/sync-requested-at that was acted on last.",
    )
    provisioning: _Maybe[ProvisioningJson] = None
    history: _Maybe[list[_Maybe[HistoryJson]]] = Field(
        None,
        description="The last 10 syncs, newest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
