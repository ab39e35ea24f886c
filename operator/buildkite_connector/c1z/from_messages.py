"""Translates C1's messages, as a snapshot holds them, back into what a directory holds."""

from datetime import UTC
from sys import intern

from google.protobuf.struct_pb2 import Struct

from buildkite_connector.c1z.messages import PIPELINE_PROFILE, TEAM_PERMISSIONS, unnamed_token
from buildkite_connector.model.directory import (
    AccessLevel,
    AccessToken,
    AccessTokenID,
    Account,
    AccountDetails,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.proto.connector_pb2 import (
    ExternalLink,
    Grant,
    GrantImmutable,
    Resource,
    SecretTrait,
    UserTrait,
)


def read_account(data: bytes) -> Account:
    """The account of a serialized Resource. Raises google.protobuf.message.DecodeError, or ValueError for a time that
    is none.

    Nothing tells an account that is no machine user from one of which that is not known: both are people to C1.
    """
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
        details=_details(resource, trait),
    )


def _details(resource: Resource, trait: UserTrait) -> AccountDetails | None:
    if not trait.HasField("mfa_status"):
        return None
    return AccountDetails(
        last_seen_at=trait.last_login.ToDatetime(UTC) if trait.HasField("last_login") else None,
        two_factor=trait.mfa_status.mfa_enabled,
        machine=trait.account_type == UserTrait.ACCOUNT_TYPE_SERVICE,
        member_since=resource.created_at.ToDatetime(UTC) if resource.HasField("created_at") else None,
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
        **{name: profile[name].bool_value for name in TEAM_PERMISSIONS if name in profile},
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


def read_organization(data: bytes) -> Organization:
    """The organization of a serialized Resource. Raises DecodeError."""
    resource = Resource.FromString(data)
    return Organization(
        id=resource.id.resource,
        slug=OrganizationSlug(resource.profile.fields["slug"].string_value),
        name=resource.display_name,
        web_url=_page(resource),
    )


def read_pipeline(data: bytes) -> Pipeline:
    """The pipeline of a serialized Resource; what is not in it is empty. Raises DecodeError."""
    resource = Resource.FromString(data)
    return Pipeline(
        id=PipelineID(resource.id.resource),
        name=resource.display_name,
        description=resource.description,
        web_url=_page(resource),
        **{name: resource.profile.fields[name].string_value for name in PIPELINE_PROFILE},
    )


def read_cluster(data: bytes) -> Cluster:
    """The cluster of a serialized Resource; what is not in it is empty. Raises DecodeError."""
    resource = Resource.FromString(data)
    return Cluster(
        id=ClusterID(resource.id.resource),
        name=resource.display_name,
        description=resource.description,
        web_url=_page(resource),
    )


def read_api_token(data: bytes) -> AccessToken:
    """The API token of a serialized Resource. Raises DecodeError, or ValueError for a time that is none."""
    resource, trait = Resource.FromString(data), SecretTrait()
    for annotation in resource.annotations:
        if annotation.Unpack(trait):
            break
    id_ = AccessTokenID(resource.id.resource)
    return AccessToken(
        id=id_,
        owner=AccountID(trait.identity_id.resource) if trait.HasField("identity_id") else None,
        description=resource.display_name if resource.display_name != unnamed_token(id_) else "",
        created_at=resource.created_at.ToDatetime(UTC),
        expires_at=trait.expires_at.ToDatetime(UTC) if trait.HasField("expires_at") else None,
        last_used_at=trait.last_used_at.ToDatetime(UTC) if trait.HasField("last_used_at") else None,
        scopes=tuple(intern(each.string_value) for each in resource.profile.fields["scopes"].list_value.values),
    )


def _page(resource: Resource) -> str:
    link = ExternalLink()
    return link.url if any(annotation.Unpack(link) for annotation in resource.annotations) else ""


def read_pipeline_access(data: bytes) -> PipelineAccess:
    """What a serialized Grant gives a team. Raises DecodeError, or ValueError for a level that is none."""
    grant = Grant.FromString(data)
    return PipelineAccess(
        pipeline=PipelineID(grant.entitlement.resource.id.resource),
        team=TeamID(grant.principal.id.resource),
        level=AccessLevel(grant.entitlement.id.rpartition(":")[2]),
    )


def read_cluster_maintainer(data: bytes) -> ClusterMaintainer:
    """The maintainer of a serialized Grant. Raises DecodeError, or ValueError for one that is neither."""
    grant = Grant.FromString(data)
    principal = grant.principal.id
    cluster = ClusterID(grant.entitlement.resource.id.resource)
    if principal.resource_type == ResourceKind.TEAM:
        return ClusterMaintainer(cluster, TeamID(principal.resource), ResourceKind.TEAM)
    if principal.resource_type == ResourceKind.USER:
        return ClusterMaintainer(cluster, AccountID(principal.resource), ResourceKind.USER)
    raise ValueError(f"a {principal.resource_type[:80]!r} maintains a cluster")


def is_inherited(data: bytes) -> bool:
    """Whether a serialized Grant comes from others alone. Raises DecodeError."""
    return any(
        annotation.TypeName() == GrantImmutable.DESCRIPTOR.full_name
        for annotation in Grant.FromString(data).annotations
    )
