"""The Buildkite simulator without a socket: a real client whose requests go straight to the simulator's API and faults.

For properties over hundreds of organizations; what a connection does to an answer is not here (`buildkite_setup`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar, cast

import httpx

from buildkite_connector.buildkite import BuildkiteClient, BuildkiteSettings
from buildkite_connector.buildkite.errors import Call, from_payload, from_status
from buildkite_connector.buildkite.parsing import PayloadError
from buildkite_connector.buildkite.sender import RequestSender
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.words import API_TOKEN
from simulators.buildkite import api
from simulators.buildkite.fault_rules import Faults
from simulators.buildkite.faults import Change, Edit
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import NO_OTHER_USE, Limits, Quota

T = TypeVar("T")

ORIGIN = "http://buildkite.test"
REQUEST = httpx.Request("GET", ORIGIN)
"""For every answer: the client compares links with its origin alone, as long as they are absolute."""


class DirectBuildkite:
    """One organization; `faults` may edit answers and change data. A request is answered after `turns` of the loop."""

    throttled_seconds = 0.0
    words = API_TOKEN

    def __init__(self, organization: Organization, page_size: int, token: api.Token | None = None) -> None:
        self._token = token or api.Token()
        self.organization = organization
        self.api = api.Api(
            {organization.slug: organization},
            {self._token.value: self._token},
            Quota(Limits(None, None), NO_OTHER_USE, lambda: 0.0),
            lambda: datetime.now(UTC),
            ORIGIN,
        )
        self.faults = Faults()
        self.requests = 0
        self.turns: Callable[[], int] = lambda: 1
        settings = replace(BuildkiteSettings(), page_size=page_size)
        self.redactor = Redactor([self._token.value])
        self.client = BuildkiteClient(settings, cast(RequestSender, self))

    async def ask(self, call: Call, read: Callable[[httpx.Response, bytes], T]) -> T:
        """As `RequestSender.ask`, without another try."""
        self.requests += 1
        for _ in range(self.turns()):
            await asyncio.sleep(0)
        asked = api.Call.parse("GET", api.BASE_PATH + call.target, f"Bearer {self._token.value}")
        effect = self.faults.take(asked)
        if isinstance(effect, Change):
            effect.change(self.api, asked)
        reply = self.api.answer(asked, self.api.token_of(asked))
        if isinstance(effect, Edit):
            reply = effect.edit(asked, reply)
        response = httpx.Response(reply.status, headers=reply.headers, content=reply.body, request=REQUEST)
        if reply.status != httpx.codes.OK:
            raise from_status(reply.status, response.headers, reply.body, call, now=datetime.now(UTC)).error
        try:
            return read(response, reply.body)
        except PayloadError as error:
            raise from_payload(error, call).error from None
