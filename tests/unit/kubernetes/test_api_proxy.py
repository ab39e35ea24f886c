"""The proxy on the way to the API server: proxy-url of a kubeconfig, and the environment's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkite_connector.kubernetes.access import InClusterLogin
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.model.failure import Failure
from buildkite_connector.network import Network, Proxy, read_proxies
from simulators.forward_proxy import ForwardProxy
from unit.kubernetes.recording_server import SECRET_PATH, Kubeconfig, RecordingServer, ask


@pytest.fixture
async def server() -> AsyncIterator[RecordingServer]:
    async with RecordingServer(names=("api.test", "other.test")) as running:
        yield running


class TestProxy:
    @pytest.fixture
    async def proxy(self, server: RecordingServer) -> AsyncIterator[ForwardProxy]:
        async with ForwardProxy({"api.test": server.port}, login="me:p/w@rd") as running:
            yield running

    @pytest.mark.parametrize("other", [False, True])
    async def test_proxy_url_with_a_login_leads_to_the_server_by_its_name(
        self, kubeconfig: Kubeconfig, proxy: ForwardProxy, other: bool
    ) -> None:
        fields = {"server": "https://api.test", "proxy-url": f"http://me:p%2Fw%40rd@{proxy.address}"}
        path = kubeconfig.write({**fields, **({"tls-server-name": "other.test"} if other else {})})
        seen = await ask(KubeconfigLogin(str(path)), kubeconfig.server)
        assert {each.name for each in seen} == {"other.test" if other else "api.test"}
        assert proxy.asked == ["api.test:443"]  # one connection for both
        assert proxy.logins[0].startswith("Basic ")
        assert not any(each.all("proxy-authorization") for each in seen)

    async def test_plain_http_goes_through_the_proxy_without_a_tunnel(self, tmp_path: Path) -> None:
        async with (
            RecordingServer(ca=None) as server,
            ForwardProxy({"api.test": server.port}, login="me:p/w@rd") as proxy,
        ):
            fields = {"server": "http://api.test", "proxy-url": f"http://me:p%2Fw%40rd@{proxy.address}"}
            path = Kubeconfig(server, tmp_path / "config").write(fields)
            await ask(KubeconfigLogin(str(path)), server)
            assert proxy.asked == [f"GET http://api.test{SECRET_PATH}"]  # one connection for both

    async def test_a_proxy_that_refuses_is_named_without_its_login(
        self, kubeconfig: Kubeconfig, proxy: ForwardProxy
    ) -> None:
        path = kubeconfig.write({"server": "https://api.test", "proxy-url": f"http://me:hunter2@{proxy.address}"})
        with pytest.raises(Failure) as caught:
            await ask(KubeconfigLogin(str(path)), kubeconfig.server)
        refused = f"the proxy {proxy.address} (proxy-url) refused a tunnel to api.test:443 with 407"
        assert f"{refused} Proxy Authentication Required. Correct the user name" in str(caught.value)
        assert "hunter2" not in str(caught.value)

    async def test_the_environments_proxy_is_gone_through_by_both_clients(
        self, kubeconfig: Kubeconfig, proxy: ForwardProxy
    ) -> None:
        path = kubeconfig.write({"server": "https://api.test:6443"})
        proxies = read_proxies({"HTTPS_PROXY": f"http://me:p%2Fw%40rd@{proxy.address}", "NO_PROXY": "10.0.0.0/8"})
        assert len(await ask(KubeconfigLogin(str(path), Network(proxies=proxies)), kubeconfig.server)) == 2
        assert proxy.asked == ["api.test:6443"]

    @pytest.mark.parametrize(
        ("url", "refused"),
        [
            ("https://me:hunter2@proxy:1", "proxy-url: https is not supported"),
            ("socks5://me:hunter2@proxy:1", "proxy-url: socks5 is not supported"),
            ("socks5h://proxy", "proxy-url: socks5h is not supported"),
            ("me:hunter2@proxy:1", "proxy-url must be like"),
            ("http://", "proxy-url must be like"),
            ("http://me:hunter2@proxy:0", "proxy-url must be like"),
            ("http://me:hunter2@proxy:x", "proxy-url must be like"),
        ],
    )
    async def test_a_proxy_url_that_cannot_be_used_is_refused_and_not_shown(
        self, kubeconfig: Kubeconfig, url: str, refused: str
    ) -> None:
        path = kubeconfig.write({"proxy-url": url})
        with pytest.raises(Failure, match=refused) as caught:
            await KubeconfigLogin(str(path)).load()
        assert "hunter2" not in str(caught.value)


PROXY = Proxy("HTTPS_PROXY", "proxy", 3128)


@pytest.mark.parametrize(
    ("host", "no_proxy", "proxy"),
    [
        ("10.96.0.1", "10.96.0.1:6443", PROXY),
        ("fd00::1", "fd00::/8", None),
    ],
)
class TestEnvironmentsProxy:
    """As Go has it, and as kubectl does; `unit/network` has the whole table of forms."""

    async def test_for_a_kubeconfig(
        self, kubeconfig: Kubeconfig, host: str, no_proxy: str, proxy: Proxy | None
    ) -> None:
        path = kubeconfig.write({"server": f"https://[{host}]" if ":" in host else f"https://{host}"})
        assert (await KubeconfigLogin(str(path), network(no_proxy)).load()).proxy == proxy

    async def test_for_the_pod_s_service_account(
        self, server: RecordingServer, tmp_path: Path, host: str, no_proxy: str, proxy: Proxy | None
    ) -> None:
        (tmp_path / "token").write_text("of-the-pod")
        (tmp_path / "ca.crt").write_bytes(server.authority)
        environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
        assert (await InClusterLogin(environment, network(no_proxy), tmp_path).load()).proxy == proxy


def network(no_proxy: str) -> Network:
    return Network(proxies=read_proxies({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy}))


async def test_proxy_url_goes_before_the_environments_proxy(kubeconfig: Kubeconfig) -> None:
    path = kubeconfig.write({"server": "https://10.96.0.1", "proxy-url": "http://own:1"})
    assert (await KubeconfigLogin(str(path), network("")).load()).proxy == Proxy("proxy-url", "own", 1)


async def test_an_http_proxy_that_cannot_be_used_matters_to_a_plain_http_server_alone(kubeconfig: Kubeconfig) -> None:
    unusable = Network(proxies=read_proxies({"HTTP_PROXY": "socks5://me:hunter2@proxy:1080"}))
    login = KubeconfigLogin(str(kubeconfig.write()), unusable)
    assert (await login.load()).proxy is None
    kubeconfig.write({"server": "http://api.test:8080"})
    with pytest.raises(Failure, match=r"^HTTP_PROXY starts with socks5://") as caught:
        await login.load()
    assert "hunter2" not in str(caught.value)
