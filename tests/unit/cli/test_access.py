"""`access`, and what `inspect` and `diff` show of pipelines, clusters and roles, as people run them."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from buildkite_connector.c1z import read_snapshot, write_snapshot
from buildkite_connector.cli.access_report import CSV_COLUMNS, print_answer
from buildkite_connector.cli.reach import answer
from buildkite_connector.model.directory import (
    ALL_KINDS,
    Account,
    AccountID,
    Directory,
    Membership,
    PipelineAccess,
    ResourceKind,
    Role,
    SyncScope,
)
from buildkite_connector.model.snapshot import SyncID
from harness.command import invoke
from harness.organization import ACME_REFERENCE, access

HOSTILE = "\x1b[2J\x7f\x9b31m[red]Eve[/red]\r\n\u202eevil"
QUESTIONS = (
    ("--user", "pat@example.com"),
    ("--team", "platform"),
    ("--pipeline", "api"),
    ("--cluster", "Default cluster"),
)

Write = Callable[[str, Directory], Path]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    def write(name: str, directory: Directory) -> Path:
        path, now = tmp_path_factory.mktemp("snapshots") / name, datetime(2026, 8, 1, tzinfo=UTC)
        write_snapshot(directory, path, sync_id=SyncID("s" * 27), started_at=now, finished_at=now)
        return path

    return write


@pytest.fixture(scope="module")
def golden() -> Directory:
    return access(SyncScope(ALL_KINDS))


@pytest.fixture(scope="module")
def file(write: Write, golden: Directory) -> Path:
    return write("golden.c1z", golden)


def asked(file: Path, *question: str, output: str = "table", **environment: str) -> str:
    ended = invoke("access", str(file), *question, "-o", output, **environment)
    assert ended.code == 0
    assert all(line.startswith("note: ") for line in ended.err.splitlines())
    assert output == "csv" or not ended.err
    return ended.out


def document(file: Path, *question: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(file, *question, output="json"))
    return found


def rows(file: Path, *question: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(asked(file, *question, output="csv"))))


# What is answered


def test_a_person_in_json(file: Path) -> None:
    found = document(file, "--user", "pat@example.com")
    assert list(found) == ["file", "syncID", "finishedAt", "user", "teams", "pipelines", "clusters", "notInSnapshot"]
    assert (found["file"], found["syncID"], found["finishedAt"]) == (str(file), "s" * 27, "2026-08-01T00:00:00+00:00")
    assert found["user"] == {
        "id": "1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057",
        "name": "O'Brien, Pat",
        "email": "pat@example.com",
        "organizationRole": "member",
    }
    assert found["pipelines"][0] == {
        "id": "d9b271f1-e959-5e1e-ad50-fdf893a342a9",
        "name": "API :rocket:",
        "slug": "api",
        "visibility": "private",
        "level": "manage_build_and_read",
        "teams": [
            {
                "id": "15b5d646-4865-53af-9dd5-e6c891cec757",
                "name": "Deploy",
                "slug": "deploy",
                "role": "maintainer",
                "level": "manage_build_and_read",
            },
            {
                "id": "9a0d2f0f-98cf-51be-ab09-a22810e1e6a0",
                "name": "Platform – ops & dev",
                "slug": "platform",
                "role": "member",
                "level": "build_and_read",
            },
        ],
    }
    assert found["clusters"] == [
        {
            "id": "01febb60-c0ca-585f-8eba-37229444d1f3",
            "name": "Default cluster",
            "direct": True,
            "teams": [
                {
                    "id": "9a0d2f0f-98cf-51be-ab09-a22810e1e6a0",
                    "name": "Platform – ops & dev",
                    "slug": "platform",
                    "role": "member",
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    ("question", "keys"),
    [
        (QUESTIONS[1], ["team", "members", "pipelines", "clusters"]),
        (QUESTIONS[2], ["pipeline", "teams", "accounts", "administrators"]),
        (QUESTIONS[3], ["cluster", "teams", "accounts", "administrators"]),
    ],
)
def test_the_keys_of_the_other_answers(file: Path, question: tuple[str, str], keys: list[str]) -> None:
    assert list(document(file, *question)) == ["file", "syncID", "finishedAt", *keys, "notInSnapshot"]


def test_tables_show_who_has_what_and_through_which_team(file: Path) -> None:
    person = asked(file, "--user", "pat@example.com")
    assert "Pipelines (3 of 3)" in person
    assert "Deploy (manage_build_and_read)" in person
    assert "directly" in person
    team = asked(file, "--team", "platform")
    assert "Members (3 of 3)" in team
    assert "! Organization administrators reach every pipeline and cluster without a grant.\n" in team
    pipeline = asked(file, "--pipeline", "api")
    assert "Accounts (4 of 4)" in pipeline
    assert "Administrators (1 of 1)" in pipeline
    assert "! This snapshot does not list all organization administrators, who reach" in pipeline  # Zoë's role
    assert "Accounts that maintain it (3 of 3)" in asked(file, "--cluster", "Default cluster")
    administrator = asked(file, "--user", "ada@example.com")
    assert "! This person is an organization administrator, who reaches every pipeline and cluster" in administrator


def test_a_public_pipeline_is_called_that(file: Path) -> None:
    says = "! This pipeline is public: everyone can see it without a grant.\n"
    assert says in asked(file, "--pipeline", "web")
    assert says not in asked(file, "--pipeline", "api")


def test_the_page_shows_what_is_printed(file: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "access.md").read_text(encoding="utf-8")
    example = page.split("$ buildkite-connector access acme.c1z --user pat@example.com\n")[1].split("```")[0]
    printed = asked(file, "--user", "pat@example.com").splitlines()
    assert [line.rstrip() for line in printed] == example.splitlines()
    assert f"\n{','.join(CSV_COLUMNS)}\n" in page


def test_the_limit_bounds_the_rows_of_a_table_alone(file: Path) -> None:
    ended = invoke("access", str(file), "--pipeline", "api", "--limit", "1")
    assert "Accounts (1 of 4)" in ended.out
    ended = invoke("access", str(file), "--pipeline", "api", "--limit", "1", "-o", "json")
    assert len(json.loads(ended.out)["accounts"]) == 4


def ways(document: dict[str, Any], of: str) -> Iterator[tuple[str | None, ...]]:
    for entry in document[of]:
        if entry.get("direct"):
            yield entry["id"], "", "", "direct"
        for team in entry["teams"]:
            yield entry["id"], team["id"], team.get("level", ""), "team"


def test_csv_has_a_row_for_each_way(file: Path) -> None:
    person = rows(file, "--user", "pat@example.com")
    assert all(tuple(each) == CSV_COLUMNS for each in person)
    found = document(file, "--user", "pat@example.com")
    for of, column in (("pipelines", "pipeline_id"), ("clusters", "cluster_id")):
        of_it = [(each[column], each["team_id"], each["level"], each["through"]) for each in person if each[column]]
        assert of_it == list(ways(found, of))
    assert [each["team_role"] for each in person if each["through"] == ""] == ["maintainer", "member"]
    assert {each["highest_level"] for each in person if each["pipeline_slug"] == "api"} == {"manage_build_and_read"}
    pipeline = rows(file, "--pipeline", "api")
    accounts = [(each["account_id"], each["team_id"], each["level"], each["through"]) for each in pipeline]
    assert [each for each in accounts if each[3] == "team"] == list(
        ways(document(file, "--pipeline", "api"), "accounts")
    )
    assert [each["account_email"] for each in pipeline if each["through"] == "organization"] == ["ada@example.com"]
    assert [(each["team_slug"], each["level"]) for each in pipeline if not each["account_id"]] == [
        ("deploy", "manage_build_and_read"),
        ("platform", "build_and_read"),
    ]
    administrator, *_ = rows(file, "--user", "ada@example.com")
    assert (administrator["organization_role"], administrator["through"]) == ("admin", "organization")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_an_expanded_file_gives_the_same_answer(
    write: Write, golden: Directory, file: Path, question: tuple[str, str], output: str
) -> None:
    expanded = write("golden.c1z", replace(golden, scope=SyncScope(ALL_KINDS, expanded=True)))
    assert expanded.stat().st_size != file.stat().st_size
    found = asked(expanded, *question, output=output)
    assert found.replace(str(expanded), str(file)) == asked(file, *question, output=output)


# What is not answered


@pytest.mark.parametrize("output", ["table", "csv"])
def test_a_file_without_the_types_says_what_to_set(output: str) -> None:
    email = read_snapshot(ACME_REFERENCE).directory.accounts[0].email
    ended = invoke("access", str(ACME_REFERENCE), "--user", email, "-o", output)
    says = "his snapshot does not contain pipelines and clusters: set spec.sync.resourceTypes, or --sync-resource-types"
    whether = "his snapshot does not say whether this person is an administrator, who reaches every pipeline"
    said, other = (ended.err, ended.out) if output == "csv" else (ended.out, ended.err)
    assert ended.code == 0
    assert says in said
    assert whether in said
    assert says not in other
    found = document(ACME_REFERENCE, "--user", email)
    assert (found["pipelines"], found["clusters"]) == (None, None)
    assert found["notInSnapshot"] == ["pipelines", "clusters", "organizationRoles"]
    assert found["teams"]


def test_a_file_without_grants_says_so(write: Write) -> None:
    out = asked(write("x.c1z", access(SyncScope(ALL_KINDS, grants=False))), "--user", "pat@example.com")
    assert "! This snapshot does not contain grants.\n" in out
    assert "Pipelines (" not in out


def test_what_is_not_there_is_one_sentence_and_exit_code_2(file: Path) -> None:
    ended = invoke("access", str(file), "--team", "deplyo")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: --team: none of the teams has this slug or ID. Similar: deploy.\n"
    ended = invoke("access", str(ACME_REFERENCE), "--pipeline", "api")
    assert ended.code == 2
    assert ended.err == (
        "error: --pipeline: this snapshot does not contain pipelines: set spec.sync.resourceTypes, or"
        " --sync-resource-types of `sync`.\n"
    )


def test_a_file_that_cannot_be_read_is_exit_code_1_and_one_sentence(tmp_path: Path) -> None:
    ended = invoke("access", str(tmp_path / "none.c1z"), "--user", "x")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("error: ")


# Text of a file


@pytest.fixture(scope="module")
def hostile(golden: Directory) -> Directory:
    """The golden organization with one text for all names, which acts on terminals and spreadsheets."""
    return replace(
        golden,
        accounts=tuple(replace(each, name=f"=cmd|' /C calc'!A0{HOSTILE}") for each in golden.accounts),
        teams=tuple(replace(each, name=HOSTILE * 20, slug=f"{each.slug}{HOSTILE}") for each in golden.teams),
        pipelines=tuple(replace(each, name=f"\t@SUM(1){HOSTILE}") for each in golden.pipelines),
        clusters=tuple(replace(each, name=f"-1+1{HOSTILE}") for each in golden.clusters),
    )


@pytest.mark.parametrize("width", ["40", "400"])
@pytest.mark.parametrize("output", ["table", "json", "csv"])
@pytest.mark.parametrize("kind", [ResourceKind.USER, ResourceKind.TEAM, ResourceKind.PIPELINE, ResourceKind.CLUSTER])
def test_text_of_a_file_acts_on_no_terminal(
    write: Write, hostile: Directory, kind: ResourceKind, output: str, width: str
) -> None:
    path = write("hostile.c1z", hostile)
    of = {
        ResourceKind.USER: hostile.accounts[1].id,
        ResourceKind.TEAM: hostile.teams[0].id,
        ResourceKind.PIPELINE: hostile.pipelines[0].id,
        ResourceKind.CLUSTER: hostile.clusters[0].id,
    }
    out = asked(path, f"--{kind}", of[kind], output=output, COLUMNS=width)
    assert all(char.isprintable() or char == "\n" for char in out)
    if width == "400":
        assert "[red]Eve[/red]" in out


def test_csv_cells_are_no_formulas(write: Write, hostile: Directory) -> None:
    path = write("hostile.c1z", hostile)
    person = rows(path, "--user", "pat@example.com")
    assert {each["account_name"][:5] for each in person} == {"'=cmd"}
    assert {each["pipeline_name"][:5] for each in person if each["pipeline_id"]} == {"'@SUM"}
    assert {each["cluster_name"][:5] for each in person if each["cluster_id"]} == {"'-1+1"}
    for each in person:
        assert not [cell for cell in each.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1"])
def test_every_beginning_of_a_formula_is_quoted(write: Write, golden: Directory, text: str) -> None:
    cluster, *others = golden.clusters
    path = write("formula.c1z", replace(golden, clusters=(replace(cluster, name=text), *others)))
    assert {each["cluster_name"] for each in rows(path, "--cluster", cluster.id)} == {f"'{text.strip()}"}


def test_a_terminal_gets_colour_and_a_long_list_of_teams_is_cut(golden: Directory, write: Write) -> None:
    team, pipeline, person = golden.teams[0], golden.pipelines[0], golden.accounts[1]
    teams = tuple(replace(team, id=type(team.id)(f"team-{number}"), name=f"Team {number}") for number in range(25))
    many = replace(
        golden,
        teams=teams,
        memberships=tuple(Membership(each.id, person.id, Role.MEMBER) for each in teams),
        pipeline_access=tuple(PipelineAccess(pipeline.id, each.id, golden.pipeline_access[0].level) for each in teams),
        cluster_maintainers=(),
    )
    snapshot = read_snapshot(write("many.c1z", many))
    console = Console(force_terminal=True, color_system="standard", width=200)
    with console.capture() as capture:
        print_answer(answer(snapshot.directory, ResourceKind.TEAM, "team-3"), snapshot.run, 0, console)
        print_answer(answer(snapshot.directory, ResourceKind.USER, person.id), snapshot.run, 0, console)
    assert "\x1b[33m! Organization administrators" in capture.get()
    assert "and 15 more" in capture.get()
    assert capture.get().count(f"({golden.pipeline_access[0].level})") == 10


# What `inspect` and `diff` show of the same types


def test_inspect_shows_each_type_and_its_grants(file: Path) -> None:
    out = invoke("inspect", str(file)).out
    for title in (
        "Organization roles (5 of 5)",
        "Pipelines (",
        "Pipeline access (",
        "Clusters (",
        "Cluster maintainers (3 of 3)",
    ):
        assert title in out
    assert "build_and_read" in out


def test_inspect_gives_each_type_in_json(file: Path, golden: Directory) -> None:
    found = json.loads(invoke("inspect", str(file), "-o", "json").out)
    assert found["organization"]["name"] == golden.organization.name
    assert found["organizationRoles"][0] == {"account": golden.accounts[0].id, "role": "admin"}
    assert found["pipelines"][0]["repository"] == "git@github.com:acme-access/api.git"
    first = golden.pipeline_access[0]
    assert found["pipelineAccess"][0] == {"pipeline": first.pipeline, "team": first.team, "level": first.level}
    assert [each["id"] for each in found["clusters"]] == [each.id for each in golden.clusters]
    assert {each["kind"] for each in found["clusterMaintainers"]} == {"user", "team"}
    assert found["counts"]["pipelineAccess"] == len(found["pipelineAccess"]) == len(golden.pipeline_access)


def test_inspect_has_no_key_for_a_type_that_the_file_does_not_cover(write: Write) -> None:
    path = write("teams.c1z", access(SyncScope()))
    found = json.loads(invoke("inspect", str(path), "-o", "json").out)
    assert list(found) == ["syncID", "startedAt", "finishedAt", "counts", "accounts", "teams", "memberships"]
    assert list(found["counts"]) == ["accounts", "teams", "memberships"]
    assert "Pipeline" not in invoke("inspect", str(path)).out


@pytest.fixture(scope="module")
def changed(write: Write, golden: Directory) -> Path:
    """The golden organization with a change of each kind, expanded."""
    first, *others = golden.pipeline_access
    cluster, *clusters = golden.clusters
    ada, pat, *accounts = golden.accounts
    pipeline, *pipelines = golden.pipelines
    return write(
        "changed.c1z",
        replace(
            golden,
            accounts=(ada, replace(pat, role="admin"), *accounts, Account(AccountID("new"), "New", "new@example.com")),
            pipelines=(replace(pipeline, name="Renamed"), *pipelines),
            pipeline_access=(replace(first, level=golden.pipeline_access[1].level), *others),
            clusters=(replace(cluster, name="Renamed cluster"), *clusters),
            cluster_maintainers=golden.cluster_maintainers[1:],
            scope=SyncScope(ALL_KINDS, expanded=True),
        ),
    )


def test_diff_has_a_line_for_each_change(file: Path, changed: Path) -> None:
    ended = invoke("diff", str(file), str(changed))
    assert (ended.code, ended.err) == (1, "")
    for line in (
        "+ account     New <new@example.com> (new)",
        "~ role        O'Brien, Pat as admin (1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057): role 'member' → 'admin'",
        "~ pipeline    Renamed (d9b271f1-e959-5e1e-ad50-fdf893a342a9): name 'API :rocket:' → 'Renamed'",
        "~ access      Platform – ops & dev to Renamed as manage_build_and_read",
        ": level 'build_and_read' → 'manage_build_and_read'",
        "~ cluster     Renamed cluster (01febb60-c0ca-585f-8eba-37229444d1f3): name 'Default cluster' →",
        "- maintainer  O'Brien, Pat of Default cluster (user 1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057 of 01febb60-",
    ):
        assert line in ended.out
    assert ended.out.count("\n~ ") + ended.out.count("\n+ ") + ended.out.count("\n- ") == 7
    assert "pipeline access grants       4      4       0     0        1" in ended.out


def test_diff_in_json_has_the_same(file: Path, changed: Path) -> None:
    found = json.loads(invoke("diff", str(file), str(changed), "-o", "json").out)
    assert found["before"]["counts"]["clusterMaintainers"] == 2
    (level,) = found["pipelineAccess"]["changed"]
    assert level["changes"] == {"level": {"before": "build_and_read", "after": "manage_build_and_read"}}
    assert (level["pipelineName"], level["teamName"]) == ("Renamed", "Platform – ops & dev")
    (lost,) = found["clusterMaintainers"]["lost"]
    assert (lost["kind"], lost["maintainerName"]) == ("user", "O'Brien, Pat")
    for key in ("organizationRoles", "pipelines", "clusters"):
        assert found[key]["counts"] == {"gained": 0, "lost": 0, "changed": 1}


def test_diff_of_files_that_cover_other_types_says_which(file: Path, write: Write) -> None:
    path = write("teams.c1z", access(SyncScope()))
    ended = invoke("diff", str(path), str(file))
    assert "! pipeline access grants: only one of the files covers them, so they are not compared\n" in ended.out
    found = json.loads(invoke("diff", str(path), str(file), "-o", "json").out)
    assert "pipelineAccess" in found["notCompared"]
    assert found["pipelineAccess"]["counts"] == {"gained": 0, "lost": 0, "changed": 0}
    assert found["before"]["counts"] == {"accounts": 6, "teams": 3, "memberships": 6}


def test_equal_files_of_all_types_say_what_both_hold(file: Path) -> None:
    ended = invoke("diff", str(file), str(file))
    assert ended.code == 0
    assert ended.out.startswith("No difference: 6 accounts, ")
    assert ended.out.endswith(", 2 cluster maintainers, 1 cluster team maintainers and 0 API tokens in both.\n")
