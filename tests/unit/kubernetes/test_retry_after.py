"""The API server asks to wait: everybody does, for as long as it says and a minute at most."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.lease import Lease
from buildkite_connector.kubernetes.retry_after import LONGEST_RETRY_AFTER, bounded_retry_after
from buildkite_connector.kubernetes.schema.names import KIND, PLURAL
from buildkite_connector.kubernetes.watch import WatchSettings
from buildkite_connector.model.failure import Failure
from simulators.kubernetes.server import KubernetesDouble
from unit.kubernetes.client_calls import DRAFT, READY, create, events
from unit.kubernetes.watching import DEADLINE, EventHandler, Watching, apply

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1", 1), ("59", 59), ("86400", 60), ("9" * 400, LONGEST_RETRY_AFTER)]
    + [(text, None) for text in ("-1", "1.5", "nan", "inf", "soon", "")],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_it_is_believed_within_bounds(name: str, text: str, seconds: float | None) -> None:
    assert bounded_retry_after({name: text}) == seconds


def test_a_date_is_believed_within_bounds() -> None:
    for ahead, at_most in ((timedelta(hours=6), LONGEST_RETRY_AFTER), (timedelta(seconds=30), 30), (-timedelta(1), 0)):
        date = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
        found = bounded_retry_after({"Retry-After": date})
        assert found is not None
        assert at_most - 5 <= found <= at_most


CALLS: dict[str, Callable[[KubernetesApi, KubernetesDouble], Awaitable[object]]] = {
    "read a Secret": lambda api, _: api.read_secret("default", "s"),
    "write a status": lambda api, double: api.apply_status(create(double), READY),
    "list resources": lambda api, _: api.list_connectors(()),
    "list a namespace's resources": lambda api, _: api.list_connectors(("default",)),
    "discover": lambda api, _: api.is_discoverable(),
    "read a Lease": lambda api, _: api.leases("default", "bkc").read(),
    "create a Lease": lambda api, _: api.leases("default", "bkc").write(Lease("me", 15)),
    "renew a Lease": lambda api, _: api.leases("default", "bkc").write(Lease("me", 15, version="1")),
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("call", CALLS)
async def test_every_call_passes_it_on(double: KubernetesDouble, api: KubernetesApi, call: str, status: int) -> None:
    for text, seconds in (("7", 7.0), ("21600", LONGEST_RETRY_AFTER)):
        with double.failing(status, headers={"Retry-After": text}):
            with pytest.raises(Failure) as caught:
                await CALLS[call](api, double)
            assert caught.value.retry_after == seconds


async def test_an_event_is_posted_once_more(double: KubernetesDouble, api: KubernetesApi) -> None:
    seen = create(double)
    with double.failing(429, headers={"Retry-After": "1"}):
        begun = time.monotonic()
        posting = asyncio.create_task(api.post_event(seen, DRAFT))
        await double.wait_until(lambda: any(each.status == 429 for each in double.transcript), timeout=DEADLINE)
    await posting
    assert time.monotonic() - begun >= 1.0
    assert len(events(double)) == 1


@pytest.fixture
def hub() -> EventHandler:
    return EventHandler()


@pytest.fixture
def watching(hub: EventHandler, api: KubernetesApi, login: KubeconfigLogin) -> Watching:
    return Watching(hub, api, login)


def asked(double: KubernetesDouble) -> int:
    return sum(each.path.endswith(PLURAL) for each in double.transcript)


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("text", ["2", "soon", "Mon, 02 Mar 2026 09:00:00 GMT"])
async def test_a_watch_is_not_asked_for_before(
    double: KubernetesDouble, hub: EventHandler, watching: Watching, text: str, status: int
) -> None:
    apply(double)
    async with watching.running():
        await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
        before = asked(double)
        with double.failing(status, watches=True, headers={"Retry-After": text}):
            double.drop_watches()
            await double.wait_until(lambda: asked(double) > before, timeout=DEADLINE)
            refused_at = time.monotonic()
            apply(double, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
        assert time.monotonic() - refused_at >= (2.0 if text == "2" else 0.0) - 0.1
    assert asked(double) == before + 2


@pytest.mark.parametrize("status", [429, 503])
async def test_a_list_is_not_asked_for_before(double: KubernetesDouble, watching: Watching, status: int) -> None:
    with double.failing(status, headers={"Retry-After": "1"}):
        task = watching.begin(WatchSettings(poll_seconds=0.01))
        await double.wait_until(lambda: asked(double) == 1, timeout=DEADLINE)
        refused_at = time.monotonic()
    await double.wait_until(lambda: asked(double) == 2, timeout=DEADLINE)
    assert time.monotonic() - refused_at >= 0.9
    await watching.until_ready(task)
    watching.stop.set()
    await task


async def test_waiting_once_is_no_line_of_the_log_and_again_and_again_one(
    double: KubernetesDouble, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching.running():
        for times, lines in ((1, 0), (3, 1)):
            caplog.clear()
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            before = asked(double)
            with double.failing(429, watches=True, headers={"Retry-After": "0"}):
                double.drop_watches()
                await double.wait_until(lambda before=before, times=times: asked(double) == before + times, DEADLINE)  # type: ignore[misc]
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            assert caplog.text.count("asks to wait") == lines


async def test_a_watch_that_should_wait_for_a_day_can_be_stopped_at_once(
    double: KubernetesDouble, watching: Watching
) -> None:
    async with watching.running():
        await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
        before = asked(double)
        with double.failing(429, watches=True, headers={"Retry-After": "86400"}):
            double.drop_watches()
            await double.wait_until(lambda: asked(double) > before, timeout=DEADLINE)
