"""Which login counts, and what the session of the operator's calls and of kopf does with it."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from buildkite_connector.kubernetes.access import REREAD_SECONDS, Access, InClusterLogin, Tls, bearer
from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin, choose_client_config
from buildkite_connector.kubernetes.connection import ApiError, Connection
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.network import Network, parse_trust, read_proxies
from buildkite_connector.timing.clock import SystemClock
from unit.kubernetes.recording_server import (
    SECRET_PATH,
    TOKEN,
    Accesses,
    Kubeconfig,
    RecordingServer,
    Seen,
    ask,
    kopf_session,
    read,
)

NETWORK = Network(proxies=read_proxies({"HTTPS_PROXY": "http://proxy:3128"}))


class TestChoice:
    def test_the_variable_goes_before_the_cluster_that_the_process_runs_in(self) -> None:
        environment = {"KUBECONFIG": "/some/where", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        assert choose_client_config(environment, NETWORK) == KubeconfigLogin("/some/where", NETWORK)

    def test_in_a_pod_the_service_account_is_used(self) -> None:
        environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        assert choose_client_config(environment, NETWORK) == InClusterLogin(environment, NETWORK)

    async def test_elsewhere_kubectl_s_own_file_is_used(
        self, kubeconfig: Kubeconfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".kube").mkdir()
        kubeconfig.write().rename(tmp_path / ".kube" / "config")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert (await choose_client_config({}, NETWORK).load()).secrets == (TOKEN,)


class TestInCluster:
    """With the files that the kubelet gives to a pod."""

    @pytest.fixture
    def account(self, server: RecordingServer, tmp_path: Path) -> Path:
        (tmp_path / "token").write_text("of-the-pod\n")
        (tmp_path / "ca.crt").write_bytes(server.authority)
        return tmp_path

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    async def test_both_clients_come_with_its_token(self, tmp_path: Path, host: str) -> None:
        async with RecordingServer(host=host) as server:
            (tmp_path / "token").write_text("of-the-pod\n")
            (tmp_path / "ca.crt").write_bytes(server.authority)
            environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(server.port)}
            login = InClusterLogin(environment, directory=tmp_path)
            assert [each.one("authorization") for each in await ask(login, server)] == ["Bearer of-the-pod"] * 2
            assert (await login.load()).renew_after == REREAD_SECONDS

    @pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "token", "ca.crt"])
    async def test_what_is_missing_is_named(self, account: Path, missing: str) -> None:
        environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
        environment.pop(missing, None)
        (account / missing).unlink(missing_ok=True)
        with pytest.raises(Failure, match=f"the pod's service account: .*{missing}") as caught:
            await InClusterLogin(environment, directory=account).load()
        assert caught.value.remedy is Remedy.RETRY

    @pytest.mark.parametrize(
        ("host", "port"),
        [
            ("10.0.0.1", "tcp://10.0.0.1:443"),
            ("10.0.0.1", "abc"),
            ("10.0.0.1", "70000"),
            ("10.0.0.1", "0"),
            ("[::1", "443"),
            ("a/b", "443"),
            ("?", "443"),
        ],
    )
    async def test_an_address_that_is_none_is_refused_by_its_variables(
        self, account: Path, host: str, port: str
    ) -> None:
        environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        with pytest.raises(Failure, match="_HOST and KUBERNETES_SERVICE_PORT are not a valid address"):
            await InClusterLogin(environment, NETWORK, account).load()


async def test_no_client_looks_at_the_environment_by_itself(
    kubeconfig: Kubeconfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert len(await ask(KubeconfigLogin(str(kubeconfig.write())), kubeconfig.server)) == 2


def access(server: RecordingServer, token: str, renew_after: float | None = None, client: str = "") -> Access:
    identity = b"\n".join(server.client(client)) if client else b""
    return Access(
        server.url,
        Tls(parse_trust(server.authority), identity),
        headers=(bearer(token),),
        secrets=(token,),
        renew_after=renew_after,
    )


def accepting(*tokens: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.one("authorization") in {f"Bearer {token}" for token in tokens}


EXPIRED = Failure(Reason.KUBERNETES_REFUSED, "The plugin failed.")


class TestSession:
    """What the credentials of a session go through in its life."""

    async def test_after_a_401_it_goes_on_with_new_credentials(self, server: RecordingServer) -> None:
        server.accepts = accepting("second")
        login = Accesses(access(server, "first"), access(server, "second"))
        async with connect(login, SystemClock(), "pod-1") as api:
            await read(api)
            await read(api)
        assert [each.one("authorization") for each in server.seen] == ["Bearer first", *["Bearer second"] * 2]

    async def test_a_401_that_new_credentials_do_not_change_is_the_answer(self, server: RecordingServer) -> None:
        server.accepts = accepting()
        login = Accesses(access(server, "first"), access(server, "first"), access(server, "second"))
        async with connect(login, SystemClock(), "pod-1") as api:
            with pytest.raises(ApiError, match="401"):
                await read(api)
            assert len(server.seen) == 1
            with pytest.raises(ApiError, match="401"):
                await read(api)
        assert [each.one("authorization") for each in server.seen] == [*["Bearer first"] * 2, "Bearer second"]

    async def test_many_requests_that_meet_a_401_at_once_renew_once(self, server: RecordingServer) -> None:
        server.accepts = accepting("second")
        login = Accesses(access(server, "first"), access(server, "second"))
        async with connect(login, SystemClock(), "pod-1") as api:
            login.may_end.clear()
            login.loading.clear()
            reads = [asyncio.create_task(read(api)) for _ in range(10)]
            await login.loading.wait()
            login.may_end.set()
            await asyncio.gather(*reads)
        assert login.loads == 2

    async def test_a_client_certificate_that_was_renewed_is_shown_on_a_new_connection(
        self, server: RecordingServer
    ) -> None:
        server.accepts = lambda seen: seen.client == "bob"
        login = Accesses(access(server, "first", client="alice"), access(server, "first", client="bob"))
        async with connect(login, SystemClock(), "pod-1") as api:
            await read(api)
        assert [each.client for each in server.seen] == ["alice", "bob"]

    async def test_credentials_that_are_due_are_read_again_before_the_request(self, server: RecordingServer) -> None:
        login = Accesses(access(server, "first", renew_after=0.0), access(server, "second", renew_after=60.0))
        async with connect(login, SystemClock(), "pod-1") as api:
            await read(api)
            await read(api)
        assert [each.one("authorization") for each in server.seen] == ["Bearer second"] * 2
        assert login.loads == 2

    async def test_the_last_credentials_serve_while_no_others_can_be_read(
        self, server: RecordingServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        login = Accesses(access(server, "first", renew_after=0.0), EXPIRED)
        async with connect(login, SystemClock(), "pod-1") as api:
            await read(api)
            await read(api)
        assert [each.one("authorization") for each in server.seen] == ["Bearer first"] * 2
        assert login.loads == 2  # and not for each request again
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "the credentials for the Kubernetes API cannot be renewed: The plugin failed."
        ]

    async def test_why_there_are_no_new_credentials_is_said_when_the_old_are_refused(
        self, server: RecordingServer
    ) -> None:
        server.accepts = accepting()
        login = Accesses(access(server, "first"), EXPIRED)
        async with connect(login, SystemClock(), "pod-1") as api:
            with pytest.raises(Failure, match=r"the operator retries: The plugin failed\.") as caught:
                await read(api)
        assert caught.value.reason is Reason.KUBERNETES_UNAVAILABLE

    async def test_credentials_for_another_server_are_not_sent_to_this_one(self, server: RecordingServer) -> None:
        server.accepts = accepting()
        elsewhere = Access("https://elsewhere.test", headers=(bearer("of-elsewhere"),))
        async with connect(Accesses(access(server, "first"), elsewhere), SystemClock(), "pod-1") as api:
            with pytest.raises(Failure, match=r"The API server is now https://elsewhere\.test instead of"):
                await read(api)
        assert [each.one("authorization") for each in server.seen] == ["Bearer first"]

    async def test_its_end_ends_a_renewal(self, server: RecordingServer) -> None:
        server.accepts = accepting()
        login = Accesses(access(server, "first"))
        session = Connection(login, await login.load())
        login.may_end.clear()
        login.loading.clear()
        request = asyncio.create_task(session.request("GET", f"{server.url}{SECRET_PATH}"))
        await login.loading.wait()
        await session.close()
        with pytest.raises(asyncio.CancelledError):
            await request


async def test_kopf_gets_the_credentials_of_the_moment_and_the_one_session(
    kubeconfig: Kubeconfig, server: RecordingServer
) -> None:
    """However often the API server refuses them: each login kept a session once."""
    async with connect(KubeconfigLogin(str(kubeconfig.write())), SystemClock(), "pod-1") as api:
        session = kopf_session(api)
        for token in ("second", "third"):
            kubeconfig.write(user={"token": token})
            server.accepts = accepting(token)
            await session.request("get", f"{server.url}{SECRET_PATH}")
        sessions = [each for each in gc.get_objects() if isinstance(each, aiohttp.ClientSession) and not each.closed]
    assert [each.one("authorization") for each in server.seen] == [
        f"Bearer {token}" for token in (TOKEN, "second", "second", "third")
    ]
    assert len(sessions) == 1


async def test_the_operators_own_requests_name_it(kubeconfig: Kubeconfig, server: RecordingServer) -> None:
    own, _ = await ask(KubeconfigLogin(str(kubeconfig.write())), server)
    assert own.one("user-agent") == "buildkite-connector"


async def test_an_empty_name_asks_for_nothing(kubeconfig: Kubeconfig, server: RecordingServer) -> None:
    async with connect(KubeconfigLogin(str(kubeconfig.write())), SystemClock(), "pod-1") as api:
        with pytest.raises(ValueError, match="would be all Secrets"):
            await api.read_secret("default", "")
    assert server.seen == []
