"""People whom a team's list of members names and the organization's does not.

Somebody who joined or left while the lists were read is in one of them alone. A list of members from which something is
missing looks the same, and C1 would take the missing ones for gone: so each stranger is asked for by id.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from buildkite_connector.model.directory import Account, AccountID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.sync.listing import run_concurrently

MOST_LEAVERS = 10
"""How many strangers are asked for one by one at first. After the list of members was read again, it may be
MOST_LEAVERS_SHARE of the accounts if that is more: a directory that removes many people at once is no fault."""
MOST_LEAVERS_SHARE = 0.02
MOST_NAMED = 3
"""How many ids a message has."""


async def meet_strangers(
    accounts: Mapping[AccountID, Account],
    strangers: Callable[[Mapping[AccountID, Account]], Mapping[AccountID, str]],
    ask: Callable[[AccountID], Awaitable[Account | None]],
    reread: Callable[[], Awaitable[Mapping[AccountID, Account]]],
) -> tuple[Mapping[AccountID, Account], int]:
    """The accounts, with one by id and name alone for each stranger whom the organization does not have any more, and
    how many these are.

    `strangers`: ids and names of a team's members who are not among these accounts. `ask` for one: None is no member of
    the organization. `reread` the organization's list of members, which is done when it lacks somebody, once.

    Raises Failure LIST_INCOMPLETE when the list lacks members, or more people are strangers than leavers explain.
    """
    unknown = strangers(accounts)
    if await _members(unknown, ask, MOST_LEAVERS):
        accounts = await reread()
        unknown = strangers(accounts)
        missing = await _members(unknown, ask, max(MOST_LEAVERS, round(len(accounts) * MOST_LEAVERS_SHARE)))
        if missing:
            named = ", ".join(missing[:MOST_NAMED]) + ("" if len(missing) <= MOST_NAMED else ", …")
            raise Failure(
                Reason.LIST_INCOMPLETE,
                "Expected the organization's list of members to have everybody who is in a team, but it lacks"
                f" {len(missing)} of them also when it is read again ({named}). Nothing is delivered, since C1 would"
                " take them for gone. Look for a gateway between here and Buildkite that changes or caches answers; the"
                " next sync tries again.",
            )
    return {**accounts, **{id_: Account(id_, name, "") for id_, name in unknown.items()}}, len(unknown)


async def _members(
    unknown: Mapping[AccountID, str], ask: Callable[[AccountID], Awaitable[Account | None]], most: int
) -> list[AccountID]:
    """Which of them are members of the organization; all of them when they are too many to have left."""
    if len(unknown) > most:
        return list(unknown)
    found: set[AccountID] = set()

    async def look(id_: AccountID) -> None:
        if await ask(id_) is not None:
            found.add(id_)

    await run_concurrently([partial(look, id_) for id_ in unknown])
    return [id_ for id_ in unknown if id_ in found]
