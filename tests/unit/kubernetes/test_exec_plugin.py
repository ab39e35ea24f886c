"""Credentials from a program that the kubeconfig names, as client-go runs it; nothing that it says is shown."""

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from buildkite_connector.kubernetes.access import AccessError
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.exec_plugin import API_VERSIONS, Exec, run_plugin
from buildkite_connector.model.failure import Failure
from buildkite_connector.network import parse_trust
from unit.kubernetes.recording_server import (
    EXEC_EXTENSIONS,
    TOKEN,
    Kubeconfig,
    ask,
    plugin,
    runs,
    with_plugin,
)


def exec_credential(status: Mapping[str, Any] | None) -> str:
    """A shell command that prints it."""
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"echo '{json.dumps(credential)}'"


async def test_it_is_told_what_client_go_tells_it(kubeconfig: Kubeconfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILE", "of the operator")
    changes = {"args": ["--one", "two"], "env": [{"name": "PROFILE", "value": "dev"}]}
    made = plugin(kubeconfig, {"token": "of-the-plugin"}, **changes)
    kubeconfig.write(user={"token": None, "exec": made})
    await KubeconfigLogin(str(kubeconfig.path)).load()
    [run] = runs(kubeconfig)
    assert (run["arguments"], run["PROFILE"]) == (["--one", "two"], "dev")
    assert run["PATH"] is not None
    assert json.loads(run["KUBERNETES_EXEC_INFO"]) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }


async def test_it_is_told_of_the_cluster_where_it_wants_to_know(kubeconfig: Kubeconfig) -> None:
    made = plugin(kubeconfig, {"token": "of-the-plugin"}, provideClusterInfo=True)
    kubeconfig.write(
        {"extensions": EXEC_EXTENSIONS, "tls-server-name": "api.test", "disable-compression": True},
        {"token": None, "exec": made},
    )
    await KubeconfigLogin(str(kubeconfig.path)).load()
    told = json.loads(runs(kubeconfig)[0]["KUBERNETES_EXEC_INFO"])["spec"]["cluster"]
    authority = base64.b64decode(told.pop("certificate-authority-data"))
    assert parse_trust(authority) == parse_trust(kubeconfig.server.authority)
    assert told == {
        "server": kubeconfig.server.url,
        "tls-server-name": "api.test",
        "disable-compression": True,
        "config": {"audience": "a"},
    }


async def test_it_may_give_a_client_certificate(kubeconfig: Kubeconfig) -> None:
    certificate, key = kubeconfig.server.client("alice")
    status = {"clientCertificateData": certificate.decode(), "clientKeyData": key.decode()}
    with_plugin(status)(kubeconfig)
    seen = await ask(KubeconfigLogin(str(kubeconfig.path)), kubeconfig.server)
    assert [(each.client, each.all("authorization")) for each in seen] == [("alice", [])] * 2


async def test_it_is_told_of_an_unquoted_date_as_text_as_kubectl_has_it(kubeconfig: Kubeconfig) -> None:
    made = plugin(kubeconfig, {"token": "of-the-plugin"}, provideClusterInfo=True)
    kubeconfig.write({"extensions": EXEC_EXTENSIONS}, {"token": None, "exec": made})
    kubeconfig.path.write_text(kubeconfig.path.read_text().replace("audience: a", "audience: 2026-11-28"))
    await KubeconfigLogin(str(kubeconfig.path)).load()
    [run] = runs(kubeconfig)
    assert json.loads(run["KUBERNETES_EXEC_INFO"])["spec"]["cluster"]["config"] == {"audience": "2026-11-28"}


@pytest.mark.parametrize("value", ["!!binary aHVudGVyMg==", "!!set {hunter2}", ".nan", "&a [*a]"])
async def test_an_extension_that_is_no_json_is_refused_by_its_name(kubeconfig: Kubeconfig, value: str) -> None:
    made = plugin(kubeconfig, {"token": "of-the-plugin"}, provideClusterInfo=True)
    kubeconfig.write({"extensions": EXEC_EXTENSIONS}, {"token": None, "exec": made})
    kubeconfig.path.write_text(kubeconfig.path.read_text().replace("audience: a", f"audience: {value}"))
    with pytest.raises(
        Failure, match=r"cluster 'c': extensions: client\.authentication\.k8s\.io/exec contains"
    ) as caught:
        await KubeconfigLogin(str(kubeconfig.path)).load()
    assert "hunter2" not in caught.value.message


async def test_null_is_a_field_that_is_not_there(kubeconfig: Kubeconfig) -> None:
    expires = (datetime.now(UTC) + timedelta(seconds=3600)).isoformat()
    others = {"clientCertificateData": None, "clientKeyData": None}
    with_plugin({"token": "of-the-plugin", "expirationTimestamp": expires, **others})(kubeconfig)
    assert (await KubeconfigLogin(str(kubeconfig.path)).load()).secrets == ("of-the-plugin",)
    certificate, key = (each.decode() for each in kubeconfig.server.client("alice"))
    with_plugin(
        {"token": None, "expirationTimestamp": None, "clientCertificateData": certificate, "clientKeyData": key}
    )(kubeconfig)
    assert (await KubeconfigLogin(str(kubeconfig.path)).load()).secrets == ()


@pytest.mark.parametrize("other", [{"token": TOKEN}, {"username": "me", "password": "word"}])
async def test_it_is_not_run_where_there_is_another_login(kubeconfig: Kubeconfig, other: dict[str, str]) -> None:
    made = plugin(kubeconfig, {"token": "of-the-plugin"})
    kubeconfig.write(user={"token": None, "exec": made, **other})
    await KubeconfigLogin(str(kubeconfig.path)).load()
    assert not (kubeconfig.folder / "runs").exists()


async def test_a_name_without_a_slash_is_sought_in_path(
    kubeconfig: Kubeconfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_plugin(command="plugin")(kubeconfig)
    login = KubeconfigLogin(str(kubeconfig.path))
    with pytest.raises(Failure, match="exec: the command 'plugin' was not found"):
        await login.load()
    monkeypatch.setenv("PATH", str(kubeconfig.folder), prepend=":")
    assert (await login.load()).secrets == ("of-the-plugin",)


async def test_what_it_gives_is_renewed_before_it_expires(kubeconfig: Kubeconfig) -> None:
    for life, renewed in ((3600, pytest.approx(3240, abs=60)), (-5, 1.0)):
        expires = (datetime.now(UTC) + timedelta(seconds=life)).isoformat()
        with_plugin({"token": "of-the-plugin", "expirationTimestamp": expires})(kubeconfig)
        assert (await KubeconfigLogin(str(kubeconfig.path)).load()).renew_after == renewed


@pytest.mark.parametrize(
    ("script", "refused"),
    [
        ("echo hunter2 >&2; echo hunter2; exit 3", "ended with exit code 3; its output is not shown"),
        ("kill -9 $$", "ended with exit code -9"),
        ("echo hunter2", "did not print an ExecCredential as JSON"),
        ("true", "did not print an ExecCredential as JSON"),
        ("head -c 2000000 /dev/zero", "printed more than 1048576 bytes"),
        ("""echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "Secret"}'""", "did not print an Exec"),
        ("""echo '{"apiVersion": "v1beta1", "kind": "ExecCredential"}'""", "of client.authentication.k8s.io/v1,"),
        (exec_credential({}), "returned neither a token nor a client certificate"),
        (exec_credential(None), "returned neither a token nor a client certificate"),
        (exec_credential({"token": None}), "returned neither a token nor a client certificate"),
        ("""echo '{"apiVersion": null, "kind": null}'""", "did not print an ExecCredential of client"),
        (exec_credential({"clientKeyData": "hunter2"}), "returned only one of client certificate and key"),
        (exec_credential({"clientKeyData": "hunter2", "clientCertificateData": "hunter2"}), "do not match"),
        (exec_credential({"token": ["hunter2"]}), "did not print an ExecCredential as JSON"),
        (exec_credential({"token": "hunter2\\nx"}), "the token that the command returned contains a line break"),
        (exec_credential({"token": "hunter2", "expirationTimestamp": "soon"}), "did not print an ExecCredential"),
    ],
)
async def test_a_program_that_fails_is_named_and_nothing_that_it_said_is_shown(
    kubeconfig: Kubeconfig, script: str, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_plugin()(kubeconfig)
    (kubeconfig.folder / "plugin").write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(Failure, match=refused) as caught:
        await KubeconfigLogin(str(kubeconfig.path)).load()
    assert "exec: the" in caught.value.message or "client key" in caught.value.message
    assert "hunter2" not in caught.value.message + caplog.text


@pytest.mark.parametrize("mode", [0o644, 0o755])
async def test_a_file_that_is_no_program_is_named(kubeconfig: Kubeconfig, mode: int) -> None:
    with_plugin()(kubeconfig)
    (kubeconfig.folder / "plugin").write_text("hunter2")
    (kubeconfig.folder / "plugin").chmod(mode)
    with pytest.raises(Failure, match=r"exec: the command '.*/plugin' cannot be run"):
        await KubeconfigLogin(str(kubeconfig.path)).load()


async def test_one_that_does_not_end_is_ended_with_what_it_started(kubeconfig: Kubeconfig) -> None:
    with_plugin()(kubeconfig)
    fifo = kubeconfig.folder / "fifo"
    os.mkfifo(fifo)
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    (kubeconfig.folder / "plugin").write_text(f"#!/bin/sh\nsleep 600 > {fifo} & wait\n")
    never_ending = Exec(command=str(kubeconfig.folder / "plugin"), apiVersion=API_VERSIONS[0])
    with pytest.raises(AccessError, match=r"did not end within 0\.5 s"):
        await run_plugin(never_ending, None, run_seconds=0.5)
    async with asyncio.timeout(10.0):
        assert await reader.read() == b""  # which comes when nobody has it open for writing any more
    transport.close()
