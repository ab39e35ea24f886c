"""Before a sync: does Buildkite accept the token, may it read what is wanted, and which organization is it?

At most two requests when all is well (the token, the organization), and their answers are what the sync
goes on with (`collect`). Each thing that can be wrong has a reason and a next step of its own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import attrgetter

from buildkite_connector.model.directory import (
    Account,
    Organization,
    OrganizationRole,
    ResourceKind,
    TokenFacts,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.model.token_scopes import REQUIRED_SCOPES, WRITE_SCOPE
from buildkite_connector.model.words import API_TOKEN, TokenWords, capital
from buildkite_connector.sync.listing import Listing, Progress
from buildkite_connector.sync.ports import BuildkiteAPI

MOST_SLUGS = 20
"""How many organizations a message lists."""

LONGEST_CHOICE = 300
"""Characters that they may take there; the first stands there however long it is."""

LONGEST_SLUG = 200
"""Characters; anything longer is some other text put in the wrong place."""


class ScopesMissing(Failure):
    """The token lacks scopes: `missing`, by name. `token`: what is known of it, if it was asked."""

    def __init__(self, message: str, missing: tuple[str, ...], token: TokenFacts | None = None) -> None:
        super().__init__(Reason.TOKEN_SCOPE_MISSING, message, remedy=Remedy.CREDENTIALS)
        self.missing = missing
        self.token = token


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the sync goes on with."""

    token: TokenFacts
    organization: Organization


WRITING_SCOPES = ("read_organizations", "read_teams", WRITE_SCOPE)
"""What changing a membership needs: its team and account are read too."""


def required_scopes(kinds: Collection[ResourceKind]) -> tuple[str, ...]:
    """The token scopes that collecting these kinds needs; `read_organizations` always, and first."""
    of_kinds = (scope for kind in ResourceKind if kind in kinds for scope in REQUIRED_SCOPES[kind])
    return tuple(dict.fromkeys(("read_organizations", *of_kinds)))


async def preflight(
    client: BuildkiteAPI, choice: OrganizationChoice | None, kinds: Collection[ResourceKind]
) -> Preflight:
    """Check a token against what is to be collected. Without a choice, the only organization is taken that it reaches.

    Raises Failure: TOKEN_REJECTED, ScopesMissing, ORGANIZATION_NOT_FOUND (with the slugs to choose from),
    ORGANIZATION_AMBIGUOUS (likewise), or what kept Buildkite from answering.
    """
    token = await client.token()
    required = required_scopes(kinds)
    missing = tuple(scope for scope in required if scope not in token.scopes)
    if missing:
        raise ScopesMissing(
            f"The Buildkite API token needs the scopes {', '.join(required)}, but lacks "
            f"{', '.join(missing)}. Edit the token in Buildkite (Personal Settings, API Access Tokens) or use "
            "another one.",
            missing,
            token,
        )
    return Preflight(token, await find_organization(client, choice, token.words))


def owner_is_administrator(accounts: Sequence[Account], token: TokenFacts) -> bool | None:
    """Whether the token's owner is an administrator of the organization, by its accounts; None where they do not say.

    The owner's own role says so. If the owner is not among the accounts, or has no role there, the SSO modes do: only
    administrators see those of others. Older responses have neither role nor SSO mode.
    """
    email = token.owner_email.casefold()
    owners = [account for account in accounts if email and account.email.casefold() == email]
    if not owners and len(accounts) == 1:
        owners = list(accounts)
    if owners and owners[0].role is not None:
        return owners[0].role == OrganizationRole.ADMIN
    modes = sum(account.sso_mode is not None for account in accounts if account not in owners)
    if modes > (0 if owners else 1):
        return True
    return False if any(account.role is not None for account in accounts) else None


def write_scope_missing() -> ScopesMissing:
    """The token that changes memberships cannot."""
    return ScopesMissing(
        f"Provisioning is enabled and needs the scope {WRITE_SCOPE}, which the Buildkite API token lacks: no membership"
        " is changed; syncs go on. Edit the token in Buildkite, or set a second one for writing"
        " (BATON_WRITE_API_TOKEN).",
        (WRITE_SCOPE,),
    )


async def find_organization(
    client: BuildkiteAPI, choice: OrganizationChoice | None, words: TokenWords = API_TOKEN
) -> Organization:
    """The organization that was chosen; without a choice, the only one that the token reaches.

    Raises Failure ORGANIZATION_NOT_FOUND or ORGANIZATION_AMBIGUOUS, with the slugs to choose from.
    """
    if choice is not None and len(choice.slug) <= LONGEST_SLUG:
        try:
            return await client.organization(choice)
        except Failure as failure:
            if failure.reason is not Reason.ORGANIZATION_NOT_FOUND:
                raise
    listing = Listing[str, Organization](
        "the organizations of the API token",
        client.organizations,
        attrgetter("slug"),
        page_size=client.page_size,
        progress=Progress(),
    )
    reached = list((await listing.read()).values())
    reason = Reason.ORGANIZATION_NOT_FOUND
    if choice is not None:
        shown = replace(choice, slug=choice.slug[:LONGEST_SLUG])
        what = f"Buildkite knows no organization {shown} that {words.token} can access."
    elif len(reached) == 1:
        return reached[0]
    elif reached:
        reason = Reason.ORGANIZATION_AMBIGUOUS
        what = f"No organization is chosen, and {words.token} can access {len(reached)}."
    else:
        what = "No organization is chosen."
    raise Failure(reason, f"{what} {_choice(reached, words)}", remedy=Remedy.EDIT)


def _choice(reached: Sequence[Organization], words: TokenWords) -> str:
    if not reached:
        return f"The token cannot access any organization. {capital(words.access)}{words.why}."
    slugs = sorted(organization.slug for organization in reached)
    lengths = accumulate(len(slug) + 2 for slug in slugs[:MOST_SLUGS])
    shown = max(1, sum(length <= LONGEST_CHOICE for length in lengths))
    more = f" and {len(slugs) - shown} more" if len(slugs) > shown else ""
    return (
        f"Set the organization (spec.organization, BATON_ORGANIZATION) to one that it can access: "
        f"{', '.join(slugs[:shown])}{more}. If yours is missing, {words.access}."
    )
