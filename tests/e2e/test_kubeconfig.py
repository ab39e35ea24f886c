"""Kubeconfigs on a real API server: who one is by each field, for both clients as for kubectl itself."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.connection import ApiError, ApiUnreachableError, Connection
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import SystemClock
from harness.cluster import Cluster
from harness.control_plane import ControlPlane
from harness.service_account import ServiceAccount
from simulators.forward_proxy import ForwardProxy

REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


class Files:
    """Kubeconfigs in one folder: the administrator's cluster and user, changed."""

    def __init__(self, plane: ControlPlane, account: ServiceAccount, folder: Path) -> None:
        self.plane, self.folder = plane, folder
        names = ("ca.crt", "admin.crt", "admin.key")
        authority, certificate, key = ((plane.directory / name).read_bytes() for name in names)
        self.token = yaml.safe_load(Path(account.login.path).read_text())["users"][0]["user"]["token"]
        self.cluster = {"server": plane.url, "certificate-authority-data": in_base64(authority)}
        self.admin = {"client-certificate-data": in_base64(certificate), "client-key-data": in_base64(key)}
        for name, content in zip(names, (authority, certificate, key), strict=True):
            (folder / name).write_bytes(content)
        (folder / "token").write_text(f"{self.token}\n\n")
        self._plugin("gives-token", {"token": self.token})
        self._plugin(
            "gives-certificate", {"clientCertificateData": certificate.decode(), "clientKeyData": key.decode()}
        )
        (folder / "fails").write_text("#!/bin/sh\nexit 1\n")
        (folder / "fails").chmod(0o755)

    def write(self, user: Mapping[str, Any], cluster: Mapping[str, Any] | None = None) -> str:
        path = self.folder / "config"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": self.cluster if cluster is None else cluster}],
            "users": [{"name": "u", "user": user}],
        }
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def write_user(self, user: Mapping[str, Any]) -> str:
        """A file with nothing but the user."""
        path = self.folder / "user"
        path.write_text(yaml.safe_dump({"users": [{"name": "u", "user": user}]}))
        return str(path)

    def _plugin(self, name: str, status: Mapping[str, Any]) -> None:
        credential = {"apiVersion": EXEC["apiVersion"], "kind": "ExecCredential", "status": status}
        (self.folder / name).write_text(f"#!{sys.executable} -I\nprint({json.dumps(credential)!r})\n")
        (self.folder / name).chmod(0o755)


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture
def files(control_plane: Cluster, account: ServiceAccount, tmp_path: Path) -> Files:
    if not isinstance(control_plane, ControlPlane):
        pytest.skip("an own API server is needed, whose administrator's key is known")
    return Files(control_plane, account, tmp_path)


def of_kubectl(files: Files, paths: str) -> Mapping[str, Any]:
    """`kubectl auth whoami`, with the same files."""
    home = str(files.folder)
    done = subprocess.run(  # noqa: S603 - the binary that find_assets found, no shell
        [files.plane.kubectl_program, "auth", "whoami", "-o", "json"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "HOME": home, "KUBECACHEDIR": home, "KUBECONFIG": paths},
    )
    return dict(json.loads(done.stdout)["status"]["userInfo"])


async def user_of(paths: str) -> Mapping[str, Any]:
    """Who the API server takes this kubeconfig's session for."""
    login = KubeconfigLogin(paths)
    access = await login.load()
    session = Connection(login, access)
    try:
        return await whoami(session, access.server)
    finally:
        await session.close()


async def whoami(session: Any, server: str) -> Mapping[str, Any]:
    url = f"{server}/apis/authentication.k8s.io/v1/selfsubjectreviews"
    response = await session.request("post", url, json=REVIEW)
    answer = await response.json()
    assert response.status == 201, answer
    return dict(answer["status"]["userInfo"])


EXTRA = {"acme.com/project": ["one", "two"], "scopes": ["view"]}

WORKS: Mapping[str, Callable[[Files], str]] = {
    "client certificate in the file": lambda files: files.write(files.admin),
    "client certificate in files": lambda files: files.write(
        {"client-certificate": "admin.crt", "client-key": "admin.key"},
        {"server": files.plane.url, "certificate-authority": "ca.crt"},
    ),
    "token": lambda files: files.write({"token": files.token}),
    "token file with line breaks": lambda files: files.write({"tokenFile": "token"}),
    "token file before token": lambda files: files.write({"tokenFile": "token", "token": "nobody's"}),
    "token before exec": lambda files: files.write({"token": files.token, "exec": {**EXEC, "command": "./fails"}}),
    "exec with a token": lambda files: files.write({"exec": {**EXEC, "command": "./gives-token"}}),
    "exec with a certificate": lambda files: files.write({"exec": {**EXEC, "command": "./gives-certificate"}}),
    "exec that wants to know of the cluster": lambda files: files.write(
        {"exec": {**EXEC, "command": "./gives-token", "provideClusterInfo": True}}
    ),
    "as": lambda files: files.write({**files.admin, "as": "bob"}),
    "as with everything": lambda files: files.write(
        {**files.admin, "as": "bob", "as-uid": "7", "as-groups": ["one", "two"], "as-user-extra": EXTRA}
    ),
    "tls-server-name": lambda files: files.write(files.admin, {**files.cluster, "tls-server-name": "localhost"}),
    "insecure": lambda files: files.write(files.admin, {"server": files.plane.url, "insecure-skip-tls-verify": True}),
    "no compression": lambda files: files.write(files.admin, {**files.cluster, "disable-compression": True}),
    "several files": lambda files: f"{files.write_user({'tokenFile': 'token'})}:absent:{files.write(files.admin)}",
}


@pytest.mark.parametrize("write", WORKS.values(), ids=WORKS)
async def test_one_is_who_one_is_to_kubectl(files: Files, write: Callable[[Files], str]) -> None:
    paths = write(files)
    expected = await asyncio.to_thread(of_kubectl, files, paths)
    assert await user_of(paths) == expected


REFUSED: Mapping[str, Callable[[Files], str]] = {
    "exec that is not there": lambda files: files.write({"exec": {**EXEC, "command": "./absent"}}),
    "exec that fails": lambda files: files.write({"exec": {**EXEC, "command": "./fails"}}),
    "exec of an old version": lambda files: files.write(
        {"exec": {**EXEC, "command": "./gives-token", "apiVersion": "client.authentication.k8s.io/v1alpha1"}}
    ),
    "exec that needs a terminal": lambda files: files.write(
        {"exec": {**EXEC, "command": "./gives-token", "interactiveMode": "Always"}}
    ),
    "groups without a user": lambda files: files.write({**files.admin, "as-groups": ["one"]}),
    "token and password": lambda files: files.write({"token": "x", "username": "me", "password": "word"}),
    "auth-provider": lambda files: files.write({"auth-provider": {"name": "gcp"}}),
    "no token in its file": lambda files: files.write({"tokenFile": "absent"}),
    "a name that the server does not have": lambda files: files.write(
        files.admin, {**files.cluster, "tls-server-name": "elsewhere.test"}
    ),
    "no authority": lambda files: files.write(files.admin, {"server": files.plane.url}),
    "authority and insecure": lambda files: files.write(
        files.admin, {**files.cluster, "insecure-skip-tls-verify": True}
    ),
    "a key of another certificate": lambda files: files.write(
        {**files.admin, "client-key-data": in_base64((files.plane.directory / "server.key").read_bytes())}
    ),
}


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED)
async def test_what_kubectl_refuses_is_refused(files: Files, write: Callable[[Files], str]) -> None:
    paths = write(files)
    with pytest.raises(subprocess.CalledProcessError):
        await asyncio.to_thread(of_kubectl, files, paths)
    with pytest.raises((Failure, ApiUnreachableError)):
        await user_of(paths)


async def test_the_operator_may_do_no_more_than_whom_it_acts_as(files: Files) -> None:
    """It is the administrator who says `as`, and whose own permissions do not count."""
    paths = files.write({**files.admin, "as": "bob"})
    async with connect(KubeconfigLogin(paths), SystemClock(), "pod-1") as api:
        with pytest.raises(ApiError, match='User "bob" cannot list resource') as caught:
            await api.list_connectors(())
    assert caught.value.status == 403


async def test_the_server_is_reached_through_the_proxy_of_the_file(files: Files) -> None:
    port = urlsplit(files.plane.url).port
    assert port is not None
    async with ForwardProxy({"api.test": port}, login="me:p/w@rd") as proxy:
        fields = {"server": "https://api.test", "tls-server-name": "localhost"}
        through = {"proxy-url": f"http://me:p%2Fw%40rd@{proxy.address}"}
        paths = files.write(files.admin, {**files.cluster, **fields, **through})
        expected = await asyncio.to_thread(of_kubectl, files, paths)
        assert await user_of(paths) == expected
        assert set(proxy.asked) == {"api.test:443"}
