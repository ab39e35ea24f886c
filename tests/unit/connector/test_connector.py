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
from buildkite_connector.model.tasks import Code, TaskID
from fakes.connector_setup import (
    C1,
    HOUR,
    KEY,
    MINUTE,
    Buildkite,
    Reports,
    SecretCredentials,
    Setup,
    Store,
    ready_setup,
    stopped_setup,
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


class Watched(Setup):
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

    setup = Setup()
    setup.buildkite = Source()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        variable.set("of the caller")
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
    assert seen == ["", ""]


@virtual_time
async def test_the_same_order_again_brings_its_own_source_of_credentials() -> None:
    async with ready_setup() as setup:
        other = SecretCredentials(setup.fake_secret.credentials)
        reads, written = setup.fake_secret.reads, len(setup.reports.written)
        setup.session.update(replace(setup.order, credentials=other))
        await asyncio.sleep(2 * MINUTE)
        assert (setup.fake_secret.reads, len(setup.reports.written)) == (reads, written)
        assert other.reads >= 2


@virtual_time
async def test_the_first_write_of_a_process_is_told_what_the_last_process_wrote() -> None:
    setup = await stopped_setup()
    restored = setup.status
    reports = setup.reports = Compared()
    async with setup.running(restored=restored):
        await asyncio.sleep(MINUTE)
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
    assert reports.before == [restored, *reports.written[:-1]]


@virtual_time
async def test_an_observer_hears_of_syncs_tasks_and_deliveries() -> None:
    setup = Watched()
    async with setup.running():
        setup.task()
        await asyncio.sleep(MINUTE)
    assert {work for work, _ in setup.observer.facts} == {"sync", "task", "delivery"}
    assert {facts["connector"] for _, facts in setup.observer.facts} == {"default.acme"}


@virtual_time
async def test_a_sync_has_its_id_from_the_time_at_which_it_starts() -> None:
    setup = Watched()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.status.last_sync is not None
        [time] = setup.times
        assert abs((setup.status.last_sync.started_at - time).total_seconds()) < 1e-3


@virtual_time
async def test_a_session_works_on_as_many_tasks_as_the_environment_allows() -> None:
    setup = Watched()
    setup.c1.next_poll = 1.0
    setup.c1.upload_seconds = MINUTE
    async with setup.running():
        setup.task()
        setup.task()
        await asyncio.sleep(30)
        assert len(setup.c1.tasks) == 1


@virtual_time
async def test_a_session_is_of_the_credentials_that_were_checked_and_the_spec() -> None:
    setup = Watched()
    async with setup.running():
        await asyncio.sleep(MINUTE)
    assert setup.services == [(setup.fake_secret.credentials, setup.order.spec)]


@virtual_time
async def test_a_deleted_connector_discards_its_own_files_and_only_a_deleted_one() -> None:
    for discard in (False, True):
        setup = Setup()
        store = setup.store = Discards()
        async with setup.running() as connector:
            await asyncio.sleep(MINUTE)
            await connector.close(discard=discard)
        assert store.discarded == ([KEY] if discard else [])


@virtual_time
async def test_closing_leaves_nothing_running_and_what_is_closed_does_not_begin_again() -> None:
    before = asyncio.all_tasks()
    async with ready_setup() as setup:
        setup.annotate(sync_request="now")
        setup.task()
        await asyncio.sleep(1)
    assert asyncio.all_tasks() == before
    polls = setup.c1.polls
    setup.session.start()
    await asyncio.sleep(10 * MINUTE)
    assert (setup.c1.polls, setup.c1.closed, asyncio.all_tasks()) == (polls, 1, before)
    assert setup.c1.finished.keys() <= {TaskID("task1")}


@pytest.mark.parametrize("failure", [None, Failure(Reason.SECRET_NOT_FOUND, "None.", remedy=Remedy.CREDENTIALS)])
@virtual_time
async def test_a_closed_connector_is_stepped_no_more(failure: Failure | None) -> None:
    steps = []

    class Counted(Connector):
        def _step(self) -> None:
            steps.append(self.name)
            super()._step()

    setup = Setup()
    setup.fake_secret.failure = failure
    connector = Counted(KEY, setup.order, None, setup.reports, setup.environment())
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
    async with ready_setup() as setup:
        setup.c1.refusal = Failure(Reason.C1_UNAVAILABLE, "C1 is down")
        await until(lambda: setup.condition(ConditionType.READY) == ("False", "C1Unavailable"))
        setup.c1.refusal = None
        await asyncio.sleep(5 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_replaced_file_is_removed() -> None:
    setup = await stopped_setup()
    setup.store = Slow(setup.store.files, made=setup.store.made)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(MINUTE)
        setup.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert [sync_id for _, sync_id in setup.store.files] == ["sync2"]


@virtual_time
async def test_a_check_that_breaks_is_told_by_its_kind_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SecretCredentials):
        async def read(self) -> Credentials:
            raise ZeroDivisionError("token-123")

    setup = Setup()
    setup.order = replace(setup.order, credentials=Broken())
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert "(ZeroDivisionError)" in str(setup.status)
        assert "token-123" not in str(setup.status)
    broken = [vars(each) for each in caplog.records if each.message == "a check failed unexpectedly"]
    assert {each["connector"] for each in broken} == {"default.acme"}


@virtual_time
async def test_a_client_that_cannot_be_made_is_a_failure_of_the_session() -> None:
    class Refusing(Setup):
        def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
            raise Failure(Reason.CLIENT_SECRET_INVALID, "no such form", remedy=Remedy.CREDENTIALS)

    setup = Refusing()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", "ClientSecretInvalid")
        assert "no such form" in str(setup.status)


# The end


@virtual_time
async def test_shutdown_hands_the_task_back_at_once() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 500
        task = setup.task()
        await asyncio.sleep(MINUTE)
        before = setup.clock.monotonic()
    assert setup.clock.monotonic() - before < 1
    assert setup.c1.finished[task].code is Code.ABORTED
    assert not setup.c1.finished[task].non_retryable


@virtual_time
async def test_deletion_closes_the_session_and_removes_the_file() -> None:
    setup = Setup()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        await setup.delete()
        polls = setup.c1.polls
        await asyncio.sleep(3 * HOUR)
        assert setup.c1.polls == polls
        assert setup.c1.closed == 1
    assert not setup.store.files
    assert len(setup.buildkite.collections) == 1


@virtual_time
async def test_an_upload_that_is_whole_gets_its_answer_awaited_at_shutdown() -> None:
    async with ready_setup() as setup:
        setup.c1.answer_seconds = 4
        task = setup.task()
        await asyncio.sleep(31)
        assert not setup.c1.uploads
        setup.c1.answer_seconds = 0
        before = setup.clock.monotonic()
    assert setup.clock.monotonic() - before < 10
    assert setup.c1.finished[task].code is Code.OK
    assert setup.status.last_delivery is not None
    assert setup.condition(ConditionType.DELIVERED) == ("True", "Delivered")
