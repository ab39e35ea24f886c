"""One connector's day in virtual time, with all that it does written out: syncs, deliveries, status writes."""

import asyncio
from dataclasses import dataclass, field

from buildkite_connector.model.directory import Directory
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import Interval
from buildkite_connector.model.status import ConditionType, ConnectorStatus
from buildkite_connector.model.tasks import TaskID, TaskOutcome
from fakes.connector_ports import C1, Buildkite, Reports, down
from fakes.connector_setup import HOUR, Setup
from fakes.virtual_time import START, virtual_time

AWAY = Failure(Reason.C1_UNAVAILABLE, "C1 is restarting.")
DAY = """\
09:00:00 status Pending: Pending AwaitingSync
09:00:00 hello
09:00:00 status Pending: Pending AwaitingSync
09:00:00 sync begins
09:00:00 status Syncing: Syncing AwaitingSync
09:00:05 status Connected: Ready AwaitingTask
09:30:00 -- C1 asks for a sync
09:30:30 sync begins
09:30:30 status Syncing: Ready AwaitingTask
09:30:35 status Connected: Ready AwaitingTask
09:30:35 task1 gets sync2
09:30:35 task1 ends OK
09:30:35 status Connected: Ready Delivered
13:20:00 -- Buildkite goes away, for 20 minutes
13:30:30 sync begins
13:30:30 status Syncing: Ready Delivered
13:30:35 status Degraded: BuildkiteUnavailable Delivered
13:30:57 sync begins
13:30:57 status Syncing: BuildkiteUnavailable Delivered
13:31:02 status Degraded: BuildkiteUnavailable Delivered
13:31:47 sync begins
13:31:47 status Syncing: BuildkiteUnavailable Delivered
13:31:52 status Degraded: BuildkiteUnavailable Delivered
13:33:22 sync begins
13:33:22 status Syncing: BuildkiteUnavailable Delivered
13:33:27 status Degraded: BuildkiteUnavailable Delivered
13:36:27 sync begins
13:36:27 status Syncing: BuildkiteUnavailable Delivered
13:36:32 status Degraded: BuildkiteUnavailable Delivered
13:42:32 sync begins
13:42:32 status Syncing: BuildkiteUnavailable Delivered
13:42:37 status Connected: Ready AwaitingTask
15:00:00 -- C1 goes away, for half an hour, and asks for a sync when it is back
15:01:17 status Degraded: C1Unavailable C1Unavailable
15:33:08 status Connected: Ready AwaitingTask
15:33:08 sync begins
15:33:08 status Syncing: Ready AwaitingTask
15:33:13 status Connected: Ready AwaitingTask
15:33:13 task2 gets sync9
15:33:13 task2 ends OK
15:33:13 status Connected: Ready Delivered
17:00:00 -- the API token is rotated
17:00:50 status Connected: Ready Delivered
17:00:50 sync begins
17:00:50 status Syncing: Ready Delivered
17:00:55 status Connected: Ready AwaitingTask
20:00:00 -- three of ten accounts leave; C1 asks for a sync
20:00:08 sync begins
20:00:08 status Syncing: Ready AwaitingTask
20:00:13 status Connected: Ready Shrunk
20:00:13 task3 gets sync11
20:00:13 task3 ends OK
20:00:13 status Connected: Ready Delivered
00:00:08+ sync begins
00:00:08+ status Syncing: Ready Delivered
00:00:13+ status Connected: Ready AwaitingTask
01:00:00+ -- most accounts are gone; C1 asks for a sync, then again after a person has looked
01:00:08+ sync begins
01:00:08+ status Syncing: Ready AwaitingTask
01:00:13+ status Degraded: ShrinkHeld ShrinkHeld
01:00:13+ task4 ends FAILED_PRECONDITION
01:30:00+ status Connected: Ready AwaitingTask
01:30:08+ sync begins
01:30:08+ status Syncing: Ready AwaitingTask
01:30:13+ status Connected: Ready AwaitingTask
01:30:13+ task5 gets sync14
01:30:13+ task5 ends OK
01:30:13+ status Connected: Ready Delivered
05:30:08+ sync begins
05:30:08+ status Syncing: Ready Delivered
05:30:13+ status Connected: Ready AwaitingTask
06:00:00+ -- the client's secret is rotated
06:00:50+ status Connected: Ready AwaitingTask
06:00:50+ sync begins
06:00:50+ status Syncing: Ready AwaitingTask
06:00:50+ hello
06:00:55+ status Connected: Ready AwaitingTask"""
"""The next day's times have a `+`. A status is its phase, and the reasons of Ready and Delivered."""


class Diary(list[str]):
    def note(self, what: str) -> None:
        seconds = int(asyncio.get_running_loop().time() + 0.01)
        day, clock = divmod(START.hour * 3600 + seconds, 86_400)
        self.append(f"{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}{'+' * day} {what}")


@dataclass
class NotedBuildkite(Buildkite):
    diary: Diary = field(default_factory=Diary)
    outage: bool = False

    async def collecting(self) -> Directory:
        self.diary.note("sync begins")
        if self.outage:
            self.failures.append(down())
        return await super().collecting()


@dataclass
class NotedC1(C1):
    diary: Diary = field(default_factory=Diary)

    async def hello(self, task_id: TaskID | None = None) -> None:
        await super().hello(task_id)
        self.diary.note("hello")

    async def upload(self, *call: object) -> None:
        await super().upload(*call)  # type: ignore[arg-type]  # passed on as it came
        self.diary.note(f"{self.uploads[-1][0]} gets {self.uploads[-1][1].removeprefix('sha-')}")

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        await super().finish(task_id, outcome)
        self.diary.note(f"{task_id} ends {outcome.code.name}")


@dataclass
class NotedReports(Reports):
    diary: Diary = field(default_factory=Diary)

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        await super().report(before, after)
        told = [after.condition(kind) for kind in (ConditionType.READY, ConditionType.DELIVERED)]
        reasons = " ".join(each.reason.value for each in told if each is not None)
        self.diary.note(f"status {after.phase.value}: {reasons}")


class Day:
    """A setup whose connector is noted. `at` lets time pass until then."""

    def __init__(self) -> None:
        self.diary = Diary()
        self.setup = Setup(schedule=Interval(4 * HOUR))
        self.setup.buildkite = self.buildkite = NotedBuildkite(diary=self.diary)
        self.setup.c1 = self.c1 = NotedC1(diary=self.diary)
        self.setup.reports = NotedReports(diary=self.diary)

    async def at(self, hours: int, minutes: int = 0) -> None:
        """`hours` from midnight of the first day."""
        await asyncio.sleep(hours * HOUR + minutes * 60 - START.hour * HOUR - asyncio.get_running_loop().time())


@virtual_time
async def test_a_day() -> None:
    day = Day()
    setup, diary = day.setup, day.diary
    async with setup.running():
        await day.at(9, 30)
        diary.note("-- C1 asks for a sync")
        setup.task()

        await day.at(13, 20)
        diary.note("-- Buildkite goes away, for 20 minutes")
        day.buildkite.outage = True
        await day.at(13, 40)
        day.buildkite.outage = False

        await day.at(15)
        diary.note("-- C1 goes away, for half an hour, and asks for a sync when it is back")
        day.c1.refusal = AWAY
        await day.at(15, 30)
        day.c1.refusal = None
        setup.task()

        await day.at(17)
        diary.note("-- the API token is rotated")
        setup.rotate(api_token="fresh")

        await day.at(20)
        diary.note("-- three of ten accounts leave; C1 asks for a sync")
        day.buildkite.accounts = 7
        setup.task()

        await day.at(25)
        diary.note("-- most accounts are gone; C1 asks for a sync, then again after a person has looked")
        day.buildkite.accounts = 2
        setup.task()
        await day.at(25, 30)
        setup.annotate(accept_shrink=setup.status.last_sync.id if setup.status.last_sync else None)
        setup.task()

        await day.at(30)
        diary.note("-- the client's secret is rotated")
        setup.rotate(client_secret="fresh")
        await day.at(33)

    assert diary == DAY.split("\n")
