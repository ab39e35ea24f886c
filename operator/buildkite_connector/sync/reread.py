"""Reads the members of single teams again, after they were changed while their organization was collected."""

from dataclasses import replace
from functools import partial

from buildkite_connector.model.directory import Collection, Membership, TeamID
from buildkite_connector.sync.collect import (
    Member,
    OrganizationAPI,
    TeamNotFound,
    account_listing,
    member_listing,
    team_listing,
    team_not_found,
)
from buildkite_connector.sync.listing import ReadStatistics, run_concurrently
from buildkite_connector.sync.strangers import meet_strangers


async def reread(api: OrganizationAPI, collection: Collection, teams: frozenset[TeamID]) -> Collection:
    """The collection with the members of `teams` as they are now: ⌈members/page⌉ requests each.

    A team that is not in the collection stays out of it; one that is gone since is left out, as by `collect`.
    Raises Failure.
    """
    directory = collection.directory
    if not directory.scope.wants_memberships:
        return collection
    slug, statistics = directory.organization.slug, ReadStatistics()
    found: dict[TeamID, tuple[Member, ...] | None] = {}

    async def read(team: TeamID) -> None:
        listing = member_listing(api, slug, team, statistics)
        try:
            found[team] = tuple((await listing.read()).values())
        except TeamNotFound:
            found[team] = None

    changed = [team.id for team in directory.teams if team.id in teams]
    await run_concurrently([partial(read, team) for team in changed], width=max(1, len(changed)))
    gone = {team for team, members in found.items() if members is None}
    if gone:
        listed = await team_listing(api, slug, statistics).read()
        if gone & listed.keys():
            raise team_not_found(min(gone & listed.keys()))
    memberships = [each for each in directory.memberships if each.team not in found]
    memberships += [
        Membership(team, member.account, member.role) for team, members in found.items() for member in members or ()
    ]
    accounts, added = directory.accounts, 0
    if directory.scope.wants_accounts:
        known = {account.id: account for account in accounts}
        names = {id_: account.name for id_, account in known.items()}
        names |= {each.account: each.name for members in found.values() for each in members or ()}
        met, added = await meet_strangers(
            known,
            lambda known: {each.account: names[each.account] for each in memberships if each.account not in known},
            partial(api.account, slug),
            account_listing(api, slug, statistics).read,
        )
        accounts = tuple(met.values())
    report = collection.report
    return Collection(
        replace(
            directory,
            accounts=accounts,
            teams=tuple(team for team in directory.teams if team.id not in gone),
            memberships=tuple(memberships),
        ),
        replace(
            report,
            requests=report.requests + api.requests,
            throttled_seconds=report.throttled_seconds + api.throttled_seconds,
            teams_gone=report.teams_gone + len(gone),
            accounts_added=report.accounts_added + added,
            rereads=report.rereads + statistics.rereads + len(changed),
        ),
    )
