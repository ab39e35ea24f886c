"""Buildkite's portals, decided without I/O: who may call one, how often, and what its stored document answers.

The rules are those of facts/buildkite-credentials.md, section 3. It states no answers to a wrong token, slug or
address: 401, 404 and 403 are this simulator's. Nor does it say how an operation is refused: see `invalid_status`.
"""

import ipaddress
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from simulators.buildkite.api import JSON_TYPE, Api, Call, Reply, refusal
from simulators.buildkite.listing import encode
from simulators.buildkite.portal_view import PortalView

PORTAL_PATH = "/portal"
"""Stands for https://portal.buildkite.com."""

NO_PORTAL = refusal(404, "No portal found")
NOT_ALLOWED = refusal(403, "Your IP address is not allowed to use this portal")
UNAUTHENTICATED = refusal(401, "Authentication required. Please supply a valid portal token")
NO_VARIABLES = refusal(400, "The body must be a JSON object of variables")


class DocumentRefusedError(ValueError):
    """The schema refuses the document that somebody wants to store."""


@dataclass
class Portal:
    """One portal; open to edits. A `document` that is assigned is not checked, as one that was stored before the schema
    changed. `allowed_ip_addresses`: CIDRs separated by blanks. Without a `token` it accepts none."""

    organization: str
    slug: str
    document: str = field(repr=False)
    token: str | None = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    allowed_ip_addresses: str | None = None

    @property
    def description(self) -> str:
        """Names its token in the transcript."""
        return f"portal {self.slug}"

    def revoke(self) -> None:
        """From now on it accepts no token, until it has another."""
        self.token = None

    def allows(self, address: str) -> bool:
        allowed = self.allowed_ip_addresses
        return allowed is None or any(
            ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in allowed.split()
        )


@dataclass(frozen=True, slots=True)
class PortalCall:
    """One call that a portal's document answered, with data or with errors."""

    organization: str
    portal: str
    operation: str
    variables: Mapping[str, Any]


@dataclass
class Portals:
    """Every organization's portals. `machine_users`: whether the schema has `User.machineUser`.

    `invalid_status`: with which status an operation is refused that the schema, the limits or the variables do not
    allow; 400 and 422 are as possible as 200.
    """

    api: Api
    now: Callable[[], datetime]
    calls: list[PortalCall] = field(default_factory=list)
    machine_users: bool = True
    invalid_status: int = 200
    _portals: dict[tuple[str, str], Portal] = field(default_factory=dict)
    _views: dict[str, PortalView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api.revoked.append(self._revoke)

    def create(self, slug: str, document: str, *, organization: str | None = None, **settings: Any) -> Portal:
        """A portal of the first organization or another, in the place of one of that slug. Raises
        DocumentRefusedError."""
        portal = Portal(organization or next(iter(self.api.organizations)), slug, "", **settings)
        self.store(portal, document)
        self._portals[portal.organization, slug] = portal
        return portal

    def store(self, portal: Portal, document: str) -> None:
        """Replaces a portal's document. Raises DocumentRefusedError."""
        from simulators.buildkite.portal_operations import refusals  # noqa: PLC0415 - slow to load

        refused = refusals(document, self.machine_users)
        if refused:
            raise DocumentRefusedError("; ".join(each["message"] for each in refused))
        portal.document = document

    def delete(self, portal: Portal) -> None:
        del self._portals[portal.organization, portal.slug]

    def view(self, organization: str | None = None) -> PortalView:
        """What the portals of the first organization or another show of it."""
        slug = organization or next(iter(self.api.organizations))
        served = self.api.organizations[slug]
        if slug not in self._views or self._views[slug].organization is not served:
            self._views[slug] = PortalView(served, self.now)
        return self._views[slug]

    def caller(self, call: Call) -> str:
        """Names the token that the call carries, empty when it is not accepted."""
        portal = self._portal(call)
        return portal.description if portal and _accepted(portal, call) else ""

    def answer(self, call: Call, address: str) -> Reply:
        portal = self._portal(call)
        if portal is None:
            return NO_PORTAL
        if not _accepted(portal, call):
            return UNAUTHENTICATED
        if not portal.allows(address):
            return NOT_ALLOWED
        standing = self.api.quota.count_portal(portal.organization)
        reply = refusal(429, standing.warning) if standing.exceeded else self._run(portal, call)
        return Reply(reply.status, reply.body, {**reply.headers, **standing.headers()})

    def _revoke(self, token: str) -> None:
        for portal in self._portals.values():
            if portal.token == token:
                portal.revoke()

    def _run(self, portal: Portal, call: Call) -> Reply:
        from simulators.buildkite.portal_operations import run  # noqa: PLC0415 - slow to load

        try:
            variables = json.loads(call.body)
        except ValueError:
            return NO_VARIABLES
        if not isinstance(variables, dict):
            return NO_VARIABLES
        name = call.query.get("operation_name", "")
        self.calls.append(PortalCall(portal.organization, portal.slug, name, variables))
        answer = run(portal.document, name, variables, self.view(portal.organization).root(), self.machine_users)
        return Reply(200 if "data" in answer else self.invalid_status, encode(answer), JSON_TYPE)

    def _portal(self, call: Call) -> Portal | None:
        match [unquote(part) for part in call.path.removeprefix(PORTAL_PATH).split("/")]:
            case ["", "organizations", organization, "portals", slug] if call.method == "POST":
                return self._portals.get((organization, slug)) if organization in self.api.organizations else None
        return None


def _accepted(portal: Portal, call: Call) -> bool:
    return portal.token is not None and call.authorization == f"Bearer {portal.token}"
