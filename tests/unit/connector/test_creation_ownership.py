"""The operator gives credentials only of connectors that it created for this resource, whatever a Secret says."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.creation import CreationRun, marker_of
from buildkite_connector.connector.ports import Kept
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import C1Record
from fakes.c1_creation import MARKER, WANTED, Fate, Surroundings, check_promises
from fakes.virtual_time import virtual_time

OTHERS = "buildkite-connector/default/acme2/0f7d"
AGAIN = "buildkite-connector/default/acme/another"


async def run_again(its: Surroundings) -> None:
    """Of a resource that was deleted and created again: it has another UID, and no status."""
    its.record, its.session = C1Record(), ""
    while not its.session:
        await CreationRun(WANTED, its.record, its.session, replace(its.ports(), marker=AGAIN)).run()
        assert its.secret is not None
        its.session = its.secret.client_id


# A Secret that anybody may have written


FORGED = {
    "a connector of somebody else": ({"app": ""}, {"connector": ("app", "")}),
    "one of another resource": ({"app": OTHERS}, {"connector": ("app", OTHERS)}),
    "one whose name begins with this one's": ({"app": f"{OTHERS}/x"}, {"connector": ("app", f"{OTHERS}/x")}),
    "one that another resource created in this one's app": (
        {"app": MARKER},
        {"connector": ("app", OTHERS), "own": ("app", MARKER)},
    ),
    "the only one in this one's app, of another resource": ({"app": MARKER}, {"connector": ("app", OTHERS)}),
    "one of two in this one's app, without a mark": (
        {"app": MARKER},
        {"connector": ("app", ""), "another": ("app", "")},
    ),
    "one in an app that is not there": ({}, {}),
}


@pytest.mark.parametrize("how", FORGED)
@virtual_time
async def test_a_forged_secret_brings_no_credentials_of_another_connector(how: str) -> None:
    apps, connectors = FORGED[how]
    forged = Kept("app", "connector", "credential", "", "", "0")
    its = Surroundings(apps=dict(apps), connectors=dict(connectors), secret=forged)
    with pytest.raises(Failure, match=r"C1 does not show that the operator created it.*set spec\.c1\.appID") as failed:
        await its.run_once()
    assert (failed.value.reason, failed.value.remedy) == (Reason.SECRET_NOT_OWN, Remedy.EDIT)
    assert (its.credentials, its.secret, its.record) == ({}, forged, C1Record())


@virtual_time
async def test_an_app_in_the_status_does_not_vouch_for_the_secrets_connector() -> None:
    its = Surroundings(apps={"app": MARKER}, connectors={"connector": ("app", OTHERS), "own": ("app", MARKER)})
    its.record, its.secret = C1Record("app"), Kept("app", "connector", "credential", "", "", "0")
    with pytest.raises(Failure) as failed:
        await its.run_once()
    assert (failed.value.reason, its.credentials) == (Reason.SECRET_NOT_OWN, {})


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.CUT])
@virtual_time
async def test_a_c1_that_does_not_list_its_connectors_proves_nothing(fate: Fate) -> None:
    its = Surroundings()
    await its.run()
    its.fate = lambda name: fate if name.startswith("find") else Fate.ANSWERED
    its.record = C1Record()
    with pytest.raises(Failure):
        await its.run_once()
    assert its.record == C1Record()


# The operator's own


@virtual_time
async def test_a_resource_that_is_created_again_has_another_uid_and_the_same_connector() -> None:
    its = Surroundings()
    await its.run()
    before = its.record
    await run_again(its)
    check_promises(its)
    assert (its.record.app_id, its.record.connector_id) == (before.app_id, before.connector_id)
    assert len(its.credentials) == 1


@virtual_time
async def test_where_c1_replaced_the_description_the_app_shows_who_created_the_connector() -> None:
    its = Surroundings()
    await its.run()
    its.connectors = {each: (app, "Buildkite") for each, (app, _) in its.connectors.items()}
    await run_again(its)
    check_promises(its)
    assert len(its.credentials) == 1


@virtual_time
async def test_an_app_that_was_created_for_a_deleted_resource_is_found_again() -> None:
    its = Surroundings()
    its.fate = lambda name: Fate.REFUSED if name == "create the connector" else Fate.ANSWERED
    with pytest.raises(Failure):
        await its.run_once()
    its.fate = lambda _: Fate.ANSWERED
    await run_again(its)
    check_promises(its)
    assert list(its.apps.values()) == [MARKER]


@virtual_time
async def test_an_app_of_another_resource_is_not_taken_up_although_it_has_no_connector() -> None:
    others = {"one": OTHERS, "two": MARKER.replace("/default/", "/team-b/"), "three": "set up by hand"}
    its = Surroundings(apps=dict(others))
    await its.run()
    assert {**its.apps, **others} == its.apps
    assert its.apps[its.record.app_id] == MARKER


@virtual_time
async def test_its_own_app_goes_before_one_that_a_deleted_resource_left() -> None:
    its = Surroundings(apps={"left": AGAIN, "own": MARKER})
    await its.run()
    assert (its.record.app_id, its.apps) == ("own", {"left": AGAIN, "own": MARKER})


@virtual_time
async def test_what_has_a_connector_may_be_in_use_by_another_cluster() -> None:
    """There a resource of the same namespace and name has its own UID."""
    its = Surroundings()
    await its.run()
    its.secret = None
    await run_again(its)
    assert list(its.apps.values()) == [MARKER, AGAIN]
    assert len(its.connectors) == 2


def test_the_marker_names_the_resource_and_has_at_most_256_characters() -> None:
    assert marker_of(ConnectorKey("default.acme"), "0f7d") == MARKER
    assert marker_of(ConnectorKey("default.acme.eu"), "0f7d") == "buildkite-connector/default/acme.eu/0f7d"
    uid = "0b1e5a1c-1111-2222-3333-444444444444"
    ones = [marker_of(ConnectorKey(f"{'n' * 63}.{'a' * 252}{last}"), uid) for last in "ab"]
    assert max(map(len, ones)) <= 256
    assert len({*ones}) == 2
    longest = marker_of(ConnectorKey(f"{'n' * 63}.{'a' * 126}"), uid)
    assert ("a" * 126 in longest, len(longest) <= 256) == (True, True)
