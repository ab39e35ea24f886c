"""`check` for the opt-in resource types: their scopes, one request for each list, and what is warned of."""

import json

import pytest

from buildkite_connector.cli.findings import State
from buildkite_connector.model.directory import DEFAULT_KINDS, ResourceKind
from fakes.check_setup import API_TOKEN, Setup
from fakes.organization_api import REST_KINDS
from simulators.buildkite.api import ACCESS_SCOPES, Token
from simulators.buildkite.made_access import give_access

ORGANIZATION, PIPELINE, CLUSTER = ResourceKind.ORGANIZATION, ResourceKind.PIPELINE, ResourceKind.CLUSTER
LISTS = ("/pipelines", "/clusters")


def with_types(setup: Setup, kinds: frozenset[ResourceKind], scopes: tuple[str, ...] = ACCESS_SCOPES) -> Setup:
    """120 pipelines and 4 clusters, a token of these scopes, and a check for these types."""
    give_access(setup.buildkite.organization, pipelines=120, clusters=4)
    setup.buildkite.grant(Token(API_TOKEN, scopes=scopes))
    setup.change(kinds=kinds)
    return setup


def lists_asked(setup: Setup) -> list[str]:
    return [each.path.rpartition("/")[2] for each in setup.buildkite.requests if each.path.endswith(LISTS)]


async def test_each_list_is_asked_for_once_and_the_scopes_are_named(sound: Setup) -> None:
    checked = await with_types(sound, REST_KINDS).check()
    assert checked.exit_code == 0
    assert {each.name: each.message for each in checked.findings if each.name.startswith("buildkite.scope.")} == {
        "buildkite.scope.read_organizations": "reads the organization and its members",
        "buildkite.scope.read_teams": "reads teams and their members",
        "buildkite.scope.read_pipelines": "reads pipelines",
        "buildkite.scope.read_clusters": "reads clusters and their maintainers",
    }
    found = {each.name: each.message for each in checked.findings if each.state is State.OK}
    assert found["buildkite.roles"] == "Buildkite reports the role of 30 of the first 30 members"
    assert found["buildkite.pipelines"] == "the token can see more than 100 pipelines, and those of the first team"
    assert found["buildkite.clusters"] == "the token can see 4 clusters"
    assert "buildkite.types" not in found
    assert lists_asked(sound) == ["pipelines", "pipelines", "clusters"], "all pipelines, those of a team, clusters"
    assert len(sound.buildkite.requests) == 6 + 3


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        (DEFAULT_KINDS, []),
        (DEFAULT_KINDS | {ORGANIZATION}, []),
        (DEFAULT_KINDS | {CLUSTER}, ["clusters"]),
        (frozenset({ResourceKind.USER, PIPELINE}), ["pipelines"]),
    ],
)
async def test_what_is_not_chosen_is_neither_asked_for_nor_shown(
    sound: Setup, kinds: frozenset[ResourceKind], asked: list[str]
) -> None:
    checked = await with_types(sound, kinds).check()
    assert checked.exit_code == 0
    assert lists_asked(sound) == asked
    steps = {"buildkite.roles": ORGANIZATION, "buildkite.pipelines": PIPELINE, "buildkite.clusters": CLUSTER}
    shown = {each.name for each in checked.findings}
    assert {steps[name] for name in shown & steps.keys()} == kinds - DEFAULT_KINDS


@pytest.mark.parametrize(("kind", "scope"), [(PIPELINE, "read_pipelines"), (CLUSTER, "read_clusters")])
async def test_a_missing_scope_is_a_finding_with_its_name(sound: Setup, kind: ResourceKind, scope: str) -> None:
    scopes = tuple(each for each in ACCESS_SCOPES if each != scope)
    checked = await with_types(sound, REST_KINDS, scopes).check()
    assert checked.exit_code == 7
    assert checked.first_failed.name == f"buildkite.scope.{scope}"
    assert f"lacks the scope {scope}, which is required to read {kind}s" in checked.first_failed.message
    skipped = checked.named(f"buildkite.{kind}s")
    assert (skipped.state, skipped.message) == (State.SKIPPED, f"needs: Scope {scope}")
    assert [each.name for each in checked.findings if each.state is State.FAILED] == [checked.first_failed.name]


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ({ResourceKind.USER, PIPELINE}, "pipeline has no grants without team."),
        ({CLUSTER}, "cluster has no grants without user or team."),
    ],
)
async def test_a_type_whose_grants_cannot_exist_is_warned_of(sound: Setup, kinds: set[ResourceKind], says: str) -> None:
    checked = await with_types(sound, frozenset(kinds)).check()
    types = checked.named("buildkite.types")
    assert (types.state, types.message) == (State.WARNING, f"Add the missing types to --resource-type: {says}")
    assert checked.exit_code == 0


async def test_no_pipeline_no_cluster_and_no_role_are_warned_of(sound: Setup) -> None:
    setup = with_types(sound, REST_KINDS)
    give_access(setup.buildkite.organization)
    for member in setup.buildkite.organization.members.records:
        del member["role"]
    checked = await setup.check()
    assert checked.exit_code == 0
    warned = {each.name: each.message for each in checked.findings if each.state is State.WARNING}
    assert warned["buildkite.roles"].startswith("Buildkite does not report the role of members")
    assert warned["buildkite.pipelines"].startswith("The token cannot see any pipeline")
    assert warned["buildkite.clusters"] == (
        "The token cannot see any cluster: the organization has none, or the owner of the Buildkite API token cannot"
        " see any. A sync would deliver no clusters, and C1 would treat those it has as deleted. Check the owner's"
        " permissions in Buildkite."
    )
    assert json.dumps(API_TOKEN) not in checked.text
