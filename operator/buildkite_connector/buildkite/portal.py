"""An organization's portal: the port `sync.ports.PortalAPI`, by the operations of the document that the portal stores.

https://buildkite.com/docs/apis/graphql/portals. An answer with any error is refused as a whole, also where it has data:
what GraphQL leaves out after an error would read as "never" and "nobody".
"""

import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import httpx

from buildkite_connector.buildkite import portal_payload
from buildkite_connector.buildkite.body import PORTAL_PAGE_LIMIT
from buildkite_connector.buildkite.client import organization_path, path_part
from buildkite_connector.buildkite.errors import Call
from buildkite_connector.buildkite.parsing import MOST_MESSAGES, PayloadError
from buildkite_connector.buildkite.portal_document import API_TOKENS, MARK, MEMBERS
from buildkite_connector.buildkite.sender import RequestSender
from buildkite_connector.buildkite.settings import PORTAL_VARIABLE
from buildkite_connector.model.directory import AccessToken, AccountDetails, AccountID, OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.sync.ports import PORTAL_PAGE, CursorPage

T = TypeVar("T")

PORTAL_SETTINGS = "Organization Settings, Integrations, Portals"
"""Where an administrator of the organization finds its portals."""

_OF_THE_DOCUMENT = re.compile(
    r"(no|unknown) operation|operation name|operation named|doesn't (exist on type|accept argument)"
    r"|cannot query field|unknown (argument|field|type|variable)|\bvariable\b|(syntax|parse) error",
    re.IGNORECASE,
)
"""What GraphQL says of a document, of an operation that it lacks and of variables that are not its own."""

REST_PAGE = 100
"""Items of the largest page of the REST API; those of a portal take as much memory each."""

_MOST_ERRORS, _LONGEST_MESSAGE = 20, 1000
"""Errors of one answer, and characters of each, that are looked at."""


class PortalClient:
    """One connector's view of a portal, made by `Buildkite.portal`.

    Best for one sync: `requests` and `throttled_seconds` count from its making.
    """

    def __init__(self, sender: RequestSender, organization: OrganizationSlug, portal: str) -> None:
        self._sender = sender
        self._organization = organization
        self._portal = portal

    @property
    def requests(self) -> int:
        return self._sender.requests

    @property
    def throttled_seconds(self) -> float:
        return self._sender.throttled_seconds

    async def members(
        self, after: str | None = None, first: int = PORTAL_PAGE
    ) -> CursorPage[tuple[AccountID, AccountDetails]]:
        return await self._page(MEMBERS, after, first, portal_payload.members)

    async def api_tokens(self, after: str | None = None, first: int = PORTAL_PAGE) -> CursorPage[AccessToken]:
        return await self._page(API_TOKENS, after, first, portal_payload.api_tokens)

    async def _page(
        self, operation: str, after: str | None, first: int, parse: Callable[[object, Redactor], CursorPage[T]]
    ) -> CursorPage[T]:
        call = self._call(operation, after, first)

        def read(_: httpx.Response, body: bytes) -> CursorPage[T]:
            try:
                page = parse(self._found(call, body), self._sender.redactor)
            except PayloadError as error:
                if error.absent:
                    raise _document(call.name, why=f"It does not ask for {error.absent}.") from None
                raise
            if len(page.items) > first:
                raise PayloadError(f"body: expected at most {first} items, but it has {len(page.items)}", broken=False)
            if page.following is not None and page.following == after:
                raise PayloadError("pageInfo.endCursor: expected another cursor than that of this page", broken=False)
            return page

        return await self._sender.ask(call, read)

    def _call(self, operation: str, after: str | None, first: int) -> Call:
        gone = Failure(
            Reason.PORTAL_NOT_FOUND,
            f"Buildkite knows no portal {self._portal!r} in the organization {self._organization!r}. Correct "
            "spec.portal.slug (BUILDKITE_PORTAL_SLUG): the slug is the last part of the portal's URL "
            f"({PORTAL_SETTINGS}).",
            remedy=Remedy.EDIT,
        )
        try:
            path = f"{organization_path(self._organization)}/portals/{path_part(self._portal)}"
        except ValueError:
            raise gone from None
        name = f"POST {path} ({operation})"
        document = partial(_document_refused, name)
        cursor = {} if after is None else {"after": after}
        return Call(
            name,
            f"{path}?operation_name={operation}",
            gone,
            self._sender.redactor,
            method="POST",
            organization=self._organization,
            limit=PORTAL_PAGE_LIMIT,
            json={"organization": self._organization, "first": first, **cursor},
            meanings={401: partial(_rejected, name), 403: partial(_denied, name), 400: document, 422: document},
            pages=-(-first // REST_PAGE),
            variable=PORTAL_VARIABLE,
        )

    def _found(self, call: Call, body: bytes) -> object:
        """The organization in an answer without errors. Raises Failure and PayloadError."""
        answer = portal_payload.answer(body)
        if answer.errors:
            raise _failed(call, answer.errors)
        if answer.data is None:
            raise PayloadError("data: expected an object", broken=False)
        if not isinstance(answer.data.get(MARK), str):
            raise _document(call.name, why=f"It is of another version, as it does not show {MARK}.")
        if "organization" not in answer.data:
            raise PayloadError("organization: Field required", broken=False, absent="organization")
        if answer.data["organization"] is None:
            raise Failure(
                Reason.PORTAL_NOT_FOUND,
                f"{call.name}: the portal shows no organization {self._organization!r}. Check that the portal "
                f"{self._portal!r} belongs to this organization ({PORTAL_SETTINGS}).",
                remedy=Remedy.EDIT,
            )
        return answer.data["organization"]


def _rejected(name: str, said: str) -> Failure:
    return Failure(
        Reason.PORTAL_REJECTED,
        f"{name}: Buildkite does not accept the portal token{_in_brackets(said)}. It was removed, belongs to another "
        f"portal or is mistyped. Check it, or create a new service token on the portal's Security page "
        f"({PORTAL_SETTINGS}) and replace this one.",
        remedy=Remedy.CREDENTIALS,
    )


def _denied(name: str, said: str) -> Failure:
    return Failure(
        Reason.PORTAL_REJECTED,
        f"{name}: Buildkite denies access to the portal{_in_brackets(said)}. Check the portal's allowed IP addresses "
        f"({PORTAL_SETTINGS}), and that the portal token is a service token of this portal.",
        remedy=Remedy.CREDENTIALS,
    )


def _failed(call: Call, errors: object) -> Failure:
    """For the errors of a 200."""
    found = errors if isinstance(errors, list) else [errors]
    texts = [each.get("message") for each in found[:_MOST_ERRORS] if isinstance(each, dict)]
    messages = [text[:_LONGEST_MESSAGE] for text in texts if isinstance(text, str)]
    said = call.quote("; ".join(messages[:MOST_MESSAGES]))
    whole = "\n".join(messages)
    if _OF_THE_DOCUMENT.search(whole):
        return _document_refused(call.name, said, whole)
    return Failure(
        Reason.PORTAL_QUERY_FAILED,
        f"{call.name}: Buildkite answers the operation with an error{_in_brackets(said)}. The next sync tries again. "
        "If the error persists, store the document that `buildkite-connector portal` prints in the portal again, or "
        "contact Buildkite's support.",
    )


def _document_refused(name: str, said: str, whole: str = "") -> Failure:
    """`whole`: the errors as they came, where there are more than `said` tells."""
    if "machineUser" in f"{said}{whole}":
        return _document(name, said, "Buildkite's GraphQL API does not have this field.", " --without-machine-users")
    return _document(name, said)


def _document(name: str, said: str = "", why: str = "", option: str = "") -> Failure:
    return Failure(
        Reason.PORTAL_DOCUMENT_INVALID,
        f"{name}: the GraphQL document that the portal stores cannot be used{_in_brackets(said)}.{why and f' {why}'} "
        f"Print the document of this version with `buildkite-connector portal{option}` and store it in the portal "
        f"({PORTAL_SETTINGS}).",
        remedy=Remedy.CREDENTIALS,
    )


def _in_brackets(said: str) -> str:
    return f" ({said})" if said else ""
