"""Translates what a directory holds into C1's messages; `from_messages` translates back.

Ids are a contract with C1: they equal those of the reference connector, character for character. Serialized bytes are
joined where that saves work: concatenating two serialized messages of one type merges them, so the part that all
grants of one entitlement share is serialized once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.any_pb2 import Any
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from buildkite_connector.c1z.texts import DESCRIPTION_BYTES, cut, display_name, is_email, is_link, valid_unicode
from buildkite_connector.model.directory import (
    AccessLevel,
    AccessToken,
    Account,
    AccountDetails,
    Cluster,
    Organization,
    OrganizationRole,
    Pipeline,
    ResourceKind,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.model.tasks import entitlement_id
from buildkite_connector.proto.connector_pb2 import (
    Entitlement,
    EntitlementExclusionGroup,
    ExternalId,
    ExternalLink,
    Grant,
    GrantExpandable,
    GrantImmutable,
    GrantSources,
    GroupTrait,
    Resource,
    ResourceId,
    SecretTrait,
    Status,
    UserTrait,
)
from buildkite_connector.proto.resource_types import RESOURCE_TYPES, TYPE_URL, packed

_USER, _TEAM, _API_TOKEN = ResourceKind.USER.value, ResourceKind.TEAM.value, ResourceKind.API_TOKEN.value

TEAM_PERMISSIONS = (
    "members_can_create_pipelines",
    "members_can_create_suites",
    "members_can_create_registries",
    "members_can_destroy_registries",
    "members_can_destroy_packages",
)
"""Fields of Team that go into its profile by their own names."""

PIPELINE_PROFILE = ("slug", "repository", "visibility", "cluster_id", "archived_at")
"""Fields of Pipeline that go into its profile by their own names, where they are known."""

CLUSTER_MAINTAINER = "maintainer"
"""The slug of a cluster's one entitlement."""

_LEVEL_NAMES = {
    AccessLevel.READ_ONLY: "Read Only",
    AccessLevel.BUILD_AND_READ: "Build & Read",
    AccessLevel.MANAGE_BUILD_AND_READ: "Full Access",
}
"""What Buildkite's pages call the levels."""


class AccountSerializer:
    """Serializes accounts as C1's Resources, in one thread: it fills one message over and over, in a third of the time.

    An address that C1 would refuse is left out of `emails`; `login` keeps what Buildkite says. A profile holds the
    organization role and the SSO mode as far as they are known; without either there is none. What only a portal shows
    is there for an account with details: then `mfa_status` is, and `last_login` unless the account was never active.
    """

    def __init__(self) -> None:
        self._trait = UserTrait(
            status=UserTrait.Status(status=UserTrait.Status.STATUS_ENABLED),
            account_type=UserTrait.ACCOUNT_TYPE_HUMAN,
        )
        self._resource = Resource(
            id=ResourceId(resource_type=_USER),
            annotations=[Any(type_url=TYPE_URL + "UserTrait")],
            external_id=ExternalId(),
            status=Status(status=Status.RESOURCE_STATUS_ENABLED),
        )
        self._profile: tuple[str | None, str | None] = (None, None)
        self._details: AccountDetails | None = None

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
        if account.details is not self._details:
            self._set_details(account.details)
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

    def _set_details(self, details: AccountDetails | None) -> None:
        self._details = details
        trait, resource = self._trait, self._resource
        for field in ("last_login", "mfa_status", "created_at"):
            trait.ClearField(field)
        resource.ClearField("created_at")
        trait.account_type = UserTrait.ACCOUNT_TYPE_HUMAN
        if details is None:
            return
        trait.mfa_status.CopyFrom(UserTrait.MFAStatus(mfa_enabled=details.two_factor))
        if details.last_seen_at is not None:
            trait.last_login.FromDatetime(details.last_seen_at)
        if details.machine:
            trait.account_type = UserTrait.ACCOUNT_TYPE_SERVICE
        if details.member_since is not None:
            trait.created_at.FromDatetime(details.member_since)
            resource.created_at.CopyFrom(trait.created_at)


def api_token_resource(token: AccessToken) -> bytes:
    """The token's Resource, serialized. Its profile lists the scopes. It belongs to its owner, who also created it."""
    created = _timestamp(token.created_at)
    owner = ResourceId(resource_type=_USER, resource=token.owner) if token.owner is not None else None
    profile = Struct()
    profile["scopes"] = [valid_unicode(scope) for scope in token.scopes]
    trait = SecretTrait(
        created_at=created,
        expires_at=_timestamp(token.expires_at),
        last_used_at=_timestamp(token.last_used_at),
        created_by_id=owner,
        identity_id=owner,
        credential_type=SecretTrait.CREDENTIAL_TYPE_STATIC_SECRET,
    )
    return Resource(
        id=ResourceId(resource_type=_API_TOKEN, resource=token.id),
        display_name=display_name(token.description, unnamed_token(token.id)),
        annotations=[packed(trait)],
        profile=profile,
        created_at=created,
    ).SerializeToString(deterministic=True)


def unnamed_token(id_: str) -> str:
    """What a token without a description is called."""
    return f"API token {id_}"


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


@dataclass(frozen=True, slots=True)
class EntitlementMessages:
    """One entitlement, serialized, and the bytes that each of its grants begins with."""

    id: str
    entitlement: bytes
    grant_head: bytes


@dataclass(frozen=True, slots=True)
class ResourceMessages:
    """A Resource, serialized, and its entitlements by their slugs."""

    resource: bytes
    entitlements: dict[str, EntitlementMessages]


def team_messages(team: Team) -> ResourceMessages:
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
        annotations=[packed(GroupTrait(profile=profile))],
        description=cut(team.description, DESCRIPTION_BYTES),
        profile=profile,
    )
    plain.annotations.append(packed(GroupTrait()))
    return _messages(
        plain,
        enriched,
        [
            _Offer(role.value, role.value.capitalize(), f"{role.value.capitalize()} of", order=order)
            for order, role in enumerate((Role.MEMBER, Role.MAINTAINER), 1)
        ],
    )


def organization_messages(organization: Organization) -> ResourceMessages:
    """The messages of the organization. An administrator is no member as well: one excludes the other."""
    plain = _plain(ResourceKind.ORGANIZATION, organization.id, organization.name, organization.slug)
    profile = _profile(slug=organization.slug)
    page = organization.web_url or f"https://buildkite.com/{organization.slug}"
    member, admin = (role.value for role in (OrganizationRole.MEMBER, OrganizationRole.ADMIN))
    return _messages(
        plain,
        _enriched(plain, profile, page),
        [
            _Offer(member, "Member", "Member of", order=1),
            _Offer(admin, "Admin", "Admin of", order=2, purpose=Entitlement.PURPOSE_VALUE_PERMISSION),
        ],
    )


def pipeline_messages(pipeline: Pipeline) -> ResourceMessages:
    """The messages of one pipeline. Its levels exclude nothing: a person may hold several through several teams."""
    plain = _plain(ResourceKind.PIPELINE, pipeline.id, pipeline.name, pipeline.slug)
    profile = _profile(**{name: getattr(pipeline, name) for name in PIPELINE_PROFILE})
    return _messages(
        plain,
        _enriched(plain, profile, pipeline.web_url, pipeline.description),
        [
            _Offer(level.value, _LEVEL_NAMES[level], f"{_LEVEL_NAMES[level]} on", _TO_BOTH, _PERMISSION)
            for level in AccessLevel
        ],
    )


def cluster_messages(cluster: Cluster) -> ResourceMessages:
    """The messages of one cluster."""
    plain = _plain(ResourceKind.CLUSTER, cluster.id, cluster.name)
    return _messages(
        plain,
        _enriched(plain, Struct(), cluster.web_url, cluster.description),
        [_Offer(CLUSTER_MAINTAINER, "Maintainer", "Maintainer of", _TO_BOTH, _PERMISSION)],
    )


_PERMISSION = Entitlement.PURPOSE_VALUE_PERMISSION
_TO_BOTH = (ResourceKind.USER, ResourceKind.TEAM)


@dataclass(frozen=True, slots=True)
class _Offer:
    """An entitlement of any resource of a kind. `order`: in the exclusion group of its resource, higher is more."""

    slug: str
    title: str
    description: str
    grantable_to: tuple[ResourceKind, ...] = (ResourceKind.USER,)
    purpose: Entitlement.PurposeValue = Entitlement.PURPOSE_VALUE_ASSIGNMENT
    order: int | None = None


def _messages(plain: Resource, enriched: Resource, offers: Iterable[_Offer]) -> ResourceMessages:
    return ResourceMessages(
        resource=enriched.SerializeToString(deterministic=True),
        entitlements={offer.slug: _entitlement_messages(offer, plain, enriched) for offer in offers},
    )


def _entitlement_messages(offer: _Offer, plain: Resource, enriched: Resource) -> EntitlementMessages:
    kind, resource = plain.id.resource_type, plain.id.resource
    id_ = f"{kind}:{resource}:{offer.slug}"
    entitlement = Entitlement(
        resource=enriched,
        id=id_,
        display_name=offer.title,
        description=f"{offer.description} {plain.display_name} {kind} in Buildkite",
        grantable_to=[RESOURCE_TYPES[kind] for kind in offer.grantable_to],
        purpose=offer.purpose,
        slug=offer.slug,
    )
    if offer.order is not None:
        group = EntitlementExclusionGroup(exclusion_group_id=f"{kind}:{resource}:role", order=offer.order)
        entitlement.annotations.append(packed(group))
    head = Grant(entitlement=Entitlement(resource=plain, id=id_))
    return EntitlementMessages(
        id=id_,
        entitlement=entitlement.SerializeToString(deterministic=True),
        grant_head=head.SerializeToString(deterministic=True),
    )


def _plain(kind: ResourceKind, id_: str, *names: str) -> Resource:
    """A resource as its grants carry it."""
    return Resource(id=ResourceId(resource_type=kind.value, resource=id_), display_name=display_name(*names, id_))


def _enriched(plain: Resource, profile: Struct, page: str, description: str = "") -> Resource:
    """The same resource with all that is known of it. `page`: left out when C1 would refuse it.

    Buildkite gives a cluster's page as `http`, and has it as `https` alone.
    """
    page = page.replace("http://", "https://", 1) if page.startswith("http://") else page
    return Resource(
        id=plain.id,
        display_name=plain.display_name,
        annotations=[packed(ExternalLink(url=page))] if is_link(page) else [],
        description=cut(description, DESCRIPTION_BYTES),
        profile=profile if profile.fields else None,
    )


def _profile(**texts: str) -> Struct:
    """A profile of the texts that are not empty."""
    profile = Struct()
    profile.update({key: valid_unicode(text) for key, text in texts.items() if text})
    return profile


def _team_profile(team: Team) -> Struct:
    profile = Struct()
    if team.is_default is not None:
        profile["is_default_team"] = team.is_default
    for key, text in (("slug", team.slug), ("privacy", team.privacy), ("created_at", team.created_at)):
        if text:
            profile[key] = valid_unicode(text)
    if team.default_member_role is not None:
        profile["default_member_role"] = valid_unicode(team.default_member_role)
    for permission in TEAM_PERMISSIONS:
        allowed = getattr(team, permission)
        if allowed is not None:
            profile[permission] = allowed
    return profile


class GrantSerializer:
    """Serializes grants to principals of one kind, in one thread: it fills one message over and over."""

    def __init__(self, kind: ResourceKind) -> None:
        self._tail = Grant(principal=Resource(id=ResourceId(resource_type=kind.value)))
        self._principal = self._tail.principal.id

    def serialize(self, entitlement: EntitlementMessages, principal: str) -> tuple[str, bytes]:
        """The id of the grant of `entitlement` to the principal of that id, and the Grant."""
        self._principal.resource = principal
        self._tail.id = grant_id = f"{entitlement.id}:{self._principal.resource_type}:{principal}"
        return grant_id, entitlement.grant_head + self._tail.SerializeToString()


# A grant to a team is expandable: the team's members and maintainers hold the entitlement through it. C1 does this
# itself, or is given the grants that come of it


def expansion(team: str) -> bytes:
    """What the column `expansion` of a grant to the team holds: a GrantExpandable, which the Grant itself lacks.

    C1 refuses the whole file for an entitlement of any other resource than the grant's principal.
    """
    entitlements = [entitlement_id(TeamID(team), role) for role in Role]
    return GrantExpandable(entitlement_ids=entitlements, shallow=True).SerializeToString(deterministic=True)


def expanded_entitlement(id_: str, data: bytes) -> EntitlementMessages:
    """A stored Entitlement, which grants that come of others carry in full."""
    head = Grant(entitlement=Entitlement.FromString(data))
    return EntitlementMessages(id_, data, head.SerializeToString(deterministic=True))


def inherited(sources: Iterable[str], *, directly: str = "") -> bytes:
    """The end of a Grant that comes from those of the entitlements `sources`.

    `directly`: its own entitlement's id where it stands by itself as well, so that it may be revoked.
    """
    found = GrantSources()
    for source in (*sources, *([directly] if directly else [])):
        found.sources[source].is_direct = True
    annotations = [] if directly else [packed(GrantImmutable())]
    return Grant(annotations=annotations, sources=found).SerializeToString(deterministic=True)
