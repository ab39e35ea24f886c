"""Pipelines, a team's pipelines and clusters, as Buildkite's documentation shows them and as they may be."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.body import MOST_VALUES
from buildkite_connector.buildkite.parsing import LONGEST_TEXT, PayloadError
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
from buildkite_connector.model.redactor import PLACEHOLDER, Redactor
from buildkite_connector.sync.ports import MaintainedCluster
from harness.examples import examples

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
    assert len(found.description) == LONGEST_TEXT


@pytest.mark.parametrize(
    ("repository", "kept"),
    [
        ("https://ghp_abc@github.com/acme/x.git", "https://github.com/acme/x.git"),
        ("https://bot:pass@word@git.example:8443/acme/x.git", "https://git.example:8443/acme/x.git"),
        ("HTTP://u:p@git.example/x", "HTTP://git.example/x"),
        (" \n https://u:s3cret@h/r", "https://h/r"),
        ("git+https://u:s3cret@h/r", "git+https://h/r"),
        ("svn+https://u:s3cret@h/r", "svn+https://h/r"),
        ("ftp://u:s3cret@[::1]:21/r", "ftp://[::1]:21/r"),
        ("git://tok@h", "git://h"),
        ("https://h/r?private_token=s3cret", "https://h/r"),
        ("https://h/r#s3cret", "https://h/r"),
        ("https://h/r;token=s3cret", "https://h/r"),
        ("ssh://git@github.com/acme/x.git", "ssh://git@github.com/acme/x.git"),
        ("ssh://git:s3cret@h/r", "ssh://git@h/r"),
        ("git+ssh://git@h/r", "git+ssh://git@h/r"),
        ("ssh+git://git@h/r", "ssh+git://git@h/r"),
        ("svn+ssh://:s3cret@h/r", "svn+ssh://h/r"),
        (f"ssh://{'t' * 40}@h/r", "ssh://h/r"),
        ("git@github.com:acme/x.git?token=s3cret", "git@github.com:acme/x.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("github.com/acme/x", "github.com/acme/x"),
        # What is left out: which part is the password cannot be told.
        ("https://github.com/acme/x@y.git", ""),
        ("https://u:pa/s3cret@h/r", ""),
        ("https://u:12/s3cret@h/r", ""),
        ("https://u:1?s3cret@h/r", ""),
        ("https://u:1#s3cret@h/r", ""),
        ("https://u:s3 cret@h/r", ""),
        ("https://u:s3cret%40h/r", ""),
        ("https://h/r%3Fprivate_token=s3cret", ""),
        ("https:\\u:s3cret@h/r", ""),
        ("https:/u:s3cret@h/r", ""),
        ("//u:s3cret@h/r", ""),
        ("u:s3cret@h/r", ""),
        ("u:s3cret@h:r", ""),
        ("https:///u:s3cret@h/r", ""),
        ("https://u:s3cret", ""),
        ("\ufeffhttps://u:s3cret@h/r", ""),
        ("ext::https://u:s3cret@h/r", ""),
        (f"https://u:{'s' * 3000}@h/r", ""),
        ("git@github.com:acme/x.git", "git@github.com:acme/x.git"),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_a_repository_is_kept_without_the_credentials_of_others(repository: object, kept: str) -> None:
    assert pipeline(repository=repository).repository == kept


MARKS = "@:/?#;%[]\\&= \t"
USER_NAMES = st.sampled_from(["git", "bot", "", "x-access-token", "a@b"])


@settings(max_examples=examples(2000))
@given(
    before=st.sampled_from(["", " ", "\n\t", "\ufeff", "\xa0"]),
    scheme=st.sampled_from(["https", "HTTP", "git", "ssh", "git+ssh", "svn+ssh", "git+https", "ftp", "file", "x-1"]),
    slashes=st.sampled_from(["://", "://", "://", ":/", ":///", ":\\\\", "::https://", ":"]),
    user=USER_NAMES,
    around=st.tuples(st.text(MARKS + "a1", max_size=4), st.text(MARKS + "a1", max_size=4)),
    host=st.sampled_from(["h", "git.example:8443", "[::1]", "10.0.0.1"]),
    path=st.sampled_from(["", "/", "/acme/x.git", "/a@b/c", ":acme/x.git"]),
)
def test_no_password_survives_wherever_it_has_the_marks_that_separate_parts(
    before: str, scheme: str, slashes: str, user: str, around: tuple[str, str], host: str, path: str
) -> None:
    url = f"{before}{scheme}{slashes}{user}:{around[0]}s3cret{around[1]}@{host}{path}"
    found = pipeline(repository=url, web_url=url)
    assert "s3cret" not in found.repository + found.web_url


@settings(max_examples=examples(500))
@given(
    scheme=st.sampled_from(["https", "HTTP", "git", "git+https", "svn+https", "ftp"]),
    token=st.from_regex(r"\A[\w.~%-]{1,8}s3cret[\w.~%-]{0,8}\Z"),
    end=st.sampled_from(["", "/", "/acme/x.git", "?a=b", "#x"]),
    key=st.sampled_from(["?private_token=", "#access_token=", "?a=b&token=", ";token="]),
)
def test_no_token_survives_as_user_name_or_in_a_query(scheme: str, token: str, end: str, key: str) -> None:
    for url in (f"{scheme}://{token}@h{end}", f"{scheme}://{token}:@h{end}", f"{scheme}://h/acme/x.git{key}{token}"):
        found = pipeline(repository=url, web_url=url)
        assert "s3cret" not in found.repository + found.web_url
        assert found.repository.startswith(f"{scheme}://h")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://buildkite.com/acme-inc/my-pipeline", "https://buildkite.com/acme-inc/my-pipeline"),
        ("https://u:s3cret@buildkite.com/acme", "https://buildkite.com/acme"),
        ("javascript:alert(1)", ""),
        ("/acme", ""),
        (7, ""),
    ],
)
def test_the_link_to_a_page_has_no_user_info(url: object, kept: str) -> None:
    assert pipeline(web_url=url).web_url == kept
    assert payload.cluster(encoded({**CLUSTER, "web_url": url}), PLAIN).cluster.web_url == kept
    organization = payload.organization(encoded({"id": "o", "slug": "acme", "web_url": url}), PLAIN)
    assert organization.web_url == kept


@pytest.mark.parametrize("form", [TOKEN, TOKEN.upper(), " ".join(TOKEN), base64.b64encode(TOKEN.encode()).decode()])
def test_no_text_of_a_pipeline_or_a_cluster_holds_a_credential(form: str) -> None:
    text = f"deploy with {form}"
    shown = f"deploy with {PLACEHOLDER}"
    found = pipeline(name=text, description=text, web_url=f"https://h/{form}", visibility=text, cluster_id=text)
    assert (found.name, found.description, found.visibility) == (shown, shown, shown)
    assert form not in repr(found)
    assert "bkua" not in pipeline(repository=f"https://h/{form}").repository.lower()
    (read,) = payload.clusters(encoded([{**CLUSTER, "name": text, "description": text}]), PLAIN)
    assert (read.cluster.name, read.cluster.description) == (shown, shown)


def test_a_credential_at_the_end_of_what_is_kept_is_not_cut_but_redacted() -> None:
    for place in range(LONGEST_TEXT - len(TOKEN), LONGEST_TEXT + 1):
        assert "bkua" not in pipeline(description="x" * place + TOKEN).description


def test_a_page_of_more_text_than_there_is_time_for_is_not_read() -> None:
    page = [{**PIPELINE, "id": f"p-{number}", "description": "x" * 5000} for number in range(1000)]
    with pytest.raises(PayloadError, match=r"^body: expected at most 1,000,000 characters of names and URLs$"):
        payload.pipelines(encoded(page), PLAIN)


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
    yaml = '- command: "make, test"\n  env: {a: [1, 2], b: "\\\\"}\n' * 500
    page = [{**PIPELINE, "id": f"p-{number}", "steps": steps, "configuration": yaml} for number in range(100)]
    assert len(payload.pipelines(encoded(page), PLAIN)) == 100


@pytest.mark.parametrize("item", [0, [[[]]], {"a": {"b": {}}}], ids=["numbers", "arrays", "objects"])
def test_a_page_of_more_values_than_memory_is_for_is_not_read(item: object) -> None:
    values = 1 if item == 0 else 4  # with the comma after it
    for more, refused in ((-1000, False), (1000, True)):
        steps = [item] * ((MOST_VALUES + more) // values)
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
        "https://api.buildkite.com/v2/organizations/acme/pipelines/my-pipeline/",
        "https://api.buildkite.com/v2/organizations/acme/pipelines/my-pipeline?a=/pipelines/b",
        "https://api.buildkite.com/v2/organizations/acme/pipelines/my-pipeline/#b",
    ],
)
def test_the_slug_stands_at_the_end_of_the_pipelines_url_whose_host_does_not_matter(url: str) -> None:
    (found,) = payload.team_pipelines(encoded([{**ITEM, "pipeline_url": url}]), TEAM_ID, PLAIN)
    assert found.slug == "my-pipeline"


@pytest.mark.parametrize("end", ["", "..", ".", "a b", "é", "a/builds", "a" * 201, "a\n", "-a", TOKEN[:4] + "//"])
def test_a_url_without_a_slug_that_can_be_one_fails_nothing(end: str) -> None:
    url = f"https://api.buildkite.com/v2/organizations/acme/pipelines/{end}"
    wrongs: list[object] = [url, None, 7, "", {}]
    for wrong in wrongs:
        (found,) = payload.team_pipelines(encoded([{**ITEM, "pipeline_url": wrong}]), TEAM_ID, PLAIN)
        assert (found.pipeline, found.slug) == (ITEM["pipeline_id"], "")


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


@pytest.mark.parametrize("kind", ["team", "Team", "TEAM", None])
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


def test_a_users_actor_has_its_type_in_any_case() -> None:
    entry = {**USER, "actor": {**USER["actor"], "type": "User"}}
    assert cluster({"users": [entry], "teams": []}).maintainers == (SAM,)


def test_a_page_of_clusters_with_more_values_than_memory_is_for_is_not_read() -> None:
    page = [{**CLUSTER, "maintainers": {"users": [USER] * 900, "teams": []}}] * 60
    with pytest.raises(PayloadError, match="at most 50,000 values"):
        payload.clusters(encoded(page), PLAIN)


def test_more_maintainers_than_can_be_are_refused() -> None:
    with pytest.raises(PayloadError, match="at most 1000 items"):
        cluster({"users": [USER] * 1001, "teams": []})
