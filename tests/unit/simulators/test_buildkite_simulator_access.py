"""What the Buildkite simulator serves of pipelines and clusters: scopes, bodies, pages, and who sees what."""

from dataclasses import replace
from typing import Any

import pytest

from simulators.buildkite.access_records import PIPELINE_SECRETS, WEBHOOK_SECRET
from simulators.buildkite.api import ACCESS_SCOPES, User
from simulators.buildkite.made_access import give_access
from simulators.buildkite.made_organization import make_organization
from unit.simulators.buildkite_access import (
    API,
    DEFAULT,
    DEPLOY,
    GOLDEN,
    HERE,
    OPEN_SOURCE,
    PLATFORM,
    SCOPES,
    SECURITY,
    TOKEN,
    USERS,
    serving,
)


async def read(path: str, user: str = "", *more_scopes: str) -> Any:
    """The answer for a user of the golden organization who is no admin; for an admin by default."""
    reader = User(USERS[user], user, f"{user}@example.com", admin=False) if user else User()
    async with serving(replace(TOKEN, scopes=(*ACCESS_SCOPES, *more_scopes), user=reader)) as (_, client):
        answer = await client.get(path)
        assert answer.status_code == 200
        return answer.json()


@pytest.mark.parametrize("missing", ["read_pipelines", "read_teams", "read_clusters"])
async def test_a_missing_scope_refuses_its_own_calls_alone(missing: str) -> None:
    async with serving(replace(TOKEN, scopes=tuple(set(ACCESS_SCOPES) - {missing}))) as (_, client):
        answers = {path: await client.get(path) for path in SCOPES}
    assert {path for path, answer in answers.items() if answer.status_code == 403} == {
        path for path, scope in SCOPES.items() if scope == missing
    }
    assert {answer.json()["message"] for answer in answers.values() if answer.status_code == 403} == {
        f"Your access token doesn't have the {missing} scope"
    }


async def test_view_teams_is_enough_for_a_teams_pipelines_and_for_nothing_else() -> None:
    async with serving(replace(TOKEN, scopes=("view_teams",))) as (_, client):
        assert (await client.get(f"{HERE}/teams/{PLATFORM}/pipelines")).status_code == 200
        assert (await client.get(f"{HERE}/teams/{PLATFORM}/members")).status_code == 403


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{HERE}/teams/gone/pipelines", "No team found"),
        (f"{HERE}/teams/gone/pipelines/{API}", "No team found"),
        (f"{HERE}/teams/{SECURITY}/pipelines/{API}", "No team pipeline found"),
        (f"{HERE}/clusters/gone", "No cluster found"),
        (f"{HERE}/clusters/gone/maintainers", "No cluster found"),
        ("/organizations/other/pipelines", "No organization found"),
        ("/organizations/other/clusters", "No organization found"),
        (f"{HERE}/pipelines/api", "Not Found"),
        (f"{HERE}/clusters/{DEFAULT}/tokens", "Not Found"),
        (f"{HERE}/clusters/{DEFAULT}/maintainers/x", "Not Found"),
        (f"{HERE}/teams/{PLATFORM}/pipelines/{API}/x", "Not Found"),
    ],
)
async def test_what_does_not_exist_gets_404(path: str, message: str) -> None:
    async with serving() as (_, client):
        answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (404, {"message": message})


async def test_a_cluster_is_not_deleted_by_the_slip_in_the_documentation() -> None:
    async with serving() as (sim, client):
        sim.journal.expected = True
        assert (await client.delete(f"{HERE}/clusters/{DEFAULT}")).status_code == 404
        assert (await client.post(f"{HERE}/teams/{PLATFORM}/pipelines", json={})).status_code == 404


async def test_pipelines_have_their_secrets_and_each_form_of_a_field() -> None:
    pipelines = await read(f"{HERE}/pipelines")
    assert pipelines == list(GOLDEN.access.pipelines.records)
    for each in pipelines:
        assert [secret in str(each) for secret in PIPELINE_SECRETS] == [True, True, True]
        assert {"steps", "configuration", "env", "provider"} <= each.keys()
    assert [each.get("description", "absent") for each in pipelines[1:]] == [None, "absent"]
    assert [each["created_at"][10] for each in pipelines] == ["T", "T", " "]


@pytest.mark.parametrize(
    ("user", "scopes", "slugs"),
    [
        ("", (), []),
        ("", ("write_pipelines",), ["api", "web", "nightly-report"]),
        ("li", ("write_pipelines",), ["web"]),
        ("pat", ("write_pipelines",), ["api", "web"]),
        ("pat", (), []),
    ],
)
async def test_a_webhook_is_for_those_who_may_edit_with_a_token_that_may_write(
    user: str, scopes: tuple[str, ...], slugs: list[str]
) -> None:
    pipelines = await read(f"{HERE}/pipelines", user, *scopes)
    assert [each["slug"] for each in pipelines if each["provider"]["webhook_url"]] == slugs
    assert [each["slug"] for each in pipelines if WEBHOOK_SECRET in str(each)] == slugs


@pytest.mark.parametrize(
    ("user", "slugs"),
    [("", ["api", "web", "nightly-report"]), ("pat", ["api", "web"]), ("zoe", ["api", "web"]), ("kim", ["web"])],
)
async def test_who_is_no_admin_sees_the_pipelines_of_their_teams_and_public_ones(user: str, slugs: list[str]) -> None:
    assert [each["slug"] for each in await read(f"{HERE}/pipelines", user)] == slugs


async def test_a_team_names_its_pipelines_by_an_address_even_those_that_the_list_lacks() -> None:
    items = await read(f"{HERE}/teams/{DEPLOY}/pipelines")
    assert [each["access_level"] for each in items] == ["manage_build_and_read", "read_only"]
    assert items[1] == {
        "access_level": "read_only",
        "created_at": "2023-12-12T21:57:40.306Z",
        "pipeline_id": items[1]["pipeline_id"],
        "pipeline_url": "http://api.buildkite.com/v2/organizations/acme-access/pipelines/hidden-deploys",
    }
    assert await read(f"{HERE}/teams/{DEPLOY}/pipelines/{API}") == items[0]
    assert await read(f"{HERE}/teams/{SECURITY}/pipelines") == []


async def test_a_secret_team_hides_its_pipelines_from_those_outside() -> None:
    outsider = User(USERS["kim"], "Kim", "kim@example.com", admin=False)
    async with serving(replace(TOKEN, user=outsider)) as (_, client):
        assert (await client.get(f"{HERE}/teams/{DEPLOY}/pipelines")).status_code == 404
        assert (await client.get(f"{HERE}/teams/{PLATFORM}/pipelines")).status_code == 200


async def test_maintainers_have_a_form_of_their_own_in_each_answer() -> None:
    whole = await read(f"{HERE}/clusters/{DEFAULT}")
    listed = await read(f"{HERE}/clusters/{DEFAULT}/maintainers")
    user, team = GOLDEN.access.cluster_maintainers[DEFAULT].records
    assert {*user["actor"]} == {"id", "graphql_id", "name", "email", "type"}
    assert {*team["actor"]} == {"id", "graphql_id", "name", "slug", "type"}
    assert whole["maintainers"] == {"users": [user], "teams": [without(team, "type")]}
    assert listed == [user, without(team, "name")]


async def test_the_list_of_clusters_has_maintainers_only_where_that_is_switched_on() -> None:
    async with serving() as (sim, client):
        hidden = (await client.get(f"{HERE}/clusters")).json()
        sim.organization.edit("list_cluster_maintainers", listed=True)
        shown = (await client.get(f"{HERE}/clusters")).json()
        alone = [(await client.get(f"{HERE}/clusters/{each}")).json() for each in (DEFAULT, OPEN_SOURCE)]
    assert shown == alone
    assert hidden == [{**each, "maintainers": {"users": [], "teams": []}} for each in alone]


@pytest.mark.parametrize(
    ("user", "managed"),
    [("", [DEFAULT, OPEN_SOURCE]), ("pat", [DEFAULT]), ("li", [DEFAULT]), ("kim", [OPEN_SOURCE]), ("zoe", [])],
)
async def test_a_clusters_settings_are_for_those_who_manage_it(user: str, managed: list[str]) -> None:
    clusters = await read(f"{HERE}/clusters", user)
    assert [each["id"] for each in clusters if "hosted_git_mirror_enabled" in each] == managed
    assert [each["id"] for each in clusters if "hosted_container_cache_enabled" in each] == managed


async def test_every_list_comes_in_pages() -> None:
    """Two of each, one a page; a team, so that nothing depends on which page was kept."""
    organization = give_access(make_organization(4, 1, 2, slug="acme-access"), pipelines=2, clusters=2)
    team, first = organization.teams.records[0]["id"], organization.access.clusters.records[0]["id"]
    maintainers = GOLDEN.access.cluster_maintainers[DEFAULT].records
    organization.access.remove_cluster_maintainer(
        first, organization.access.cluster_maintainers[first].records[0]["id"]
    )
    for each in maintainers:
        organization.access.add_cluster_maintainer(first, each)
    async with serving(organization=organization) as (_, client):
        for path in ("pipelines", f"teams/{team}/pipelines", "clusters", f"clusters/{first}/maintainers"):
            whole = (await client.get(f"{HERE}/{path}")).json()
            one = await client.get(f"{HERE}/{path}?per_page=1")
            two = await client.get(one.links["next"]["url"])
            assert len(whole) == 2
            assert one.json() + two.json() == whole
            assert "next" not in two.links
            assert (await client.get(f"{HERE}/{path}?page=3&per_page=1")).json() == []


def without(maintainer: dict[str, Any], field: str) -> dict[str, Any]:
    return {**maintainer, "actor": {key: value for key, value in maintainer["actor"].items() if key != field}}
