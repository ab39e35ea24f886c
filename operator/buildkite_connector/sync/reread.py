"""Reads the members of single teams again, after they were changed while their organization was collected."""

from dataclasses import replace
from functools import partial
from operator import attrgetter

from buildkite_connector.model.directory import Account, AccountID, Collection, Membership, TeamID
from buildkite_connector.sync.collect import Member, OrganizationAPI, TeamNotFound
from buildkite_connector.sync.listing import Listing, ReadStatistics, run_concurrently


async def reread(api: OrganizationAPI, collection: Collection, teams: frozenset[TeamID]) -> Collection:
    """The collection with the members of `teams` as they are now: ⌈members/page⌉ requests each.

    A team that is not in the collection stays out of it; one that is gone since is left out, as by `collect`.
    Raises Failure.
    """
    directory = collection.directory
    if not directory.scope.wants_memberships:
        return collection
    statistics = ReadStatistics()
    found: dict[TeamID, tuple[Member, ...] | None] = {}

    async def read(team: TeamID) -> None:
        listing = Listing[AccountID, Member](
            f"the members of team {team}",
            partial(api.members, directory.organization.slug, team),
            attrgetter("account"),
            page_size=api.page_size,
            statistics=statistics,
        )
        try:
            found[team] = tuple((await listing.read()).values())
        except TeamNotFound:
            found[team] = None

    changed = [team.id for team in directory.teams if team.id in teams]
    await run_concurrently([partial(read, team) for team in changed], width=max(1, len(changed)))
    gone = {team for team, members in found.items() if members is None}
    if gone:
        await api.organization(directory.organization.slug)  # a lost organization looks like every team deleted
    memberships = [each for each in directory.memberships if each.team not in found]
    memberships += [
        Membership(team, member.account, member.role) for team, members in found.items() for member in members or ()
    ]
    added: dict[AccountID, Account] = {}
    if directory.scope.wants_accounts:
        known = {account.id for account in directory.accounts}
        for member in (member for members in found.values() for member in members or ()):
            if member.account not in known:
                added.setdefault(member.account, Account(member.account, member.name, ""))
    report = collection.report
    return Collection(
        replace(
            directory,
            accounts=(*directory.accounts, *added.values()),
            teams=tuple(team for team in directory.teams if team.id not in gone),
            memberships=tuple(memberships),
        ),
        replace(
            report,
            requests=report.requests + api.requests,
            throttled_seconds=report.throttled_seconds + api.throttled_seconds,
            teams_gone=report.teams_gone + len(gone),
            accounts_added=report.accounts_added + len(added),
            rereads=report.rereads + statistics.rereads + len(changed),
        ),
    )
