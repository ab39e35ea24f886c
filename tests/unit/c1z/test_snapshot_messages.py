"""What is joined from serialized parts is what C1's message classes would have serialized."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.c1z.messages import AccountSerializer, GrantSerializer, team_messages
from buildkite_connector.c1z.texts import display_name
from buildkite_connector.model.directory import Account, AccountDetails, AccountID, ResourceKind, Role, Team, TeamID
from buildkite_connector.proto.connector_pb2 import (
    Entitlement,
    ExternalId,
    Grant,
    Resource,
    ResourceId,
    ResourceType,
    Status,
    UserTrait,
)
from harness.directories import details

ids = st.uuids().map(str)
names = st.text(min_size=1, max_size=300)
words = st.sampled_from([None, "admin", "member", "required"])


def account(email: str, identity: str = "0b1e", name: str = "Ada") -> Account:
    return Account(AccountID(identity), name=name, email=email)


def team(name: str = "Platform", identity: str = "22d5", description: str = "") -> Team:
    return Team(TeamID(identity), name, "platform", description, "visible", False, "2023-03-14T00:45:16.215Z")


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    whole, micros = divmod(time - datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1))
    return Timestamp(seconds=whole, nanos=micros.microseconds * 1000)


def trait_of(data: bytes) -> UserTrait:
    (annotation,) = Resource.FromString(data).annotations
    trait = UserTrait()
    assert annotation.Unpack(trait)
    return trait


@given(ids, names, ids, st.sampled_from(Role), st.booleans())
def test_a_grants_bytes_are_those_of_the_grant_built_whole(
    team_id: str, team_name: str, account_id: str, role: Role, used_before: bool
) -> None:
    parts = team_messages(team(team_name, team_id)).entitlements[role]
    serialize = GrantSerializer(ResourceKind.USER).serialize
    if used_before:
        serialize(parts, AccountID("another account, whose id is longer than any that follows"))
    grant_id, data = serialize(parts, AccountID(account_id))
    whole = Grant(
        entitlement=Entitlement(
            resource=Resource(
                id=ResourceId(resource_type="team", resource=team_id),
                display_name=display_name(team_name, "platform", team_id),
                annotations=[Any(type_url="type.googleapis.com/c1.connector.v2.GroupTrait")],
            ),
            id=f"team:{team_id}:{role.value}",
        ),
        principal=Resource(id=ResourceId(resource_type="user", resource=account_id)),
        id=f"team:{team_id}:{role.value}:user:{account_id}",
    )
    assert data == whole.SerializeToString(deterministic=True)
    assert grant_id == whole.id


@given(
    st.lists(
        st.tuples(ids, names, st.emails() | st.just(""), words, words, st.none() | details), min_size=1, max_size=6
    )
)
def test_an_accounts_bytes_are_those_of_the_resource_built_whole(
    accounts: list[tuple[str, str, str, str | None, str | None, AccountDetails | None]],
) -> None:
    serialize = AccountSerializer().serialize
    for identity, name, email, role, sso_mode, more in accounts:
        given_account = replace(account(email, identity, name), role=role, sso_mode=sso_mode, details=more)
        profile = None
        if role is not None or sso_mode is not None:
            profile = Struct()
            profile.update({k: v for k, v in (("role", role), ("sso_mode", sso_mode)) if v is not None})
        data = serialize(given_account)
        addresses = [address.address for address in trait_of(data).emails]
        trait = UserTrait(
            emails=[UserTrait.Email(address=address, is_primary=True) for address in addresses],
            status=UserTrait.Status(status=UserTrait.Status.STATUS_ENABLED),
            account_type=(UserTrait.ACCOUNT_TYPE_SERVICE if more and more.machine else UserTrait.ACCOUNT_TYPE_HUMAN),
            login=email,
            profile=profile,
            created_at=timestamp(more.member_since) if more else None,
            last_login=timestamp(more.last_seen_at) if more else None,
            mfa_status=UserTrait.MFAStatus(mfa_enabled=more.two_factor) if more else None,
        )
        whole = Resource(
            id=ResourceId(resource_type="user", resource=identity),
            display_name=display_name(name, email, identity),
            annotations=[
                Any(
                    type_url="type.googleapis.com/c1.connector.v2.UserTrait",
                    value=trait.SerializeToString(deterministic=True),
                )
            ],
            profile=profile,
            external_id=ExternalId(id=identity),
            status=Status(status=Status.RESOURCE_STATUS_ENABLED),
            created_at=timestamp(more.member_since) if more else None,
        )
        assert data == whole.SerializeToString(deterministic=True)
        assert set(addresses) <= {email}


def test_an_address_that_is_not_an_email_is_left_out_of_emails_and_stays_the_login() -> None:
    serialize = AccountSerializer().serialize
    assert [email.address for email in trait_of(serialize(account("ada@example.com"))).emails] == ["ada@example.com"]
    trait = trait_of(serialize(account("not an email")))
    assert not trait.emails
    assert trait.login == "not an email"


def test_a_team_without_a_slug_or_a_time_has_neither_in_its_profile() -> None:
    unknown = Team(TeamID("22d5"), "Platform", "", "", "secret", True, "")
    profile = Resource.FromString(team_messages(unknown).resource).profile
    assert dict(profile.items()) == {"privacy": "secret", "is_default_team": True}


def test_a_teams_settings_are_in_its_profile_under_buildkites_names_as_far_as_they_are_known() -> None:
    told = replace(
        team(),
        default_member_role="maintainer",
        members_can_create_pipelines=True,
        members_can_create_suites=False,
        members_can_destroy_packages=False,
    )
    profile = Resource.FromString(team_messages(told).resource).profile
    assert dict(profile.items()) == {
        **dict(Resource.FromString(team_messages(team()).resource).profile.items()),
        "default_member_role": "maintainer",
        "members_can_create_pipelines": True,
        "members_can_create_suites": False,
        "members_can_destroy_packages": False,
    }


@pytest.mark.parametrize("role", list(Role))
def test_an_entitlement_is_what_the_role_gives_in_that_team(role: Role) -> None:
    parts = team_messages(team(name="Platform"))
    entitlement = Entitlement.FromString(parts.entitlements[role].entitlement)
    assert entitlement.id == parts.entitlements[role].id == f"team:22d5:{role.value}"
    assert entitlement.slug == role.value
    assert entitlement.display_name == role.value.capitalize()
    assert entitlement.description == f"{role.value.capitalize()} of Platform team in Buildkite"
    assert entitlement.purpose == Entitlement.PURPOSE_VALUE_ASSIGNMENT
    assert [kind.id for kind in entitlement.grantable_to] == ["user"]
    assert entitlement.grantable_to[0].traits == [ResourceType.TRAIT_USER]
    assert entitlement.resource == Resource.FromString(parts.resource)


@pytest.mark.parametrize("name", ["", "é" * 5000])
def test_texts_stay_within_what_c1_takes_wherever_they_are_repeated(name: str) -> None:
    parts = team_messages(team(name=name, description="ß" * 5000))
    resource = Resource.FromString(parts.resource)
    assert resource.display_name == (name[:512] or "platform")
    assert len(resource.description.encode()) == 2048
    for role in Role:
        entitlement = Entitlement.FromString(parts.entitlements[role].entitlement)
        assert 1 <= len(entitlement.description.encode()) <= 2048
        assert resource.display_name in entitlement.description
