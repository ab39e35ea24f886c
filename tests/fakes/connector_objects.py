"""A BuildkiteConnector as kubectl shows it, in each state that other tools must understand.

Each status is derived by the operator's own code from a state that its own transitions made.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.kubernetes.schema.status_json import status_to_json
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import ConditionStatus, ConditionType
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import Instant
from fakes.connector_states import (
    DOWN,
    REJECTED,
    START,
    after,
    checked,
    desired,
    failed,
    greeted,
    new,
    ready,
    running,
    synced,
)

NO_SECRET = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
HALF = Counts(40, 10, 100)


@dataclass(frozen=True)
class Observed:
    """A connector's object, and what each tool must say of it.

    `argo` is Argo CD's health, `flux` what healthCheckExprs come to, `kstatus` what tools say that know no more than
    the conditions.
    """

    name: str
    object: dict[str, Any]
    argo: str
    flux: str
    kstatus: str

    @property
    def phase(self) -> str:
        return str(self.object["status"]["phase"]) if "status" in self.object else ""


def resource(
    state: ConnectorState | None = None, now: Instant = START, *, generation: int | None = None
) -> dict[str, Any]:
    """The object; without a state no operator has seen it. `generation`: of the object, where it is a later one."""
    found: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "acme", "namespace": "default", "generation": generation or 1},
        "spec": {"credentialsSecretRef": {"name": "buildkite-credentials"}, "suspend": False},
    }
    if state is not None:
        found["metadata"]["generation"] = generation or state.desired.generation
        found["spec"]["suspend"] = state.desired.spec.suspend
        found["status"] = status_to_json(derive_status(state, now))
    return found


def paused_in_c1(seen: dict[str, Any]) -> dict[str, Any]:
    """The object with a condition that only says what C1 does."""
    condition = {
        "type": ConditionType.C1_SYNCED.value,
        "status": ConditionStatus.FALSE.value,
        "reason": Reason.C1_PAUSED.value,
        "message": "The connector is paused in C1.",
        "observedGeneration": seen["status"]["observedGeneration"],
        "lastTransitionTime": "2026-03-02T09:00:00Z",
    }
    status = seen["status"]
    return {**seen, "status": {**status, "conditions": [*status["conditions"], condition]}}


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20).wall)


def held() -> ConnectorState:
    return synced(delivered(ready()), after(3600), "sync2", HALF)


def c1_down(state: ConnectorState) -> ConnectorState:
    return replace(state, c1=replace(state.c1, failure=UNREACHABLE))


def edited(state: ConnectorState) -> ConnectorState:
    """The operator has seen an edit, and a sync of it is to come."""
    return transitions.desired_changed(state, desired(2), after(100))


def failed_times(times: int) -> ConnectorState:
    """A new connector whose syncs failed so many times."""
    state = greeted(checked(new()))
    for time in range(times):
        state = failed(state, after(3600.0 * time), DOWN)
    return state


def observed() -> Iterator[Observed]:
    """Every phase, and what in one phase tools must tell apart."""
    late = checked(new(), START, NO_SECRET)
    rejected = transitions.forced_check_begun(ready(), after(100))
    rejected = checked(rejected, after(100), REJECTED)
    hour = after(3600)
    yield Observed("not seen by an operator", resource(), "Progressing", "InProgress", "Current")
    yield Observed("new", resource(new()), "Progressing", "InProgress", "InProgress")
    yield Observed("Secret on its way", resource(late, after(100)), "Progressing", "InProgress", "InProgress")
    yield Observed("Secret does not come", resource(late, after(200)), "Degraded", "Failed", "Failed")
    first = running(greeted(checked(new())), START)
    yield Observed("first sync", resource(first), "Progressing", "InProgress", "InProgress")
    yield Observed("first sync failed", resource(failed_times(1), hour), "Progressing", "InProgress", "InProgress")
    thrice = resource(failed_times(3), after(7200))
    yield Observed("first sync failed three times", thrice, "Degraded", "InProgress", "InProgress")
    yield Observed("awaits C1's task", resource(ready(), after(10)), "Healthy", "Current", "Current")
    yield Observed("delivered", resource(delivered(ready()), after(30)), "Healthy", "Current", "Current")
    paused = paused_in_c1(resource(delivered(ready()), after(30)))
    yield Observed("delivered, but paused in C1", paused, "Healthy", "Current", "Current")
    later = running(delivered(ready()), hour, "sync2")
    yield Observed("a later sync runs", resource(later, hour), "Healthy", "Current", "Current")
    worked = failed(delivered(ready()), hour)
    yield Observed("a later sync failed", resource(worked, hour), "Degraded", "InProgress", "InProgress")
    yield Observed("C1 is down", resource(c1_down(ready()), hour), "Degraded", "InProgress", "InProgress")
    yield Observed("token rejected", resource(rejected, after(100)), "Degraded", "Failed", "Failed")
    yield Observed("snapshot held", resource(held(), after(3700)), "Degraded", "Failed", "Failed")
    suspended = resource(replace(ready(), desired=desired(1, suspend=True)), after(10))
    yield Observed("suspended", suspended, "Suspended", "Current", "InProgress")
    edit = resource(edited(delivered(ready())), after(100))
    yield Observed("an edit is taken up", edit, "Progressing", "InProgress", "InProgress")
    unseen = resource(delivered(ready()), after(30), generation=2)
    yield Observed("an edit is not seen yet", unseen, "Progressing", "InProgress", "InProgress")


OBSERVED = tuple(observed())
