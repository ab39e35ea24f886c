"""The calls of C1's REST API: the connector's state, a sync now, and what creates a connector.

Every call has a deadline, carries the client's token (renewed once when C1 no longer takes it) and fails with a
`Failure` only. Nothing is retried here. Which role a call needs, and how C1 words a refusal, is documented nowhere: the
status decides, and a role is named as probable.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from buildkite_connector.c1.answer import ASKED_AGAIN, HttpAnswer, ask, late
from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.errors import clock_failure
from buildkite_connector.c1.rest_payload import (
    ID,
    AppAnswer,
    AppPage,
    ConnectorAnswer,
    ConnectorPage,
    CredentialAnswer,
    Nothing,
    Page,
    Problem,
)
from buildkite_connector.c1.token import AccessToken, TokenSource
from buildkite_connector.connector.ports import CredentialUse, NewCredential
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Observer, Work
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.status import C1State, C1SyncState
from buildkite_connector.timing.clock import Clock, retry_after

API = "/api/v1"
BATON = "2HErg7BRmNdHgX8sTCWVq4E1fyh"
"""The entry of C1's catalog for a connector that one runs oneself."""
MANAGED_BY = "buildkite-connector"
_ADDRESS = "iac_resource_address"

LONGEST_OBJECT = 256 * 1024
LONGEST_PAGE = 512 * 1024
"""Bytes of an answer; parsing takes up to 200 bytes of memory for 3 of them."""
PAGE_SIZE = 50
"""Apps or connectors; C1 gives up to 100. An app with long texts and many annotations has 10 KB, a usual one 2 KB."""
MOST_PAGES = 400
"""So a tenant may have 20,000 apps."""
LISTING_TIMEOUT = 300.0
"""Seconds for all pages of a list."""
LONGEST_WAIT = 3600.0
"""Seconds of a Retry-After that count."""
LONGEST_SAID = 200
"""Characters of C1's message that are shown."""

NEW_CLIENT = (
    "Check in C1 that this client of the REST API still exists and has not expired; otherwise, create another and "
    "replace the client ID and secret."
)
CONNECTORS_CLIENT = (
    "The client ID ends with /ccc: this is a connector's own client. C1's REST API needs a service principal's "
    "credential or a personal API key: create one, and replace the client ID and secret."
)
READER = "Read-Only Administrator or Connector Administrator"
CONNECTOR_ADMINISTRATOR = "Connector Administrator"
APPLICATION_ADMINISTRATOR = "Application Administrator"

_MEANINGS = {
    401: (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS),
    403: (Reason.C1_ACCESS_DENIED, Remedy.CREDENTIALS),
    404: (Reason.C1_NOT_FOUND, Remedy.EDIT),
    409: (Reason.C1_CONFLICT, Remedy.RETRY),
}
"""Of statuses; any other of 4xx but `_PASSING` rejects the request, and what is left passes with time."""
_PASSING = frozenset({408, 425, 429})

_Model = TypeVar("_Model", bound=BaseModel)
_PageModel = TypeVar("_PageModel", bound=Page)


@dataclass(frozen=True, slots=True)
class _Call:
    """`words` complete "C1 refused the request to …", with the IDs that `_named` has checked.

    `role`: what it takes in C1.
    """

    name: str
    words: str
    path: str
    role: str = CONNECTOR_ADMINISTRATOR
    method: str = "POST"
    json: dict[str, Any] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    paged: bool = False


class RestClient:
    """Made by `C1.rest`; it fits `connector.ports.C1Rest`, which has the reasons of its failures."""

    def __init__(
        self,
        channel: Channel,
        tokens: TokenSource,
        *,
        clock: Clock,
        deadline: float,
        observer: Observer,
        may_send: Callable[[], None],
        release: Callable[[Channel], Awaitable[None]],
    ) -> None:
        self._channel: Channel | None = channel
        self._tokens = tokens
        self._clock = clock
        self._deadline = deadline
        self._observer = observer
        self._may_send = may_send
        self._release = release
        self._created: tuple[str, ...] = ()
        """Secrets of the newest credential that this client created, which C1 may repeat."""
        self._lines: dict[str, str] = {}
        """C1's texts as `connector` last got them, and what it made of them: to clean one takes 10 ms."""

    async def authenticate(self) -> None:
        """Fetch an access token, unless there is one that is still good. Raises Failure as the token endpoint does."""
        self._may_send()
        await self._tokens.current()

    async def connector(self, app_id: str, connector_id: str) -> C1State:
        """What C1 shows of the connector. C1_NOT_FOUND also for one that was deleted."""
        named = _named(connector=connector_id, app=app_id)
        call = _Call("connector", f"read {named}", f"/apps/{app_id}/connectors/{connector_id}", READER, "GET")
        found = (await self._found(call, ConnectorAnswer, app_id, connector_id)).connector_view.connector
        if not found.id:
            raise self._unusable(call, "without the connector")
        if found.deleted:
            raise Failure(
                Reason.C1_NOT_FOUND,
                f"Connector {connector_id} of app {app_id} was deleted in C1. Set the IDs of another connector.",
                remedy=Remedy.EDIT,
            )
        sync, cron = found.status, found.connector_sync_cron_schedule
        paused = ": ".join(filter(None, (found.sync_disabled_category, found.sync_disabled_reason)))
        schedule = " ".join(filter(None, (cron.cron_spec, cron.timezone)))
        lines = self._lines = {text: self._line(text) for text in (sync.last_error, paused, schedule)}
        state = sync.status.removeprefix("SYNC_STATUS_")
        return C1State(
            state=C1SyncState(state) if state in set(C1SyncState) else None,
            started_at=sync.started_at,
            completed_at=sync.completed_at,
            last_error=lines[sync.last_error],
            paused_at=found.sync_disabled_at,
            paused_reason=lines[paused],
            schedule=lines[schedule],
        )

    async def force_sync(self, app_id: str, connector_id: str) -> None:
        """C1 accepts to sync; it hands out the task later."""
        named = _named(connector=connector_id, app=app_id)
        call = _Call("force_sync", f"sync {named}", f"/apps/{app_id}/connectors/{connector_id}/force_sync")
        await self._found(call, Nothing, app_id, connector_id)

    async def find_apps(self, marker: str) -> tuple[str, ...]:
        """IDs of the apps that were created with this marker, the oldest first; `x/` stands for all below it."""
        call = _Call("apps", "list the apps", "/apps", APPLICATION_ADMINISTRATOR, "GET", paged=True)
        return self._oldest_first(
            call,
            [
                (app.created_at, app.id)
                async for page in self._pages(call, AppPage)
                for app in page.items or ()
                if not app.deleted and _has_marker(app.annotations, marker)
            ],
        )

    async def create_app(self, name: str, owners: tuple[str, ...], marker: str) -> str:
        """The new app's ID. Not idempotent: after a failure that may hide success, look with `find_apps`."""
        content = {"displayName": name, "owners": list(owners), "annotations": _annotations(marker)}
        call = _Call("create_app", "create the app", "/apps", APPLICATION_ADMINISTRATOR, json=content)
        return self._id(call, (await self._read(call, AppAnswer)).app.id)

    async def find_connectors(self, app_id: str, marker: str) -> tuple[str, ...]:
        """IDs of the app's connectors that were created with this marker, the oldest first; "" stands for all."""
        call, mark = _listing(app_id), _description(marker) if marker else ""
        return self._oldest_first(
            call,
            [
                (found.created_at, found.id)
                async for page in self._pages(call, ConnectorPage)
                for view in page.items or ()
                if not (found := view.connector).deleted and found.catalog_id == BATON and mark in found.description
            ],
        )

    async def create_connector(self, app_id: str, name: str, owners: tuple[str, ...], marker: str) -> str:
        """The new connector's ID; it awaits its credentials. Not idempotent either."""
        content = {
            "catalogId": BATON,
            "displayName": name,
            "description": _description(marker),
            "userIds": list(owners),
        }
        words = f"create a connector in {_named(app=app_id)}"
        call = _Call("create_connector", words, f"/apps/{app_id}/connectors", json=content)
        return self._id(call, (await self._read(call, ConnectorAnswer)).connector_view.connector.id)

    async def create_credential(self, app_id: str, connector_id: str) -> NewCredential:
        """One more credential; others stay valid. One whose answer is lost cannot be found again."""
        words = f"create a credential of {_named(connector=connector_id, app=app_id)}"
        content = {"appId": app_id, "connectorId": connector_id}
        call = _Call("create_credential", words, "/apps/connectors/credentials", json=content)
        made = (await self._found(call, CredentialAnswer, app_id, connector_id)).credential
        if not (made.client_id and made.client_secret):
            raise self._unusable(call, "without a client ID and secret")
        self._created = (made.client_secret, made.client_secret.rpartition(":")[2])
        return NewCredential(self._id(call, made.id), made.client_id, made.client_secret, made.expires_time)

    async def credential(self, app_id: str, connector_id: str, credential_id: str) -> CredentialUse | None:
        """None: it is gone."""
        named = _named(credential=credential_id, connector=connector_id, app=app_id)
        path = f"/apps/{app_id}/connectors/{connector_id}/credentials/{credential_id}"
        call = _Call("credential", f"read {named}", path, READER, "GET")
        try:
            found = (await self._read(call, CredentialAnswer)).credential
        except Failure as failure:
            if failure.reason is Reason.C1_NOT_FOUND:
                return None
            raise
        if not found.id:
            raise self._unusable(call, "without the credential")
        return None if found.deleted else CredentialUse(found.expires_time, found.last_used_at)

    async def revoke_credential(self, app_id: str, connector_id: str, credential_id: str) -> None:
        """One that is gone already is no failure."""
        named = _named(credential=credential_id, connector=connector_id, app=app_id)
        path = f"/apps/{app_id}/connectors/{connector_id}/credentials/{credential_id}"
        call = _Call("revoke_credential", f"revoke {named}", path)
        try:
            await self._read(call, Nothing)
        except Failure as failure:
            if failure.reason is not Reason.C1_NOT_FOUND:
                raise

    async def aclose(self) -> None:
        """Give the shared channel back; further calls are an error. May be called twice."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await self._release(channel)

    # Calls

    async def _pages(self, call: _Call, model: type[_PageModel]) -> AsyncIterator[_PageModel]:
        """All pages. Raises Failure also where they do not end."""
        seen: set[str] = set()
        token, ends_at = "", self._clock.monotonic() + LISTING_TIMEOUT
        for _ in range(MOST_PAGES):
            params = {"page_size": str(PAGE_SIZE)} | ({"page_token": token} if token else {})
            page = await self._read(replace(call, params=params), model)
            yield page
            token = page.next_page_token
            if not token:
                return
            if token in seen:
                raise self._unusable(call, "with a page token that it had given before")
            seen.add(token)
            if self._clock.monotonic() > ends_at:
                raise late(self._subject(call), LISTING_TIMEOUT, self._open)
        raise self._unusable(call, f"with more than {MOST_PAGES} pages, which is the limit")

    async def _found(self, call: _Call, model: type[_Model], app_id: str, connector_id: str) -> _Model:
        """As `_read`; where there is no connector, it asks once what is missing."""
        try:
            return await self._read(call, model)
        except Failure as failure:
            if failure.reason is not Reason.C1_NOT_FOUND:
                raise
            message = failure.message
        missing = await self._missing(app_id, connector_id)
        raise Failure(Reason.C1_NOT_FOUND, f"{message} {missing}", remedy=Remedy.EDIT)

    async def _missing(self, app_id: str, connector_id: str) -> str:
        """Which of the two IDs is wrong, as far as C1 tells by the list of the app's connectors."""
        try:
            page = await self._read(_listing(app_id), ConnectorPage)
        except Failure as failure:
            if failure.reason is Reason.C1_NOT_FOUND:
                return f"C1 does not have app {app_id} either: correct the app ID."
            return "Correct the app ID or the connector ID."
        if page.items:
            return f"App {app_id} has connectors, but not {connector_id}: correct the connector ID."
        return f"App {app_id} does not show any connector: correct the app ID, or the connector ID."

    async def _read(self, call: _Call, model: type[_Model]) -> _Model:
        answer = await self._ask(call)
        if not httpx.codes.is_success(answer.status):
            raise self._refusal(call, answer)
        try:
            return model.model_validate_json(answer.body or b"{}")
        except ValidationError:
            pass  # its text may hold what C1 sent
        raise self._unusable(call, "with something other than C1 documents")

    async def _ask(self, call: _Call) -> HttpAnswer:
        """The answer to a call with the current token, once more with a new one if C1 refuses it."""
        with self._observer.operation(Work.C1_REST, method=call.method, call=call.name) as operation:
            try:
                async with asyncio.timeout(self._deadline):
                    answer = await self._attempt(call)
            except TimeoutError:
                raise late(self._subject(call), self._deadline, self._open) from None
            operation.tell(status=answer.status)
            return answer

    async def _attempt(self, call: _Call) -> HttpAnswer:
        self._may_send()
        token = await self._tokens.current()
        self._may_send()
        answer = await self._send(call, token)
        if answer.status == httpx.codes.UNAUTHORIZED:
            token = await self._tokens.replace(token)
            self._may_send()
            answer = await self._send(call, token)
        return answer

    async def _send(self, call: _Call, token: AccessToken) -> HttpAnswer:
        return await ask(
            self._open,
            call.method,
            API + call.path,
            subject=self._subject(call),
            redactor=self._redactor,
            limit=LONGEST_PAGE if call.paged else LONGEST_OBJECT,
            deadline=self._deadline,
            headers=dict(token.metadata),
            params=call.params,
            json=call.json if call.method == "POST" else None,
        )

    # What goes wrong

    def _refusal(self, call: _Call, answer: HttpAnswer) -> Failure:
        """What an answer other than 2xx means."""
        status, wait = answer.status, retry_after(answer.headers, self._clock.now(), LONGEST_WAIT)
        if answer.body.lstrip().startswith(b"<"):
            return self._unusable(call, f"{status} with a web page", wait)
        reason, remedy = _MEANINGS.get(status, (Reason.C1_UNAVAILABLE, Remedy.RETRY))
        if httpx.codes.is_client_error(status) and status not in {*_MEANINGS, *_PASSING}:
            reason = Reason.C1_REQUEST_REJECTED
        c1, said = f"C1 at {self._open.endpoint}", f"{status}{self._said(answer)}"
        if reason is Reason.C1_UNAVAILABLE:
            message = f"{c1} answered the request to {call.words} with {said}. {ASKED_AGAIN}"
            return Failure(reason, message, retry_after=wait)
        refused = f"{c1} refused the request to {call.words}: {said}"
        if reason is Reason.C1_CLIENT_REJECTED and (wrong := self._tokens.wrong_clock) is not None:
            return clock_failure(refused, wrong)
        return Failure(reason, f"{refused}. {self._advice(reason, call)}".strip(), remedy=remedy, retry_after=wait)

    def _advice(self, reason: Reason, call: _Call) -> str:
        remedy = self._tokens.remedy
        denied = reason is Reason.C1_ACCESS_DENIED and remedy == CONNECTORS_CLIENT
        if reason is Reason.C1_CLIENT_REJECTED or denied:
            return remedy
        match reason:
            case Reason.C1_ACCESS_DENIED:
                advice = (
                    f"The client's user or service principal probably lacks the role {call.role} in C1, or the "
                    "credential is limited to other roles."
                )
                return advice if call.path == "/apps" else f"{advice} Otherwise, check the app ID and the connector ID."
            case Reason.C1_NOT_FOUND if call.path.endswith("/connectors"):
                return "C1 does not have this app, or the client cannot see it: check the app ID."
            case Reason.C1_CONFLICT:
                return "The connector asks again later."
            case Reason.C1_REQUEST_REJECTED:
                return "If this persists, check the IDs, and that this connector's version works with your C1."
        return ""

    def _line(self, text: str) -> str:
        """C1's text on one line, bounded and without this client's credentials.

        C1 knows no others: the session sends it an assertion, never its secret, and FinishTask's messages hold none.
        """
        return (self._lines.get(text) or self._redactor.quote(text)) if text else ""

    def _said(self, answer: HttpAnswer) -> str:
        """C1's message, in brackets, where there is one in the form that is expected of it."""
        try:
            message = Problem.model_validate_json(answer.body).message
        except ValidationError:
            return ""
        return f" ({self._redactor.quote(message, LONGEST_SAID)})" if message else ""

    def _unusable(self, call: _Call, how: str, wait: float | None = None) -> Failure:
        return Failure(
            Reason.C1_UNAVAILABLE,
            f"{self._subject(call)} answered {how}. Check that the client ID's host is your C1 tenant's, and that no "
            "proxy answers in its place.",
            retry_after=wait,
        )

    def _oldest_first(self, call: _Call, found: list[tuple[datetime | None, str]]) -> tuple[str, ...]:
        latest = datetime.max.replace(tzinfo=UTC)
        return tuple(self._id(call, name) for _, name in sorted((at or latest, name) for at, name in found))

    def _id(self, call: _Call, found: str) -> str:
        """An ID that C1 gave, which goes into paths and is shown."""
        if not ID.fullmatch(found) or self._redactor.holds_secret(found):
            raise self._unusable(call, "without a usable ID")
        return found

    def _subject(self, call: _Call) -> str:
        return f"C1 at {self._open.endpoint}, asked to {call.words},"

    @property
    def _open(self) -> Channel:
        if self._channel is None:
            raise RuntimeError("the client of C1's REST API is closed")
        return self._channel

    @property
    def _redactor(self) -> Redactor:
        return self._tokens.redactor.with_secrets(*self._created)


def _annotations(marker: str) -> dict[str, str]:
    return {"managed_by": MANAGED_BY, _ADDRESS: marker}


def _has_marker(annotations: dict[str, str], marker: str) -> bool:
    wanted = _annotations(marker)
    found = {key: annotations.get(key, "") for key in wanted}
    if marker.endswith("/") and found[_ADDRESS].startswith(marker):
        found[_ADDRESS] = marker
    return found == wanted


def _description(marker: str) -> str:
    """With a marker that ends with `/`: how the descriptions begin that hold one below it."""
    return f"Managed by {MANAGED_BY} ({marker}" + ("" if marker.endswith("/") else ")")


def _listing(app_id: str) -> _Call:
    words = f"list the connectors of {_named(app=app_id)}"
    return _Call("connectors", words, f"/apps/{app_id}/connectors", READER, "GET", paged=True)


def _named(**ids: str) -> str:
    """The IDs in words, as "connector A of app B", once they are fit for a path. Raises Failure SPEC_INVALID."""
    for kind, text in ids.items():
        if not ID.fullmatch(text):
            raise Failure(
                Reason.SPEC_INVALID,
                f"The {kind} ID must have 1 to 64 letters, digits, '-' and '_'. Copy it from the connector's page in "
                "C1.",
                remedy=Remedy.EDIT,
            )
    return " of ".join(f"{kind} {text}" for kind, text in ids.items())
