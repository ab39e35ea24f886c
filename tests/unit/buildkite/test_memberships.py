"""Grants and revokes over a real socket: what is in Buildkite afterwards, how often it was written, what C1 is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from buildkite_connector.buildkite import BuildkiteClient
from buildkite_connector.model.directory import AccountID, Membership, OrganizationSlug, Role, TeamID
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ChangeResult
from buildkite_connector.model.tasks import Code, GrantAnswer, MembershipTask, RevokeAnswer, TaskID, TaskOutcome
from buildkite_connector.tasks.membership import change_membership
from buildkite_connector.tasks.ports import ChangeGrounds, TaskProgress
from buildkite_connector.timing.clock import SystemClock
from fakes.buildkite_setup import Setup, serving, small_organization
from fakes.connector_ports import C1
from fakes.task_ports import session_ports
from fakes.virtual_time import virtual_time
from simulators.buildkite import faults
from simulators.buildkite.api import ALL_SCOPES, WRITING_SCOPES, Token
from simulators.buildkite.quota import Limits


@dataclass
class Changes:
    """What a connector knows of changes, for one client."""

    client: BuildkiteClient
    slug: OrganizationSlug
    protected: tuple[str, ...] = ()
    results: list[ChangeResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def lock(self, team: TeamID) -> AsyncIterator[None]:
        yield

    async def grounds(self) -> ChangeGrounds | None:
        return ChangeGrounds(self.slug, self.client, Provisioning(enabled=True, protected_teams=self.protected))

    def allowed(self, grounds: ChangeGrounds) -> bool:
        return True

    def protected_slug(self, team: TeamID) -> str | None:
        return None

    def seen_protected(self, team: TeamID, slug: str) -> None:
        """Nothing is remembered here."""

    @contextlib.contextmanager
    def writing(self, team: TeamID) -> Iterator[None]:
        yield

    def ended(self, task: MembershipTask, result: ChangeResult, user_name: str, reason: str = "") -> None:
        self.results.append(result)

    def failed(self, task: MembershipTask, failure: Failure) -> None:
        self.failures.append(failure)


class Bench:
    """The first team of a small organization. `outsider` is nobody's fellow there."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        organization = setup.sim.organization
        self.team = TeamID(organization.teams.records[0]["id"])
        self.roster = organization.team_members[self.team]
        inside = {row["user_id"] for row in self.roster.records}
        self.outsider = AccountID(next(each["id"] for each in organization.members.records if each["id"] not in inside))
        self.changes = Changes(setup.buildkite.client(setup.sim.token.value, urgent=True), OrganizationSlug("acme"))

    def start_with(self, role: Role | None) -> None:
        """The outsider gets this role in the team."""
        if role is not None:
            row = {"user_id": self.outsider, "user_name": "Ada", "role": role.value, "created_at": ""}
            self.roster.insert(row)

    @property
    def role(self) -> Role | None:
        rows = [row for row in self.roster.records if row["user_id"] == self.outsider]
        return Role(rows[0]["role"]) if rows else None

    def wanted(self, role: Role, user: str = "") -> Membership:
        return Membership(self.team, AccountID(user or self.outsider), role)

    async def ask(self, wanted: Membership, *, grants: bool) -> TaskOutcome:
        task = MembershipTask(TaskID("task"), grants, wanted, "Platform", "Ada")
        ports = replace(session_ports(C1()), changes=self.changes, clock=SystemClock())
        return await change_membership(task, ports, TaskProgress())


@contextlib.asynccontextmanager
async def bench(scopes: tuple[str, ...] = WRITING_SCOPES, **config: Any) -> AsyncIterator[Bench]:
    async with serving(tokens=[Token(scopes=scopes)], writes_expected=True, **config) as setup:
        yield Bench(setup)


M, A = Role.MEMBER, Role.MAINTAINER


@pytest.mark.parametrize(
    ("grants", "before", "role", "after", "result", "requests"),
    [
        (True, None, M, M, ChangeResult.GRANTED, 2),
        (True, None, A, A, ChangeResult.GRANTED, 2),
        (True, M, A, A, ChangeResult.ROLE_CHANGED, 2),
        (True, A, M, M, ChangeResult.ROLE_CHANGED, 2),
        (True, M, M, M, ChangeResult.ALREADY, 1),
        (False, M, M, None, ChangeResult.REVOKED, 2),
        (False, None, M, None, ChangeResult.ALREADY, 2),
        (False, M, A, M, ChangeResult.ALREADY, 1),
    ],
)
@virtual_time
async def test_each_change_that_succeeds(
    grants: bool, before: Role | None, role: Role, after: Role | None, result: ChangeResult, requests: int
) -> None:
    async with bench() as made:
        made.start_with(before)
        outcome = await made.ask(made.wanted(role), grants=grants)
        assert (outcome.code, made.role, made.changes.results) == (Code.OK, after, [result])
        assert len(made.setup.sim.requests) == requests
        assert [write.effective for write in made.setup.sim.writes] == [True] * (result is not ChangeResult.ALREADY)


@pytest.mark.parametrize(
    ("effect", "writes"),
    [
        (faults.server_error(applied=True), 1),
        (faults.server_error(applied=False), 2),
        (faults.unavailable(retry_after=None), 2),
        (faults.reset(None, applied=True), 1),
        (faults.reset(None, applied=False), 2),
        (faults.disconnect(None, applied=True), 1),
        (faults.stall(None, applied=True), 1),
        (faults.truncated_json(), 1),
    ],
    ids=["500 after", "500 before", "503", "reset after", "reset before", "disconnect", "stall", "half an answer"],
)
@virtual_time
async def test_a_write_of_which_nobody_knows_is_looked_at_before_it_is_sent_again(
    effect: faults.Effect, writes: int
) -> None:
    async with bench() as made:
        made.setup.sim.fault(effect, method="POST")
        outcome = await made.ask(made.wanted(M), grants=True)
        assert outcome.answer == GrantAnswer(made.wanted(M))
        assert made.role is M
        assert sum(write.effective for write in made.setup.sim.writes) == 1
        assert len(made.setup.sim.writes) == writes


@virtual_time
async def test_a_removal_whose_answer_is_lost_is_done_once() -> None:
    async with bench() as made:
        made.start_with(M)
        made.setup.sim.fault(faults.reset(None, applied=True), method="DELETE")
        assert (await made.ask(made.wanted(M), grants=False)).answer == RevokeAnswer()
        assert (made.role, len(made.setup.sim.writes)) == (None, 1)


@virtual_time
async def test_who_is_not_in_the_organization_is_refused_for_good_with_buildkites_words() -> None:
    async with bench() as made:
        outcome = await made.ask(made.wanted(M, "0000-nobody"), grants=True)
        assert (outcome.code, outcome.non_retryable) == (Code.FAILED_PRECONDITION, True)
        assert "must be a member of the organization" in outcome.message


@virtual_time
async def test_a_team_that_is_gone_is_told_from_a_membership_that_is_not_there() -> None:
    async with bench() as made:
        nowhere = Membership(TeamID("no-such-team"), made.outsider, M)
        granted = await made.ask(nowhere, grants=True)
        revoked = await made.ask(nowhere, grants=False)
        assert (granted.code, granted.non_retryable) == (Code.NOT_FOUND, True)
        assert revoked.answer == RevokeAnswer(already=True)


@virtual_time
async def test_an_organization_out_of_reach_is_no_proof_that_a_membership_is_gone() -> None:
    async with bench() as made:
        made.changes.slug = OrganizationSlug("another")
        outcome = await made.ask(made.wanted(M), grants=False)
        assert outcome.code is Code.FAILED_PRECONDITION
        assert "OrganizationNotFound" in outcome.message


@virtual_time
async def test_without_the_scope_nothing_is_changed_and_the_answer_names_it() -> None:
    async with bench(ALL_SCOPES) as made:
        outcome = await made.ask(made.wanted(M), grants=True)
        assert (outcome.code, outcome.non_retryable, made.role) == (Code.PERMISSION_DENIED, True, None)
        assert outcome.message.startswith("TokenScopeMissing: ")
        assert "write_teams" in outcome.message


@virtual_time
async def test_a_revoked_token_is_final() -> None:
    async with bench() as made:
        made.setup.sim.fault(faults.revoke_token(), method="POST")
        outcome = await made.ask(made.wanted(M), grants=True)
        assert (outcome.code, outcome.non_retryable) == (Code.UNAUTHENTICATED, True)


@virtual_time
async def test_a_protected_team_is_found_by_its_slug_with_one_request() -> None:
    async with bench() as made:
        record = made.setup.sim.organization.teams.records[-1]
        made.changes.protected = (record["slug"],)
        outcome = await made.ask(Membership(TeamID(record["id"]), made.outsider, M), grants=True)
        assert (outcome.cancels, made.setup.sim.writes, len(made.setup.sim.requests)) == (True, [], 1)
        assert (await made.ask(made.wanted(M), grants=True)).code is Code.OK


@virtual_time
async def test_a_refusal_for_the_rate_limit_is_waited_out_and_nothing_is_written_twice() -> None:
    async with bench(limits=Limits(None, None)) as made:
        refusal = faults.answer(429, {"message": "slow down", "scope": "rest_user", "limit": 50, "reset": 0})
        made.setup.sim.fault(refusal, method="POST")
        assert (await made.ask(made.wanted(M), grants=True)).code is Code.OK
        assert made.role is M
        assert sum(write.effective for write in made.setup.sim.writes) == 1


@virtual_time
async def test_a_change_goes_through_while_a_sync_waits_for_its_quota() -> None:
    async with bench(limits=Limits(user=20, organization=200), latency=0.02) as made:
        share_used = asyncio.Event()
        made.setup.sim.fault(faults.change(lambda _: share_used.set()), skip=15)
        sync = asyncio.create_task(made.setup.sync())
        try:
            async with asyncio.timeout(10):
                await share_used.wait()
            async with asyncio.timeout(2):
                assert (await made.ask(made.wanted(M), grants=True)).code is Code.OK
            assert not sync.done()
            assert all(request.status != 429 for request in made.setup.sim.requests)
        finally:
            sync.cancel()
            await asyncio.wait({sync})


@pytest.mark.parametrize(("method", "grants", "before"), [("GET", True, M), ("POST", True, None), ("PATCH", True, M)])
@virtual_time
async def test_an_answer_about_somebody_else_is_no_answer(method: str, grants: bool, before: Role | None) -> None:
    async with bench() as made:
        made.start_with(before)
        another = made.roster.records[0]["user_id"]
        made.setup.sim.fault(faults.set_field("user_id", another), method=method, times=None)
        outcome = await made.ask(made.wanted(A), grants=grants)
        if method == "GET":
            assert (outcome.code, outcome.non_retryable, made.role) == (Code.UNAVAILABLE, False, before)
            assert f"expected a response about {made.outsider}, but it is about {another}" in outcome.message
            assert made.setup.sim.writes == []
        else:
            assert (outcome.code, made.role) == (Code.OK, A), "the membership is read again"


@virtual_time
async def test_an_answer_about_another_team_protects_nothing_and_changes_nothing() -> None:
    async with bench() as made:
        made.changes.protected = ("release",)
        made.setup.sim.fault(faults.set_field("id", "another"), path="/v2/organizations/acme/teams/*", times=None)
        outcome = await made.ask(made.wanted(M), grants=True)
        assert (outcome.code, outcome.non_retryable, made.setup.sim.writes) == (Code.UNAVAILABLE, False, [])


@pytest.mark.parametrize("protected", [(), ("release",)])
@virtual_time
async def test_another_organizations_team_is_refused_for_good(protected: tuple[str, ...]) -> None:
    async with bench() as made:
        other = small_organization()
        other.slug, team = "other", other.teams.records[0]["id"]
        other.teams.update(team, {"id": "theirs"})
        other.team_members["theirs"] = other.team_members.pop(team)
        made.setup.sim.api.organizations["other"] = other
        made.changes.protected = protected
        outcome = await made.ask(Membership(TeamID("theirs"), made.outsider, M), grants=True)
        assert (outcome.code, outcome.non_retryable) == (Code.NOT_FOUND, True)
        assert not any(write.effective for write in made.setup.sim.writes)
