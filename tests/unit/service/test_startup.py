"""The first Hello: refused for good, it ends the process; after one that C1 answered, nothing does."""

import io

import pytest

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.tasks import Heartbeat, Poll, TaskID, TaskOutcome
from buildkite_connector.service.startup import StartupHello
from buildkite_connector.sync.ports import Source
from buildkite_connector.tasks.ports import MembershipAPI, TaskService
from buildkite_connector.timing.slots import Slot
from fakes.task_ports import SNAPSHOT

CREDENTIALS, SPEC = Credentials("c", "s", "t"), ConnectorSpec("h")
REFUSED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused Hello.", remedy=Remedy.CREDENTIALS)
AWAY = Failure(Reason.C1_UNREACHABLE, "C1 is away.")


class Service:
    """C1 as it answers next; notes what was called."""

    def __init__(self) -> None:
        self.answers: list[Failure | None] = []
        self.calls: list[str] = []

    async def hello(self, task_id: TaskID | None = None) -> None:
        if self.answers and (answer := self.answers.pop(0)) is not None:
            raise answer

    async def next_task(self) -> Poll:
        self.calls.append("next_task")
        return Poll(None, 1.0)

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        self.calls.append(f"heartbeat {task_id}")
        return Heartbeat(1.0, cancelled=False)

    async def upload(self, task_id: TaskID, snapshot: OpenSnapshot, sent: object) -> None:
        self.calls.append(f"upload {task_id} {snapshot.snapshot.path} {snapshot.snapshot.sha256}")

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        self.calls.append(f"finish {task_id} {outcome.code}")

    async def aclose(self) -> None:
        self.calls.append("aclose")


class Clients:
    """`failure`: what keeps a session from being made."""

    def __init__(self, failure: Failure | None = None) -> None:
        self.service = Service()
        self.failure = failure

    def source(self, credentials: Credentials, spec: ConnectorSpec, slot: Slot) -> Source:
        raise NotImplementedError

    def memberships(self, credentials: Credentials, slot: Slot | None = None) -> MembershipAPI:
        raise NotImplementedError

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService:
        if self.failure is not None:
            raise self.failure
        return self.service


async def greet(startup: StartupHello, clients: Clients, *answers: Failure | None) -> None:
    clients.service.answers = list(answers)
    service = startup.task_service(CREDENTIALS, SPEC)
    for answer in answers:
        if answer is None:
            await service.hello()
        else:
            with pytest.raises(Failure) as raised:
                await service.hello()
            assert raised.value is answer


async def test_a_final_refusal_of_the_first_hello_ends_the_process() -> None:
    startup = StartupHello(clients := Clients())
    await greet(startup, clients, AWAY, REFUSED)
    assert startup.refused.is_set()
    assert startup.failure is REFUSED


async def test_c1_that_is_away_is_waited_for() -> None:
    startup = StartupHello(clients := Clients())
    await greet(startup, clients, AWAY, AWAY, None)
    assert not startup.refused.is_set()


@pytest.mark.parametrize("again", [True, False], ids=["the same session", "another session"])
async def test_a_refusal_after_a_hello_that_c1_answered_ends_nothing(again: bool) -> None:
    startup = StartupHello(clients := Clients())
    await greet(startup, clients, None, *([REFUSED] if again else []))
    if not again:
        await greet(startup, clients, REFUSED)
    assert not startup.refused.is_set()
    assert startup.failure is None


async def test_credentials_of_which_no_session_can_be_made_end_it_too() -> None:
    malformed = Failure(Reason.CLIENT_ID_INVALID, "no @ in it", remedy=Remedy.CREDENTIALS)
    startup = StartupHello(Clients(malformed))
    with pytest.raises(Failure):
        startup.task_service(CREDENTIALS, SPEC)
    assert startup.failure is malformed


async def test_every_other_call_goes_through() -> None:
    startup = StartupHello(clients := Clients())
    service = startup.task_service(CREDENTIALS, SPEC)
    task = TaskID("t")
    await service.next_task()
    await service.heartbeat(task)
    await service.upload(task, OpenSnapshot(SNAPSHOT, io.BytesIO()), lambda: None)
    await service.finish(task, TaskOutcome())
    await service.aclose()
    assert clients.service.calls == [
        "next_task",
        "heartbeat t",
        f"upload t {SNAPSHOT.path} {SNAPSHOT.sha256}",
        "finish t 0",
        "aclose",
    ]
