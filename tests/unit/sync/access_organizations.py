"""Organizations with pipelines and clusters, and what may happen to them while they are read."""

from collections.abc import Callable

import pytest

from buildkite_connector.model.directory import AccessLevel, SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.ports import NotFound
from fakes.organization_api import ACME, REST_KINDS, FakeOrganizationAPI, access, cluster, organization, pipeline, team

EVERYTHING = SyncScope(REST_KINDS)


def large() -> FakeOrganizationAPI:
    """Listings of every size around a page of 3; every second cluster has no maintainers."""
    api = organization(accounts=7, members=[[0, 1, 2, 3], [], [6], [1], [2]])
    api.listed_pipelines = [pipeline(number) for number in range(7)]
    api.listed_access = {
        team(0).id: [access(number) for number in range(7)],
        team(1).id: [access(number, 1, AccessLevel.BUILD_AND_READ) for number in range(3)],
        team(2).id: [access(0, 2, AccessLevel.MANAGE_BUILD_AND_READ)],
    }
    api.listed_clusters = [
        cluster(0, users=[0, 1], teams=[0]),
        cluster(1),
        cluster(2, users=[6]),
        cluster(3),
        cluster(4, teams=[2]),
    ]
    return api


def small() -> FakeOrganizationAPI:
    """One page of everything: two people, teams and pipelines, a cluster that a person and a team maintain."""
    api = organization(accounts=2, members=[[0], [1]])
    api.page_size = 10
    api.listed_pipelines = [pipeline(0), pipeline(1)]
    api.listed_access = {team(0).id: [access(0), access(1)], team(1).id: [access(1, 1, AccessLevel.BUILD_AND_READ)]}
    api.listed_clusters = [cluster(0, users=[0], teams=[1])]
    return api


def when(api: FakeOrganizationAPI, listing: str, change: Callable[[], object], times: int = 1) -> None:
    """Lets something happen just before the first answers about that listing."""
    before, asked = api.before, list[None]()

    def hook(found: str, page: int) -> None:
        before(found, page)
        if found == listing and len(asked) < times:
            asked.append(None)
            change()

    api.before = hook


def delete_team(api: FakeOrganizationAPI, number: int) -> None:
    api.listed_teams.remove(team(number))
    del api.listed_members[team(number).id]
    api.listed_access.pop(team(number).id, None)


def cannot_be_found() -> None:
    raise NotFound


def asked_about(api: FakeOrganizationAPI, start: str) -> set[str]:
    return {listing for listing, _ in api.asked if listing.startswith(start)}


async def failure_of(api: FakeOrganizationAPI, scope: SyncScope = EVERYTHING) -> str:
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, scope)
    assert (failed.value.reason, failed.value.remedy) == (Reason.LIST_INCOMPLETE, Remedy.RETRY)
    return failed.value.message
