"""A portal at a Buildkite simulator that stores this version's document, and what it shows, as the core has it."""

from typing import Any

from buildkite_connector.buildkite.portal_document import portal_document
from buildkite_connector.model.directory import AccessToken, AccessTokenID, AccountDetails, AccountID
from simulators.buildkite.portal import Portal
from simulators.buildkite.portal_view import PortalView
from simulators.buildkite.server import BuildkiteSimulator

PORTAL = "c1-connector"
PORTAL_PATH = "/portal/organizations/*/portals/*"
"""The calls of portals, for the rule of a fault."""


def open_portal(sim: BuildkiteSimulator, slug: str = PORTAL, *, machine_users: bool = True, **settings: Any) -> Portal:
    """A portal of the first organization, unless `organization` names another; see `Portal` for the other settings."""
    return sim.portals.create(slug, portal_document(machine_users=machine_users), **settings)


def shown_details(view: PortalView) -> dict[AccountID, AccountDetails]:
    """Of everybody whom the portal lists, bots included."""
    return {
        AccountID(each.user_id): AccountDetails(each.last_seen_at, each.two_factor, each.machine, each.since)
        for each in view.members()
    }


def shown_tokens(view: PortalView) -> dict[AccessTokenID, AccessToken]:
    return {
        AccessTokenID(each.uuid): AccessToken(
            AccessTokenID(each.uuid),
            None if each.owner is None else AccountID(each.owner),
            each.description or "",
            each.created_at,
            each.expires_at,
            each.last_used_at,
            tuple(scope.lower() for scope in each.scopes),
        )
        for each in view.tokens()
    }
