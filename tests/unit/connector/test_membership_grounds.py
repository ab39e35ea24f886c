"""`Memberships` by itself: when a change may be made, what is told of it, and which teams a sync reads again."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from buildkite_connector.connector.memberships import CHECK_SECONDS, Memberships
from buildkite_connector.connector.state import ConnectorState, TeamChanges
from buildkite_connector.model.directory import AccountID, Membership, OrganizationSlug, Role, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ChangeAction, ChangeRecord, ChangeResult
from buildkite_connector.model.tasks import MembershipTask, TaskID
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.tasks.ports import ChangeGrounds
from buildkite_connector.timing.clock import Instant, instant
from fakes.connector_setup import Setup
from fakes.connector_states import CREDENTIALS, DOWN, REJECTED, checked, new, ready
from fakes.log_lines import lines
from fakes.task_ports import Records, seconds
from fakes.virtual_time import START, virtual_time

ON = Provisioning(enabled=True)
ONE, OTHER = TeamID("t-1"), TeamID("t-2")
TASK = MembershipTask(
    TaskID("task1"), True, Membership(ONE, AccountID("u-1"), Role.MAINTAINER), "Platform", "ada@example.com"
)


class Bench(Setup):
    """`clients`: those that were made, by token and keyword arguments."""

    def __init__(self, state: ConnectorState) -> None:
        super().__init__()
        self.state = state
        self.observer = Records()
        self.clients: list[tuple[Any, dict[str, Any]]] = []
        environment = replace(self.environment(), observer=self.observer)
        self.changes = Memberships("default.acme", environment, self.apply, lambda: self.state)

    def connect_buildkite(self, token: str, redactor: Redactor, **how: Any) -> BuildkiteAPI:
        assert redactor.holds_secret(CREDENTIALS.client_secret)
        self.clients.append((token, how))
        return super().connect_buildkite(token, redactor, **how)

    def apply(self, transition: Callable[[ConnectorState, Instant], ConnectorState]) -> None:
        self.state = transition(self.state, instant(self.clock))
        self.changes.state_changed()

    def becomes(self, state: ConnectorState) -> None:
        self.apply(lambda _, __: state)


# When a change may be made


@virtual_time
async def test_a_change_is_made_with_what_the_last_check_found_and_one_client() -> None:
    bench = Bench(ready(provisioning=ON))
    expected = ChangeGrounds(OrganizationSlug("acme-inc"), bench.members, ON)
    assert [await bench.changes.grounds() for _ in range(2)] == [expected] * 2
    assert bench.clients == [("token", {"urgent": True})]
    assert bench.changes.allowed(expected)
    other = replace(CREDENTIALS, write_api_token="writer")
    bench.state = replace(bench.state, check=replace(bench.state.check, credentials=other))
    await bench.changes.grounds()
    assert bench.clients[1:] == [("writer", {"urgent": True})]


READY = ready(provisioning=ON)


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        (READY, True),
        (ready(provisioning=Provisioning()), False),
        (checked(new(provisioning=ON, suspend=True)), False),
        (new(provisioning=ON), False),
        (checked(new(provisioning=ON), failure=REJECTED), False),
        (replace(READY, desired=replace(READY.desired, spec_error=DOWN)), False),
        (replace(READY, check=replace(READY.check, write_failure=REJECTED)), False),
        (replace(READY, host_id_holder="BuildkiteConnector default/other"), False),
    ],
    ids=["ready", "off", "suspended", "unchecked", "rejected", "odd spec", "token cannot write", "another's host ID"],
)
@virtual_time
async def test_a_write_may_be_sent_only_while_the_grounds_hold(state: ConnectorState, allowed: bool) -> None:
    bench = Bench(READY)
    grounds = await bench.changes.grounds()
    assert grounds is not None
    bench.becomes(state)
    assert bench.changes.allowed(grounds) is allowed


@pytest.mark.parametrize("state", [ready(), new(), checked(new(suspend=True))])
@virtual_time
async def test_while_off_there_are_no_grounds(state: ConnectorState) -> None:
    bench = Bench(state)
    assert await bench.changes.grounds() is None
    assert seconds() == 0.0
    assert not bench.changes.allowed(ChangeGrounds(OrganizationSlug("acme-inc"), bench.members, ON))


@virtual_time
async def test_what_a_check_found_is_raised_at_once() -> None:
    bench = Bench(checked(new(provisioning=ON), failure=REJECTED))
    with pytest.raises(Failure, match="rejected the token") as caught:
        await bench.changes.grounds()
    assert caught.value not in (REJECTED, bench.state.check.failure)
    assert seconds() == 0.0


@virtual_time
async def test_a_check_under_way_is_awaited_for_a_while_whatever_else_happens() -> None:
    bench = Bench(new(provisioning=ON))
    asking = asyncio.create_task(bench.changes.grounds())
    for _ in range(3):
        await asyncio.sleep(4.9)
        bench.changes.state_changed()
    with pytest.raises(Failure, match="are being checked") as caught:
        await asking
    assert (caught.value.reason, seconds()) == (Reason.PENDING, CHECK_SECONDS)


@pytest.mark.parametrize("to", [ready(provisioning=ON), ready(), checked(new(provisioning=ON), failure=REJECTED)])
@virtual_time
async def test_the_end_of_the_check_ends_the_wait(to: ConnectorState) -> None:
    bench = Bench(new(provisioning=ON))
    asking = asyncio.create_task(bench.changes.grounds())
    await asyncio.sleep(4.0)
    bench.becomes(to)
    await asyncio.wait({asking})
    assert seconds() == 4.0
    assert (asking.exception() is None) == (to.blocked_by is None)


@pytest.mark.parametrize(
    "edit",
    [
        {"provisioning": replace(ON, protected_teams=("ops",))},
        {"provisioning": replace(ON, roles=(Role.MEMBER,))},
        {"provisioning": Provisioning()},
        {"max_drop_percent": 10},
    ],
)
@virtual_time
async def test_grounds_hold_until_the_resource_is_edited(edit: dict[str, object]) -> None:
    bench = Bench(ready(provisioning=ON))
    grounds = await bench.changes.grounds()
    assert grounds is not None
    assert bench.changes.allowed(grounds)
    edited = replace(bench.state.desired, generation=2, spec=replace(bench.state.desired.spec, **edit))  # type: ignore[arg-type]
    bench.becomes(replace(bench.state, desired=edited))
    assert not bench.changes.allowed(grounds), "not checked yet"
    bench.becomes(checked(bench.state))
    assert bench.changes.allowed(grounds) == ("max_drop_percent" in edit)


@virtual_time
async def test_a_spec_that_cannot_be_read_does_not_say_that_provisioning_is_off() -> None:
    state = ready()
    broken = Failure(Reason.SPEC_INVALID, "spec.schedule must be one.", remedy=Remedy.EDIT)
    bench = Bench(replace(state, desired=replace(state.desired, spec_error=broken)))
    with pytest.raises(Failure, match=r"No membership is changed: spec\.schedule must be one") as caught:
        await bench.changes.grounds()
    assert (caught.value.reason, caught.value.remedy) == (Reason.SPEC_INVALID, Remedy.RETRY)


@virtual_time
async def test_a_team_that_had_a_protected_slug_is_known_while_the_spec_names_the_slug() -> None:
    bench = Bench(ready(provisioning=replace(ON, protected_teams=("platform",))))
    assert bench.changes.protected_slug(ONE) is None
    bench.changes.seen_protected(ONE, "platform")
    assert (bench.changes.protected_slug(ONE), bench.changes.protected_slug(OTHER)) == ("platform", None)
    other = replace(bench.state.desired.spec, provisioning=replace(ON, protected_teams=("ops",)))
    bench.becomes(replace(bench.state, desired=replace(bench.state.desired, spec=other)))
    assert bench.changes.protected_slug(ONE) is None


# What is told of it

ABOUT = {"connector": "default.acme", "task_id": "task1", "action": "grant"}
WHO = {"team": "t-1", "team_name": "Platform", "role": "maintainer", "user": "u-1"}


@pytest.mark.parametrize(
    ("result", "reason", "told"),
    [
        (ChangeResult.GRANTED, "", {}),
        (ChangeResult.ALREADY, "", {}),
        (ChangeResult.REFUSED, "It is protected.", {"reason": "It is protected."}),
    ],
)
@virtual_time
async def test_each_end_is_a_line_for_an_audit_an_operation_and_a_record(
    caplog: pytest.LogCaptureFixture, result: ChangeResult, reason: str, told: dict[str, str]
) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench(ready(provisioning=ON))
    bench.changes.ended(TASK, result, "Ada\nL", *([reason] if reason else []))
    ended = {"result": result.value}
    assert lines(caplog.records) == [(logging.INFO, "membership task done", {**ABOUT, **ended, **WHO, **told})]
    assert bench.observer.facts == [("change of a membership", {**ABOUT, **ended})]
    change = ChangeRecord(
        START, ChangeAction.GRANT, "Platform", Role.MAINTAINER, "Ada L", TaskID("task1"), result, reason, number=1
    )
    record = bench.state.records.provisioning
    assert (record and record.last_change) == (None if result is ChangeResult.ALREADY else change)


@virtual_time
async def test_names_that_are_addresses_give_way_to_ids() -> None:
    bench = Bench(ready(provisioning=ON))
    bench.changes.ended(replace(TASK, grants=False, team_name=""), ChangeResult.REVOKED, "ada@example.com")
    record = bench.state.records.provisioning
    assert record is not None
    assert record.last_change is not None
    assert (record.last_change.action, record.last_change.team, record.last_change.user) == ("revoke", "t-1", "u-1")


@pytest.mark.parametrize("task", [TASK, replace(TASK, membership=None)])
@virtual_time
async def test_a_failure_is_a_warning_and_one_of_the_token_is_kept(
    caplog: pytest.LogCaptureFixture, task: MembershipTask
) -> None:
    bench = Bench(ready(provisioning=ON))
    bench.changes.failed(task, DOWN)
    kept = [bench.state.check.write_failure]
    bench.changes.failed(task, Failure(Reason.TOKEN_REJECTED, "401", remedy=Remedy.CREDENTIALS))
    kept.append(bench.state.check.write_failure)
    assert [each and each.message for each in kept] == [None, "401"]
    who = WHO if task.membership else {}
    told = [("BuildkiteUnavailable", DOWN.message), ("TokenRejected", "401")]
    expected = [{**ABOUT, "result": result, **who, "reason": reason} for result, reason in told]
    assert lines(caplog.records) == [(logging.WARNING, "membership task failed", each) for each in expected]
    assert bench.observer.facts == [("change of a membership", {**ABOUT, "result": result}) for result, _ in told]


# Which teams a sync reads again


@virtual_time
async def test_a_sync_waits_for_writes_and_learns_of_each_whether_it_was_answered_or_not() -> None:
    bench = Bench(ready(provisioning=ON))

    async def write(team: TeamID, seconds: float) -> None:
        with bench.changes.writing(team):
            await asyncio.sleep(seconds)
            raise DOWN

    assert await bench.changes.settled() == TeamChanges()
    writes = [asyncio.create_task(write(ONE, 3.0)), asyncio.create_task(write(OTHER, 2.0))]
    await asyncio.sleep(1.0)
    waiting = asyncio.create_task(bench.changes.settled())
    await asyncio.wait({writes[1]})
    assert not waiting.done()
    changes = await waiting
    assert seconds() == 3.0
    assert (changes.number, changes.since(1)) == (2, frozenset({ONE}))
    assert changes.since(0) == frozenset({ONE, OTHER})
    assert [each.exception() for each in writes] == [DOWN, DOWN]


@virtual_time
async def test_changes_of_one_team_wait_for_their_turn() -> None:
    bench = Bench(ready(provisioning=ON))
    ends: list[tuple[TeamID, float]] = []

    async def change(team: TeamID) -> None:
        async with bench.changes.lock(team):
            await asyncio.sleep(1.0)
        ends.append((team, seconds()))

    await asyncio.gather(*map(change, (ONE, ONE, OTHER, ONE)))
    assert ends == [(ONE, 1.0), (OTHER, 1.0), (ONE, 2.0), (ONE, 3.0)]
