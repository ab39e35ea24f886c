"""`sync` with all resource types, as people run it: one whole file, or one sentence and the file that was there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkite_connector.buildkite import BuildkiteSettings
from buildkite_connector.c1z import expand, read_snapshot
from buildkite_connector.cli.sync import SyncSettings, sync_and_print
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.spec import Credentials
from fakes.organization_api import REST_KINDS
from harness.command import Ended, run
from harness.organization import ACCESS_ORG, access
from harness.trust import DIRECT
from simulators.buildkite import faults
from simulators.buildkite.access_records import PIPELINE_SECRETS, WEBHOOK_SECRET
from simulators.buildkite.api import ACCESS_SCOPES, Token
from simulators.buildkite.faults import Effect
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config

HERE = "/v2/organizations/acme-access"
PIPELINES, TEAM_PIPELINES = f"{HERE}/pipelines", f"{HERE}/teams/*/pipelines"
CLUSTERS = f"{HERE}/clusters"
FLAG = ("--sync-resource-types", "organization,pipeline,cluster,user,team")
WRITING = Token(scopes=(*ACCESS_SCOPES, "write_pipelines"))
"""It is shown the pipelines' webhooks, too."""


@pytest.fixture
async def buildkite() -> AsyncIterator[BuildkiteSimulator]:
    limits = Limits(user=None, organization=None)
    async with BuildkiteSimulator(Config((Organization.load(ACCESS_ORG),), (WRITING,), limits)) as simulator:
        yield simulator


async def sync(buildkite: BuildkiteSimulator, file: Path, *arguments: str) -> Ended:
    return await run(
        *("sync", "--file", str(file), *FLAG, *arguments),
        BUILDKITE_API_URL=buildkite.url,
        BATON_API_TOKEN=WRITING.value,
    )


async def test_the_whole_organization_is_in_the_file_as_c1s_own_command_writes_it(
    buildkite: BuildkiteSimulator, tmp_path: Path
) -> None:
    """The SDK expands grants in a file that it writes for nobody in particular."""
    ended = await sync(buildkite, tmp_path / "sync.c1z")
    assert (ended.code, ended.err) == (0, "")
    assert "4 pipelines, 4 pipeline access grants, 2 clusters, 2 cluster maintainers, 1 cluster team m" in ended.out
    assert "; 14 requests" in ended.out
    found = read_snapshot(tmp_path / "sync.c1z").directory
    expected = access(SyncScope(REST_KINDS, expanded=True))
    assert (found.scope, found.counts) == (expected.scope, expected.counts)
    assert set(found.pipeline_access) == set(expected.pipeline_access)
    assert set(found.cluster_maintainers) == set(expected.cluster_maintainers)


async def test_what_expands_to_too_much_is_written_as_it_is_with_a_warning(
    buildkite: BuildkiteSimulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(expand, "MOST_EXPANDED", 5_000)
    wanted = SyncScope(REST_KINDS, expanded=True)
    settings = SyncSettings(
        BuildkiteSettings(buildkite.url),
        Credentials("", "", WRITING.value),
        None,
        tmp_path / "sync.c1z",
        wanted,
        100,
        60,
    )
    await sync_and_print(settings, DIRECT)
    assert "4 pipelines, 4 pipeline access grants" in capsys.readouterr().out
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert warning.message == "grants are not expanded"
    assert "the grants of teams alone. C1 expands them" in warning.__dict__["detail"]
    found = read_snapshot(tmp_path / "sync.c1z").directory
    expected = access(SyncScope(REST_KINDS))
    assert (found.scope, found.counts) == (expected.scope, expected.counts)
    assert [each.name for each in tmp_path.iterdir()] == ["sync.c1z"]


@pytest.mark.parametrize(
    ("path", "effect", "says"),
    [
        (PIPELINES, faults.answer(403, {"message": "Your IP address is not in the allowlist"}), "allowlist"),
        (TEAM_PIPELINES, faults.answer(404, {"message": "No team found"}), "Nothing is delivered"),
        (CLUSTERS, faults.relink("next", "https://elsewhere.example/v2/clusters?page=2"), "elsewhere.example"),
        (CLUSTERS, faults.set_field("id", ".."), "[0].id"),
    ],
    ids=["403", "404 of teams that are listed", "a link to another host", "an ID with dots"],
)
async def test_a_call_that_fails_leaves_the_file_that_was_there_and_says_so_in_one_sentence(
    buildkite: BuildkiteSimulator, tmp_path: Path, path: str, effect: Effect, says: str
) -> None:
    file = tmp_path / "sync.c1z"
    file.write_bytes(b"old")
    buildkite.fault(effect, times=None, path=path)
    ended = await sync(buildkite, file)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("error: ")
    assert says in ended.err
    assert [each for each in (*PIPELINE_SECRETS, WEBHOOK_SECRET, WRITING.value) if each in ended.err] == []
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"old", [file])
