"""Who can reach what: against a brute force over accounts and pipelines, and each question's answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from buildkite_connector.cli import reach as module
from buildkite_connector.cli.reach import GRANTS, MOST_COMPARED, ROLES, AccessAnswer, answer, highest, reach
from buildkite_connector.cli.settings import SettingError
from buildkite_connector.model.directory import (
    ALL_KINDS,
    Account,
    AccountID,
    Cluster,
    ClusterID,
    Directory,
    ResourceKind,
    Role,
    SyncScope,
)
from harness.directories import small_directories
from harness.examples import examples
from harness.organization import access

USER, TEAM, PIPELINE, CLUSTER = ResourceKind.USER, ResourceKind.TEAM, ResourceKind.PIPELINE, ResourceKind.CLUSTER
ORDER = ["read_only", "build_and_read", "manage_build_and_read"]


def role_in(directory: Directory, team: str, account: str) -> Role | None:
    roles = [each.role for each in directory.memberships if (each.team, each.account) == (team, account)]
    return roles[0] if roles else None


def pipeline_ways(directory: Directory, account: str, pipeline: str) -> set[tuple[str, str, str]]:
    """The brute force: team, role and level of each way of an account to a pipeline."""
    return {
        (team.id, role, each.level)
        for team in directory.teams
        for each in directory.pipeline_access
        if (each.team, each.pipeline) == (team.id, pipeline) and (role := role_in(directory, team.id, account))
    }


def cluster_ways(directory: Directory, account: str, cluster: str) -> set[tuple[str | None, str | None]]:
    named = {(each.kind, each.maintainer) for each in directory.cluster_maintainers if each.cluster == cluster}
    ways: set[tuple[str | None, str | None]] = {(None, None)} if (USER, account) in named else set()
    for team in directory.teams:
        role = role_in(directory, team.id, account)
        if role and (TEAM, team.id) in named:
            ways.add((team.id, role))
    return ways


def entries(found: AccessAnswer, key: str) -> dict[Any, dict[str, Any]]:
    """The entries of one list by their IDs, as in JSON."""
    (section,) = (each for each in found.sections if each.key == key)
    assert section.entries is not None
    listed = {each.fields["id"]: each.to_json() for each in section.entries}
    assert len(listed) == len(section.entries)
    return listed


@given(small_directories())
@settings(max_examples=examples(1000))
def test_reach_is_what_a_brute_force_finds(directory: Directory) -> None:
    found = reach(directory)
    for account in (each.id for each in directory.accounts):
        for pipeline in (each.id for each in directory.pipelines):
            ways = found.pipelines.get(pipeline, {}).get(account, [])
            expected = pipeline_ways(directory, account, pipeline)
            assert len(ways) == len(expected)
            assert {(way.team, way.role, way.level) for way in ways} == expected
            if ways:
                assert highest(way.level for way in ways) == max((level for *_, level in expected), key=ORDER.index)
        for cluster in (each.id for each in directory.clusters):
            ways = found.clusters.get(cluster, {}).get(account, [])
            assert len(ways) == len(cluster_ways(directory, account, cluster))
            assert {(way.team, way.role) for way in ways} == cluster_ways(directory, account, cluster)


@given(small_directories())
@settings(max_examples=examples(150))
def test_every_answer_is_what_a_brute_force_finds(directory: Directory) -> None:
    accounts, teams = ([each.id for each in kind] for kind in (directory.accounts, directory.teams))
    pipelines, clusters = ([each.id for each in kind] for kind in (directory.pipelines, directory.clusters))

    def levels(account: str, pipeline: str) -> Any:
        found = pipeline_ways(directory, account, pipeline)
        return found and (
            max((level for *_, level in found), key=ORDER.index),
            {(team, level) for team, _, level in found},
        )

    def shown(entry: dict[str, Any]) -> Any:
        return entry["level"], {(team["id"], team["level"]) for team in entry["teams"]}

    def maintains(entry: dict[str, Any]) -> set[str | None]:
        return {team["id"] for team in entry["teams"]} | ({None} if entry["direct"] else set())

    def maintained(account: str, cluster: str) -> set[str | None]:
        return {team for team, _ in cluster_ways(directory, account, cluster)}

    def without_empty(found: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in found.items() if value}

    for account in accounts:
        found = answer(directory, USER, account)
        assert {team: entry["role"] for team, entry in entries(found, "teams").items()} == without_empty(
            {team: role_in(directory, team, account) for team in teams}
        )
        assert {each: shown(entry) for each, entry in entries(found, "pipelines").items()} == without_empty(
            {each: levels(account, each) for each in pipelines}
        )
        assert {each: maintains(entry) for each, entry in entries(found, "clusters").items()} == without_empty(
            {each: maintained(account, each) for each in clusters}
        )
    for team in teams:
        found = answer(directory, TEAM, team)
        assert {account: entry["role"] for account, entry in entries(found, "members").items()} == without_empty(
            {account: role_in(directory, team, account) for account in accounts}
        )
        given_by_it = {each.pipeline: each.level for each in directory.pipeline_access if each.team == team}
        assert {each: entry["level"] for each, entry in entries(found, "pipelines").items()} == given_by_it
        maintained_by_it = {each.cluster for each in directory.cluster_maintainers if each.maintainer == team}
        assert set(entries(found, "clusters")) == maintained_by_it
    for pipeline in pipelines:
        found = answer(directory, PIPELINE, pipeline)
        assert {each: shown(entry) for each, entry in entries(found, "accounts").items()} == without_empty(
            {account: levels(account, pipeline) for account in accounts}
        )
        assert {team: entry["level"] for team, entry in entries(found, "teams").items()} == {
            each.team: each.level for each in directory.pipeline_access if each.pipeline == pipeline
        }
    for cluster in clusters:
        found = answer(directory, CLUSTER, cluster)
        assert {each: maintains(entry) for each, entry in entries(found, "accounts").items()} == without_empty(
            {account: maintained(account, cluster) for account in accounts}
        )
        assert set(entries(found, "teams")) == {
            each.maintainer for each in directory.cluster_maintainers if each.kind is TEAM and each.cluster == cluster
        }


@pytest.fixture(scope="module")
def golden() -> Directory:
    return access(SyncScope(ALL_KINDS))


def test_a_person_with_two_levels_on_a_pipeline_has_the_higher_and_sees_both_teams(golden: Directory) -> None:
    found = answer(golden, USER, "pat@example.com")
    api = next(each for each in entries(found, "pipelines").values() if each["slug"] == "api")
    assert api["level"] == "manage_build_and_read"
    assert [(each["slug"], each["role"], each["level"]) for each in api["teams"]] == [
        ("deploy", "maintainer", "manage_build_and_read"),
        ("platform", "member", "build_and_read"),
    ]
    (cluster,) = entries(found, "clusters").values()
    assert (cluster["name"], cluster["direct"], [each["slug"] for each in cluster["teams"]]) == (
        "Default cluster",
        True,
        ["platform"],
    )


def test_what_stands_in_it_more_than_once_counts_once(golden: Directory) -> None:
    repeated = replace(
        golden,
        memberships=golden.memberships * 3,
        pipeline_access=golden.pipeline_access * 3,
        cluster_maintainers=golden.cluster_maintainers * 3,
    )
    assert reach(repeated) == reach(golden)


def test_what_gives_the_most_comes_first_then_the_names_alphabetically(golden: Directory) -> None:
    (_, pipelines, _) = answer(golden, USER, "pat@example.com").sections
    assert [each.fields["slug"] for each in pipelines.entries or ()] == ["api", "web", "hidden-deploys"]


def test_administrators_are_listed_and_a_role_that_is_not_known_is_said(golden: Directory) -> None:
    for kind, name in ((PIPELINE, "api"), (CLUSTER, "Default cluster")):
        found = answer(golden, kind, name)
        assert [each["email"] for each in entries(found, "administrators").values()] == ["ada@example.com"]
        assert found.missing == (ROLES,)  # of Zoë
    assert answer(golden, USER, "zoe@example.com").missing == (ROLES,)
    assert answer(golden, USER, "pat@example.com").missing == ()
    without = replace(golden, accounts=tuple(replace(each, role=None) for each in golden.accounts))
    *_, administrators = answer(without, PIPELINE, "api").sections
    assert administrators.entries is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (USER, "PAT@Example.com"),
        (USER, " pat@example.com "),
        (USER, "1F822B0E-5B8F-5BB6-AEB8-42CA19FF5057"),
        (USER, "urn:uuid:1f822b0e5b8f5bb6aeb842ca19ff5057"),
        (TEAM, "Deploy"),
        (PIPELINE, "API"),
        (CLUSTER, "default CLUSTER"),
    ],
)
def test_names_and_ids_are_found_however_they_are_written(golden: Directory, kind: ResourceKind, text: str) -> None:
    found = {USER: "O'Brien, Pat", TEAM: "Deploy", PIPELINE: "API :rocket:", CLUSTER: "Default cluster"}
    assert answer(golden, kind, text).subject["name"] == found[kind]


def twice(directory: Directory, name: Callable[[Cluster], str]) -> Directory:
    first = directory.clusters[0]
    return replace(directory, clusters=(*directory.clusters, replace(first, id=ClusterID("other"), name=name(first))))


def test_a_name_that_two_have_is_refused_with_their_ids_unless_one_has_it_as_written(golden: Directory) -> None:
    same = twice(golden, lambda first: first.name)
    with pytest.raises(
        SettingError, match=rf"^--cluster: 2 clusters match\. Use the ID .*: {golden.clusters[0].id}, other"
    ):
        answer(same, CLUSTER, golden.clusters[0].name)
    assert answer(same, CLUSTER, "other").subject["id"] == "other"
    shouted = twice(golden, lambda first: first.name.upper())
    for each in (shouted.clusters[0], shouted.clusters[-1]):
        assert answer(shouted, CLUSTER, each.name).subject["id"] == each.id
    with pytest.raises(SettingError, match="2 clusters match"):
        answer(shouted, CLUSTER, golden.clusters[0].name.lower())


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (
            USER,
            "pat",
            r"^--user: none of the accounts has this e-mail address, login or ID\. Similar: pat@example\.com\.$",
        ),
        (USER, "pta@example.com", r"Similar: .*pat@example\.com"),
        (
            TEAM,
            "???",
            r"^--team: none of the teams has this slug or ID\. The teams in the snapshot: .*deploy, .*platform",
        ),
        (PIPELINE, "???", r"none of the pipelines has this slug or ID"),
        (CLUSTER, "???", r"none of the clusters has this name or ID\. .*: .*Default cluster"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(golden: Directory, kind: ResourceKind, text: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        answer(golden, kind, text)


def test_of_many_only_similar_names_and_never_all_of_them_are_named(golden: Directory) -> None:
    many = replace(
        golden,
        accounts=tuple(Account(AccountID(f"id-{each}"), "", f"user{each}@example.com") for each in range(1000)),
    )
    with pytest.raises(SettingError, match=r"The snapshot contains 1,000 accounts; `inspect` lists them\.$"):
        answer(many, USER, "???")
    with pytest.raises(SettingError, match=r"Similar: .* and 990 more\.$") as caught:
        answer(many, USER, "example.com")
    assert str(caught.value).count("user") == 11  # ten names and the option's


@pytest.mark.parametrize(("amount", "looked_at"), [(MOST_COMPARED, 1), (MOST_COMPARED + 1, 0)])
def test_similar_names_are_looked_for_among_few_and_short_ones(
    golden: Directory, monkeypatch: pytest.MonkeyPatch, amount: int, looked_at: int
) -> None:
    """Comparing takes time by the square of a name's length."""
    compared = []

    def matches(text: str, names: list[str]) -> list[str]:
        compared.append(max(map(len, (text, *names))))
        return []

    monkeypatch.setattr(module, "get_close_matches", matches)
    teams = tuple(replace(golden.teams[0], slug=f"{'x' * 10_000}{each}") for each in range(amount))
    with pytest.raises(SettingError, match="`inspect` lists them"):
        answer(replace(golden, teams=teams), TEAM, "y" * 10_000)
    assert compared == [100] * looked_at


def test_names_in_a_sentence_are_cleaned(golden: Directory) -> None:
    hostile = replace(golden, clusters=(replace(golden.clusters[0], name="\x1b[2Jevil\r\n" + "x" * 500),))
    with pytest.raises(SettingError) as caught:
        answer(hostile, CLUSTER, "evil")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def of(*kinds: ResourceKind) -> SyncScope:
    return SyncScope(frozenset(kinds))


@pytest.mark.parametrize(
    ("kind", "scope", "missing", "absent"),
    [
        (USER, SyncScope(), ("pipelines", "clusters"), {"pipelines", "clusters"}),
        (USER, of(USER), ("teams", "pipelines", "clusters"), {"teams", "pipelines", "clusters"}),
        (USER, of(USER, CLUSTER), ("teams", "pipelines"), {"teams", "pipelines"}),
        (USER, SyncScope(ALL_KINDS, grants=False), (GRANTS,), {"teams", "pipelines", "clusters"}),
        (TEAM, SyncScope(), ("pipelines", "clusters"), {"pipelines", "clusters"}),
        (TEAM, of(TEAM, CLUSTER), ("accounts", "pipelines"), {"pipelines"}),
        (TEAM, SyncScope(ALL_KINDS, entitlements=False), (GRANTS,), {"members", "pipelines", "clusters"}),
        (PIPELINE, of(TEAM, PIPELINE), ("accounts",), {"administrators"}),
        (PIPELINE, of(USER, PIPELINE), ("teams", ROLES), {"teams", "accounts"}),
        (PIPELINE, of(PIPELINE), ("accounts", "teams"), {"teams", "accounts", "administrators"}),
        (CLUSTER, of(USER, CLUSTER), ("teams", ROLES), {"teams"}),
        (CLUSTER, of(TEAM, CLUSTER), ("accounts",), {"administrators"}),
        (CLUSTER, of(CLUSTER), ("accounts", "teams"), {"teams", "accounts", "administrators"}),
    ],
)
def test_what_a_snapshot_does_not_have_is_absent_and_said(
    kind: ResourceKind, scope: SyncScope, missing: tuple[str, ...], absent: set[str]
) -> None:
    named = {USER: "pat@example.com", TEAM: "deploy", PIPELINE: "api", CLUSTER: "Default cluster"}
    found = answer(access(scope), kind, named[kind])
    assert found.missing == missing
    assert {each.key for each in found.sections if each.entries is None} == absent


@pytest.mark.parametrize(
    ("kind", "kinds"), [(USER, {TEAM}), (TEAM, {USER}), (PIPELINE, {USER, TEAM}), (CLUSTER, {USER, TEAM, PIPELINE})]
)
def test_a_type_that_the_snapshot_does_not_contain_cannot_be_asked_about(
    kind: ResourceKind, kinds: set[ResourceKind]
) -> None:
    says = rf"^--{kind}: this snapshot does not contain \w+: set spec\.sync\.resourceTypes, .*\.$"
    with pytest.raises(SettingError, match=says):
        answer(access(SyncScope(frozenset(kinds))), kind, "x")


def test_accounts_that_a_snapshot_does_not_list_are_named_by_their_ids() -> None:
    found = answer(access(of(TEAM, PIPELINE)), PIPELINE, "api")
    assert {(each["name"], each["email"]) for each in entries(found, "accounts").values()} == {(None, None)}
    assert len(entries(found, "accounts")) == 4
