"""One sync by itself: what it asks for, its record, its one line in the log, what an observer hears."""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.run_sync import run_sync
from buildkite_connector.connector.state import SyncRun, TeamChanges
from buildkite_connector.model.directory import (
    DEFAULT_KINDS,
    ClusterMaintainer,
    Counts,
    Directory,
    ResourceKind,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, OrganizationChoice
from buildkite_connector.model.status import SnapshotFile, SyncRecord, Trigger
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.timing.clock import instant
from fakes.connector_ports import KEY, MINUTE, USERS, Buildkite, Store, down
from fakes.connector_setup import Setup
from fakes.connector_states import CREDENTIALS, PREFLIGHT
from fakes.log_lines import lines
from fakes.organization_api import REST_KINDS, access, cluster, pipeline
from fakes.task_ports import Records
from fakes.virtual_time import virtual_time

COUNTS = Counts(10, 0, 0)
SUCCEEDED = {
    "connector": "default.acme",
    "sync_id": "sync1",
    "trigger": "Request",
    "accounts": 10,
    "teams": 0,
    "memberships": 0,
    "requests": 1,
    "throttled_seconds": 12.3,
}


def with_access(directory: Directory) -> Directory:
    """An administrator, two pipelines and one that only the team knows, and two clusters, of which a person maintains
    one."""
    administrator, *others = directory.accounts
    return replace(
        directory,
        accounts=(replace(administrator, role="admin"), *others),
        pipelines=(pipeline(0), pipeline(1)),
        pipeline_access=tuple(replace(access(number), team=TeamID("t-1")) for number in (0, 9)),
        clusters=(cluster(0).cluster, cluster(1).cluster),
        cluster_maintainers=(ClusterMaintainer(cluster(1).cluster.id, administrator.id, ResourceKind.USER),),
    )


@dataclass
class Shelf(Store):
    """`staged` is what it was given; `seconds` how long it takes."""

    staged: list[tuple[ConnectorKey, Directory, datetime]] = field(default_factory=list)
    seconds: float = 0.0

    async def stage(
        self, key: ConnectorKey, directory: Directory, *, sync_id: SyncID, started_at: datetime
    ) -> StagedSnapshot:
        await asyncio.sleep(self.seconds)
        self.staged.append((key, directory, started_at))
        return await super().stage(key, directory, sync_id=sync_id, started_at=started_at)


class Bench(Setup):
    """What one sync runs on. `clients` are those that were made, by token and keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.buildkite.seconds, self.buildkite.throttled_seconds = 5.126, 12.34
        self.shelf = Shelf()
        self.observer = Records()
        self.changes = TeamChanges()
        self.looks: list[int] = []
        """The number of changes of the team t-1 at each look; after the last, that stays."""
        self.clients: list[tuple[Any, dict[str, Any]]] = []
        self.quoted = ""
        """What the last client makes of a sentence with the organization's slug."""

    def connect_buildkite(self, token: str, redactor: Redactor, **how: Any) -> BuildkiteAPI:
        assert redactor.holds_secret(CREDENTIALS.client_secret)
        assert how.pop("slot").held
        self.clients.append((token, how))
        self.quoted = redactor.quote("no access to acme-inc")
        return super().connect_buildkite(token, redactor, **how)

    def environment(self) -> Environment:
        return replace(super().environment(), store=self.shelf, observer=self.observer)

    def admitted(self, **spec: object) -> SyncRun:
        """A sync that has a slot since now."""
        wanted = replace(self.order.spec, **{"kinds": USERS.kinds, **spec})  # type: ignore[arg-type]  # checked by the dataclass
        return SyncRun(SyncID("sync1"), Trigger.REQUEST, 1, CREDENTIALS, wanted, PREFLIGHT, instant(self.clock))

    async def settled(self) -> TeamChanges:
        if self.looks:
            number = self.looks.pop(0)
            self.changes = TeamChanges(number, ((TeamID("t-1"), number),))
        return self.changes

    async def sync(self, run: SyncRun) -> tuple[SyncRecord, StagedSnapshot]:
        environment = self.environment()
        async with environment.sync_slots.slot("default") as slot:
            result = await run_sync("default.acme", KEY, run, environment, self.settled, slot)
        self.covered, self.sight = result.covered, result.sight
        return result.record, result.staged


@virtual_time
async def test_a_sync_collects_what_the_spec_asks_for_and_stages_it() -> None:
    bench = Bench()
    await asyncio.sleep(1)
    run = bench.admitted()
    record, staged = await bench.sync(run)
    assert run.started is not None
    assert bench.clients == [("token", {"quota_percent": 80})]
    assert bench.buildkite.collections == [USERS]
    [(key, directory, started_at)] = bench.shelf.staged
    assert (key, directory.counts, directory.scope, started_at) == (KEY, COUNTS, USERS, run.started.wall)
    assert directory.organization == PREFLIGHT.organization
    assert staged is bench.shelf.files[KEY, SyncID("sync1")]
    wall = run.started.wall
    assert (record.finished_at - wall).total_seconds() == pytest.approx(5.126, abs=1e-3)
    ended = record.finished_at
    assert record == SyncRecord(
        SyncID("sync1"), Trigger.REQUEST, wall, ended, COUNTS, 1, 12.3, SnapshotFile(staged.sha256, staged.size)
    )


@virtual_time
async def test_a_sync_that_succeeds_is_one_line_and_one_operation(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    await asyncio.sleep(1)
    await bench.sync(bench.admitted())
    told = {**SUCCEEDED, "teams_gone": 0, "accounts_added": 0, "seconds": 5.13, "bytes": 1000}
    assert lines(caplog.records) == [(logging.INFO, "sync succeeded", told)]
    assert bench.observer.facts == [("sync", {**SUCCEEDED, "result": "success", "reason": "SyncSucceeded"})]


@virtual_time
async def test_the_line_counts_what_is_in_scope(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.buildkite.edit = with_access
    record, _ = await bench.sync(bench.admitted(kinds=REST_KINDS))
    ((_, _, told),) = lines(caplog.records)
    counted = {"organization_roles": 1, "pipelines": 3, "pipeline_access": 2, "clusters": 2, "cluster_maintainers": 1}
    counted["cluster_team_maintainers"] = 0
    assert {name: told[name] for name in counted} == counted
    assert (told["pipelines_added"], told["clusters_gone"], told["accounts_added"]) == (1, 0, 0)
    assert told["teams_unseen"] == 0
    ((_, facts),) = bench.observer.facts
    assert {name: facts[name] for name in counted} == counted
    assert record.counts == Counts(10, 1, 10, 1, 3, 2, 2, 1, 0)


@virtual_time
async def test_the_line_has_nothing_of_what_no_grant_in_scope_can_tell(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.buildkite.edit = with_access
    await bench.sync(bench.admitted(kinds=frozenset({ResourceKind.PIPELINE, ResourceKind.CLUSTER})))
    ((_, _, told),) = lines(caplog.records)
    assert (told["pipelines"], told["clusters"]) == (2, 2)
    assert not told.keys() & {
        "organization_roles",
        "pipeline_access",
        "cluster_maintainers",
        "cluster_team_maintainers",
    }
    assert not told.keys() & {"pipelines_added", "clusters_gone", "teams_unseen"}


@virtual_time
async def test_a_sync_that_fails_is_one_line_and_one_operation(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    failure = down()
    bench.buildkite.failures.append(failure)
    with pytest.raises(Failure) as raised:
        await bench.sync(bench.admitted())
    assert raised.value is failure
    about = {"connector": "default.acme", "sync_id": "sync1", "reason": "BuildkiteUnavailable"}
    assert lines(caplog.records) == [(logging.WARNING, "sync failed", {**about, "error": "Buildkite answered 503."})]
    assert bench.observer.facts == [("sync", {**about, "trigger": "Request", "result": "failed"})]
    assert bench.shelf.staged == []


@pytest.mark.parametrize(("collecting", "staging"), [(8.0, 0.0), (4.0, 4.0)])
@virtual_time
async def test_collecting_and_staging_share_the_time_that_the_spec_gives(collecting: float, staging: float) -> None:
    bench = Bench()
    bench.buildkite.seconds, bench.shelf.seconds = collecting, staging
    with pytest.raises(Failure) as raised:
        await bench.sync(bench.admitted(sync_timeout=7.4))
    assert asyncio.get_running_loop().time() == pytest.approx(7.4)
    assert (raised.value.reason, bench.shelf.staged) == (Reason.SYNC_TIMEOUT, [])
    assert raised.value.message == (
        "The sync took longer than spec.sync.timeout (7 s): increase it, or increase spec.sync.quotaPercent if the sync"
        " waited for Buildkite's rate limit."
    )
    assert raised.value.__suppress_context__


@virtual_time
async def test_teams_that_were_changed_meanwhile_are_read_again_before_the_snapshot_is_written() -> None:
    bench = Bench()
    team = frozenset({TeamID("t-1")})
    bench.looks = [3, 5]
    await bench.sync(bench.admitted(kinds=DEFAULT_KINDS))
    assert bench.buildkite.rereads == [team, team]
    assert len(bench.shelf.staged) == 2, "written again after the second change"
    assert bench.covered == 5


@virtual_time
async def test_a_sync_does_not_run_after_changes_for_ever() -> None:
    bench = Bench()
    bench.looks = list(range(1, 100))
    await bench.sync(bench.admitted())
    assert len(bench.shelf.staged) == 5
    assert bench.covered == 5, "what was changed later than the last reading makes the snapshot stale"


@dataclass
class ReadsOnce(Buildkite):
    """The second reading of changed teams fails, or never ends."""

    error: Exception | None = None

    async def rereading(self, team: TeamID) -> None:
        if self.rereads:
            if self.error is None:
                await asyncio.Event().wait()
            else:
                raise self.error
        await super().rereading(team)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(down(), 1800.0), (ZeroDivisionError(), 1800.0), (None, 30.0), (None, 1800.0)],
    ids=["failure", "error", "timed out", "cancelled"],
)
@virtual_time
async def test_a_sync_that_ends_after_it_has_written_a_snapshot_leaves_no_file(
    error: Exception | None, seconds: float
) -> None:
    bench = Bench()
    bench.buildkite = ReadsOnce(error=error)
    bench.looks = [3, 5]
    syncing = asyncio.create_task(bench.sync(bench.admitted(kinds=DEFAULT_KINDS, sync_timeout=seconds)))
    await asyncio.sleep(MINUTE)
    syncing.cancel()
    await asyncio.wait({syncing})
    assert syncing.cancelled() is (error is None and seconds > MINUTE)
    assert (len(bench.shelf.staged), bench.shelf.files) == (1, {})


@virtual_time
async def test_a_file_that_cannot_be_removed_either_does_not_hide_why_the_sync_failed() -> None:
    class Stuck(Shelf):
        def remove(self, snapshot: StagedSnapshot) -> None:
            raise Failure(Reason.STORAGE_FAILED, "the disk is read-only")

    bench = Bench()
    bench.shelf, failure = Stuck(), down()
    bench.buildkite, bench.looks = ReadsOnce(error=failure), [3, 5]
    with pytest.raises(Failure) as raised:
        await bench.sync(bench.admitted(kinds=DEFAULT_KINDS))
    assert raised.value is failure


@virtual_time
async def test_what_buildkite_says_keeps_the_slug_of_the_organization_which_is_public_by_now() -> None:
    bench = Bench()
    choice = OrganizationChoice(PREFLIGHT.organization.slug)
    await bench.sync(replace(bench.admitted(), credentials=replace(CREDENTIALS, organization=choice)))
    assert bench.quoted == "no access to acme-inc"
