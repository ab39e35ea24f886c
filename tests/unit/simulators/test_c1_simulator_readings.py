"""Which answers to a grant or a revoke the simulated C1 refuses, and what it says of them."""

from collections.abc import Callable

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import StatusCode

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2 as v2
from simulators.c1.access import Book, Form
from simulators.c1.limits import Refused
from simulators.c1.probe import probe
from simulators.c1.readings import Effect, read_answer
from simulators.c1.server import C1Simulator
from unit.simulators.c1_changes import failure, grant_answer, packed, revoke_answer, success
from unit.simulators.c1_uploads import refusal

MADE_UP = Form(known=False)
MEMBER = "team:t1:member:user:u1"
SIBLINGS = {"team:t1:maintainer"}
Finish = pb.BatonServiceFinishTaskRequest
Response = v2.GrantManagerServiceGrantResponse


def granting() -> pb.Task:
    options = Book().grant_options("t1", "member", "u1", MADE_UP)
    return pb.Task(id="t", grant=pb.Task.GrantTask(**options))


def revoking() -> pb.Task:
    options = Book().revoke_options("t1", "member", "u1", MADE_UP)
    return pb.Task(id="t", revoke=pb.Task.RevokeTask(**options))


def altered(alter: Callable[[v2.Grant], object]) -> Finish:
    """A grant's answer whose grant is altered."""
    response = Response()
    response.MergeFromString(grant_answer("h", granting()).success.response.value)
    alter(response.grants[0])
    return success("h", granting(), response)


def told(*annotations: object) -> Finish:
    return grant_answer("h", granting(), *annotations)


def replaced(grant_id: str) -> v2.GrantReplaced:
    return v2.GrantReplaced(replaced_grant_id=grant_id)


def with_(finish: Finish, alter: Callable[[Finish], object]) -> Finish:
    alter(finish)
    return finish


def wrong_value(finish: Finish) -> None:
    finish.success.response.value = b"\xff"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Finish(success=Finish.Success()), "success.response: expected the answer"),
        (Finish(success=Finish.Success(response=Any())), "type_url: expected type.googleapis.com/c1.connector.v2.Gr"),
        (revoke_answer("h", revoking()), "GrantManagerServiceGrantResponse, got"),
        (with_(told(), wrong_value), "value: is no c1.connector.v2.GrantManagerServiceGrantResponse"),
        (altered(lambda grant: grant.ClearField("id")), f"grants[0].id: expected '{MEMBER}', got ''"),
        (altered(lambda grant: setattr(grant, "id", "t1:u1")), f"grants[0].id: expected '{MEMBER}'"),
        (altered(lambda grant: setattr(grant.entitlement, "id", "x")), "grants[0].entitlement.id: expected"),
        (altered(lambda grant: grant.entitlement.ClearField("resource")), "grants[0].entitlement.resource.id"),
        (altered(lambda grant: grant.principal.ClearField("id")), "grants[0].principal.id: expected"),
        (success("h", granting(), Response(grants=[v2.Grant(), v2.Grant()])), "grants[0].id"),
        (told(v2.GrantAlreadyRevoked()), "has no place in the answer to a grant"),
        (told(v2.UserTrait()), "has no place in the answer to a grant"),
        (told(replaced("")), "GrantReplaced.replaced_grant_id: expected team:t1:maintainer:user:u1, got ''"),
        (told(replaced(MEMBER)), f"got '{MEMBER}'"),
        (told(replaced("team:t1:maintainer:user:u2")), "GrantReplaced.replaced_grant_id: expected"),
        (told(v2.GrantAlreadyExists(), replaced("team:t1:maintainer:user:u1")), "contradict one another"),
        (
            with_(told(v2.GrantAlreadyExists()), lambda each: each.success.ClearField("annotations")),
            "success.annotations: expected those of the response",
        ),
    ],
)
def test_a_grants_answer_that_c1_cannot_read_is_refused(answer: Finish, says: str) -> None:
    with pytest.raises(Refused) as caught:
        read_answer(granting(), answer, SIBLINGS)
    assert says in caught.value.message
    assert (caught.value.code, caught.value.violation) == (StatusCode.INVALID_ARGUMENT, True)


def test_one_grant_answers_one_task() -> None:
    twice = Response()
    twice.MergeFromString(told().success.response.value)
    twice.grants.append(twice.grants[0])
    with pytest.raises(Refused, match="expected the one that was asked for, got 2"):
        read_answer(granting(), success("h", granting(), twice))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Finish(success=Finish.Success()), "success.response: expected the answer"),
        (told(), "GrantManagerServiceRevokeResponse, got"),
        (revoke_answer("h", revoking(), v2.GrantAlreadyExists()), "has no place in the answer to a revoke"),
        (revoke_answer("h", revoking(), replaced(MEMBER)), "has no place in the answer to a revoke"),
    ],
)
def test_a_revokes_answer_that_c1_cannot_read_is_refused(answer: Finish, says: str) -> None:
    with pytest.raises(Refused) as caught:
        read_answer(revoking(), answer, SIBLINGS)
    assert says in caught.value.message


def second_info(finish: Finish) -> None:
    finish.status.details.add().CopyFrom(packed(ErrorInfo(reason="PolicyRefused", domain="connectors.c1.ai")))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (failure("h", granting(), reason="no", domain="connectors.c1.ai"), "expected domain"),
        (failure("h", granting(), reason="no", code=7), "expected 9, got 7"),
        (failure("h", granting(), reason=""), "expected a reason in metadata"),
        (with_(failure("h", granting(), reason="no"), second_info), "expected one ErrorInfo, got 2"),
    ],
)
def test_a_cancellation_that_c1_would_not_know_as_one_is_refused(answer: Finish, says: str) -> None:
    with pytest.raises(Refused) as caught:
        read_answer(granting(), answer)
    assert says in caught.value.message


async def test_a_refused_answer_leaves_the_task_open_and_is_a_violation() -> None:
    async with C1Simulator() as sim, probe(sim) as host:
        await host.hello()
        request = sim.request("grant", "t1", "member", "u1", form=MADE_UP)
        task = (await host.get_task()).task
        empty = Finish(host_id=host.host_id, task_id=task.id, success=Finish.Success())
        assert "success.response" in await refusal(host.call("FinishTask", empty))
        assert sim.violations == [
            f"FinishTask by {host.host_id}: success.response: expected the answer to the change, got none"
        ]
        await host.call("FinishTask", grant_answer(host.host_id, task))
        assert (await sim.ended(request)).effect is Effect.DONE
