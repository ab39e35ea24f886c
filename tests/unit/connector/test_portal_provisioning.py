"""Changes of memberships need no portal: they are made while its token, slug or document is wrong."""

import asyncio
from dataclasses import replace

import pytest

from buildkite_connector.connector.state import blocked_writing, host_id_taken
from buildkite_connector.connector.transitions import CheckResult, check_finished
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import ConditionType
from buildkite_connector.sync.preflight import write_scope_missing
from fakes.connector_setup import MINUTE, Setup
from fakes.connector_states import SHARE, after, ready
from fakes.virtual_time import virtual_time
from unit.connector import test_checks
from unit.connector.test_memberships import ADA, ON, ask
from unit.connector.test_portal import FAILED, NOT_FOUND, REJECTED, STALE, WITH_PORTAL, CheckBench, connected

OF_A_PORTAL = pytest.mark.parametrize("failure", [REJECTED, NOT_FOUND, STALE, FAILED], ids=lambda each: each.reason)


async def grant(setup: Setup) -> bool:
    ask(setup, "grant1")
    await asyncio.sleep(2 * MINUTE)
    assert setup.condition(ConditionType.PROVISIONING_READY) == ("True", "Ready")
    return ("t-1", ADA) in setup.members.rows


@OF_A_PORTAL
@virtual_time
async def test_a_grant_is_made_while_the_portal_fails_syncs(failure: Failure) -> None:
    setup = connected(provisioning=ON)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.portal.failure = failure
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", failure.reason.value)
        assert await grant(setup)


@OF_A_PORTAL
@virtual_time
async def test_a_grant_is_made_while_the_portal_fails_the_check(failure: Failure) -> None:
    """As after an upgrade of the operator that needs another document."""
    setup = connected(provisioning=ON)
    setup.portal.failure = failure
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", failure.reason.value)
        assert setup.buildkite.collections == []
        assert await grant(setup)


@virtual_time
async def test_a_check_says_of_writing_what_it_finds_although_the_portal_fails() -> None:
    bench = CheckBench(WITH_PORTAL, portal="acme-c1", provisioning=ON)
    bench.portal.failure = STALE
    result = await bench.check()
    assert (result.failure, result.preflight) == (STALE, test_checks.PREFLIGHT)
    assert result.write_failure is not None
    assert (result.write_failure.reason, result.missing_scopes) == (Reason.TOKEN_SCOPE_MISSING, ("write_teams",))


def test_what_else_keeps_memberships_from_being_changed_does_beside_the_portal() -> None:
    before = ready(provisioning=ON)
    found = CheckResult(
        before.desired.generation, None, before.check.credentials, before.check.preflight, failure=STALE, forced=True
    )
    state = check_finished(before, found, after(60), SHARE)
    assert (state.checked, state.blocked_by and state.blocked_by.reason) == (False, STALE.reason)
    assert blocked_writing(state) is None
    scope = write_scope_missing()
    assert blocked_writing(check_finished(before, replace(found, write_failure=scope), after(60), SHARE)) is scope
    taken = blocked_writing(replace(state, host_id_holder="other"))
    assert taken is not None
    assert taken.message == host_id_taken("other", state.desired.spec.host_id).message
    edited = replace(state, desired=replace(state.desired, generation=7))
    assert blocked_writing(edited) is not None
    rejected = Failure(Reason.TOKEN_REJECTED, "no", remedy=Remedy.CREDENTIALS)
    other = replace(found, failure=rejected, preflight=None)
    refused = blocked_writing(check_finished(state, other, after(90), SHARE))
    assert refused is not None
    assert refused.reason is Reason.TOKEN_REJECTED
