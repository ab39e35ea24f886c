"""Pipelines, a team's pipelines and clusters, as Buildkite's documentation shows them and as they may be."""

import json
from typing import Any

import pytest

from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.payload import PayloadError
from buildkite_connector.model.directory import (
    AccessLevel,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    TeamID,
)
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.sync.ports import MaintainedCluster

TOKEN = "bkua_0123456789abcdef0123456789abcdef01234567"
PLAIN = Redactor([TOKEN])
TEAM_ID = TeamID("t-1")
SECRETS = ("s3cr3t-in-steps", "s3cr3t-in-yaml", "s3cr3t-in-env", "s3cr3t-in-webhook")
PIPELINE: dict[str, Any] = {
    "id": "849411f9-9e6d-4739-a0d8-e247088e9b52",
    "graphql_id": "UGlwZWxpbmUtLS0=",
    "url": "https://api.buildkite.com/v2/organizations/acme-inc/pipelines/my-pipeline",
    "web_url": "https://buildkite.com/acme-inc/my-pipeline",
    "name": "My Pipeline – 运维",
    "slug": "my-pipeline",
    "repository": "git@github.com:acme-inc/my-pipeline.git",
    "cluster_id": None,
    "default_branch": "main",
    "provider": {"id": "github", "webhook_url": f"https://webhook.buildkite.com/deliver/{SECRETS[3]}"},
    "created_at": "2013-09-03 13:24:38 UTC",
    "archived_at": None,
    "env": {"KEY": SECRETS[2]},
    "configuration": f"steps:\n  - command: echo {SECRETS[1]}\n",
    "steps": [{"type": "script", "command": SECRETS[0], "env": {}}],
    "visibility": "private",
    "tags": ["one"],
}
ITEM: dict[str, Any] = {
    "access_level": "manage_build_and_read",
    "created_at": "2023-12-12T21:57:40.306Z",
    "pipeline_id": "849411f9-9e6d-4739-a0d8-e247088e9b52",
    "pipeline_url": "http://api.buildkite.com/v2/organizations/acme-inc/pipelines/my-pipeline",
}
USER: dict[str, Any] = {
    "id": "282a043f-4d4f-4db5-ac9a-58673ae02caf",
    "actor": {
        "id": "0da645b7-9840-428f-bd80-0b92ee274480",
        "graphql_id": "VXNlci0tLQ==",
        "name": "Sam Kim",
        "email": "sam@example.com",
        "type": "user",
    },
}
TEAM: dict[str, Any] = {
    "id": "65d2a5e0-2b3d-4f0e-8b0e-5c0f2c1d9e3a",
    "actor": {"id": "c5e09619-8648-4896-a936-9d0b8b7b3fe9", "graphql_id": "VGVhbS0tLQ==", "name": "F", "slug": "f"},
}
CLUSTER: dict[str, Any] = {
    "id": "42f1a7da-812d-4430-93d8-1cc7c33a6bcf",
    "graphql_id": "Q2x1c3Rlci0tLQ==",
    "default_queue_id": "01885682-55a7-44f5-84f3-0402fb452e66",
    "name": "Open Source",
    "description": "A place for safely running our open source builds",
    "emoji": ":technologist:",
    "maintainers": {"users": [USER], "teams": [TEAM]},
    "web_url": "http://buildkite.com/organizations/acme-inc/clusters/42f1a7da-812d-4430-93d8-1cc7c33a6bcf",
    "created_by": {"id": "1", "name": "Sam Kim"},
}
CLUSTER_ID = ClusterID(CLUSTER["id"])
SAM = ClusterMaintainer(CLUSTER_ID, AccountID(USER["actor"]["id"]), ResourceKind.USER)
FEARLESS = ClusterMaintainer(CLUSTER_ID, TeamID(TEAM["actor"]["id"]), ResourceKind.TEAM)


def encoded(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def pipeline(**changes: object) -> Pipeline:
    (found,) = payload.pipelines(encoded([{**PIPELINE, **changes}]), PLAIN)
    return found


def clusters(maintainers: object) -> MaintainedCluster:
    """As the list of clusters has it."""
    (found,) = payload.clusters(encoded([{**CLUSTER, "maintainers": maintainers}]), PLAIN)
    return found


def cluster(maintainers: object) -> MaintainedCluster:
    """As a cluster's own response has it."""
    return payload.cluster(encoded({**CLUSTER, "maintainers": maintainers}), PLAIN)


# Pipelines


def test_a_pipeline_as_the_documentation_shows_it_has_no_description() -> None:
    assert pipeline() == Pipeline(
        id=PipelineID("849411f9-9e6d-4739-a0d8-e247088e9b52"),
        slug="my-pipeline",
        name="My Pipeline – 运维",
        web_url="https://buildkite.com/acme-inc/my-pipeline",
        repository="git@github.com:acme-inc/my-pipeline.git",
        visibility="private",
    )


def test_nothing_is_kept_of_steps_configuration_env_and_provider() -> None:
    shown = repr(pipeline())
    assert not [secret for secret in SECRETS if secret in shown]


def test_an_archived_pipeline_in_a_cluster() -> None:
    found = pipeline(archived_at="2024-05-06T07:08:09.000Z", cluster_id="42f1a7da", description="x" * 5000)
    assert (found.archived_at, found.cluster_id) == ("2024-05-06T07:08:09.000Z", "42f1a7da")
    assert len(found.description) == payload.LONGEST_TEXT


@pytest.mark.parametrize(
    ("repository", "kept"),
    [
        ("https://ghp_abc@github.com/acme/x.git", "https://github.com/acme/x.git"),
        ("https://bot:pass@word@git.example:8443/acme/x.git", "https://git.example:8443/acme/x.git"),
        ("HTTP://u:p@git.example/x", "HTTP://git.example/x"),
        ("https://github.com/acme/x@y.git", "https://github.com/acme/x@y.git"),
        ("ssh://git@github.com/acme/x.git", "ssh://git@github.com/acme/x.git"),
        ("git@github.com:acme/x.git", "git@github.com:acme/x.git"),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_a_repository_is_kept_without_the_credentials_of_others(repository: object, kept: str) -> None:
    assert pipeline(repository=repository).repository == kept


def test_ids_and_slugs_that_hold_the_token_are_refused() -> None:
    for field in ("id", "slug"):
        with pytest.raises(PayloadError, match="a credential is among them"):
            pipeline(**{field: TOKEN})
    for group, entry in (("users", USER), ("teams", TEAM)):
        held = {**entry, "actor": {**entry["actor"], "id": TOKEN}}
        with pytest.raises(PayloadError, match="a credential is among them"):
            cluster({"users": [], "teams": [], group: [held]})
    with pytest.raises(PayloadError, match="a credential is among them"):
        payload.clusters(encoded([{**CLUSTER, "id": TOKEN}]), PLAIN)
    for changes in ({"pipeline_id": TOKEN}, {"pipeline_url": f"https://api.buildkite.com/pipelines/{TOKEN}"}):
        with pytest.raises(PayloadError, match="a credential is among them"):
            payload.team_pipelines(encoded([{**ITEM, **changes}]), TEAM_ID, PLAIN)


def test_a_page_of_large_pipelines_is_read() -> None:
    steps = [{"type": "script", "command": "make", "env": {}, "agent_query_rules": ["a=b"]}] * 50
    page = [{**PIPELINE, "id": f"p-{number}", "steps": steps, "configuration": "x" * 20_000} for number in range(100)]
    assert len(payload.pipelines(encoded(page), PLAIN)) == 100


@pytest.mark.parametrize("item", [0, [[[]]], {"a": {"b": {}}}], ids=["numbers", "arrays", "objects"])
def test_a_page_of_more_values_than_memory_is_for_is_not_read(item: object) -> None:
    values = 1 if item == 0 else 4  # with the comma after it
    for more, refused in ((-1000, False), (1000, True)):
        steps = [item] * ((payload.MOST_VALUES + more) // values)
        body = encoded([{**PIPELINE, "steps": steps}])
        if refused:
            with pytest.raises(PayloadError, match=r"^body: expected at most 200,000 values$") as failed:
                payload.pipelines(body, PLAIN)
            assert not failed.value.broken
        else:
            assert len(payload.pipelines(body, PLAIN)) == 1


# A team's pipelines


@pytest.mark.parametrize("level", AccessLevel)
def test_a_teams_access_to_a_pipeline(level: AccessLevel) -> None:
    (found,) = payload.team_pipelines(encoded([{**ITEM, "access_level": level}]), TEAM_ID, PLAIN)
    assert found == PipelineAccess(PipelineID("849411f9-9e6d-4739-a0d8-e247088e9b52"), TEAM_ID, level)
    assert found.slug == "my-pipeline"


@pytest.mark.parametrize("level", ["read", "READ_ONLY", "", "admin"])
def test_an_unknown_level_is_refused(level: str) -> None:
    with pytest.raises(PayloadError, match=r"^\[1\]\.access_level: Input should be 'read_only', 'build_and_read' or"):
        payload.team_pipelines(encoded([ITEM, {**ITEM, "access_level": level}]), TEAM_ID, PLAIN)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.buildkite.com/v2/organizations/acme/pipelines/my-pipeline",
        "https://elsewhere.example/pipelines/my-pipeline",
        "/pipelines/my-pipeline",
    ],
)
def test_the_slug_stands_at_the_end_of_the_pipelines_url_whose_host_does_not_matter(url: str) -> None:
    (found,) = payload.team_pipelines(encoded([{**ITEM, "pipeline_url": url}]), TEAM_ID, PLAIN)
    assert found.slug == "my-pipeline"


@pytest.mark.parametrize(
    "end", ["", "..", ".", "a b", "é", "a?x=1", "a#b", "a/builds", "a" * 201, "a\n", "-a", TOKEN[:4] + "/"]
)
def test_a_url_without_a_slug_that_can_be_one_is_refused(end: str) -> None:
    url = f"https://api.buildkite.com/v2/organizations/acme/pipelines/{end}"
    with pytest.raises(
        PayloadError, match=r"^\[0\]\.pipeline_url: expected a URL that ends in /pipelines/ and a slug$"
    ):
        payload.team_pipelines(encoded([{**ITEM, "pipeline_url": url}]), TEAM_ID, PLAIN)


# Clusters


def test_a_cluster_and_its_maintainers_as_the_documentation_shows_them() -> None:
    expected = MaintainedCluster(
        Cluster(
            CLUSTER_ID,
            "Open Source",
            "A place for safely running our open source builds",
            "http://buildkite.com/organizations/acme-inc/clusters/42f1a7da-812d-4430-93d8-1cc7c33a6bcf",
        ),
        (SAM, FEARLESS),
    )
    assert cluster(CLUSTER["maintainers"]) == clusters(CLUSTER["maintainers"]) == expected
    assert [each.name for each in expected.maintainers] == ["", ""]
    assert [each.name for each in cluster(CLUSTER["maintainers"]).maintainers] == ["Sam Kim", ""]


@pytest.mark.parametrize("kind", ["team", None])
def test_a_teams_actor_with_its_type_and_without_a_name_is_the_same_team(kind: str | None) -> None:
    actor = {"id": TEAM["actor"]["id"], "slug": "f", "type": kind}
    assert cluster({"users": [], "teams": [{"id": "m", "actor": actor}]}).maintainers == (FEARLESS,)


@pytest.mark.parametrize(("group", "kind"), [("users", "team"), ("teams", "user"), ("users", "bot"), ("teams", 7)])
def test_an_actor_that_is_something_else_than_its_list_says_is_refused(group: str, kind: object) -> None:
    entry = {"id": "m", "actor": {"id": "a-1", "type": kind}}
    with pytest.raises(PayloadError, match=rf"^maintainers\.{group}\[0\]\.actor\.type: "):
        cluster({"users": [], "teams": [], group: [entry]})


@pytest.mark.parametrize("entry", [None, "sam", {}, {"id": "m"}, {"id": "m", "actor": None}, {"actor": {"id": "../x"}}])
def test_a_maintainer_who_cannot_be_told_is_refused(entry: object) -> None:
    for group in ("users", "teams"):
        with pytest.raises(PayloadError, match=rf"^\[0\]\.maintainers\.{group}\[0\]"):
            clusters({"users": [], "teams": [], group: [entry]})


SHOWS_NONE: list[object] = [
    None,
    {},
    {"users": [], "teams": []},
    {"users": [USER]},
    {"teams": [TEAM]},
    {"users": [USER], "teams": None},
]


@pytest.mark.parametrize("shown", SHOWS_NONE)
def test_a_list_that_does_not_show_both_people_and_teams_shows_no_maintainers(shown: object) -> None:
    assert clusters(shown).maintainers == ()


@pytest.mark.parametrize("shown", [each for each in SHOWS_NONE if each != {"users": [], "teams": []}])
def test_a_cluster_by_itself_shows_both(shown: object) -> None:
    with pytest.raises(PayloadError, match=r"^maintainers: expected the lists users and teams$"):
        cluster(shown)


def test_a_cluster_without_maintainers() -> None:
    assert cluster({"users": [], "teams": []}).maintainers == ()


def test_who_is_assigned_twice_maintains_it_once() -> None:
    again = {**USER, "id": "another-assignment"}
    assert cluster({"users": [USER, again], "teams": [TEAM]}).maintainers == (SAM, FEARLESS)


def test_more_maintainers_than_can_be_are_refused() -> None:
    with pytest.raises(PayloadError, match="at most 1000 items"):
        cluster({"users": [USER] * 1001, "teams": []})
