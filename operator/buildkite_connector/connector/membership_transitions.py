"""What is known of changes of memberships after each of them: records for people, and whether writing works. Pure."""

from dataclasses import replace

from buildkite_connector.connector.state import ConnectorState, for_task
from buildkite_connector.connector.transitions import RECHECK_SECONDS
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import RECENT_CHANGES, ChangeRecord, ChangeResult, ProvisioningRecord
from buildkite_connector.timing.clock import Instant

_BLOCKS_WRITING = frozenset({Reason.TOKEN_SCOPE_MISSING, Reason.TOKEN_INVALID, Reason.TOKEN_REJECTED})
"""What a change finds out about the token that holds for all changes; anything else may be one team's."""


def change_recorded(state: ConnectorState, change: ChangeRecord) -> ConnectorState:
    """A change or a refusal comes into the status. `number` of the change is set here."""
    before = state.records.provisioning or ProvisioningRecord(0, 0, 0)
    number = before.recent[-1].number + 1 if before.recent else 1
    change = replace(change, number=number)
    record = replace(
        before,
        granted=before.granted + (change.result in {ChangeResult.GRANTED, ChangeResult.ROLE_CHANGED}),
        revoked=before.revoked + (change.result is ChangeResult.REVOKED),
        refused=before.refused + (change.result is ChangeResult.REFUSED),
        last_change=change,
        recent=(*before.recent, change)[-RECENT_CHANGES:],
    )
    return replace(state, records=replace(state.records, provisioning=record))


def change_failed(state: ConnectorState, failure: Failure, now: Instant) -> ConnectorState:
    """A token that cannot write stops changes until a check finds that it can; syncs go on."""
    if failure.reason not in _BLOCKS_WRITING or not state.desired.spec.provisioning.enabled:
        return state
    check = replace(state.check, write_failure=failure.without_traceback(), full_due=now.monotonic + RECHECK_SECONDS)
    return replace(state, check=check)


def blocked_writing(state: ConnectorState) -> Failure | None:
    """Why no membership can be changed now although provisioning is enabled, or None.

    While the spec cannot be read, nobody knows whether it is: C1 may ask again once it is corrected.
    """
    if state.desired.spec_error is not None:
        return Failure(state.desired.spec_error.reason, f"No membership is changed: {state.desired.spec_error.message}")
    if state.desired.spec.suspend:
        return Failure(Reason.SUSPENDED, "spec.suspend is true: nothing is changed until it is false.")
    if state.blocked_by is not None:
        return for_task(state.blocked_by)
    if state.check.write_failure is not None:
        return state.check.write_failure
    if not state.checked or state.check.credentials is None:
        return Failure(
            Reason.PENDING,
            "The credentials are being checked; the change can be made afterwards.",
            remedy=Remedy.RETRY,
            retry_after=10.0,
        )
    return None


def may_write(state: ConnectorState) -> bool:
    """Whether a write may be sent at this moment."""
    desired = state.desired
    return desired.spec.provisioning.enabled and blocked_writing(state) is None
