"""The organization in a portal's answer, parsed strictly and turned into the domain at once.

All that the document asks for is expected, but for `machineUser`: a document without it may be stored.
"""

import re
from functools import lru_cache
from sys import intern
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, FailFast, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from buildkite_connector.buildkite.body import MOST_VALUES_KEPT
from buildkite_connector.buildkite.parsing import (
    Identifier,
    Moment,
    Payload,
    PayloadError,
    check_size,
    check_words,
    parse,
    parse_value,
    text_filter,
)
from buildkite_connector.model.directory import AccessToken, AccessTokenID, AccountDetails, AccountID
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.sync.ports import PORTAL_PAGE, CursorPage

LONGEST_CURSOR = 1000
"""Characters of a cursor, which goes back to the portal. Buildkite's have some dozens."""

LONGEST_DESCRIPTION = 256
"""Characters of an API token's description that are kept: looking for credentials in 500 of them takes time."""

MOST_SCOPES = 200
"""Scopes of one API token. Buildkite has about 50."""

_SCOPE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")


@lru_cache(maxsize=256)
def _scope(text: str) -> str:
    """As REST writes it."""
    if _SCOPE.fullmatch(text):
        return intern(text.lower())
    raise ValueError("expected a scope like READ_ORGANIZATIONS")


class _Object(Payload):
    model_config = ConfigDict(alias_generator=to_camel)


class _PageInfo(_Object):
    end_cursor: Annotated[str, Field(max_length=LONGEST_CURSOR)] | None
    has_next_page: bool


class _User(_Object):
    uuid: Identifier
    machine_user: bool | None = None


class _Security(_Object):
    two_factor_enabled: bool


class _Member(_Object):
    user: _User
    last_seen_at: Moment | None
    created_at: Moment
    security: _Security


class _Edge(_Object):
    node: _Member | None


class _Members(_Object):
    edges: Annotated[list[_Edge | None], Field(max_length=PORTAL_PAGE), FailFast()]
    page_info: _PageInfo


class _MembersOrganization(_Object):
    members: _Members


class _Owner(_Object):
    uuid: Identifier


class _Token(_Object):
    uuid: Identifier
    description: str | None
    created_at: Moment
    expires_at: Moment | None
    last_accessed_at: Moment | None
    scopes: Annotated[list[Annotated[str, AfterValidator(_scope)]], Field(max_length=MOST_SCOPES), FailFast()]
    owner: _Owner | None


class _Tokens(_Object):
    nodes: Annotated[list[_Token | None], Field(max_length=PORTAL_PAGE), FailFast()]
    page_info: _PageInfo


class _TokensOrganization(_Object):
    api_access_tokens: _Tokens


class GraphQLAnswer(Payload):
    """Of GraphQL. `errors`: as they came."""

    data: dict[str, Any] | None = None
    errors: Any = None


_answer = TypeAdapter(GraphQLAnswer)
_members = TypeAdapter(_MembersOrganization)
_tokens = TypeAdapter(_TokensOrganization)


def answer(body: bytes) -> GraphQLAnswer:
    """Raises PayloadError, like all that follow."""
    check_size(body, MOST_VALUES_KEPT)
    return parse(_answer, body)


def members(organization: object, redactor: Redactor) -> CursorPage[tuple[AccountID, AccountDetails]]:
    found = parse_value(_members, organization).members
    nodes = [edge.node for edge in found.edges if edge is not None and edge.node is not None]
    check_words((node.user.uuid for node in nodes), redactor)
    items = tuple(
        (
            AccountID(intern(node.user.uuid)),
            AccountDetails(
                last_seen_at=node.last_seen_at,
                two_factor=node.security.two_factor_enabled,
                machine=node.user.machine_user,
                member_since=node.created_at,
            ),
        )
        for node in nodes
    )
    return CursorPage(items, _following(found.page_info, "members"))


def api_tokens(organization: object, redactor: Redactor) -> CursorPage[AccessToken]:
    found = parse_value(_tokens, organization).api_access_tokens
    nodes = [node for node in found.nodes if node is not None]
    check_words((word for node in nodes for word in (node.uuid, node.owner.uuid if node.owner else "")), redactor)
    check_words({scope for node in nodes for scope in node.scopes}, redactor)
    kept = text_filter(nodes, ("description",), redactor, LONGEST_DESCRIPTION)
    items = tuple(
        AccessToken(
            id=AccessTokenID(intern(node.uuid)),
            owner=AccountID(intern(node.owner.uuid)) if node.owner else None,
            description=kept(node.description),
            created_at=node.created_at,
            expires_at=node.expires_at,
            last_used_at=node.last_accessed_at,
            scopes=tuple(sorted(set(node.scopes))),
        )
        for node in nodes
    )
    return CursorPage(items, _following(found.page_info, "apiAccessTokens"))


def _following(info: _PageInfo, place: str) -> str | None:
    if info.has_next_page and not info.end_cursor:
        raise PayloadError(f"{place}.pageInfo.endCursor: expected a cursor, as there is another page", broken=False)
    return info.end_cursor if info.has_next_page else None
