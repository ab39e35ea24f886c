"""Where packets are dropped on the way: within ten seconds it is said who is waited for, and what to look at."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from buildkite_connector.buildkite import Timeouts, open_buildkite
from buildkite_connector.c1 import C1Settings
from buildkite_connector.kubernetes.access import Access
from buildkite_connector.kubernetes.client import connect as connect_kubernetes
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.connection import CONNECT_SECONDS, ApiUnreachableError, Connection
from buildkite_connector.model.directory import FULL_SCOPE
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials, OrganizationChoice
from buildkite_connector.network import Network, Proxies, Proxy
from buildkite_connector.sync.preflight import preflight
from buildkite_connector.tasks.session import HELLO_SECONDS
from buildkite_connector.timing.clock import SystemClock
from buildkite_connector.timing.slots import Slot, Slots
from fakes.buildkite_setup import HASTY
from fakes.c1_setup import connect as connect_c1
from harness.trust import DIRECT
from simulators.c1.server import C1Simulator
from simulators.silence import silent_port
from unit.kubernetes.recording_server import kopf_session
from unit.kubernetes.watching import until_logged

SOON = 0.1
ACME = OrganizationChoice("acme")
CREDENTIALS = Credentials("", "", "bkua_0123456789")
ADVICE = "Check DNS, and that firewalls and NetworkPolicies let the operator connect there."


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    async with silent_port() as port:
        yield port


@pytest.fixture
async def slot() -> AsyncIterator[Slot]:
    async with Slots(1, shared=False).slot("default") as held:
        yield held


def test_no_attempt_to_connect_lasts_longer_than_ten_seconds() -> None:
    assert max(Timeouts().connect, CONNECT_SECONDS) <= 10.0
    assert C1Settings().connect_timeout < HELLO_SECONDS <= 10.0


@pytest.fixture
def silent_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up for ever."""

    async def look_up(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)


@pytest.mark.usefixtures("silent_dns")
class TestNames:
    async def test_a_check_of_buildkite_says_so(self, slot: Slot) -> None:
        settings = replace(HASTY, api_url="https://api.test/v2", timeouts=replace(HASTY.timeouts, connect=SOON))
        async with open_buildkite(settings, DIRECT) as buildkite:
            with pytest.raises(Failure, match=f"there was no connection to api.test:443 within {SOON} s. Check DNS"):
                await preflight(buildkite.client(CREDENTIALS.api_token, slot=slot, waits=False), ACME, FULL_SCOPE.kinds)

    async def test_a_request_to_the_api_server_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("buildkite_connector.kubernetes.connection.CONNECT_SECONDS", SOON)
        access = Access("https://api.test")
        session = Connection(StaticLogin(access), access)
        try:
            for timeout in (30.0, aiohttp.ClientTimeout(total=30.0, sock_connect=30.0)):  # as each client gives it
                with pytest.raises(ApiUnreachableError, match=f"no connection to api.test:443 within {SOON} s. Check"):
                    await session.request("GET", "https://api.test/api", timeout=timeout)
        finally:
            await session.close()


class StaticLogin:
    def __init__(self, access: Access) -> None:
        self._access = access

    async def load(self) -> Access:
        return self._access


class TestBuildkite:
    @pytest.mark.parametrize("proxied", [False, True])
    async def test_a_check_says_so_after_the_first_try(
        self, silent: int, slot: Slot, proxied: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is repeated, and so the status says so soon."""
        network = Network(proxies=Proxies(https=Proxy("HTTPS_PROXY", "127.0.0.1", silent))) if proxied else DIRECT
        url = "https://api.buildkite.com" if proxied else f"http://127.0.0.1:{silent}"
        settings = replace(HASTY, api_url=url, timeouts=replace(HASTY.timeouts, connect=SOON))
        async with open_buildkite(settings, network) as buildkite:
            client = buildkite.client(CREDENTIALS.api_token, slot=slot, waits=False)
            with pytest.raises(Failure) as caught:
                await preflight(client, ACME, FULL_SCOPE.kinds)
        there = f"api.buildkite.com:443 through the proxy 127.0.0.1:{silent} (HTTPS_PROXY)"
        assert caught.value.message == (
            f"GET /access-token: expected a response from {url}, but there was no connection to"
            f" {there if proxied else f'127.0.0.1:{silent}'} within {SOON} s. {ADVICE}"
        )
        assert (caught.value.reason, caught.value.remedy) == (Reason.BUILDKITE_UNREACHABLE, Remedy.RETRY)
        assert "asked again" not in caplog.text

    async def test_a_sync_goes_on_trying_and_logs_once_why(self, silent: int, caplog: pytest.LogCaptureFixture) -> None:
        settings = replace(HASTY, api_url=f"http://127.0.0.1:{silent}", timeouts=replace(HASTY.timeouts, connect=SOON))
        async with open_buildkite(settings, DIRECT) as buildkite:
            client = buildkite.client("bkua_0123456789")
            with pytest.raises(Failure):
                await preflight(client, ACME, FULL_SCOPE.kinds)
            assert client.requests == settings.patience.tries
        [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
        assert record.getMessage() == "Buildkite does not respond; retrying"
        assert f"there was no connection to 127.0.0.1:{silent} within {SOON} s. {ADVICE}" in vars(record)["error"]


async def test_c1_is_named(silent: int) -> None:
    async with (
        C1Simulator() as sim,
        connect_c1(sim, api_host=f"localhost:{silent}", connect_timeout=SOON) as client,
    ):
        with pytest.raises(Failure) as caught:
            await client.hello()
    assert caught.value.message == (
        f"C1's token endpoint https://localhost:{silent}/auth/v1/token could not be reached: there was no connection to"
        f" localhost:{silent} within {SOON} s. {ADVICE}"
    )
    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNREACHABLE, Remedy.RETRY)


async def test_the_operators_start_logs_that_it_waits_for_the_api_server(
    silent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("buildkite_connector.kubernetes.connection.CONNECT_SECONDS", SOON)
    path = tmp_path / "config"
    path.write_text(
        f"""
        current-context: x
        contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
        clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{silent}"}}}}]
        users: [{{name: u, user: {{token: t}}}}]
        """
    )
    login = KubeconfigLogin(str(path))
    access = await login.load()
    async with connect_kubernetes(login, SystemClock(), "pod-1") as api:
        waiting = asyncio.create_task(kopf_session(api).request("get", f"{access.server}/apis"))
        await until_logged(f"there was no connection to 127.0.0.1:{silent} within {SOON} s. {ADVICE}", caplog)
        waiting.cancel()
