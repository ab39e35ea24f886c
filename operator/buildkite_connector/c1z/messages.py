"""Translates accounts, teams and memberships into C1's messages and back.

Ids are a contract with C1: they equal those of the reference connector, character for character. Serialized bytes are
joined where that saves work: concatenating two serialized messages of one type merges them, so the part that all
grants of one entitlement share is serialized once.
"""

import re
from dataclasses import dataclass
from sys import intern

from google.protobuf.any_pb2 import Any
from google.protobuf.struct_pb2 import Struct

from buildkite_connector.model.directory import Account, AccountID, Membership, ResourceKind, Role, Team, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import entitlement_id
from buildkite_connector.proto.connector_pb2 import (
    Entitlement,
    EntitlementExclusionGroup,
    ExternalId,
    Grant,
    GroupTrait,
    Resource,
    ResourceId,
    ResourceType,
    Status,
    UserTrait,
)

_USER, _TEAM = ResourceKind.USER.value, ResourceKind.TEAM.value
_TYPE_URL = "type.googleapis.com/c1.connector.v2."

_TEAM_PERMISSIONS = (
    "members_can_create_pipelines",
    "members_can_create_suites",
    "members_can_create_registries",
    "members_can_destroy_registries",
    "members_can_destroy_packages",
)
"""Fields of Team that go into its profile by their own names."""

_PRIVILEGE = {Role.MEMBER: 1, Role.MAINTAINER: 2}
"""The order of a team's roles in its exclusion group; higher is more."""

RESOURCE_TYPES = {
    ResourceKind.USER: ResourceType(id=_USER, display_name="User", traits=[ResourceType.TRAIT_USER]),
    ResourceKind.TEAM: ResourceType(id=_TEAM, display_name="Team", traits=[ResourceType.TRAIT_GROUP]),
}


class AccountSerializer:
    """Serializes accounts as C1's Resources, in one thread: it fills one message over and over, in a third of the time.

    An address that C1 would refuse is left out of `emails`; `login` keeps what Buildkite says. A profile holds the
    organization role and the SSO mode as far as they are known; without either there is none.
    """

    def __init__(self) -> None:
        self._trait = UserTrait(
            status=UserTrait.Status(status=UserTrait.Status.STATUS_ENABLED),
            account_type=UserTrait.ACCOUNT_TYPE_HUMAN,
        )
        self._resource = Resource(
            id=ResourceId(resource_type=_USER),
            annotations=[Any(type_url=_TYPE_URL + "UserTrait")],
            external_id=ExternalId(),
            status=Status(status=Status.RESOURCE_STATUS_ENABLED),
        )
        self._profile: tuple[str | None, str | None] = (None, None)

    def serialize(self, account: Account) -> bytes:
        """The account's Resource."""
        trait, resource = self._trait, self._resource
        trait.login = login = valid_unicode(account.email)
        trait.ClearField("emails")
        if is_email(login):
            trait.emails.add(address=login, is_primary=True)
        resource.id.resource = resource.external_id.id = account.id
        resource.display_name = display_name(account.name, account.email, account.id)
        self._set_profile(account.role, account.sso_mode)
        resource.annotations[0].value = trait.SerializeToString(deterministic=True)
        return resource.SerializeToString(deterministic=True)

    def _set_profile(self, role: str | None, sso_mode: str | None) -> None:
        if (role, sso_mode) == self._profile:
            return
        self._profile = role, sso_mode
        for message in (self._trait, self._resource):
            message.ClearField("profile")
            for key, text in (("role", role), ("sso_mode", sso_mode)):
                if text is not None:
                    message.profile[key] = valid_unicode(text)


@dataclass(frozen=True, slots=True)
class RoleMessages:
    """One entitlement, serialized, and the bytes that each of its grants begins with."""

    id: str
    entitlement: bytes
    grant_head: bytes


@dataclass(frozen=True, slots=True)
class TeamMessages:
    """A team's Resource, serialized, and its roles."""

    resource: bytes
    roles: dict[Role, RoleMessages]


def team_messages(team: Team) -> TeamMessages:
    """The messages of one team.

    The Resource and its entitlements carry more than the reference writes (description, profile). Grants carry the
    Resource as the reference writes it, because a grant repeats it for every member.
    """
    plain = Resource(
        id=ResourceId(resource_type=_TEAM, resource=team.id),
        display_name=display_name(team.name, team.slug, team.id),
    )
    profile = _team_profile(team)
    enriched = Resource(
        id=plain.id,
        display_name=plain.display_name,
        annotations=[_any(GroupTrait(profile=profile))],
        description=cut(team.description, DESCRIPTION_BYTES),
        profile=profile,
    )
    plain.annotations.append(_any(GroupTrait()))
    return TeamMessages(
        resource=enriched.SerializeToString(deterministic=True),
        roles={role: _role_messages(role, plain, enriched) for role in Role},
    )


def _team_profile(team: Team) -> Struct:
    profile = Struct()
    if team.is_default is not None:
        profile["is_default_team"] = team.is_default
    for key, text in (("slug", team.slug), ("privacy", team.privacy), ("created_at", team.created_at)):
        if text:
            profile[key] = valid_unicode(text)
    if team.default_member_role is not None:
        profile["default_member_role"] = valid_unicode(team.default_member_role)
    for permission in _TEAM_PERMISSIONS:
        allowed = getattr(team, permission)
        if allowed is not None:
            profile[permission] = allowed
    return profile


def _any(message: GroupTrait | EntitlementExclusionGroup) -> Any:
    return Any(type_url=_TYPE_URL + message.DESCRIPTOR.name, value=message.SerializeToString(deterministic=True))


def _role_messages(role: Role, plain: Resource, enriched: Resource) -> RoleMessages:
    role_id = entitlement_id(TeamID(plain.id.resource), role)
    exclusion_group_id = f"{_TEAM}:{plain.id.resource}:role"
    title = role.value.capitalize()
    entitlement = Entitlement(
        resource=enriched,
        id=role_id,
        display_name=title,
        description=f"{title} of {plain.display_name} team in Buildkite",
        grantable_to=[RESOURCE_TYPES[ResourceKind.USER]],
        purpose=Entitlement.PURPOSE_VALUE_ASSIGNMENT,
        slug=role.value,
        annotations=[_any(EntitlementExclusionGroup(exclusion_group_id=exclusion_group_id, order=_PRIVILEGE[role]))],
    )
    head = Grant(entitlement=Entitlement(resource=plain, id=role_id))
    return RoleMessages(
        id=role_id,
        entitlement=entitlement.SerializeToString(deterministic=True),
        grant_head=head.SerializeToString(deterministic=True),
    )


class GrantSerializer:
    """Serializes grants, in one thread: it fills one message over and over."""

    def __init__(self) -> None:
        self._tail = Grant(principal=Resource(id=ResourceId(resource_type=_USER)))
        self._principal = self._tail.principal.id

    def serialize(self, role: RoleMessages, account: AccountID) -> tuple[str, bytes]:
        """The id of the grant of `role` to `account`, and the Grant."""
        self._principal.resource = account
        self._tail.id = grant_id = f"{role.id}:{_USER}:{account}"
        return grant_id, role.grant_head + self._tail.SerializeToString()


def read_account(data: bytes) -> Account:
    """The account of a serialized Resource. Raises google.protobuf.message.DecodeError."""
    resource, trait = Resource.FromString(data), UserTrait()
    for annotation in resource.annotations:
        if annotation.Unpack(trait):
            break
    email = trait.login or next((email.address for email in trait.emails), "")
    return Account(
        id=AccountID(resource.id.resource),
        name=resource.display_name,
        email=email,
        role=_text(resource.profile, "role"),
        sso_mode=_text(resource.profile, "sso_mode"),
    )


def read_team(data: bytes) -> Team:
    """The team of a serialized Resource; what is not in it is empty. Raises DecodeError."""
    resource = Resource.FromString(data)
    profile = resource.profile.fields
    return Team(
        id=TeamID(resource.id.resource),
        name=resource.display_name,
        slug=profile["slug"].string_value,
        description=resource.description,
        privacy=profile["privacy"].string_value,
        is_default=profile["is_default_team"].bool_value if "is_default_team" in profile else None,
        created_at=profile["created_at"].string_value,
        default_member_role=_text(resource.profile, "default_member_role"),
        **{name: profile[name].bool_value for name in _TEAM_PERMISSIONS if name in profile},
    )


def _text(profile: Struct, key: str) -> str | None:
    """The text of a profile's field, interned because few differ; None when the field is absent."""
    return intern(profile.fields[key].string_value) if key in profile.fields else None


def read_membership(data: bytes) -> Membership:
    """The membership of a serialized Grant. Raises DecodeError, or ValueError for a role that is none."""
    grant = Grant.FromString(data)
    return Membership(
        team=TeamID(grant.entitlement.resource.id.resource),
        account=AccountID(grant.principal.id.resource),
        role=Role(grant.entitlement.id.rpartition(":")[2]),
    )


# What C1 refuses in a text, by the limits that its message definitions declare, so that no odd name loses a whole
# snapshot. Texts come from people: any Unicode, any length


DISPLAY_NAME_BYTES = 1024
DESCRIPTION_BYTES = 2048
_ID_BYTES = 255

_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters that count as letters or symbols and are drawn as nothing: people without a name use them."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ATOM = r'[^\x00-\x20\x7f"(),.:;<>@\[\\\]]+'
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")


def valid_unicode(text: str) -> str:
    r"""`text` with each lone surrogate (JSON can carry them: `"\ud800"`) replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def cut(text: str, limit: int) -> str:
    """`text` as valid Unicode in at most `limit` bytes of UTF-8, cut between characters."""
    if len(text) * 4 <= limit:
        return valid_unicode(text)
    return valid_unicode(text).encode()[:limit].decode(errors="ignore")


def display_name(*names: str) -> str:
    """What C1 shows: the first of the names that is not blank, within C1's limit. The last is an id, never blank."""
    return next(text for text in (cut(name, DISPLAY_NAME_BYTES) for name in names) if not _is_blank(text))


def _is_blank(text: str) -> bool:
    """Whether nothing of it can be seen: it is empty, or spaces, controls and marks of no width."""
    return all(character in _UNSEEN or character.isspace() or not character.isprintable() for character in text)


def is_email(text: str) -> bool:
    """Whether C1 takes `text` (valid Unicode) for an address: a dot-atom of at most 64 bytes, `@`, and a host name.

    Quoted local parts, though legal, are not taken.
    """
    match = _EMAIL.fullmatch(text)
    if match is None:
        return False
    local, host = match.groups()
    return len(local.encode()) <= 64 and len(host) <= 253 and len(text.encode()) <= 254


def checked_id(kind: str, text: str) -> str:
    """`text` when C1 can hold it as the id of a `kind`: ids are never altered. Raises Failure."""
    if text.isascii() and text.isprintable() and 0 < len(text) <= _ID_BYTES:
        return text
    raise Failure(
        Reason.SNAPSHOT_INVALID,
        f"Buildkite gave a {kind} the id {text[:80]!r}; expected 1 to {_ID_BYTES} printable ASCII characters (a UUID). "
        "It would not be the same id in C1, so nothing was written; ask Buildkite's support about it.",
    )
