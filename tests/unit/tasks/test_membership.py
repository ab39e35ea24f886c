"""The table of outcomes of grants and revokes: what is in Buildkite before, what comes between, what C1 hears."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from buildkite_connector.model.directory import AccountID, Membership, Role, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ChangeResult
from buildkite_connector.model.tasks import Code, GrantAnswer, MembershipTask, RevokeAnswer, TaskID, TaskOutcome
from buildkite_connector.sync.ports import NotFound, WriteRefused
from buildkite_connector.tasks import membership
from buildkite_connector.tasks.membership import CHANGE_SECONDS, change_membership
from buildkite_connector.tasks.outcomes import OFF
from buildkite_connector.tasks.ports import TaskProgress
from fakes.connector_ports import C1
from fakes.log_lines import lines
from fakes.membership_api import LOST
from fakes.task_ports import Changes, seconds, session_ports
from fakes.virtual_time import virtual_time

TEAM, ADA = TeamID("t-1"), AccountID("u-1")
MEMBER = Membership(TEAM, ADA, Role.MEMBER)
MAINTAINER = replace(MEMBER, role=Role.MAINTAINER)
DOWN = Failure(Reason.BUILDKITE_UNAVAILABLE, "503")
FORBIDDEN = Failure(Reason.ACCESS_DENIED, "403", remedy=Remedy.CREDENTIALS)
REJECTED = Failure(Reason.TOKEN_REJECTED, "401", remedy=Remedy.CREDENTIALS)
LIMITED = Failure(Reason.BUILDKITE_RATE_LIMITED, "429", retry_after=20.0)


async def carry_out(
    changes: Changes, wanted: Membership | None, *, grants: bool, progress: TaskProgress | None = None
) -> TaskOutcome:
    task = MembershipTask(TaskID("task"), grants, wanted, "Platform", "Ada L", refusal="" if wanted else "no id in it")
    return await change_membership(task, session_ports(C1(), changes=changes), progress or TaskProgress())


def changes_with(role: Role | None, **options: object) -> Changes:
    changes = Changes()
    if role is not None:
        changes.api.rows[TEAM, ADA] = role
    for name, value in options.items():
        setattr(changes.api, name, value)
    return changes


@dataclass(frozen=True)
class Row:
    """`before` and `after`: the role in Buildkite; `answer` is what C1 gets, or `code` and whether that is final."""

    name: str
    grants: bool
    wanted: Membership
    before: Role | None
    after: Role | None
    answer: GrantAnswer | RevokeAnswer | None = None
    code: Code = Code.OK
    final: bool = False
    writes: int = 0
    fails_before: tuple[Exception, ...] = ()
    fails_after: tuple[Exception, ...] = ()
    reads: tuple[Exception, ...] = ()
    people: frozenset[AccountID] | None = None
    teams: tuple[TeamID, ...] = (TEAM,)


NONE, M, A = None, Role.MEMBER, Role.MAINTAINER
RAISED = GrantAnswer(MAINTAINER, replaced=MEMBER)
TABLE = [
    Row("created", True, MEMBER, NONE, M, GrantAnswer(MEMBER), writes=1),
    Row("role changed up", True, MAINTAINER, M, A, RAISED, writes=1),
    Row("role changed down", True, MEMBER, A, M, GrantAnswer(MEMBER, replaced=MAINTAINER), writes=1),
    Row("already there", True, MEMBER, M, M, GrantAnswer(MEMBER, already=True)),
    Row("removed", False, MEMBER, M, NONE, RevokeAnswer(), writes=1),
    Row("already gone", False, MEMBER, NONE, NONE, RevokeAnswer(already=True)),
    Row("stale revoke of the other role", False, MAINTAINER, M, M, RevokeAnswer(already=True)),
    Row("team gone, grant", True, MEMBER, NONE, NONE, None, Code.NOT_FOUND, True, 1, teams=()),
    Row("team gone, revoke", False, MEMBER, NONE, NONE, RevokeAnswer(already=True), teams=()),
    Row(
        "not in the organization", True, MEMBER, NONE, NONE, None, Code.FAILED_PRECONDITION, True, 1, people=frozenset()
    ),
    Row("lost before it took effect", True, MEMBER, NONE, M, GrantAnswer(MEMBER), writes=2, fails_before=(LOST,)),
    Row("lost after it took effect", True, MEMBER, NONE, M, GrantAnswer(MEMBER), writes=1, fails_after=(LOST,)),
    Row("a role's change lost after it took effect", True, MAINTAINER, M, A, RAISED, writes=1, fails_after=(DOWN,)),
    Row("a removal lost after it took effect", False, MEMBER, M, NONE, RevokeAnswer(), writes=1, fails_after=(LOST,)),
    Row("a removal lost before it took effect", False, MEMBER, M, NONE, RevokeAnswer(), writes=2, fails_before=(DOWN,)),
    Row("5xx for good", True, MEMBER, NONE, NONE, None, Code.UNAVAILABLE, False, 4, fails_before=(DOWN,) * 9),
    Row("5xx on reading", True, MEMBER, NONE, NONE, None, Code.UNAVAILABLE, False, reads=(DOWN,)),
    Row("429 for good", True, MEMBER, NONE, NONE, None, Code.UNAVAILABLE, False, 1, fails_before=(LIMITED,)),
    Row("403", True, MEMBER, NONE, NONE, None, Code.PERMISSION_DENIED, True, 1, fails_before=(FORBIDDEN,)),
    Row(
        "the membership goes away before its role is changed",
        True,
        MAINTAINER,
        M,
        A,
        RAISED,
        writes=2,
        fails_before=(NotFound(),),
    ),
    Row("404 on removing", False, MEMBER, M, NONE, RevokeAnswer(), writes=2, fails_before=(NotFound(),), teams=()),
    Row("401", False, MEMBER, M, M, None, Code.UNAUTHENTICATED, True, 1, fails_before=(REJECTED,)),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@virtual_time
async def test_each_outcome(row: Row) -> None:
    changes = changes_with(
        row.before,
        before=deque(row.fails_before),
        after=deque(row.fails_after),
        reads=deque(row.reads),
        people=row.people,
        slugs=dict.fromkeys(row.teams, "platform"),
    )
    outcome = await carry_out(changes, row.wanted, grants=row.grants)

    assert (outcome.code, outcome.non_retryable, outcome.answer) == (row.code, row.final, row.answer)
    assert not outcome.cancels
    assert changes.api.rows.get((TEAM, ADA)) is row.after
    assert len(changes.api.writes) == row.writes
    assert changes.marks == ["begun t-1", "ended t-1"] * row.writes
    assert changes.api.places <= {("acme", TEAM)}
    assert [task for task, _ in changes.failures] == ([] if row.code is Code.OK else ["task"])
    assert changes.locked == [TEAM]
    assert bool(changes.done) == (row.code is Code.OK)
    assert bool(outcome.message) == (row.code is not Code.OK)


@pytest.mark.parametrize(
    ("wanted", "grants", "before", "calls", "result"),
    [
        (MEMBER, True, NONE, ["read", "create"], ChangeResult.GRANTED),
        (MAINTAINER, True, M, ["read", "change"], ChangeResult.ROLE_CHANGED),
        (MEMBER, False, M, ["read", "remove"], ChangeResult.REVOKED),
        (MEMBER, True, M, ["read"], ChangeResult.ALREADY),
        (MAINTAINER, False, M, ["read"], ChangeResult.ALREADY),
        (MEMBER, False, NONE, ["read", "team"], ChangeResult.ALREADY),
    ],
)
@virtual_time
async def test_a_change_costs_two_requests(
    wanted: Membership, grants: bool, before: Role | None, calls: list[str], result: ChangeResult
) -> None:
    changes = changes_with(before)
    await carry_out(changes, wanted, grants=grants)
    assert changes.api.calls == calls
    assert changes.done == [(result, "Ada L" if "team" in calls else "Ada", "")]


@virtual_time
async def test_a_lost_write_is_a_warning_and_a_wait_that_grows(caplog: pytest.LogCaptureFixture) -> None:
    slow = Failure(Reason.BUILDKITE_UNAVAILABLE, "slow", retry_after=20.0)
    changes = changes_with(None, before=deque([LOST, DOWN, slow]))
    await carry_out(changes, MEMBER, grants=True)
    said = "a change may have been lost; the membership is read again"
    about = {"connector": "default.acme", "task_id": "task"}
    assert lines(caplog.records) == [
        (logging.WARNING, said, {**about, "error": error}) for error in ("the connection broke", "503", "slow")
    ]
    assert seconds() == 0.75 + 1.5 + 20.0


@virtual_time
async def test_what_does_not_come_to_hold_is_handed_back() -> None:
    changes = changes_with(None, before=deque([DOWN] * 9))
    await carry_out(changes, MEMBER, grants=True)
    assert changes.api.calls == ["read", "create"] * 4 + ["read"]
    assert changes.failures[0][1].message == (
        "The membership is not as asked for after 4 tries: Buildkite does not keep what it takes, or someone else"
        " changes the same membership."
    )


@pytest.mark.parametrize(
    ("wanted", "already", "result"), [(MEMBER, True, ChangeResult.ALREADY), (MAINTAINER, False, ChangeResult.GRANTED)]
)
@virtual_time
async def test_somebody_who_is_added_as_a_member_meanwhile(
    wanted: Membership, already: bool, result: ChangeResult
) -> None:
    changes = changes_with(None, seconds=1.0)
    task = asyncio.create_task(carry_out(changes, wanted, grants=True))
    await asyncio.sleep(1.5)
    changes.api.rows[TEAM, ADA] = Role.MEMBER
    assert (await task).answer == GrantAnswer(wanted, already=already)
    assert (changes.api.rows, changes.done) == ({(TEAM, ADA): wanted.role}, [(result, "Ada", "")])


@pytest.mark.parametrize("grants", [True, False])
@virtual_time
async def test_a_protected_team_is_left_alone(grants: bool) -> None:
    changes = changes_with(None if grants else Role.MEMBER)
    changes.policy = Provisioning(enabled=True, protected_teams=("platform",))
    before = dict(changes.api.rows)
    outcome = await carry_out(changes, MEMBER, grants=grants)

    assert (outcome.code, outcome.non_retryable, outcome.cancels) == (Code.FAILED_PRECONDITION, True, True)
    assert "platform is protected" in outcome.message
    assert (changes.api.rows, changes.api.writes) == (before, [])
    assert changes.done == [(ChangeResult.REFUSED, "Ada L", outcome.message)]


@pytest.mark.parametrize("grants", [True, False])
@virtual_time
async def test_a_protected_team_stays_protected_under_another_slug(grants: bool) -> None:
    changes = changes_with(None if grants else Role.MEMBER)
    changes.policy = Provisioning(enabled=True, protected_teams=("platform",))
    await carry_out(changes, MEMBER, grants=grants)
    changes.api.slugs[TEAM] = "core"
    outcome = await carry_out(changes, MEMBER, grants=grants)
    assert outcome.cancels
    assert "platform is protected" in outcome.message
    assert (changes.api.writes, changes.api.calls) == ([], ["team"]), "the second time nothing had to be asked"


@virtual_time
async def test_another_organizations_team_is_final_where_teams_are_protected() -> None:
    changes = Changes(policy=Provisioning(enabled=True, protected_teams=("ops",)))
    changes.api.slugs.clear()
    granted = await carry_out(changes, MEMBER, grants=True)
    assert (granted.code, granted.non_retryable, changes.api.writes) == (Code.NOT_FOUND, True, [])
    assert (await carry_out(changes, MEMBER, grants=False)).answer == RevokeAnswer(already=True)


@pytest.mark.parametrize(
    ("edit", "code", "role"),
    [
        (Provisioning(enabled=True, roles=(Role.MEMBER,)), Code.OK, Role.MEMBER),
        (Provisioning(enabled=True, roles=(Role.MAINTAINER,)), Code.FAILED_PRECONDITION, None),
        (Provisioning(enabled=True, protected_teams=("platform",)), Code.FAILED_PRECONDITION, None),
    ],
)
@virtual_time
async def test_an_edit_between_reading_and_writing_counts(edit: Provisioning, code: Code, role: Role | None) -> None:
    changes = Changes(edits=deque([edit]))
    outcome = await carry_out(changes, MEMBER, grants=True)
    assert (outcome.code, changes.api.rows.get((TEAM, ADA))) == (code, role)
    assert outcome is not OFF


@virtual_time
async def test_a_team_beside_the_protected_ones_is_changed() -> None:
    changes = Changes(policy=Provisioning(enabled=True, protected_teams=("ops",)))
    assert (await carry_out(changes, MEMBER, grants=True)).code is Code.OK
    assert (changes.api.calls[0], changes.api.places) == ("team", {("acme", TEAM)})


@virtual_time
async def test_a_role_that_is_not_among_those_granted_is_refused_and_can_still_be_revoked() -> None:
    policy = Provisioning(enabled=True, roles=(Role.MEMBER,))
    changes = changes_with(Role.MAINTAINER)
    changes.policy = policy
    granted = await carry_out(Changes(policy=policy), MAINTAINER, grants=True)
    revoked = await carry_out(changes, MAINTAINER, grants=False)

    assert (granted.code, granted.cancels) == (Code.FAILED_PRECONDITION, True)
    assert "allows member" in granted.message
    assert revoked.answer == RevokeAnswer()


@virtual_time
async def test_a_role_that_is_not_granted_is_refused_while_another_change_of_the_team_goes_on() -> None:
    class Held(Changes):
        @contextlib.asynccontextmanager
        async def lock(self, team: TeamID) -> AsyncIterator[None]:
            await asyncio.sleep(1000.0)
            yield

    policy = Provisioning(enabled=True, roles=(Role.MEMBER,))
    changes = Held(policy=policy)
    refused = await carry_out(changes, MAINTAINER, grants=True)
    assert (refused.code, refused.cancels, seconds()) == (Code.FAILED_PRECONDITION, True, 0.0)
    assert changes.done == [(ChangeResult.REFUSED, "Ada L", refused.message)]
    assert (await carry_out(changes, MEMBER, grants=True)).code is Code.UNAVAILABLE
    assert (changes.api.calls, seconds()) == ([], CHANGE_SECONDS)


@virtual_time
async def test_while_off_nothing_is_asked_of_buildkite() -> None:
    changes = Changes(off=True)
    for wanted in (MEMBER, None):
        assert await carry_out(changes, wanted, grants=True) is OFF
    assert changes.api.calls == []


@virtual_time
async def test_what_is_switched_off_between_reading_and_writing_writes_nothing() -> None:
    changes = Changes(writes_off=True)
    assert await carry_out(changes, MEMBER, grants=True) is OFF
    assert changes.api.calls == ["read"]


@virtual_time
async def test_a_task_without_ids_is_final() -> None:
    outcome = await carry_out(Changes(), None, grants=True)
    assert (outcome.code, outcome.message, outcome.non_retryable) == (Code.INVALID_ARGUMENT, "no id in it", True)


@virtual_time
async def test_what_blocks_changes_is_told() -> None:
    missing = Failure(Reason.TOKEN_SCOPE_MISSING, "lacks write_teams", remedy=Remedy.CREDENTIALS)
    outcome = await carry_out(Changes(failure=missing), MEMBER, grants=True)
    assert (outcome.code, outcome.non_retryable) == (Code.PERMISSION_DENIED, True)
    assert "write_teams" in outcome.message


@virtual_time
async def test_a_change_that_takes_too_long_is_handed_back() -> None:
    outcome = await carry_out(changes_with(None, seconds=1000.0), MEMBER, grants=True)
    assert (outcome.code, outcome.non_retryable, seconds()) == (Code.UNAVAILABLE, False, CHANGE_SECONDS)


@virtual_time
async def test_only_while_a_write_is_out_its_answer_is_awaited_at_shutdown() -> None:
    changes = changes_with(None, seconds=1.0)
    progress = TaskProgress()
    task = asyncio.create_task(carry_out(changes, MEMBER, grants=True, progress=progress))
    awaited = []
    for _ in range(3):
        await asyncio.sleep(0.7)
        awaited.append(progress.awaits_answer)
    await task
    assert awaited == [False, True, False]


@virtual_time
async def test_an_address_in_buildkites_reason_is_not_passed_on() -> None:
    changes = changes_with(Role.MEMBER)
    changes.api.before = deque([WriteRefused("ada@example.com is not possible")])
    outcome = await carry_out(changes, MEMBER, grants=False)
    assert "ada@" not in outcome.message
    assert "is not possible" in outcome.message


# The sentence of a refusal

GRANT = MembershipTask(TaskID("task"), True, MEMBER, "Platform", "Ada")
REVOKE = replace(GRANT, grants=False)


@pytest.mark.parametrize(("roles", "allowed"), [((A,), "maintainer"), ((), "none")])
def test_a_role_that_is_not_granted_is_named_with_those_that_are(roles: tuple[Role, ...], allowed: str) -> None:
    sentence = (
        f"The role member is not granted by this connector; spec.provisioning.roles allows {allowed} (in service mode"
        " --provisioning-roles)."
    )
    policy = Provisioning(enabled=True, roles=roles)
    assert membership.refusal_by_role(GRANT, MEMBER, policy) == sentence
    assert membership.refusal_by_role(REVOKE, MEMBER, policy) == ""
    assert membership.refusal_by_role(GRANT, MEMBER, Provisioning()) == ""
