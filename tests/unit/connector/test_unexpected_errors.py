"""An error of the operator itself in one action: the other actions under way go on, and no file is lost."""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from buildkite_connector.connector.connector import AFTER_ERROR
from buildkite_connector.connector.environment import Age, Environment, HostIDs, Listener
from buildkite_connector.connector.state import C1Identity
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType
from fakes.connector_setup import C1, MINUTE, SecretCredentials, Setup, Store, client_rejected, stopped_setup
from fakes.log_lines import lines
from fakes.virtual_time import until, virtual_time


@dataclass
class BrokenStore(Store):
    """A restore takes `restore_seconds`."""

    restore_seconds: float = 0.0

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        await asyncio.sleep(self.restore_seconds)
        return await super().restore(key, sha256)


@dataclass
class BrokenSecret(SecretCredentials):
    """The errors are raised by the next reads. `most_active` is how many reads there were at once."""

    errors: list[Exception] = field(default_factory=list)
    active: int = 0
    most_active: int = 0

    async def read(self) -> Credentials:
        if self.errors:
            raise self.errors.pop()
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            return await super().read()
        finally:
            self.active -= 1


@virtual_time
async def test_no_second_check_begins_while_one_is_under_way_and_another_action_breaks() -> None:
    setup, fake_secret = Setup(), BrokenSecret()
    setup.order = replace(setup.order, credentials=fake_secret)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        reads, fake_secret.seconds = fake_secret.reads, 3 * MINUTE
        await until(lambda: fake_secret.reads > reads)
        setup.c1.close_failures.append(ZeroDivisionError())
        setup.c1.refusal = client_rejected()
        await until(lambda: not setup.c1.close_failures)
        setup.c1.refusal = None
        await asyncio.sleep(2 * MINUTE)
        assert fake_secret.reads == reads + 1
        await asyncio.sleep(20 * MINUTE)
        assert fake_secret.most_active == 1
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_connector_begins_once_what_is_staged_was_read_and_an_edit_meanwhile_counts() -> None:
    setup = await stopped_setup()
    store = setup.store = BrokenStore(setup.store.files, made=setup.store.made, restore_seconds=8 * MINUTE)
    async with setup.running(restored=setup.status):
        reads, writes = setup.fake_secret.reads, len(setup.reports.written)
        setup.edit(quota_percent=60)
        await asyncio.sleep(7 * MINUTE)
        assert (setup.fake_secret.reads, len(setup.reports.written)) == (reads, writes)
        task = setup.task()
        await asyncio.sleep(2 * MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2")]
        assert [sync_id for _, sync_id in store.files] == ["sync2"]


@virtual_time
async def test_a_connector_that_is_closed_while_it_restores_does_not_begin() -> None:
    setup = await stopped_setup()
    setup.store = BrokenStore(setup.store.files, made=setup.store.made, restore_seconds=MINUTE)
    reads = setup.fake_secret.reads
    async with setup.running(restored=setup.status) as connector:
        await asyncio.sleep(1)
        await connector.close(discard=False)
        await asyncio.sleep(10 * MINUTE)
        assert setup.fake_secret.reads == reads


@virtual_time
async def test_what_may_be_outdated_is_removed_before_the_connector_begins() -> None:
    setup = await stopped_setup()
    setup.order = replace(setup.order, generation=2)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(1)
        assert setup.store.files == {}


class OddHostIDs(HostIDs):
    """Breaks the connector's own steps while `odd`; `broken` has the seconds at which it did."""

    odd = False

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[float] = []

    def claim(self, age: Age, identity: C1Identity | None, listener: Listener, accepted: bool | None = None) -> None:
        if self.odd:
            self.broken.append(asyncio.get_running_loop().time())
            raise ZeroDivisionError
        super().claim(age, identity, listener, accepted)


class OddSetup(Setup):
    """`odd`: its steps break from the first one on."""

    host_ids: OddHostIDs
    odd = False

    def environment(self) -> Environment:
        self.host_ids = OddHostIDs()
        self.host_ids.odd = self.odd
        return replace(super().environment(), host_ids=self.host_ids)


@virtual_time
async def test_a_connector_whose_steps_break_goes_on_when_they_do_not_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = OddSetup()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.host_ids.odd = True
        with pytest.raises(ZeroDivisionError):
            setup.edit(quota_percent=60)
        await asyncio.sleep(20)
        first = setup.host_ids.broken[0]
        assert [round(each - first, 3) for each in setup.host_ids.broken] == [0.0, 1.0, 3.0, 7.0, 15.0]
        await asyncio.sleep(30 * MINUTE)
        assert setup.host_ids.broken[-1] - setup.host_ids.broken[-2] == pytest.approx(AFTER_ERROR.cap)
        steps = [each for each in lines(caplog.records) if each[1] == "a step failed unexpectedly"]
        assert [fields for _, _, fields in steps] == [{"connector": "default.acme"}]
        setup.host_ids.odd = False
        await asyncio.sleep(6 * MINUTE)
        assert setup.status.observed_generation == setup.order.generation
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_first_step_that_breaks_is_logged_at_once_and_repeated(caplog: pytest.LogCaptureFixture) -> None:
    setup = OddSetup()
    setup.odd = True
    async with setup.running():
        await asyncio.sleep(0.5)
        broke = [(logging.ERROR, "a step failed unexpectedly", {"connector": "default.acme"})]
        assert lines(caplog.records) == broke
        await asyncio.sleep(4)
        assert (setup.host_ids.broken, lines(caplog.records)) == ([0.0, 0.0, 2.0], broke)
        setup.host_ids.odd = False
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_task_that_breaks_after_one_that_did_not_is_begun_again_within_seconds() -> None:
    setup = FragileWorld()
    setup.no_ids = True
    async with setup.running():
        await asyncio.sleep(10)
        assert setup.ids == 4, "at 0, 1, 3 and 7 s"
        setup.no_ids = False
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        setup.no_ids, setup.ids = True, 0
        setup.edit(quota_percent=60)
        await asyncio.sleep(2)
        assert setup.ids == 2, "at once, and a second later"


@virtual_time
async def test_a_check_that_broke_holds_no_status_back() -> None:
    setup = FragileWorld()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.buildkite.refusal = setup.rejected()
        setup.rotate(api_token="another")
        await asyncio.sleep(10 * MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", Reason.TOKEN_REJECTED)
        setup.jitter.broken = True
        setup.annotate(sync_request="now")
        await asyncio.sleep(0.5)
        setup.jitter.broken = False
        await asyncio.sleep(1)
        assert setup.session._state.check_requested, "it is not repeated yet, nor is the Secret read again"
        setup.session.c1_failed(client_rejected())
        await asyncio.sleep(0.5)
        assert setup.condition(ConditionType.DELIVERED)[1] == Reason.C1_CLIENT_REJECTED


@virtual_time
async def test_an_edit_that_broke_a_step_is_logged_and_taken_up_within_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = OddSetup()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.host_ids.odd, preflights = True, setup.buildkite.preflights
        with pytest.raises(ZeroDivisionError):
            setup.edit(quota_percent=60)
        setup.host_ids.odd = False
        assert caplog.messages == ["a step failed unexpectedly"]
        await asyncio.sleep(2)
        assert setup.buildkite.preflights == preflights + 1


class OddJitter:
    """Raises while `broken`; what it gives is no number while `no_number`."""

    broken = no_number = False

    def uniform(self, low: float, high: float) -> float:
        if self.broken:
            raise ZeroDivisionError
        return math.nan if self.no_number else (low + high) / 2


class FragileWorld(Setup):
    """`jitter` and the maker of ids break; `ids` counts those that were asked for. A collection takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.buildkite.seconds = 0.0
        self.jitter = OddJitter()
        self.no_ids = False
        self.ids = 0

    def environment(self) -> Environment:
        environment = super().environment()

        def new_sync_id(now: datetime) -> SyncID:
            self.ids += 1
            if self.no_ids:
                raise ZeroDivisionError
            return environment.new_sync_id(now)

        return replace(environment, jitter=self.jitter, new_sync_id=new_sync_id)

    def break_jitter(self, *, broken: bool) -> None:
        self.jitter.broken = broken

    def break_share(self, *, broken: bool) -> None:
        self.jitter.no_number = broken

    def break_ids(self, *, broken: bool) -> None:
        self.no_ids = broken

    def break_expiry(self, *, broken: bool) -> None:
        """A time without a zone cannot be compared with the clock's: no status can be derived."""
        self.buildkite.token_expires_at = datetime(2027, 1, 1, tzinfo=None if broken else UTC)
        if not broken:
            self.rotate(api_token="another")


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (FragileWorld.break_jitter, "what a check found is not applied"),
        (FragileWorld.break_share, "a sync's success is not applied"),
        (FragileWorld.break_ids, "no sync is admitted"),
        (FragileWorld.break_expiry, "no status is derived"),
    ],
)
@virtual_time
async def test_what_breaks_each_time_begins_again_ever_later_and_goes_on_when_it_does_not_break_any_more(
    broken: Callable[..., None], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    setup = FragileWorld()
    broken(setup, broken=True)
    async with setup.running():
        await asyncio.sleep(30)
        begun = max(setup.fake_secret.reads, setup.buildkite.preflights, setup.ids)
        assert 5 <= begun <= 6, what  # at 0, 1, 3, 7 and 15 seconds
        assert setup.store.files == {}, "no file is without an owner"
        broke = [each for each in caplog.records if each.getMessage() == "a task failed unexpectedly"]
        assert [fields for _, _, fields in lines(broke)] == [{"connector": "default.acme"}] * len(broke)
        assert broke
        assert all(each.exc_info and each.exc_info[1] for each in broke)
        broken(setup, broken=False)
        await asyncio.sleep(2 * AFTER_ERROR.cap)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert len(setup.store.files) == 1


@virtual_time
async def test_a_client_of_c1_that_cannot_be_made_is_reported_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class NoFiles(Setup):
        broken = True

        def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
            if self.broken:
                raise OSError(24, "Too many open files")
            return super().connect_c1(credentials, spec)

    setup = NoFiles()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", Reason.INTERNAL_ERROR)
        assert "(OSError)" in str(setup.status)
        assert "open files" not in str(setup.status)
        said = (logging.ERROR, "no session with C1 could be opened", {"connector": "default.acme"})
        assert said in lines(caplog.records)
        setup.broken = False
        await asyncio.sleep(6 * MINUTE)
        assert setup.c1.hellos == [None]
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
