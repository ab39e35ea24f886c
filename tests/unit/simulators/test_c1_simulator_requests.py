"""The simulated C1's access requests: what a connector is asked, how often, and what C1 believes afterwards."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2 as v2
from simulators.c1.access import Form
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


@pytest.mark.parametrize(("team", "user"), [("t9", "u1"), ("t1", "u9")])
async def test_what_no_snapshot_named_is_asked_for_only_on_demand(
    sim: C1Simulator, host: Probe, team: str, user: str
) -> None:
    with pytest.raises(LookupError, match="no snapshot named"):
        sim.request("grant", team, "member", user)
    sim.request("grant", team, "member", user, form=MADE_UP)
    assert (await host.get_task()).task.grant.entitlement.id == f"team:{team}:member"


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


async def test_a_task_without_a_request_is_read_and_believed_too(sim: C1Simulator, host: Probe) -> None:
    options = sim.book().grant_options("t1", "member", "u2")
    task_id = sim.add_task("grant", **options)
    task: pb.Task = (await host.get_task()).task
    await host.call("FinishTask", grant_answer(host.host_id, task))
    assert (await sim.finished(task_id)).success
    assert "team:t1:member:user:u2" in sim.book().grants
