"""One way to the API server for the client and for kopf."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration

from buildkite_connector.kubernetes.client_config import (
    InClusterLogin,
    KopfClientConfig,
    KubeconfigLogin,
    choose_client_config,
    take_environment_proxy,
)
from buildkite_connector.model.failure import Failure, Remedy

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: hunter2}}]
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    return path


def test_the_variable_goes_before_the_cluster_that_the_process_runs_in(tmp_path: Path) -> None:
    environment = {"KUBECONFIG": "/some/where", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert choose_client_config(environment, tmp_path) == KubeconfigLogin("/some/where")


def test_in_a_pod_the_service_account_is_used(tmp_path: Path) -> None:
    assert choose_client_config({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path) == InClusterLogin()


def test_elsewhere_kubectl_s_own_file_is_used(tmp_path: Path) -> None:
    assert choose_client_config({}, tmp_path) == KubeconfigLogin(str(tmp_path / ".kube" / "config"))


async def test_the_client_gets_address_and_token(kubeconfig: Path) -> None:
    configuration = Configuration()
    await KubeconfigLogin(str(kubeconfig)).load(configuration)
    assert configuration.host == "https://127.0.0.1:6443"
    assert await configuration.get_api_key_with_prefix("BearerToken") == "Bearer hunter2"
    assert not configuration.verify_ssl


@pytest.fixture
async def kopf_login(kubeconfig: Path) -> AsyncIterator[KopfClientConfig]:
    login = KopfClientConfig(KubeconfigLogin(str(kubeconfig)), same_login_seconds=0.0)
    yield login
    await login.aclose()


async def test_kopf_gets_the_same(kopf_login: KopfClientConfig) -> None:
    context = await kopf_login.log_in()
    assert context.server == "https://127.0.0.1:6443"
    assert context.aiohttp_session.headers["Authorization"] == "Bearer hunter2"


async def test_kopf_gets_a_token_that_changed_in_the_file(kopf_login: KopfClientConfig, kubeconfig: Path) -> None:
    await kopf_login.log_in()
    kubeconfig.write_text(KUBECONFIG.replace("hunter2", "hunter3"))
    context = await kopf_login.log_in()
    assert context.aiohttp_session.headers["Authorization"] == "Bearer hunter3"


async def test_kopf_may_try_the_same_again_as_the_connection_may_have_been_at_fault(
    kopf_login: KopfClientConfig, caplog: pytest.LogCaptureFixture
) -> None:
    first = await kopf_login.log_in()
    assert caplog.records == []
    second = await kopf_login.log_in()
    assert first.aiohttp_session is not second.aiohttp_session
    assert "trying them again" in caplog.text
    assert "hunter2" not in caplog.text


async def test_every_session_is_closed_at_the_end(kopf_login: KopfClientConfig) -> None:
    sessions = [(await kopf_login.log_in()).aiohttp_session for _ in range(2)]
    await kopf_login.aclose()
    assert all(session.closed for session in sessions)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "apiVersion: v1\nkind: Config\n"])
async def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Failure, match="Set KUBECONFIG to a usable file") as caught:
        await KubeconfigLogin(str(path)).load(Configuration())
    assert str(path) in caught.value.message
    assert caught.value.remedy is Remedy.RETRY


async def test_no_service_account_is_a_failure_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Failure, match="the pod's service account"):
        await InClusterLogin().load(Configuration())


@pytest.mark.parametrize(
    ("environment", "own", "found"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, None, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "127.0.0.1"}, None, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, None, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://own:3128", "http://own:3128"),
        ({}, None, None),
    ],
)
def test_the_client_takes_the_environments_proxy_once(
    environment: dict[str, str], own: str | None, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configuration = Configuration(host="https://127.0.0.1:6443", proxy=own)
    take_environment_proxy(configuration)
    assert configuration.proxy == found
    assert configuration.client_session_kwargs == {"trust_env": False}
