"""A connector with provisioning: when it may change memberships, what its snapshots say of them, what people see."""

import asyncio
import itertools
import logging
from dataclasses import replace

import pytest

from buildkite_connector.kubernetes.events import draft_events
from buildkite_connector.kubernetes.schema.status_json import status_from_json, status_to_json
from buildkite_connector.model.directory import FULL_SCOPE, AccountID, Membership, Role, TeamID, canonical_id
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ChangeResult, ConditionType
from buildkite_connector.model.tasks import Code, GrantAnswer, MembershipTask, TaskID
from fakes.connector_world import KEY, MINUTE, World, directory_of, ready_world
from fakes.membership_api import LOST
from fakes.virtual_time import virtual_time

ON = Provisioning(enabled=True)
READY = ConditionType.PROVISIONING_READY
ADA = AccountID("u-1")


def ask(world: World, name: str, *, grants: bool = True, team: str = "t-1", role: Role = Role.MEMBER) -> TaskID:
    """C1 asks for a change at its next poll."""
    membership = Membership(TeamID(team), ADA, role)
    world.c1.tasks.append(MembershipTask(TaskID(name), grants, membership, "Platform", "ada@example.com"))
    return TaskID(name)


def world_with(**spec: object) -> World:
    return World(provisioning=ON, **spec)


@virtual_time
async def test_a_grant_is_carried_out_and_told() -> None:
    async with ready_world(provisioning=replace(ON)) as world:
        assert world.condition(READY) == ("True", "Ready")
        task = ask(world, "grant1")
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].answer == GrantAnswer(Membership(TeamID("t-1"), ADA, Role.MEMBER))
        assert world.members.rows == {("t-1", "u-1"): Role.MEMBER}
        record = world.status.provisioning
        assert record is not None
        assert (record.granted, record.revoked, record.refused) == (1, 0, 0)
        assert record.last_change is not None
        assert (record.last_change.team, record.last_change.user, record.last_change.task_id) == (
            "Platform",
            "Ada",
            "grant1",
        )


@virtual_time
async def test_each_change_is_an_event_also_where_one_status_tells_of_several() -> None:
    async with ready_world(provisioning=ON) as world:
        before = world.status
        world.reports.seconds = 20.0
        for number, team in enumerate(("t-1", "t-2")):
            ask(world, f"grant{number}", team=team)
        ask(world, "revoke", grants=False)
        await asyncio.sleep(3 * MINUTE)
        events = draft_events(before, world.status)
        assert [event.reason.value for event in events] == ["Granted", "Granted", "Revoked"]
        assert "Ada, member of team Platform (C1's task grant0)" in events[0].message
        assert not any("@" in event.message for event in events)
        assert draft_events(world.status, world.status) == []


@virtual_time
async def test_a_refusal_is_an_event_with_its_reason() -> None:
    async with ready_world(provisioning=replace(ON, protected_teams=("platform",))) as world:
        before = world.status
        task = ask(world, "grant1")
        await asyncio.sleep(MINUTE)
        [event] = draft_events(before, world.status)
        assert world.c1.finished[task].cancels
        assert (event.type, event.reason) == ("Warning", "ChangeNotAllowed")
        assert "u-1" in event.message, "the person is named by the id where the name is an address"
        assert "@" not in event.message
        assert world.members.writes == []


@virtual_time
async def test_while_off_nothing_is_written_and_there_is_no_condition() -> None:
    async with ready_world() as world:
        task = ask(world, "grant1")
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.FAILED_PRECONDITION
        assert "spec.provisioning.enabled" in world.c1.finished[task].message
        assert world.condition(READY) == ("absent", "")
    assert world.members.calls == []


@pytest.mark.parametrize("change", [{"provisioning": Provisioning()}, {"suspend": True}])
@virtual_time
async def test_switched_off_it_writes_no_more_at_once(change: dict[str, object]) -> None:
    async with ready_world(provisioning=ON) as world:
        world.members.seconds = 5.0
        world.c1.next_poll = 1.0
        ask(world, "grant1")
        await asyncio.wait_for(world.members.called.wait(), MINUTE)
        world.edit(**change)
        await asyncio.sleep(2 * MINUTE)
        assert world.members.writes == []
        assert world.members.rows == {}


@virtual_time
async def test_a_change_of_it_greets_c1_anew() -> None:
    async with ready_world() as world:
        hellos = len(world.c1.hellos)
        world.edit(provisioning=ON)
        await asyncio.sleep(MINUTE)
        assert len(world.c1.hellos) == hellos + 1
        assert world.condition(READY) == ("True", "Ready")


@virtual_time
async def test_a_missing_scope_stops_changes_and_not_syncs() -> None:
    world = world_with()
    world.vault.credentials = replace(world.vault.credentials, write_api_token="w")
    world.members.scopes = frozenset()
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(READY) == ("False", "TokenScopeMissing")
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert "write_teams" in world.status.token.missing_scopes
        task = ask(world, "grant1")
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.PERMISSION_DENIED
        assert world.members.writes == []
        world.members.scopes = frozenset({"write_teams"})
        await asyncio.sleep(6 * MINUTE)
        assert world.condition(READY) == ("True", "Ready")
        assert not world.status.token.missing_scopes


@virtual_time
async def test_a_task_that_comes_before_the_check_waits_for_it() -> None:
    async with ready_world() as world:
        world.buildkite.preflight_seconds = 8.0
        world.c1.next_poll = 1.0
        world.edit(provisioning=ON)
        task = ask(world, "grant1")
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.OK


@virtual_time
async def test_a_staged_snapshot_from_before_a_change_answers_no_task() -> None:
    async with ready_world(provisioning=ON) as world:
        ask(world, "grant1")
        sync = world.task()
        await asyncio.sleep(3 * MINUTE)
        assert world.c1.uploads == [(sync, "sha-sync2")]
        assert len(world.buildkite.collections) == 2
        again = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads[1:] == [(again, "sha-sync2")], "it shows the change"


@virtual_time
async def test_what_changes_nothing_leaves_the_snapshot_as_good_as_it_was() -> None:
    async with ready_world(provisioning=ON) as world:
        ask(world, "revoke1", grants=False)
        sync = world.task()
        await asyncio.sleep(3 * MINUTE)
        assert world.c1.uploads == [(sync, "sha-sync1")]


@virtual_time
async def test_a_team_changed_while_a_sync_runs_is_read_again_and_the_grant_does_not_wait() -> None:
    world = world_with()
    world.buildkite.seconds = 10 * MINUTE
    world.c1.next_poll = 1.0
    async with world.running():
        sync = world.task()
        await asyncio.sleep(MINUTE)
        assert world.buildkite.active == 1
        grant = ask(world, "grant1")
        await asyncio.sleep(5)
        assert world.c1.finished[grant].code is Code.OK
        await asyncio.sleep(11 * MINUTE)
        assert world.buildkite.rereads == [frozenset({"t-1"})]
        assert world.c1.uploads == [(sync, "sha-sync1")]


@virtual_time
async def test_a_sync_is_not_sealed_while_a_write_is_out() -> None:
    world = world_with()
    world.buildkite.seconds = 60.0
    world.members.seconds = 40.0
    world.c1.next_poll = 1.0
    async with world.running():
        sync = world.task()
        await asyncio.sleep(10)
        ask(world, "grant1")
        await asyncio.sleep(3 * MINUTE)
        assert world.buildkite.rereads == [frozenset({"t-1"})]
        assert world.c1.uploads == [(sync, "sha-sync1")]


@virtual_time
async def test_the_snapshot_of_a_former_process_answers_no_task_while_provisioning_is_on() -> None:
    async with ready_world(provisioning=ON) as world:
        pass
    async with world.running(world.status):
        sync = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(sync, "sha-sync2")]


@virtual_time
async def test_changes_of_one_team_go_one_after_the_other_of_several_side_by_side() -> None:
    for teams, most in ((("t-1", "t-1", "t-1"), 1), (("t-1", "t-2"), 2)):
        async with ready_world(provisioning=ON) as world:
            world.members.seconds = 3.0
            world.c1.next_poll = 0.0
            for number, team in enumerate(teams):
                ask(world, f"grant{number}", team=team, grants=number % 2 == 0)
            await asyncio.sleep(MINUTE)
            assert world.members.most == most


@virtual_time
async def test_a_write_that_is_out_at_shutdown_has_its_answer_awaited() -> None:
    async with ready_world(provisioning=ON) as world:
        world.members.seconds = 2.0
        task = ask(world, "grant1")
        await asyncio.wait_for(world.members.written.wait(), MINUTE)
    assert world.c1.finished[task].code is Code.OK


@virtual_time
async def test_each_task_is_one_line_for_an_audit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with ready_world(provisioning=ON) as world:
            ask(world, "grant1")
            await asyncio.sleep(MINUTE)
            world.members.before.append(LOST)
            ask(world, "grant2", team="t-2")
            await asyncio.sleep(MINUTE)
    told = [each for each in caplog.records if each.message == "membership task done"]
    assert [vars(each)["result"] for each in told] == [ChangeResult.GRANTED.value] * 2
    assert vars(told[0])["connector"] == str(KEY)
    assert {"team": "t-1", "team_name": "Platform", "role": "member", "user": "u-1", "action": "grant"}.items() <= vars(
        told[0]
    ).items()
    assert "ada@example.com" not in str([vars(each) for each in caplog.records])


@virtual_time
async def test_an_edit_while_a_grant_is_under_way_does_not_refuse_it() -> None:
    async with ready_world(provisioning=ON) as world:
        world.members.seconds, world.c1.next_poll = 5.0, 1.0
        world.buildkite.preflight_seconds = 8.0
        task = ask(world, "grant1")
        await asyncio.wait_for(world.members.called.wait(), MINUTE)
        world.edit(max_drop_percent=10)
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.finished[task].answer == GrantAnswer(Membership(TeamID("t-1"), ADA, Role.MEMBER))
        assert [what for what, _, _ in world.members.writes] == ["create"]


@virtual_time
async def test_an_edit_whose_check_takes_long_hands_the_grant_back() -> None:
    async with ready_world(provisioning=ON) as world:
        world.members.seconds, world.c1.next_poll = 5.0, 1.0
        world.buildkite.preflight_seconds = 10 * MINUTE
        task = ask(world, "grant1")
        await asyncio.wait_for(world.members.called.wait(), MINUTE)
        world.edit(max_drop_percent=10)
        await asyncio.sleep(2 * MINUTE)
        outcome = world.c1.finished[task]
        assert (outcome.code, outcome.non_retryable, world.members.writes) == (Code.UNAVAILABLE, False, [])


@virtual_time
async def test_a_task_that_comes_as_provisioning_is_switched_on_is_not_refused() -> None:
    """C1 hands it out to the session that was opened before the edit."""
    async with ready_world() as world:
        world.c1.next_poll = 1.0
        await asyncio.sleep(MINUTE)
        task = ask(world, "grant1")
        world.edit(provisioning=ON)
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.finished[task].code in {Code.OK, Code.ABORTED}


def called(world: World, slug: str) -> None:
    """The only team that a sync sees is renamed."""
    team = replace(directory_of(1, FULL_SCOPE).teams[0], slug=slug)
    world.buildkite.edit = lambda directory: replace(directory, teams=(team,))
    world.members.slugs[team.id] = slug


@virtual_time
async def test_a_protected_team_that_is_renamed_stays_protected_over_a_restart_and_people_are_told() -> None:
    world = world_with()
    world.order = replace(
        world.order, spec=replace(world.order.spec, provisioning=replace(ON, protected_teams=("release",)))
    )
    called(world, "release")
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(READY) == ("True", "Ready")
        called(world, "shipping")
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert world.condition(READY) == ("True", "ProtectedTeamUnknown")
    left = status_from_json(status_to_json(world.status))
    async with world.running(left):
        await asyncio.sleep(MINUTE)
        condition = world.status.condition(READY)
        assert condition is not None
        assert "the slug release has the slug shipping now, and stays protected" in condition.message
        task = ask(world, "grant1")
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].cancels
        assert "release is protected" in world.c1.finished[task].message
        assert world.members.writes == []


@virtual_time
async def test_a_protected_slug_that_no_team_has_is_a_condition_and_an_event_once() -> None:
    world = world_with()
    policy = replace(ON, protected_teams=("team", "reelease"))
    world.order = replace(world.order, spec=replace(world.order.spec, provisioning=policy))
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(READY) == ("True", "ProtectedTeamUnknown")
        events = [
            each
            for before, after in itertools.pairwise(world.reports.written)
            for each in draft_events(before, after)
            if each.reason == "ProtectedTeamUnknown"
        ]
        assert [each.type for each in events] == ["Warning"]
        assert "no team has the slug reelease, so it protects nothing" in events[0].message
        world.edit(provisioning=replace(ON, protected_teams=("team",)))
        await asyncio.sleep(MINUTE)
        assert world.condition(READY) == ("True", "Ready")


@pytest.mark.parametrize("form", ["{}", "{{{}}}", "urn:uuid:{}"])
def test_a_uuid_is_one_team_whatever_its_form(form: str) -> None:
    known = "5f0a9d5e-6f0e-4a51-9a55-0c3f1f6f7a11"
    assert canonical_id(form.format(known.upper())) == known
    assert canonical_id(form.format(known.replace("-", ""))) == known
    for other in ("t-1", known[:-1], f"{{{known}", f"{known}}}", known.replace("5", "\u0665")):
        assert canonical_id(other) == other
