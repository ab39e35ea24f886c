"""The simulated C1's access requests: what a connector is asked, how often, and what C1 believes afterwards."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2 as v2
from simulators.c1.access import UNKNOWN_GRANT_ID, Form
from simulators.c1.probe import Probe, probe
from simulators.c1.readings import Effect, Reading
from simulators.c1.requests import AccessRequest
from simulators.c1.server import C1Simulator
from simulators.c1.tiny_snapshot import tiny_snapshot
from unit.simulators.c1_changes import added_role, failure, grant_answer, revoke_answer
from unit.simulators.c1_uploads import running_task

MADE_UP = Form(known=False)


@pytest.fixture
async def host(sim: C1Simulator) -> AsyncIterator[Probe]:
    """A host whose snapshot C1 has: u1 is a member of t1, which has a maintainer's entitlement too; u2 is not."""
    async with probe(sim) as connected:
        await connected.hello()
        await deliver(sim, connected)
        yield connected


async def deliver(sim: C1Simulator, host: Probe, **options: Any) -> None:
    task_id = await running_task(sim, host, **options)
    await host.upload(task_id, tiny_snapshot(added_role))
    await host.finish(task_id)


async def answered(sim: C1Simulator, host: Probe, request: AccessRequest, *annotations: object) -> Reading:
    """Takes the request's task and ends it with success."""
    task = (await host.get_task()).task
    answer = grant_answer if task.HasField("grant") else revoke_answer
    await host.call("FinishTask", answer(host.host_id, task, *annotations))
    return await sim.ended(request)


async def test_a_grant_names_what_the_snapshot_holds(sim: C1Simulator, host: Probe) -> None:
    sim.request("grant", "t1", "maintainer", "u2")
    told = (await host.get_task()).task.grant
    assert (told.entitlement.id, told.entitlement.slug) == ("team:t1:maintainer", "maintainer")
    assert (told.entitlement.resource.id.resource, told.principal.id.resource) == ("t1", "u2")
    assert told.principal.display_name == "Grace"


async def test_a_revoke_carries_the_snapshots_own_grant(sim: C1Simulator, host: Probe) -> None:
    sim.request("revoke", "t1", "member", "u1")
    told = (await host.get_task()).task.revoke.grant
    assert told == sim.book().grants["team:t1:member:user:u1"]
    assert (told.id, told.entitlement.slug) == ("team:t1:member:user:u1", "")


@pytest.mark.parametrize("form", [Form(grant_id=False), Form(grant_id=False, slug=False), Form(slug=False)])
async def test_c1_may_tell_less(sim: C1Simulator, host: Probe, form: Form) -> None:
    sim.request("revoke", "t1", "maintainer", "u1", form=form)
    told = (await host.get_task()).task.revoke.grant
    assert told.id == ("team:t1:maintainer:user:u1" if form.grant_id else UNKNOWN_GRANT_ID)
    assert told.entitlement.slug == ("maintainer" if form.slug else "")
    assert (told.entitlement.id, told.principal.id.resource) == ("team:t1:maintainer", "u1")


@pytest.mark.parametrize(("team", "user"), [("t9", "u1"), ("t1", "u9")])
async def test_what_no_snapshot_named_is_asked_for_only_on_demand(
    sim: C1Simulator, host: Probe, team: str, user: str
) -> None:
    with pytest.raises(LookupError, match="no snapshot named"):
        sim.request("grant", team, "member", user)
    sim.request("grant", team, "member", user, form=MADE_UP)
    assert (await host.get_task()).task.grant.entitlement.id == f"team:{team}:member"


async def test_a_grant_that_is_done_is_believed_at_once(sim: C1Simulator, host: Probe) -> None:
    request = sim.request("grant", "t1", "member", "u2")
    reading = await answered(sim, host, request)
    assert (reading.effect, [grant.id for grant in reading.grants]) == (Effect.DONE, [request.grant_id])
    assert set(sim.book().grants) == {"team:t1:member:user:u1", "team:t1:member:user:u2"}
    assert sim.violations == []


async def test_a_grant_takes_the_place_of_the_one_that_it_names(sim: C1Simulator, host: Probe) -> None:
    request = sim.request("grant", "t1", "maintainer", "u1")
    replaced = v2.GrantReplaced(replaced_grant_id="team:t1:member:user:u1")
    reading = await answered(sim, host, request, replaced)
    assert reading.replaced == ("team:t1:member:user:u1",)
    assert set(sim.book().grants) == {"team:t1:maintainer:user:u1"}


async def test_a_revoke_that_is_done_is_believed_whatever_its_grant_was_called(sim: C1Simulator, host: Probe) -> None:
    request = sim.request("revoke", "t1", "member", "u1", form=Form(grant_id=False))
    assert (await answered(sim, host, request)).effect is Effect.DONE
    assert sim.book().grants == {}


async def test_what_was_so_already_is_success(sim: C1Simulator, host: Probe) -> None:
    granted = sim.request("grant", "t1", "member", "u1")
    assert (await answered(sim, host, granted, v2.GrantAlreadyExists())).effect is Effect.ALREADY
    revoked = sim.request("revoke", "t1", "maintainer", "u1")
    assert (await answered(sim, host, revoked, v2.GrantAlreadyRevoked())).effect is Effect.ALREADY
    assert set(sim.book().grants) == {"team:t1:member:user:u1"}


async def test_a_whole_snapshot_replaces_what_was_believed_and_part_of_one_does_not(
    sim: C1Simulator, host: Probe
) -> None:
    await answered(sim, host, sim.request("grant", "t1", "member", "u2"))
    await deliver(sim, host, sync_resource_type_ids=["team", "user"])
    assert len(sim.book().grants) == 2
    await deliver(sim, host)
    assert set(sim.book().grants) == {"team:t1:member:user:u1"}


async def test_a_failure_that_may_pass_is_tried_again_five_times(sim: C1Simulator, host: Probe) -> None:
    request = sim.request("grant", "t1", "member", "u2")
    for attempt in range(1, 7):
        task = (await host.get_task()).task
        assert (task.id, task.grant.principal.id.resource) == (request.tasks[attempt - 1], "u2")
        assert not request.ended
        await host.finish_failed(task.id, 14, "Buildkite is down")
    assert await sim.ended(request) == Reading(Effect.RETRY, "Buildkite is down")
    assert not (await host.get_task()).HasField("task")
    assert len(set(request.tasks)) == 6


@pytest.mark.parametrize(("code", "non_retryable"), [(9, True), (14, True), (7, False), (16, False), (5, False)])
async def test_a_final_failure_is_not_tried_again(
    sim: C1Simulator, host: Probe, code: int, non_retryable: bool
) -> None:
    sim.policy.retry_failed = True
    request = sim.request("revoke", "t1", "member", "u1")
    await host.finish_failed((await host.get_task()).task.id, code, "no", non_retryable=non_retryable)
    assert await sim.ended(request) == Reading(Effect.FAILED, "no")
    assert len(sim.tasks) == 2
    assert len(sim.book().grants) == 1


async def test_a_refusal_cancels_the_request_with_its_reason(sim: C1Simulator, host: Probe) -> None:
    request = sim.request("grant", "t1", "maintainer", "u2")
    task = (await host.get_task()).task
    await host.call("FinishTask", failure(host.host_id, task, reason="maintainers are not granted here"))
    assert await sim.ended(request) == Reading(Effect.CANCELLED, "maintainers are not granted here")


async def test_a_change_needs_no_heartbeat_and_one_that_comes_is_taken(sim: C1Simulator, host: Probe) -> None:
    sim.policy.next_heartbeat, sim.policy.heartbeat_grace = 1, 0.001
    request = sim.request("grant", "t1", "member", "u2")
    task = (await host.get_task()).task
    await host.heartbeat(task.id)
    await host.call("FinishTask", grant_answer(host.host_id, task))
    await sim.ended(request)
    assert sim.violations == []


async def test_a_change_that_does_not_end_within_its_lease_is_handed_out_again(sim: C1Simulator, host: Probe) -> None:
    sim.policy.change_lease, sim.policy.requeue_lost = 0.01, True
    request = sim.request("grant", "t1", "member", "u2")
    await host.get_task()
    await sim.wait_for(lambda: sim.tasks[request.id].handed_again)
    assert (await host.get_task()).task.id == request.id
    assert sim.violations == []


async def test_a_change_makes_a_sync_due_where_that_is_wished_for(sim: C1Simulator, host: Probe) -> None:
    sim.policy.sync_after_change = True
    await answered(sim, host, sim.request("grant", "t1", "member", "u2"))
    assert (await host.get_task()).task.HasField("sync_full")


async def test_c1_may_revoke_what_was_replaced_all_the_same(sim: C1Simulator, host: Probe) -> None:
    sim.policy.revoke_replaced = True
    replaced = v2.GrantReplaced(replaced_grant_id="team:t1:member:user:u1")
    await answered(sim, host, sim.request("grant", "t1", "maintainer", "u1"), replaced)
    assert (await host.get_task()).task.revoke.grant.id == "team:t1:member:user:u1"


async def test_a_request_needs_to_say_which_host_when_there_are_two(sim: C1Simulator, host: Probe) -> None:
    async with probe(sim, host_id="another") as another:
        await another.hello()
        with pytest.raises(LookupError, match="expected one host"):
            sim.request("grant", "t1", "member", "u2")
        request = sim.request("grant", "t1", "member", "u2", host_id=host.host_id)
        assert not (await another.get_task()).HasField("task")
        assert (await host.get_task()).task.id == request.id


async def test_a_hello_tells_whether_teams_can_be_granted(sim: C1Simulator) -> None:
    async with probe(sim) as host:
        await host.hello()
        (session,) = sim.sessions.values()
        assert not session.provisions
        kinds = [v2.CAPABILITY_PROVISION, v2.CAPABILITY_SYNC]
        team = v2.ResourceTypeCapability(resource_type=v2.ResourceType(id="team"), capabilities=kinds)
        await host.hello(
            capabilities=v2.ConnectorCapabilities(resource_type_capabilities=[team], connector_capabilities=kinds)
        )
        assert session.provisions


async def test_a_task_without_a_request_is_read_and_believed_too(sim: C1Simulator, host: Probe) -> None:
    options = sim.book().grant_options("t1", "member", "u2")
    task_id = sim.add_task("grant", **options)
    task: pb.Task = (await host.get_task()).task
    await host.call("FinishTask", grant_answer(host.host_id, task))
    assert (await sim.finished(task_id)).success
    assert "team:t1:member:user:u2" in sim.book().grants
