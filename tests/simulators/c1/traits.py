"""Traits of resources, by the rules of the vendor's SDK. Each check raises ValueError that names the row."""

import re
from collections.abc import Iterable

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

from buildkite_connector.proto import connector_pb2 as pb

LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = re.compile(rf"(?=.{{3,254}}\Z)[^@\s\"(),:;<>\[\]\\]{{1,64}}@{LABEL}(?:\.{LABEL})*")
"""A bare address at an ASCII host name, as C1's validation of the field has it."""
TRAITS: dict[pb.ResourceType.Trait, type[Message]] = {
    pb.ResourceType.TRAIT_USER: pb.UserTrait,
    pb.ResourceType.TRAIT_GROUP: pb.GroupTrait,
    pb.ResourceType.TRAIT_SECRET: pb.SecretTrait,
}
"""The annotation that a resource must carry where its type has the trait, and may not carry otherwise."""
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years 1 to 9999, which a Timestamp may have."""


def check_traits(row: str, kind: pb.ResourceType, annotations: Iterable[Message]) -> None:
    """`annotations`: those of a resource of this type."""
    found = [each for each in annotations if isinstance(each, tuple(TRAITS.values()))]
    names = [each.DESCRIPTOR.name for each in found]
    expected = [TRAITS[trait].DESCRIPTOR.name for trait in kind.traits if trait in TRAITS]
    for name in names:
        if name not in expected:
            raise ValueError(f"{row}: {name}: its resource type has no such trait")
        if names.count(name) > 1:
            raise ValueError(f"{row}: {name}: comes twice")
    for name in expected:
        if name not in names:
            raise ValueError(f"{row}: {name}: expected, as its resource type has the trait")
    for trait in found:
        if isinstance(trait, pb.UserTrait):
            _check_user(row, trait)
        elif isinstance(trait, pb.SecretTrait):
            _check_secret(row, trait)


def _check_user(row: str, trait: pb.UserTrait) -> None:
    for email in trait.emails:
        if not EMAIL.fullmatch(email.address):
            raise ValueError(f"{row}: UserTrait.emails: {email.address!r} is not an email")
    if sum(email.is_primary for email in trait.emails) > 1:
        raise ValueError(f"{row}: UserTrait.emails: more than one is primary")
    if not trait.HasField("status"):
        raise ValueError(f"{row}: UserTrait.status: required")
    _check_enum(row, "UserTrait.status", pb.UserTrait.Status.Status, trait.status.status)
    _check_enum(row, "UserTrait.account_type", pb.UserTrait.AccountType, trait.account_type)
    for field in ("created_at", "last_login"):
        check_time(row, trait, field)


def _check_secret(row: str, trait: pb.SecretTrait) -> None:
    _check_enum(row, "SecretTrait.credential_type", pb.SecretTrait.CredentialType, trait.credential_type)
    for field in ("created_at", "expires_at", "last_used_at"):
        check_time(row, trait, field)
    for field in ("created_by_id", "identity_id"):
        identity: pb.ResourceId = getattr(trait, field)
        for part in (identity.resource_type, identity.resource) if trait.HasField(field) else ():
            if not 1 <= len(part.encode()) <= 1024:
                raise ValueError(f"{row}: SecretTrait.{field}: expected 1 to 1024 bytes in each part, got {len(part)}")


def _check_enum(row: str, field: str, enum: EnumTypeWrapper, value: int) -> None:
    if value not in enum.values():
        raise ValueError(f"{row}: {field}: {value} is not defined")


def check_time(row: str, message: Message, field: str) -> None:
    """A Timestamp, where it is there."""
    time = getattr(message, field)
    if not (_FIRST_SECOND <= time.seconds <= _LAST_SECOND and 0 <= time.nanos < 10**9):
        raise ValueError(f"{row}: {message.DESCRIPTOR.name}.{field}: not a time")
