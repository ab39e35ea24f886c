"""A connector with provisioning: when it may change memberships, what its snapshots say of them, what people see."""

import asyncio
import itertools
import logging
from dataclasses import replace

import pytest

from buildkite_connector.kubernetes.events import draft_events
from buildkite_connector.kubernetes.schema.status_json import status_from_json, status_to_json
from buildkite_connector.model.directory import FULL_SCOPE, AccountID, Membership, Role, TeamID
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code, GrantAnswer, MembershipTask, TaskID
from fakes.connector_setup import MINUTE, Setup, directory_of, ready_setup
from fakes.log_lines import lines
from fakes.virtual_time import virtual_time

ON = Provisioning(enabled=True)
READY = ConditionType.PROVISIONING_READY
ADA = AccountID("u-1")


def ask(setup: Setup, name: str, *, grants: bool = True, team: str = "t-1", role: Role = Role.MEMBER) -> TaskID:
    """C1 asks for a change at its next poll."""
    membership = Membership(TeamID(team), ADA, role)
    setup.c1.tasks.append(MembershipTask(TaskID(name), grants, membership, "Platform", "ada@example.com"))
    return TaskID(name)


def setup_with(**spec: object) -> Setup:
    return Setup(provisioning=ON, **spec)


@virtual_time
async def test_a_grant_is_carried_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with ready_setup(provisioning=replace(ON)) as setup:
        assert setup.condition(READY) == ("True", "Ready")
        task = ask(setup, "grant1")
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[task].answer == GrantAnswer(Membership(TeamID("t-1"), ADA, Role.MEMBER))
        assert setup.members.rows == {("t-1", "u-1"): Role.MEMBER}
        [told] = [fields for _, text, fields in lines(caplog.records) if text == "membership task done"]
        assert (told["connector"], told["task_id"]) == ("default.acme", task)
        record = setup.status.provisioning
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
    async with ready_setup(provisioning=ON) as setup:
        before = setup.status
        setup.reports.seconds = 20.0
        for number, team in enumerate(("t-1", "t-2")):
            ask(setup, f"grant{number}", team=team)
        ask(setup, "revoke", grants=False)
        await asyncio.sleep(3 * MINUTE)
        events = draft_events(before, setup.status)
        assert [event.reason.value for event in events] == ["Granted", "Granted", "Revoked"]
        assert "Ada, member of team Platform (C1's task grant0)" in events[0].message
        assert not any("@" in event.message for event in events)
        assert draft_events(setup.status, setup.status) == []


@pytest.mark.parametrize("change", [{"provisioning": Provisioning()}, {"suspend": True}])
@virtual_time
async def test_switched_off_it_writes_no_more_at_once(change: dict[str, object]) -> None:
    async with ready_setup(provisioning=ON) as setup:
        setup.members.seconds = 5.0
        setup.c1.next_poll = 1.0
        ask(setup, "grant1")
        await asyncio.wait_for(setup.members.called.wait(), MINUTE)
        setup.edit(**change)
        await asyncio.sleep(2 * MINUTE)
        assert setup.members.writes == []
        assert setup.members.rows == {}


@virtual_time
async def test_a_change_of_it_greets_c1_anew() -> None:
    async with ready_setup() as setup:
        hellos = len(setup.c1.hellos)
        setup.edit(provisioning=ON)
        await asyncio.sleep(MINUTE)
        assert len(setup.c1.hellos) == hellos + 1
        assert setup.condition(READY) == ("True", "Ready")


@virtual_time
async def test_a_staged_snapshot_from_before_a_change_answers_no_task() -> None:
    async with ready_setup(provisioning=ON) as setup:
        ask(setup, "grant1")
        sync = setup.task()
        await asyncio.sleep(3 * MINUTE)
        assert setup.c1.uploads == [(sync, "sha-sync2")]
        assert len(setup.buildkite.collections) == 2
        again = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads[1:] == [(again, "sha-sync2")], "it shows the change"


@virtual_time
async def test_a_team_changed_while_a_sync_runs_is_read_again_and_the_grant_does_not_wait() -> None:
    setup = setup_with()
    setup.buildkite.seconds = 10 * MINUTE
    setup.c1.next_poll = 1.0
    async with setup.running():
        sync = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.active == 1
        grant = ask(setup, "grant1")
        await asyncio.sleep(5)
        assert setup.c1.finished[grant].code is Code.OK
        await asyncio.sleep(11 * MINUTE)
        assert setup.buildkite.rereads == [frozenset({"t-1"})]
        assert setup.c1.uploads == [(sync, "sha-sync1")]


@virtual_time
async def test_the_snapshot_of_a_former_process_answers_no_task_while_provisioning_is_on() -> None:
    async with ready_setup(provisioning=ON) as setup:
        pass
    async with setup.running(setup.status):
        sync = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(sync, "sha-sync2")]


@virtual_time
async def test_an_edit_while_a_grant_is_under_way_does_not_refuse_it() -> None:
    async with ready_setup(provisioning=ON) as setup:
        setup.members.seconds, setup.c1.next_poll = 5.0, 1.0
        setup.buildkite.preflight_seconds = 8.0
        task = ask(setup, "grant1")
        await asyncio.wait_for(setup.members.called.wait(), MINUTE)
        setup.edit(max_drop_percent=10)
        await asyncio.sleep(2 * MINUTE)
        assert setup.c1.finished[task].answer == GrantAnswer(Membership(TeamID("t-1"), ADA, Role.MEMBER))
        assert [what for what, _, _ in setup.members.writes] == ["create"]


@virtual_time
async def test_a_task_that_comes_as_provisioning_is_switched_on_is_not_refused() -> None:
    """C1 hands it out to the session that was opened before the edit."""
    async with ready_setup() as setup:
        setup.c1.next_poll = 1.0
        await asyncio.sleep(MINUTE)
        task = ask(setup, "grant1")
        setup.edit(provisioning=ON)
        await asyncio.sleep(2 * MINUTE)
        assert setup.c1.finished[task].code in {Code.OK, Code.ABORTED}


def called(setup: Setup, slug: str) -> None:
    """The only team that a sync sees is renamed."""
    team = replace(directory_of(1, FULL_SCOPE).teams[0], slug=slug)
    setup.buildkite.edit = lambda directory: replace(directory, teams=(team,))
    setup.members.slugs[team.id] = slug


@virtual_time
async def test_a_protected_team_that_is_renamed_stays_protected_over_a_restart_and_people_are_told() -> None:
    setup = setup_with()
    setup.order = replace(
        setup.order, spec=replace(setup.order.spec, provisioning=replace(ON, protected_teams=("release",)))
    )
    called(setup, "release")
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(READY) == ("True", "Ready")
        called(setup, "shipping")
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert setup.condition(READY) == ("True", "ProtectedTeamUnknown")
    left = status_from_json(status_to_json(setup.status))
    async with setup.running(left):
        await asyncio.sleep(MINUTE)
        condition = setup.status.condition(READY)
        assert condition is not None
        assert "the slug release has the slug shipping now, and stays protected" in condition.message
        task = ask(setup, "grant1")
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[task].cancels
        assert "release is protected" in setup.c1.finished[task].message
        assert setup.members.writes == []


@virtual_time
async def test_a_protected_slug_that_no_team_has_is_a_condition_and_an_event_once() -> None:
    setup = setup_with()
    policy = replace(ON, protected_teams=("team", "reelease"))
    setup.order = replace(setup.order, spec=replace(setup.order.spec, provisioning=policy))
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(READY) == ("True", "ProtectedTeamUnknown")
        events = [
            each
            for before, after in itertools.pairwise(setup.reports.written)
            for each in draft_events(before, after)
            if each.reason == "ProtectedTeamUnknown"
        ]
        assert [each.type for each in events] == ["Warning"]
        assert "no team has the slug reelease, so it protects nothing" in events[0].message
        setup.edit(provisioning=replace(ON, protected_teams=("team",)))
        await asyncio.sleep(MINUTE)
        assert setup.condition(READY) == ("True", "Ready")
