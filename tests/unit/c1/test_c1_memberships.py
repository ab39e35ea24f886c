import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from buildkite_connector.c1.hello import hello_request
from buildkite_connector.c1.messages import finish_request, poll_from
from buildkite_connector.c1z.messages import GrantSerializer, team_messages
from buildkite_connector.model.directory import AccountID, Membership, ResourceKind, Role, Team, TeamID
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import GrantAnswer, MembershipTask, RevokeAnswer, TaskID, TaskOutcome
from buildkite_connector.proto import baton_pb2, connector_pb2
from buildkite_connector.proto.connector_pb2 import Entitlement, Grant, Resource, ResourceId
from buildkite_connector.tasks.outcomes import OFF, refused_by_policy

ID = TaskID("2ABCdefGHIjklMNOpqrSTUvwxYZ")
WANTED = Membership(TeamID("t-1"), AccountID("u-1"), Role.MAINTAINER)
PLACEHOLDER = "🧸_UNKNOWN_GRANT_ID"


def entitlement(id_: str = "team:t-1:maintainer", slug: str = "maintainer", kind: str = "team") -> Entitlement:
    team = Resource(id=ResourceId(resource_type=kind, resource="t-1"), display_name="Platform")
    return Entitlement(resource=team, id=id_, slug=slug)


def person(id_: str = "u-1", kind: str = "user") -> Resource:
    return Resource(id=ResourceId(resource_type=kind, resource=id_), display_name="Ada")


def task_of(message: baton_pb2.Task) -> MembershipTask:
    task = poll_from(baton_pb2.BatonServiceGetTaskResponse(task=message), Redactor(["bkua_secret"])).task
    assert isinstance(task, MembershipTask)
    return task


def grant_of(role: Entitlement, principal: Resource) -> MembershipTask:
    return task_of(baton_pb2.Task(id=ID, grant=baton_pb2.Task.GrantTask(entitlement=role, principal=principal)))


def test_a_grant_names_team_role_and_person() -> None:
    assert grant_of(entitlement(), person()) == MembershipTask(ID, True, WANTED, "Platform", "Ada")


@pytest.mark.parametrize(("id_", "slug"), [("team:t-1:maintainer", ""), ("", "maintainer")])
def test_the_role_is_found_by_the_entitlements_id_or_its_slug(id_: str, slug: str) -> None:
    assert grant_of(entitlement(id_, slug), person()).membership == WANTED


UUID = "5f0a9d5e-6f0e-4a51-9a55-0c3f1f6f7a11"


@pytest.mark.parametrize("form", [UUID, UUID.upper(), f"{{{UUID}}}", f"urn:uuid:{UUID.upper()}", UUID.replace("-", "")])
@pytest.mark.parametrize("in_id", [UUID, UUID.upper(), f"{{{UUID}}}"])
def test_a_uuid_in_any_form_is_the_one_that_buildkite_writes(form: str, in_id: str) -> None:
    role = entitlement(f"team:{in_id}:maintainer", "")
    role.resource.id.resource = form
    expected = Membership(TeamID(UUID), AccountID(UUID), Role.MAINTAINER)
    assert grant_of(role, person(form)).membership == expected


def test_a_revoke_is_read_without_its_grants_id() -> None:
    grant = Grant(id=PLACEHOLDER, entitlement=entitlement(slug=""), principal=person())
    task = task_of(baton_pb2.Task(id=ID, revoke=baton_pb2.Task.RevokeTask(grant=grant)))

    assert task == MembershipTask(ID, False, WANTED, "Platform", "Ada")


@pytest.mark.parametrize(
    ("role", "principal"),
    [
        (entitlement("team:t-2:maintainer"), person()),
        (entitlement("team:t-1:owner", ""), person()),
        (entitlement("team:t-1:member", "maintainer"), person()),
        (entitlement("", ""), person()),
        (entitlement(kind="user"), person()),
        (Entitlement(), person()),
        (entitlement(), person(kind="team")),
        (entitlement(), person("")),
        (entitlement(), person("../../access-token")),
        (entitlement(), person("bkua_secret/")),
        (entitlement(), Resource()),
    ],
)
def test_a_task_that_cannot_be_read_says_what_is_wrong(role: Entitlement, principal: Resource) -> None:
    task = grant_of(role, principal)

    assert task.membership is None
    assert task.refusal.startswith("The task's ")
    assert "secret" not in task.refusal


def test_the_answer_to_a_grant_has_the_id_that_a_snapshot_gives_it() -> None:
    finish = finish_request("host", ID, TaskOutcome(answer=GrantAnswer(WANTED)))
    response = connector_pb2.GrantManagerServiceGrantResponse()
    team = Team(WANTED.team, "Platform", "platform", "", "visible", False, "")
    role = team_messages(team).entitlements[WANTED.role]
    in_snapshot, _ = GrantSerializer(ResourceKind.USER).serialize(role, WANTED.account)

    assert finish.success.response.Unpack(response)
    assert [grant.id for grant in response.grants] == [in_snapshot] == ["team:t-1:maintainer:user:u-1"]
    assert response.grants[0].entitlement.id == "team:t-1:maintainer"
    assert (response.grants[0].entitlement.resource.id.resource, response.grants[0].principal.id.resource) == (
        "t-1",
        "u-1",
    )
    assert not finish.success.annotations


def test_annotations_stand_in_the_response_and_in_the_tasks_end() -> None:
    replaced = GrantAnswer(WANTED, replaced=Membership(WANTED.team, WANTED.account, Role.MEMBER))
    for answer, expected in (
        (GrantAnswer(WANTED, already=True), connector_pb2.GrantAlreadyExists()),
        (replaced, connector_pb2.GrantReplaced(replaced_grant_id="team:t-1:member:user:u-1")),
        (RevokeAnswer(already=True), connector_pb2.GrantAlreadyRevoked()),
    ):
        finish = finish_request("host", ID, TaskOutcome(answer=answer))
        found = type(expected)()
        response = (
            connector_pb2.GrantManagerServiceRevokeResponse()
            if isinstance(answer, RevokeAnswer)
            else connector_pb2.GrantManagerServiceGrantResponse()
        )

        assert finish.success.response.Unpack(response)
        assert list(response.annotations) == list(finish.success.annotations)
        assert len(finish.success.annotations) == 1
        assert finish.success.annotations[0].Unpack(found)
        assert found == expected


def test_a_refusal_by_policy_cancels_the_request_in_c1() -> None:
    finish = finish_request("host", ID, refused_by_policy("The team ops is protected."))
    [detail], info = finish.status.details, ErrorInfo()

    assert (finish.status.code, finish.error.non_retryable) == (9, True)
    assert detail.Unpack(info)
    assert (info.reason, info.domain) == ("grant_cancelled", "github.com/conductorone/baton-sdk")
    assert dict(info.metadata) == {"reason": "The team ops is protected."}


def test_while_off_the_answer_says_how_to_enable_it() -> None:
    finish = finish_request("host", ID, OFF)

    assert (finish.status.code, finish.error.non_retryable) == (9, True)
    assert "spec.provisioning.enabled: true" in finish.status.message
    assert "--provisioning" in finish.status.message


def test_c1_is_told_that_teams_are_provisioned_only_while_they_are() -> None:
    on = hello_request("host", provisions=True).connector_metadata.capabilities
    off = hello_request("host").connector_metadata.capabilities

    assert [list(each.capabilities) for each in on.resource_type_capabilities] == [[2], [1, 2], [2], [2], [2], [2]]
    assert list(on.connector_capabilities) == [1, 2]
    assert list(off.connector_capabilities) == [2]
