"""Buildkite's JSON, parsed strictly where the connector depends on it and turned into the domain at once.

Fields that are not listed are ignored; text that may be null becomes empty. A field that only informs a reviewer
(`_Note`, `_Right`) is None when it is absent or of another type: it never fails a sync. Ids are interned, so that
an account's id is one object in memory however many teams name it.
"""

import re
from sys import intern
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Organization,
    OrganizationSlug,
    Role,
    Team,
    TeamID,
    TokenFacts,
)
from buildkite_connector.sync.collect import Member

T = TypeVar("T")

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200)]


_LONGEST_NOTE = 100
"""Characters of a text that only informs."""


def _note(value: object) -> str | None:
    """One line of printable text, or None. Interned: few different ones come, in every account or team."""
    if not isinstance(value, str):
        return None
    text = value[:_LONGEST_NOTE]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return intern(text.strip()) or None


_Note = Annotated[str | None, BeforeValidator(_note)]
_Right = Annotated[bool | None, BeforeValidator(lambda value: value if isinstance(value, bool) else None)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class _Account(_Payload):
    id: Identifier
    name: str | None
    email: str | None
    role: _Note = None
    sso_mode: _Note = None


class _Team(_Payload):
    id: Identifier
    name: str | None
    slug: str
    description: str | None
    privacy: str
    default: bool
    created_at: str
    default_member_role: _Note = None
    members_can_create_pipelines: _Right = None
    members_can_create_suites: _Right = None
    members_can_create_registries: _Right = None
    members_can_destroy_registries: _Right = None
    members_can_destroy_packages: _Right = None


class _Member(_Payload):
    user_id: Identifier
    user_name: str | None
    role: Role


class _Organization(_Payload):
    id: Identifier
    slug: Identifier
    name: str | None


class _Token(_Payload):
    uuid: str
    scopes: frozenset[str]
    expires_at: str | None = None


class Refusal(_Payload):
    """The body of a 429: which limit (`rest_user` or `rest`), and seconds until it resets."""

    scope: str = ""
    limit: int = 0
    reset: float | None = None


class _Complaint(_Payload):
    message: str = ""


_accounts = TypeAdapter(list[_Account])
_teams = TypeAdapter(list[_Team])
_members = TypeAdapter(list[_Member])
_organizations = TypeAdapter(list[_Organization])
_one_organization = TypeAdapter(_Organization)
_token = TypeAdapter(_Token)


class PayloadError(Exception):
    """An answer's body is not what was expected. `broken`: it is not even JSON, as when cut short."""

    def __init__(self, message: str, *, broken: bool) -> None:
        super().__init__(message)
        self.broken = broken


def accounts(body: bytes) -> list[Account]:
    """Organization members. Raises PayloadError naming the field, like all that follow."""
    return [
        Account(AccountID(intern(found.id)), found.name or "", found.email or "", found.role, found.sso_mode)
        for found in _parse(_accounts, body)
    ]


def teams(body: bytes) -> list[Team]:
    return [
        Team(
            id=TeamID(intern(found.id)),
            name=found.name or "",
            slug=found.slug,
            description=found.description or "",
            privacy=intern(found.privacy),
            is_default=found.default,
            created_at=found.created_at,
            default_member_role=found.default_member_role,
            members_can_create_pipelines=found.members_can_create_pipelines,
            members_can_create_suites=found.members_can_create_suites,
            members_can_create_registries=found.members_can_create_registries,
            members_can_destroy_registries=found.members_can_destroy_registries,
            members_can_destroy_packages=found.members_can_destroy_packages,
        )
        for found in _parse(_teams, body)
    ]


def members(body: bytes) -> list[Member]:
    return [
        Member(AccountID(intern(found.user_id)), found.user_name or "", found.role) for found in _parse(_members, body)
    ]


def organizations(body: bytes) -> list[Organization]:
    return [_organization(found) for found in _parse(_organizations, body)]


def organization(body: bytes) -> Organization:
    return _organization(_parse(_one_organization, body))


def token(body: bytes) -> TokenFacts:
    found = _parse(_token, body)
    return TokenFacts(found.uuid, found.scopes, found.expires_at and _iso_8601(found.expires_at))


def refusal(body: bytes) -> Refusal:
    """What a 429 says; nothing when it says nothing that can be read."""
    try:
        return Refusal.model_validate_json(body)
    except ValidationError:
        return Refusal()


def complaint(body: bytes) -> str:
    """The `message` of an error's body, on one line and short; empty when there is none."""
    try:
        message = _Complaint.model_validate_json(body).message
    except ValidationError:
        return ""
    return "".join(character if character.isprintable() else " " for character in message)[:200].strip()


def _organization(found: _Organization) -> Organization:
    return Organization(found.id, OrganizationSlug(found.slug), found.name or "")


def _iso_8601(moment: str) -> str:
    """`2025-07-23 06:07:42 UTC` as `2025-07-23T06:07:42Z`; ISO 8601 as it is. Raises PayloadError."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)?(?: ?UTC|Z)", moment)
    if found is None:
        raise PayloadError("expires_at: expected a time like 2025-07-23 06:07:42 UTC", broken=False)
    return f"{found[1]}T{found[2]}Z"


def _parse(adapter: TypeAdapter[T], body: bytes) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        broken = first["type"] == "json_invalid"
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise PayloadError(f"{place.lstrip('.') or 'body'}: {first['msg']}{more}", broken=broken) from None
