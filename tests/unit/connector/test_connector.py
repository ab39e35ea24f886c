"""What the loop of one connector names and hands on; its decisions and transitions have tests of their own."""

import asyncio
import contextvars
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.model.directory import Directory
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType, ConnectorStatus
from buildkite_connector.model.tasks import TaskID
from fakes.connector_world import (
    C1,
    HOUR,
    KEY,
    MINUTE,
    Buildkite,
    Reports,
    SecretCredentials,
    Store,
    World,
    ready_world,
    stopped_world,
)
from fakes.task_ports import Records
from fakes.virtual_time import until, virtual_time


@dataclass
class Discards(Store):
    """`discarded` are the keys whose files were discarded."""

    discarded: list[ConnectorKey] = field(default_factory=list)

    async def discard(self, key: ConnectorKey) -> None:
        self.discarded.append(key)
        await super().discard(key)


@dataclass
class Slow(Store):
    """A restore takes a second."""

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        await asyncio.sleep(1)
        return await super().restore(key, sha256)


@dataclass
class Compared(Reports):
    """`before` is what each write was told of the status before it."""

    before: list[ConnectorStatus | None] = field(default_factory=list)

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        self.before.append(before)
        await super().report(before, after)


class Watched(World):
    """Its observer is `observer`; `services` are the clients of C1 that were made, `times` those of sync IDs."""

    def __init__(self, **spec: object) -> None:
        super().__init__(**spec)
        self.observer = Records()
        self.times: list[datetime] = []
        self.services: list[tuple[Credentials, ConnectorSpec]] = []

    def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
        self.services.append((credentials, spec))
        return super().connect_c1(credentials, spec)

    def environment(self) -> Environment:
        return replace(super().environment(), observer=self.observer, new_sync_id=self.sync_id, most_tasks=1)

    def sync_id(self, now: datetime) -> SyncID:
        self.times.append(now)
        return SyncID(f"sync{len(self.times)}")


@virtual_time
async def test_what_begins_while_a_task_is_handled_is_no_part_of_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    seen: list[str] = []

    class Source(Buildkite):
        async def collecting(self) -> Directory:
            seen.append(variable.get())
            return await super().collecting()

    world = World()
    world.buildkite = Source()
    async with world.running():
        await asyncio.sleep(MINUTE)
        variable.set("of the caller")
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
    assert seen == ["", ""]


@virtual_time
async def test_the_same_order_again_brings_its_own_source_of_credentials() -> None:
    async with ready_world() as world:
        other = SecretCredentials(world.vault.credentials)
        reads, written = world.vault.reads, len(world.reports.written)
        world.session.update(replace(world.order, credentials=other))
        await asyncio.sleep(2 * MINUTE)
        assert (world.vault.reads, len(world.reports.written)) == (reads, written)
        assert other.reads >= 2


@virtual_time
async def test_the_first_write_of_a_process_is_told_what_the_last_process_wrote() -> None:
    world = await stopped_world()
    restored = world.status
    reports = world.reports = Compared()
    async with world.running(restored=restored):
        await asyncio.sleep(MINUTE)
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
    assert reports.before == [restored, *reports.written[:-1]]


@virtual_time
async def test_an_observer_hears_of_syncs_tasks_and_deliveries() -> None:
    world = Watched()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
    assert {work for work, _ in world.observer.facts} == {"sync", "task", "delivery"}
    assert {facts["connector"] for _, facts in world.observer.facts} == {"default.acme"}


@virtual_time
async def test_a_sync_has_its_id_from_the_time_at_which_it_starts() -> None:
    world = Watched()
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.status.last_sync is not None
        [time] = world.times
        assert abs((world.status.last_sync.started_at - time).total_seconds()) < 1e-3


@virtual_time
async def test_a_session_works_on_as_many_tasks_as_the_environment_allows() -> None:
    world = Watched()
    world.c1.next_poll = 1.0
    world.c1.upload_seconds = MINUTE
    async with world.running():
        world.task()
        world.task()
        await asyncio.sleep(30)
        assert len(world.c1.tasks) == 1


@virtual_time
async def test_a_session_is_of_the_credentials_that_were_checked_and_the_spec() -> None:
    world = Watched()
    async with world.running():
        await asyncio.sleep(MINUTE)
    assert world.services == [(world.vault.credentials, world.order.spec)]


@virtual_time
async def test_a_deleted_connector_discards_its_own_files_and_only_a_deleted_one() -> None:
    for discard in (False, True):
        world = World()
        store = world.store = Discards()
        async with world.running() as connector:
            await asyncio.sleep(MINUTE)
            await connector.close(discard=discard)
        assert store.discarded == ([KEY] if discard else [])


@virtual_time
async def test_closing_leaves_nothing_running_and_what_is_closed_does_not_begin_again() -> None:
    before = asyncio.all_tasks()
    async with ready_world() as world:
        world.annotate(sync_request="now")
        world.task()
        await asyncio.sleep(1)
    assert asyncio.all_tasks() == before
    polls = world.c1.polls
    world.session.start()
    await asyncio.sleep(10 * MINUTE)
    assert (world.c1.polls, world.c1.closed, asyncio.all_tasks()) == (polls, 1, before)
    assert world.c1.finished.keys() <= {TaskID("task1")}


@pytest.mark.parametrize("failure", [None, Failure(Reason.SECRET_NOT_FOUND, "None.", remedy=Remedy.CREDENTIALS)])
@virtual_time
async def test_a_closed_connector_is_stepped_no_more(failure: Failure | None) -> None:
    steps = []

    class Counted(Connector):
        def _step(self) -> None:
            steps.append(self.name)
            super()._step()

    world = World()
    world.vault.failure = failure
    connector = Counted(KEY, world.order, None, world.reports, world.environment())
    connector.start()
    await asyncio.sleep(10 * HOUR)
    assert len(steps) > 5
    await connector.close(discard=False)
    steps.clear()
    connector.start()  # as the controller does when the connector before it has closed
    await asyncio.sleep(10 * HOUR)
    assert steps == []


@virtual_time
async def test_an_outage_of_c1_that_was_reported_is_over_when_c1_answers() -> None:
    async with ready_world() as world:
        world.c1.refusal = Failure(Reason.C1_UNAVAILABLE, "C1 is down")
        await until(lambda: world.condition(ConditionType.READY) == ("False", "C1Unavailable"))
        world.c1.refusal = None
        await asyncio.sleep(5 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_replaced_file_is_removed() -> None:
    world = await stopped_world()
    world.store = Slow(world.store.files, made=world.store.made)
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        world.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert [sync_id for _, sync_id in world.store.files] == ["sync2"]


@virtual_time
async def test_a_check_that_breaks_is_told_by_its_kind_without_its_text() -> None:
    class Broken(SecretCredentials):
        async def read(self) -> Credentials:
            raise ZeroDivisionError("token-123")

    world = World()
    world.order = replace(world.order, credentials=Broken())
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert "(ZeroDivisionError)" in str(world.status)
        assert "token-123" not in str(world.status)


@virtual_time
async def test_a_client_that_cannot_be_made_is_a_failure_of_the_session() -> None:
    class Refusing(World):
        def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
            raise Failure(Reason.CLIENT_SECRET_INVALID, "no such form", remedy=Remedy.CREDENTIALS)

    world = Refusing()
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("False", "ClientSecretInvalid")
        assert "no such form" in str(world.status)
