"""What Argo CD, Flux and kstatus say of a connector, for each of its phases."""

import pytest

from buildkite_connector.model.status import Phase
from fakes.connector_objects import OBSERVED, Observed
from unit.gitops.argo import HEALTH, run
from unit.gitops.flux import EXPRESSIONS, evaluate, kstatus


@pytest.fixture(params=OBSERVED, ids=lambda each: each.name)
def seen(request: pytest.FixtureRequest) -> Observed:
    return request.param  # type: ignore[no-any-return]  # pytest's own type


def test_every_phase_is_among_what_is_observed() -> None:
    assert {each.phase for each in OBSERVED} == {"", *(phase.value for phase in Phase)}


def test_argo_cds_health(seen: Observed) -> None:
    assert run(HEALTH, seen.object)["status"] == seen.argo


def test_argo_cd_shows_the_operators_own_sentence(seen: Observed) -> None:
    message = run(HEALTH, seen.object)["message"]
    conditions = seen.object.get("status", {}).get("conditions", [])
    ours = {"No operator has seen the resource yet.", "The operator has not seen the newest change yet."}
    assert message in ours | {each["message"] for each in conditions}


def test_fluxs_expressions(seen: Observed) -> None:
    assert evaluate(seen.object) == seen.flux


def test_kstatus(seen: Observed) -> None:
    assert kstatus(seen.object) == seen.kstatus


def test_reconciling_and_stalled_are_never_true_at_once_and_never_false(seen: Observed) -> None:
    conditions = seen.object.get("status", {}).get("conditions", [])
    there = [each for each in conditions if each["type"] in {"Reconciling", "Stalled"}]
    assert [each["status"] for each in there] in ([], ["True"])


def test_who_is_ready_and_not_reconciling_is_of_the_generation_that_was_observed(seen: Observed) -> None:
    for condition in seen.object.get("status", {}).get("conditions", []):
        assert condition["observedGeneration"] == seen.object["status"]["observedGeneration"]


def test_a_connector_that_is_deleted_is_terminating() -> None:
    resource = OBSERVED[-1].object
    metadata = {**resource["metadata"], "deletionTimestamp": "2026-03-02T09:00:00Z"}
    assert kstatus({**resource, "metadata": metadata}) == "Terminating"


def test_the_expressions_are_of_the_connector() -> None:
    resource = OBSERVED[0].object
    assert (EXPRESSIONS["apiVersion"], EXPRESSIONS["kind"]) == (resource["apiVersion"], resource["kind"])
