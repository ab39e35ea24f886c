import platform
import socket
from collections.abc import Iterator

import pytest

from buildkite_connector import __version__
from buildkite_connector.c1 import hello
from buildkite_connector.c1.hello import hello_request
from buildkite_connector.proto import baton_pb2, connector_pb2

ODDITIES = ["", "é" * 400, "bad-\udce9-bytes" * 40]


@pytest.fixture(autouse=True)
def _fresh_machine() -> Iterator[None]:
    hello._os_info.cache_clear()
    yield
    hello._os_info.cache_clear()


def texts(message: object, fields: Iterator[str]) -> list[str]:
    return [getattr(message, name) for name in fields]


def os_info_of(request: baton_pb2.BatonServiceHelloRequest) -> list[str]:
    names = (field.name for field in baton_pb2.BatonServiceHelloRequest.OSInfo.DESCRIPTOR.fields)
    return texts(request.os_info, names)


def test_the_host_and_the_task_that_is_answered_are_named() -> None:
    assert hello_request("acme.connectors").task_id == ""
    assert hello_request("acme.connectors", "2ABCdefGHIjklMNOpqrSTUvwxYZ").task_id.startswith("2ABC")
    assert hello_request("acme.connectors").host_id == "acme.connectors"


def test_every_field_of_the_machine_is_filled() -> None:
    assert len(os_info_of(hello_request("host"))) == 8
    assert all(os_info_of(hello_request("host")))


@pytest.mark.parametrize("oddity", ODDITIES, ids=["nothing known", "long", "not UTF-8"])
def test_whatever_the_machine_calls_itself_stays_within_the_limits(
    oddity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: oddity)
    for name in ("release", "machine", "python_version"):
        monkeypatch.setattr(platform, name, lambda: oddity)
    monkeypatch.setattr(
        platform, "freedesktop_os_release", lambda: {"ID": oddity, "VERSION_ID": oddity, "ID_LIKE": oddity}
    )
    request = hello_request("host")

    for value in os_info_of(request):
        assert 1 <= len(value) <= 256
    assert 1 <= len(request.build_info.lang_version) <= 256
    assert baton_pb2.BatonServiceHelloRequest.FromString(request.SerializeToString()) == request


def test_a_machine_without_an_os_release_file_is_described_by_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> dict[str, str]:
        raise FileNotFoundError

    monkeypatch.setattr(platform, "freedesktop_os_release", missing)

    assert all(os_info_of(hello_request("host")))


def test_the_build_is_named_by_package_and_version() -> None:
    build = hello_request("host").build_info

    assert (build.package, build.package_version) == ("buildkite-connector", __version__)
    assert build.lang_version.startswith("python3.")


def test_the_connector_says_that_it_syncs_six_types_and_nothing_more() -> None:
    metadata = hello_request("host").connector_metadata
    sync = connector_pb2.CAPABILITY_SYNC

    assert metadata.display_name == "Buildkite"
    assert metadata.help_url.startswith("https://")
    assert 1 <= len(metadata.description.encode()) <= 4096
    assert [
        (kind.resource_type.id, list(kind.resource_type.traits), list(kind.capabilities))
        for kind in metadata.capabilities.resource_type_capabilities
    ] == [
        ("user", [connector_pb2.ResourceType.TRAIT_USER], [sync]),
        ("team", [connector_pb2.ResourceType.TRAIT_GROUP], [sync]),
        ("organization", [], [sync]),
        ("pipeline", [], [sync]),
        ("cluster", [], [sync]),
        ("api_token", [connector_pb2.ResourceType.TRAIT_SECRET], [sync]),
    ]
    assert list(metadata.capabilities.connector_capabilities) == [sync]


def announced(provisions: bool = False) -> dict[str, connector_pb2.ResourceTypeCapability]:
    metadata = hello_request("host", provisions=provisions).connector_metadata
    return {each.resource_type.id: each for each in metadata.capabilities.resource_type_capabilities}


def test_users_and_teams_are_announced_as_before() -> None:
    plain = connector_pb2.ResourceTypeCapability(
        resource_type=connector_pb2.ResourceType(
            id="team", display_name="Team", traits=[connector_pb2.ResourceType.TRAIT_GROUP]
        ),
        capabilities=[connector_pb2.CAPABILITY_SYNC],
    )
    assert announced()["team"] == plain
    plain.resource_type.CopyFrom(
        connector_pb2.ResourceType(id="user", display_name="User", traits=[connector_pb2.ResourceType.TRAIT_USER])
    )
    assert announced()["user"] == plain


@pytest.mark.parametrize("provisions", [False, True])
def test_api_tokens_are_opt_in_without_a_scope_and_have_neither_entitlements_nor_grants(provisions: bool) -> None:
    found = announced(provisions)["api_token"]
    assert list(found.capabilities) == [connector_pb2.CAPABILITY_SYNC]
    assert found.opt_in_required
    assert not found.permissions.permissions
    assert found.resource_type.display_name == "API Token"
    assert 1 <= len(found.resource_type.description) <= 4096
    annotated = [(each.type_url.rpartition(".")[2], each.value) for each in found.resource_type.annotations]
    assert annotated == [("OptInRequired", b""), ("SkipEntitlementsAndGrants", b"")]


@pytest.mark.parametrize(
    ("kind", "scopes"),
    [
        ("organization", ["read_organizations"]),
        ("pipeline", ["read_pipelines", "read_teams"]),
        ("cluster", ["read_clusters", "read_teams"]),
    ],
)
@pytest.mark.parametrize("provisions", [False, True])
def test_the_other_types_are_opt_in_and_name_the_scopes_that_they_need(
    kind: str, scopes: list[str], provisions: bool
) -> None:
    found = announced(provisions)[kind]
    needed = connector_pb2.CapabilityPermissions(
        permissions=[connector_pb2.CapabilityPermission(permission=scope) for scope in scopes]
    )
    assert list(found.capabilities) == [connector_pb2.CAPABILITY_SYNC], "nothing of it is granted by this connector"
    assert found.opt_in_required
    assert found.permissions == needed
    assert found.resource_type.display_name == kind.capitalize()
    assert 1 <= len(found.resource_type.description) <= 4096
    opt_in, annotated = found.resource_type.annotations
    assert opt_in.type_url == "type.googleapis.com/c1.connector.v2.OptInRequired"
    assert opt_in.value == b""
    assert annotated.type_url == "type.googleapis.com/c1.connector.v2.CapabilityPermissions"
    assert connector_pb2.CapabilityPermissions.FromString(annotated.value) == needed
