"""What `inspect` and `diff` show of what only a portal shows."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buildkite_connector.c1z import write_snapshot
from buildkite_connector.model.directory import DEFAULT_KINDS, AccountDetails, Directory, ResourceKind, SyncScope
from buildkite_connector.model.snapshot import SyncID
from harness.command import invoke
from harness.organization import access, with_portal

NOW = datetime(2026, 11, 22, 23, 28, tzinfo=UTC)
TOKENS = SyncScope(DEFAULT_KINDS | {ResourceKind.API_TOKEN})

Write = Callable[[str, Directory], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, directory: Directory) -> Path:
        path = tmp_path / name
        write_snapshot(directory, path, sync_id=SyncID("s" * 27), started_at=NOW, finished_at=NOW)
        return path

    return write


@pytest.fixture
def golden() -> Directory:
    return with_portal(access(TOKENS))


@pytest.fixture
def changed(golden: Directory) -> Directory:
    """The golden organization with one change of each sort, and everybody active since."""
    ada, pat, li, *others = golden.accounts
    deploys, unnamed, nightly, _ = golden.api_tokens
    active = AccountDetails(NOW, two_factor=False, machine=False)
    new = replace(deploys, id=type(deploys.id)("b0b5"), description="Another")
    return replace(
        golden,
        accounts=(
            replace(ada, details=active),
            replace(pat, details=replace(active, machine=True)),
            replace(li, details=replace(active, machine=True)),
            *others,
        ),
        api_tokens=(
            replace(deploys, expires_at=NOW, scopes=("read_builds", "write_teams")),
            replace(unnamed, description="CI", expires_at=None, last_used_at=NOW),
            replace(nightly, last_used_at=NOW),
            new,
        ),
    )


def words(line: str) -> str:
    return " ".join(line.replace("│", " ").split())


def test_inspect_shows_accounts_and_tokens(write: Write, golden: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    lines = [words(line) for line in invoke("inspect", str(write("x", golden))).out.splitlines()]
    assert "API tokens 4" in lines
    for shown in (
        "Ada Lovelace ada@example.com admin person yes 2026-11-22 22:10 984aeecf-70ba-51ae-8c12-3d64d3ed9536",
        "O'Brien, Pat pat@example.com member person no none known 1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057",
        "李小龙 li@example.com member machine no 2026-11-22 23:27 f23ee699-71b3-5bc4-bf5f-43bffc7c38f1",
        (
            "Deploys <b>– ops & dev</b> Ada Lovelace never 2026-11-22 23:01 read_builds, write_builds, graphql"
            " 5b7e1c5e-8a0f-4c1e-9d2b-1f0a6c3e7d11"
        ),
        "O'Brien, Pat 2026-11-27 13:00 never 0c9b5a0e-3d57-4a83-8f5e-2a7d1b9c4e22",
        "Nightly 2027-01-01 00:00 2026-11-22 01:00 read_agents e1f4d2a7-6b38-4e0d-b5c9-3c8e2d0f5f33",
    ):
        assert shown in lines
    left = next(line for line in lines if "09347e8c-e8be-57a3-827a-560addbc4275" in line)
    assert "person" not in left
    assert "none known" not in left


def test_inspect_gives_accounts_and_tokens_in_json(write: Write, golden: Directory) -> None:
    found = json.loads(invoke("inspect", str(write("x", golden)), "-o", "json").out)
    assert found["accounts"][0] == {
        "id": "984aeecf-70ba-51ae-8c12-3d64d3ed9536",
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "role": "admin",
        "ssoMode": "optional",
        "lastSeenAt": "2026-11-22T22:10:05.123456+00:00",
        "twoFactor": True,
        "machine": False,
        "memberSince": "2024-02-29T08:00:00+00:00",
    }
    assert found["accounts"][1]["lastSeenAt"] is None
    assert "twoFactor" not in found["accounts"][4]
    assert found["counts"]["apiTokens"] == len(found["apiTokens"]) == 4
    assert found["apiTokens"][1] == {
        "id": "0c9b5a0e-3d57-4a83-8f5e-2a7d1b9c4e22",
        "owner": "1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057",
        "description": "",
        "createdAt": "2026-11-20T13:00:00+00:00",
        "expiresAt": "2026-11-27T13:00:00+00:00",
        "lastUsedAt": None,
        "scopes": [],
    }


def test_without_a_portal_inspect_has_nothing_of_it(write: Write) -> None:
    path = str(write("x", access(SyncScope(DEFAULT_KINDS))))
    found = json.loads(invoke("inspect", path, "-o", "json").out)
    assert "apiTokens" not in found
    assert {key for each in found["accounts"] for key in each} == {"id", "name", "email", "role", "ssoMode"}
    out = invoke("inspect", path).out
    assert "API tokens" not in out
    assert "Last active" not in out


def test_diff_has_a_line_for_each_change(write: Write, golden: Directory, changed: Directory) -> None:
    out = invoke("diff", str(write("a", golden)), str(write("b", changed))).out
    summary, lines = out.partition("+ ")[0].partition("- ")[0], [words(line) for line in out.splitlines()]
    assert "API tokens 4 4 1 1 2" in [words(line) for line in summary.splitlines()]
    ada, pat = "984aeecf-70ba-51ae-8c12-3d64d3ed9536", "1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057"
    unnamed = f"API token CI of {pat} (0c9b5a0e-3d57-4a83-8f5e-2a7d1b9c4e22)"
    deploys = f"API token Deploys <b>– ops & dev</b> of {ada} (5b7e1c5e-8a0f-4c1e-9d2b-1f0a6c3e7d11)"
    for line in (
        f"~ account Ada Lovelace <ada@example.com> ({ada}): two_factor yes → no",
        f"~ account O'Brien, Pat <pat@example.com> ({pat}): machine no → yes",
        "- API token Nightly of 77e0f4c2-1b5d-4a96-9c3e-8f2d7b6a5e19 (a8d6f3b1-9c42-4f7a-8e15-4d9f3e1a6044)",
        f"+ API token Another of {ada} (b0b5)",
        f"~ {unnamed}: description '' → 'CI', expires_at 2026-11-27 13:00 → none",
        f"~ {deploys}: expires_at none → 2026-11-22 23:28, scopes -write_builds -graphql +write_teams",
    ):
        assert line in lines
    assert sum(line[:2] in {"~ ", "+ ", "- "} for line in lines) == 6, "who was active, or what was used, has no line"


def test_diff_gives_each_change_in_json(write: Write, golden: Directory, changed: Directory) -> None:
    found = json.loads(invoke("diff", str(write("a", golden)), str(write("b", changed)), "-o", "json").out)
    tokens = found["apiTokens"]
    assert tokens["counts"] == {"gained": 1, "lost": 1, "changed": 2}
    assert tokens["gained"][0]["scopes"] == ["read_builds", "write_builds", "graphql"]
    assert tokens["lost"][0]["expiresAt"] is None
    changes = {each["description"]: each["changes"] for each in tokens["changed"]}
    assert changes["CI"]["expires_at"] == {"before": "2026-11-27T13:00:00+00:00", "after": None}
    assert [each["changes"] for each in found["accounts"]["changed"]] == [
        {"machine": {"before": False, "after": True}},
        {"two_factor": {"before": True, "after": False}},
    ]


def test_equal_files_say_how_many_tokens_both_hold(write: Write, golden: Directory) -> None:
    path = str(write("x", golden))
    assert (
        invoke("diff", path, path).out
        == "No difference: 6 accounts, 3 teams, 6 memberships and 4 API tokens in both.\n"
    )
