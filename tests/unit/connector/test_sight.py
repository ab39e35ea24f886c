"""A token that sees less than an administrator's, or less than before, is told; one that misses nothing is not."""

import re
from dataclasses import replace

import pytest

from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.sight import Sight, hold_protected, seen, sees_less, sight_of, unprotected
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.kubernetes.events import draft_events
from buildkite_connector.kubernetes.schema.status_json import status_from_json, status_to_json
from buildkite_connector.model.directory import FULL_SCOPE, ResourceKind, TeamID
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.spec import OrganizationChoice, Provisioning
from buildkite_connector.model.status import (
    ConditionStatus,
    ConditionType,
    ProtectedTeam,
    ProvisioningRecord,
    TokenAccess,
    TokenStatus,
)
from buildkite_connector.model.words import API_TOKEN, EXCHANGED
from buildkite_connector.sync.collect import collect
from fakes.buildkite_setup import serving
from fakes.connector_states import START, after, ready
from fakes.virtual_time import virtual_time
from harness.organization import ACME_ORG
from simulators.buildkite.api import Token, User
from simulators.buildkite.organization import Organization


def told(*sights: Sight) -> list[bool]:
    """Whether people are warned after each sync, over a restart after each."""
    state, found = ready(), []
    for sight in sights:
        state = seen(state, sight)
        restored = status_from_json(status_to_json(state.records))
        assert restored is not None
        state = replace(state, records=replace(state.records, token=TokenStatus(access=restored.token.access)))
        found.append(sees_less(state.records.token.access, API_TOKEN) is not None)
    return found


ADMIN, MEMBER, UNKNOWN = True, False, None


@pytest.mark.parametrize(
    ("sights", "warned"),
    [
        ([(ADMIN, 5), (ADMIN, 0), (ADMIN, 5)], [False, False, False]),
        ([(ADMIN, 5), (MEMBER, 4), (MEMBER, 4), (ADMIN, 5)], [False, True, True, False]),
        ([(MEMBER, 0)], [True]),
        ([(UNKNOWN, 0), (UNKNOWN, 0)], [False, False]),
        ([(UNKNOWN, 5), (UNKNOWN, 4), (UNKNOWN, 3)], [False, False, False]),
        ([(UNKNOWN, 5), (UNKNOWN, 0), (UNKNOWN, 0), (UNKNOWN, 5), (UNKNOWN, 5)], [False, True, True, False, False]),
        ([(ADMIN, 1), (UNKNOWN, 0), (ADMIN, 0), (UNKNOWN, 0)], [False, True, False, False]),
    ],
)
def test_who_is_warned_and_until_when(sights: list[tuple[bool | None, int]], warned: list[bool]) -> None:
    assert told(*(Sight(administrator, secret) for administrator, secret in sights)) == warned


@pytest.mark.parametrize(
    ("sights", "before"),
    [
        ([(ADMIN, 5), (MEMBER, 4)], 5),  # the owner lost the role
        ([(ADMIN, 5), (MEMBER, 5)], 0),
        ([(ADMIN, 5), (MEMBER, 4), (MEMBER, 4)], 5),
        ([(ADMIN, 5), (ADMIN, 4)], 0),
        ([(MEMBER, 5), (MEMBER, 4)], 0),
        ([(UNKNOWN, 5), (MEMBER, 4)], 0),
        ([(ADMIN, 5), (UNKNOWN, 4)], 0),
        ([(UNKNOWN, 4), (UNKNOWN, 2)], 0),
        ([(UNKNOWN, 5), (UNKNOWN, 2)], 5),
        ([(UNKNOWN, 5), (UNKNOWN, 2), (UNKNOWN, 4)], 0),
        ([(ADMIN, 1), (MEMBER, 0), (MEMBER, 0)], 1),
    ],
)
def test_how_many_secret_teams_were_seen_before_a_loss(sights: list[tuple[bool | None, int]], before: int) -> None:
    state = ready()
    for administrator, secret in sights:
        state = seen(state, Sight(administrator, secret))
    assert state.records.token.access == TokenAccess(*sights[-1], before)


def test_a_person_is_told_of_each_protected_slug_that_no_team_has() -> None:
    policy = Provisioning(enabled=True, protected_teams=("admins", "ops", "none"))
    state = seen(ready(provisioning=policy), Sight(True, 0, {TeamID("1"): "admins", TeamID("2"): "ops"}))
    assert state.records.provisioning is not None
    assert replace(state.records.provisioning, protected_teams=()) == ProvisioningRecord(0, 0, 0)
    state = seen(state, Sight(True, 0, {TeamID("1"): "leads"}))
    assert unprotected(state) == (
        "Check spec.provisioning.protectedTeams: the team that had the slug admins has the slug leads now, and stays"
        " protected; the team that had the slug ops is no longer listed, and stays protected; no team has the slug"
        " none, so it protects nothing."
    )


def test_the_sentence_names_what_was_lost_and_what_to_do() -> None:
    assert sees_less(TokenAccess(False, 1, 4), API_TOKEN) == (
        "The owner of the Buildkite API token is not an administrator of the organization: the secret teams to which"
        " the owner does not belong are hidden. It sees 3 secret teams fewer than before. C1 treats a missing team as"
        " deleted. Make the owner an administrator, or use an administrator's token."
    )
    assert sees_less(TokenAccess(None, 0, 4), API_TOKEN) == (
        "The token for Buildkite sees less than before. It sees 4 secret teams fewer than before. If they were not"
        " deleted or made visible, the owner of the Buildkite API token may have lost the administrator role, and C1"
        " treats those teams as deleted: use an administrator's token."
    )
    assert sees_less(TokenAccess(False, 1, 4), EXCHANGED) == (
        "The subject of the token exchange is not an administrator of the organization: the secret teams to which the"
        " subject does not belong are hidden. It sees 3 secret teams fewer than before. C1 treats a missing team as"
        " deleted. Make the subject an administrator, or choose an administrator as the subject."
    )
    assert sees_less(TokenAccess(None, 0, 4), EXCHANGED) == (
        "The token for Buildkite sees less than before. It sees 4 secret teams fewer than before. If they were not"
        " deleted or made visible, the subject of the token exchange may have lost the administrator role, and C1"
        " treats those teams as deleted: choose an administrator as the subject."
    )


def test_accounts_alone_say_nothing_of_teams() -> None:
    state = ready(kinds=frozenset({ResourceKind.USER}))
    assert seen(state, Sight(False, 0)).records.token.access is None
    before = replace(state, records=replace(state.records, token=TokenStatus(access=TokenAccess(False, 1))))
    assert seen(before, Sight(False, 0)).records.token.access is None  # teams were synced once, and are not any more


def test_it_is_a_warning_in_credentials_valid_with_an_event_and_ready_stays_true() -> None:
    before = derive_status(seen(ready(), Sight(True, 3)), after(10))
    status = derive_status(seen(replace(ready(), records=before), Sight(False, 1)), after(20))
    condition, is_ready = status.condition(ConditionType.CREDENTIALS_VALID), status.condition(ConditionType.READY)
    assert condition is not None
    assert is_ready is not None
    assert (condition.status, condition.reason) == (ConditionStatus.TRUE, Reason.TOKEN_SEES_LESS)
    assert is_ready.status is ConditionStatus.TRUE
    [event] = draft_events(before, status)
    assert (event.type, event.reason, event.message) == ("Warning", Reason.TOKEN_SEES_LESS, condition.message)
    assert draft_events(status, replace(status)) == []


def test_a_token_that_ends_soon_and_sees_less_is_told_both() -> None:
    state = seen(ready(), Sight(False, 1))
    assert state.check.preflight is not None
    token = replace(state.check.preflight.token, expires_at=after(3600).wall)
    state = replace(state, check=replace(state.check, preflight=replace(state.check.preflight, token=token)))
    condition = derive_status(state, START).condition(ConditionType.CREDENTIALS_VALID)
    assert condition is not None
    assert condition.reason is Reason.TOKEN_EXPIRES
    assert re.search(r"\w\. The owner of the Buildkite API token is not an administrator", condition.message)


async def sight(organization: Organization | None, user: User) -> tuple[Sight, int, int]:
    """What a sync sees over a real socket, its requests, and the fewest that there can be."""
    async with serving(organization, tokens=[Token(user=user)]) as setup:
        client = setup.client()
        token = await client.token()
        found = await client.organization(OrganizationChoice(setup.expected.organization.slug))
        collection = await collect(client, found, FULL_SCOPE)
        return sight_of(collection.directory, token), len(setup.sim.requests), setup.minimum


@virtual_time
async def test_an_owner_who_loses_the_administrators_role_loses_the_secret_teams() -> None:
    async with serving() as setup:
        owner = setup.sim.organization.members.records[0]
    admin, requests, least = await sight(None, User(owner["id"], owner["name"], owner["email"]))
    assert (admin.administrator, requests) == (True, least + 2)
    async with serving() as setup:
        setup.sim.organization.update_member(owner["id"], {"role": "member"})
        organization = setup.sim.organization
    member, _, _ = await sight(organization, User(owner["id"], owner["name"], owner["email"], admin=False))
    assert member.administrator is False
    assert member.secret_teams < admin.secret_teams
    assert told(admin, member) == [False, True]


@virtual_time
async def test_an_organization_of_which_buildkite_says_no_roles_is_not_warned_of() -> None:
    found, _, _ = await sight(Organization.load(ACME_ORG), User())
    assert (found.administrator, found.secret_teams) == (None, 3)
    assert told(found, found) == [False, False]


# Protected teams

A, B = TeamID("a"), TeamID("b")


def held(*listed: dict[TeamID, str]) -> tuple[ProtectedTeam, ...]:
    state: ConnectorState = ready(provisioning=Provisioning(enabled=True, protected_teams=("release", "ops")))
    for slugs in listed:
        state = seen(state, Sight(slugs=slugs))
    return state.records.provisioning.protected_teams if state.records.provisioning is not None else ()


@pytest.mark.parametrize(
    ("listed", "protected"),
    [
        ([{A: "other"}], ()),
        ([{A: "release", B: "ops"}], (ProtectedTeam("release", A, "release"), ProtectedTeam("ops", B, "ops"))),
        ([{A: "release"}, {A: "shipping"}, {A: "shipping"}], (ProtectedTeam("release", A, "shipping"),)),
        ([{A: "release"}, {}], (ProtectedTeam("release", A, ""),)),
        ([{A: "release"}, {B: "release"}], (ProtectedTeam("release", B, "release"),)),
        (
            [{A: "release"}, {A: "shipping", B: "release"}],
            (ProtectedTeam("release", B, "release"), ProtectedTeam("release", A, "shipping")),
        ),
        ([{A: "release"}, {A: "shipping"}, {A: "release"}], (ProtectedTeam("release", A, "release"),)),
    ],
    ids=["none", "both", "renamed", "not listed", "made anew", "renamed, and another took the slug", "renamed back"],
)
def test_a_team_is_held_by_its_id_once_it_was_seen(
    listed: list[dict[TeamID, str]], protected: tuple[ProtectedTeam, ...]
) -> None:
    assert held(*listed) == protected


def test_a_task_that_sees_a_protected_slug_holds_the_team_beside_the_others_and_once() -> None:
    state = ready(provisioning=Provisioning(enabled=True, protected_teams=("release", "ops")))
    for team, slug in ((A, "release"), (A, "release"), (B, "ops"), (A, "release")):
        state = hold_protected(state, team, slug)
    assert state.records.provisioning is not None
    both = (ProtectedTeam("release", A, "release"), ProtectedTeam("ops", B, "ops"))
    assert state.records.provisioning.protected_teams == both


def test_a_sync_of_accounts_alone_leaves_protected_teams_as_they_are() -> None:
    state = ready(provisioning=Provisioning(enabled=True, protected_teams=("release",)))
    state = seen(state, Sight(slugs={A: "release"}))
    spec = replace(state.desired.spec, kinds=frozenset({ResourceKind.USER}))
    after_it = seen(replace(state, desired=replace(state.desired, spec=spec)), Sight())
    assert after_it.records.provisioning == state.records.provisioning
