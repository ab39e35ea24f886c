"""What happens in the session with C1, and to C1's tasks."""

from dataclasses import replace

from buildkite_connector.connector import transitions
from buildkite_connector.connector.c1_side import delivery_watched
from buildkite_connector.connector.state import SnapshotRequest
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.tasks import TaskID
from fakes.lives import choices
from fakes.lives.account import Task, covered, promise
from fakes.lives.choices import pick
from fakes.lives.life import Life

# The session with C1


def c1_answers(life: Life, number: int) -> bool:
    if not life.c1_open or life.c1_closing or life.state.c1.ended:
        return False
    if not life.state.c1.greeted:
        life.apply(transitions.c1_greeted)
        return True
    if life.state.c1.failure is not None:
        life.apply(transitions.c1_answered)
    return True


def c1_fails(life: Life, number: int) -> bool:
    if not life.c1_open or life.state.c1.ended:
        return False
    failure = pick(choices.C1_FINAL, number) if number >= 200 else pick(choices.C1_PASSING, number)
    life.apply(lambda state: transitions.c1_failed(state, failure, life.now))
    return True


def c1_is_closed(life: Life, number: int) -> bool:
    if not life.c1_closing:
        return False
    for task_id in [*life.tasks]:
        _leave(life, task_id)
    life.c1_open = life.c1_closing = False
    life.apply(transitions.c1_closed)
    return True


# C1's tasks


def c1_asks(life: Life, number: int) -> bool:
    c1 = life.state.c1
    if not life.c1_open or life.c1_closing or not c1.greeted or c1.ended or len(life.tasks) >= 3:
        return False
    ask(life, pick(choices.SCOPES, number))
    return True


def ask(life: Life, scope: SyncScope) -> None:
    task_id = TaskID(f"task{life.number()}")
    life.tasks[task_id] = Task(scope, life.now.monotonic)
    request = SnapshotRequest(task_id, scope, life.now.monotonic)
    life.apply(lambda state: replace(state, requests=(*state.requests, request)))


def c1_withdraws(life: Life, number: int) -> bool:
    if not life.tasks:
        return False
    _leave(life, pick(tuple(life.tasks), number))
    return True


def _leave(life: Life, task_id: TaskID) -> None:
    task = life.tasks.pop(task_id)
    if task.answer is None:
        life.apply(lambda state: transitions.request_ended(state, task_id))


def an_upload_ends(life: Life, number: int) -> bool:
    uploading = [(task_id, task) for task_id, task in life.tasks.items() if task.file is not None and not task.ending]
    if not uploading:
        return False
    task_id, task = pick(tuple(uploading), number)
    file = task.file
    assert file is not None
    if number >= 200:
        failure = pick(choices.UPLOAD_FAILURES, number)
        life.apply(lambda state: transitions.delivery_failed(state, file, failure))
        _leave(life, task_id)
        return True
    task.ending = True
    return True


def c1_takes_the_end(life: Life, number: int) -> bool:
    ending = [(task_id, task) for task_id, task in life.tasks.items() if task.ending]
    if not ending:
        return False
    task_id, task = pick(tuple(ending), number)
    file = task.file
    assert file is not None
    del life.tasks[task_id]
    life.apply(lambda state: delivery_watched(transitions.delivered(state, task_id, file, life.now.wall), life.now))
    _delivered(life, task_id, file)
    return True


def _delivered(life: Life, task_id: TaskID, file: StagedSnapshot) -> None:
    before, counts = life.baseline, file.counts
    if before is not None:
        counts = replace(before, **{name: getattr(counts, name) for name in covered(file.scope)})
    life.delivered = (file.sync_id, counts, life.now.wall)
    record = life.state.records.last_delivery
    assert record is not None
    told = (record.task_id, record.sync_id, record.sha256, record.bytes, record.counts, record.time)
    what = (task_id, file.sync_id, file.sha256, file.size, counts, life.now.wall)
    promise(told == what, "the record of a delivery is of what left", (told, what))
