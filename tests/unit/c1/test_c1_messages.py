import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from buildkite_connector.c1.messages import finish_request, heartbeat_from, poll_from
from buildkite_connector.model.directory import ALL_KINDS, DEFAULT_KINDS, ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import Code, HelloTask, SyncTask, Task, TaskID, TaskOutcome, UnsupportedTask
from buildkite_connector.proto import baton_pb2
from buildkite_connector.tasks.outcomes import outcome_of

ID = TaskID("2ABCdefGHIjklMNOpqrSTUvwxYZ")
TEAM, PIPELINE = ResourceKind.TEAM, ResourceKind.PIPELINE
ANSWERED = {"none", "hello", "sync_full", "grant", "revoke"}
OTHER_KINDS = [
    field.name for field in baton_pb2.Task.DESCRIPTOR.oneofs_by_name["task_type"].fields if field.name not in ANSWERED
]


def task_of(message: baton_pb2.Task) -> Task | None:
    return poll_from(baton_pb2.BatonServiceGetTaskResponse(task=message), Redactor()).task


def sync_task(**options: object) -> SyncTask:
    message = baton_pb2.Task(id=ID, sync_full=baton_pb2.Task.SyncFullTask(**options))  # type: ignore[arg-type]
    task = task_of(message)
    assert isinstance(task, SyncTask)
    return task


def test_a_task_whose_id_repeats_a_credential_is_left_alone() -> None:
    message = baton_pb2.Task(id="abcdefghijklmnopqrstuvwxyz0", sync_full=baton_pb2.Task.SyncFullTask())
    with pytest.raises(Failure, match=r"but '\[redacted\]uvwxyz0'"):
        poll_from(baton_pb2.BatonServiceGetTaskResponse(task=message), Redactor(["0-abcdefghijklmnopqrst-0"]))


def test_a_plain_sync_task_asks_for_everything_and_for_expanded_grants() -> None:
    assert sync_task() == SyncTask(ID, SyncScope(ALL_KINDS, expanded=True))


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        ({"skip_grants": True}, SyncScope(ALL_KINDS, grants=False)),
        ({"skip_entitlements_and_grants": True}, SyncScope(ALL_KINDS, entitlements=False, grants=False)),
        (
            {"skip_entitlements_and_grants": True, "skip_grants": True},
            SyncScope(ALL_KINDS, entitlements=False, grants=False),
        ),
        ({"sync_resource_type_ids": ["user"]}, SyncScope(kinds=frozenset({ResourceKind.USER}))),
        ({"sync_resource_type_ids": ["team", "user", "team"]}, SyncScope(kinds=DEFAULT_KINDS)),
        ({"sync_resource_type_ids": ["team", "pipeline"]}, SyncScope(frozenset({TEAM, PIPELINE}))),
        (
            {"sync_resource_type_ids": ["user", "team", "pipeline"]},
            SyncScope(DEFAULT_KINDS | {PIPELINE}, expanded=True),
        ),
        ({"sync_resource_type_ids": sorted(ALL_KINDS), "skip_expand_grants": True}, SyncScope(ALL_KINDS)),
        ({"skip_expand_grants": True}, SyncScope(ALL_KINDS)),
    ],
)
def test_a_sync_tasks_options_become_its_scope(options: dict[str, object], scope: SyncScope) -> None:
    task = sync_task(**options)

    assert task.scope == scope
    assert task.refusal == ""


def test_the_wish_for_a_storage_engine_is_passed_on() -> None:
    assert sync_task(storage_engine="pebble").storage_engine == "pebble"


@pytest.mark.parametrize("known", [[], ["user"]], ids=["alone", "beside a known one"])
def test_an_unknown_resource_type_is_refused_by_name_as_by_the_reference_connector(known: list[str]) -> None:
    refusal = sync_task(sync_resource_type_ids=[*known, "ro\nle"]).refusal

    assert "(ro le)" in refusal
    assert "it has api_token, cluster, organization, pipeline, team and user." in refusal


def test_many_unknown_resource_types_still_give_a_short_refusal() -> None:
    assert len(sync_task(sync_resource_type_ids=[f"kind-{n}" for n in range(10_000)]).refusal) < 600


def test_more_resource_types_than_there_can_be_are_refused_by_their_number() -> None:
    task = sync_task(sync_resource_type_ids=["user"] * 101)

    assert "asks for 101 resource types" in task.refusal
    assert sync_task(sync_resource_type_ids=["user"] * 100).refusal == ""


def test_what_a_task_says_is_shown_without_credentials() -> None:
    redactor = Redactor(["t0ps3cret-token"])
    message = baton_pb2.Task(id="t0ps3cret-token", hello=baton_pb2.Task.HelloTask())
    with pytest.raises(Failure) as caught:
        poll_from(baton_pb2.BatonServiceGetTaskResponse(task=message), redactor)
    options = baton_pb2.Task.SyncFullTask(sync_resource_type_ids=["t0ps3cret-token"], storage_engine="t0ps3cret-token")
    poll = poll_from(baton_pb2.BatonServiceGetTaskResponse(task=baton_pb2.Task(id=ID, sync_full=options)), redactor)

    assert isinstance(poll.task, SyncTask)
    for shown in (caught.value.message, poll.task.refusal, poll.task.storage_engine):
        assert "[redacted]" in shown
        assert "t0ps3cret" not in shown


def test_a_long_storage_engine_is_cut() -> None:
    assert len(sync_task(storage_engine="p" * 100_000).storage_engine) == 40


def test_a_task_for_single_resources_is_refused() -> None:
    message = baton_pb2.Task(id=ID)
    message.sync_full.targeted_sync_resources.add(display_name="one")
    task = task_of(message)

    assert isinstance(task, SyncTask)
    assert "targeted_sync_resources" in task.refusal


def test_a_hello_task_is_told_apart() -> None:
    assert task_of(baton_pb2.Task(id=ID, hello=baton_pb2.Task.HelloTask())) == HelloTask(ID)


def test_a_none_task_is_no_task() -> None:
    assert task_of(baton_pb2.Task(none=baton_pb2.Task.NoneTask())) is None


def test_an_answer_without_a_task_is_no_task() -> None:
    assert poll_from(baton_pb2.BatonServiceGetTaskResponse(), Redactor()).task is None


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_any_other_task_is_named_by_its_field_in_the_contract(kind: str) -> None:
    message = baton_pb2.Task(id=ID)
    getattr(message, kind).SetInParent()

    assert task_of(message) == UnsupportedTask(ID, kind)


def test_a_task_of_a_kind_that_is_newer_than_the_contract_is_unsupported() -> None:
    field_999_empty = bytes([0xBA, 0x3E, 0x00])
    message = baton_pb2.Task.FromString(baton_pb2.Task(id=ID).SerializeToString() + field_999_empty)

    assert task_of(message) == UnsupportedTask(ID, "unknown")


@pytest.mark.parametrize("task_id", ["", "short", "2ABCdefGHIjklMNOpqrSTUvwx-Z", f"{ID}\n", f"{ID}x"])
def test_a_task_id_that_is_not_27_letters_and_digits_breaks_the_protocol(task_id: str) -> None:
    with pytest.raises(Failure) as caught:
        task_of(baton_pb2.Task(id=task_id, hello=baton_pb2.Task.HelloTask()))

    assert caught.value.reason is Reason.C1_UNAVAILABLE
    assert caught.value.remedy is Remedy.RETRY
    assert "27 letters and digits" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("said", "kept"),
    [(-5, 0), (0, 0), (0.25, 0.25), (300, 300), (301, 300), (10**11, 300)],
)
def test_the_next_poll_is_clamped_to_five_minutes(said: float, kept: float) -> None:
    assert poll_from(baton_pb2.BatonServiceGetTaskResponse(next_poll=duration(said)), Redactor()).next_poll == kept


@pytest.mark.parametrize(
    ("said", "kept"),
    [(-5, 1), (0, 30), (0.25, 1), (1, 1), (45.5, 45.5), (300, 300), (3600, 300)],
)
def test_the_next_heartbeat_is_clamped_to_one_second_and_five_minutes(said: float, kept: float) -> None:
    heartbeat = heartbeat_from(baton_pb2.BatonServiceHeartbeatResponse(next_heartbeat=duration(said)), ID)

    assert heartbeat.next_heartbeat == kept


@pytest.mark.parametrize(
    ("response", "cancelled"),
    [
        (baton_pb2.BatonServiceHeartbeatResponse(), False),
        (baton_pb2.BatonServiceHeartbeatResponse(cancelled=True), True),
        (baton_pb2.BatonServiceHeartbeatResponse(cancelled_task_ids=[ID]), True),
        (baton_pb2.BatonServiceHeartbeatResponse(cancelled_task_ids=["another"]), False),
    ],
)
def test_a_cancelled_task_is_noticed_in_either_field(
    response: baton_pb2.BatonServiceHeartbeatResponse, cancelled: bool
) -> None:
    assert heartbeat_from(response, ID).cancelled is cancelled


def test_success_is_finished_without_a_status() -> None:
    request = finish_request("host", ID, TaskOutcome())

    assert request.WhichOneof("final_state") == "success"
    assert not request.HasField("status")
    assert (request.host_id, request.task_id) == ("host", ID)


def test_what_a_success_has_to_say_is_its_status_message() -> None:
    request = finish_request("host", ID, TaskOutcome(message="2 teams were deleted meanwhile"))

    assert request.WhichOneof("final_state") == "success"
    assert (request.status.code, request.status.message) == (0, "2 teams were deleted meanwhile")


@pytest.mark.parametrize("non_retryable", [True, False])
def test_a_failure_is_finished_with_its_code_message_and_whether_a_retry_can_help(
    non_retryable: bool,
) -> None:
    request = finish_request("host", ID, TaskOutcome(Code.UNIMPLEMENTED, "no grants", non_retryable))

    assert request.WhichOneof("final_state") == "error"
    assert request.error.non_retryable is non_retryable
    assert (request.status.code, request.status.message) == (12, "no grants")


def test_a_failure_without_words_still_says_which_it_is() -> None:
    assert finish_request("host", ID, TaskOutcome(Code.ABORTED)).status.message == "ABORTED"


def duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))


def test_a_failures_reason_and_its_wait_are_details_of_the_status() -> None:
    failure = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite asked for a pause.", retry_after=90.0)
    request = finish_request("host", ID, outcome_of(failure))
    info, retry = ErrorInfo(), RetryInfo()
    reason, wait = request.status.details
    assert reason.Unpack(info)
    assert wait.Unpack(retry)
    assert (info.reason, info.domain) == ("BuildkiteRateLimited", "connectors.c1.ai")
    assert retry.retry_delay.seconds == 90


def test_an_outcome_without_a_reason_has_no_details() -> None:
    assert not finish_request("host", ID, TaskOutcome(Code.ABORTED, "Stopping.")).status.details
