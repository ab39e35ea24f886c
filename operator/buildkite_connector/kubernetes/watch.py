"""Tells the hub what resources there are: kopf's watch, and a regular count of what it cannot tell.

Level-triggered: the hub hears of an object's whole state, as often as it changes. Nothing is written by kopf: no
finalizer, no annotation, no event. kopf runs in a thread and an event loop of its own, as it cancels every task
that its loop has when it stops, and would take over the process's signals in the main thread.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import kopf

from buildkite_connector.kubernetes.client import KubernetesApi, Listed, is_at_least
from buildkite_connector.kubernetes.client_config import ClientConfig, KopfClientConfig
from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector, read_resource
from buildkite_connector.kubernetes.schema.names import GROUP, PLURAL, VERSION
from buildkite_connector.model.failure import Failure, Reason

_KOPF_STOP_SECONDS = 1.0

_logger = logging.getLogger(__name__)


class EventHandler(Protocol):
    """Who is told. Both are called in the event loop that `run_watch` runs in, and must not take long."""

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        """An object as it is now; often one that is known already, and sometimes unchanged."""
        ...

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """This object is no more. Another with its name may have been told already: the uid tells them apart."""
        ...


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """`namespaces` empty: all of the cluster. Times in seconds."""

    namespaces: tuple[str, ...] = ()
    request_seconds: float = 30.0
    connect_seconds: float = 10.0
    stream_seconds: int = 600
    count_seconds: float = 300.0
    poll_seconds: float = 5.0


async def run_watch(
    hub: EventHandler,
    api: KubernetesApi,
    login: ClientConfig,
    settings: WatchSettings,
    *,
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Watch until `stop` is set. `ready` is set when every object that there was at the start has been told.

    While the definition is not in the cluster, or may not be listed, that is logged and waited for.
    Raises Failure when the watch has failed for good or gone deaf: the process should end, and be started anew.
    """
    first = await _first_list(api, settings, stop)
    if first is None:
        return
    feed = _Informer(hub, frozenset(each.uid for each in first), ready)
    try:
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(feed.run()), group.create_task(_relist(feed, api, settings))]
            await _run_kopf(feed, login, settings, stop)
            for helper in helpers:
                helper.cancel()
    except ExceptionGroup as errors:
        cause = errors.exceptions[0]
    else:
        return
    if isinstance(cause, Failure):
        raise cause
    raise _lost(f"{type(cause).__name__}: {cause}") from cause


def _lost(why: str) -> Failure:
    return Failure(Reason.KUBERNETES_UNAVAILABLE, f"The watch of {PLURAL} is lost, the operator must start anew: {why}")


async def _first_list(api: KubernetesApi, settings: WatchSettings, stop: asyncio.Event) -> list[Listed] | None:
    """As `_wait_until_served`, but a stop does not wait for an API server that hangs."""
    listing = asyncio.create_task(_wait_until_served(api, settings, stop))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({listing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await listing if listing.done() else None
    finally:
        listing.cancel()
        stopping.cancel()
        await asyncio.wait({listing, stopping})


async def _wait_until_served(api: KubernetesApi, settings: WatchSettings, stop: asyncio.Event) -> list[Listed] | None:
    """What there is, once it can be listed; None when `stop` came first."""
    told = ""
    while not stop.is_set():
        try:
            return await api.list_connectors(settings.namespaces)
        except ApiError as refused:
            sentence = _advice(refused)
        except Failure as failure:
            sentence = failure.message
        if sentence != told:
            _logger.error(sentence)
            told = sentence
        await _sleep_unless(stop, settings.poll_seconds)
    return None


def _advice(refused: ApiError) -> str:
    if refused.status == 404:
        return (
            f"The cluster does not know {PLURAL}.{GROUP}: run `kubectl apply -f crds/`."
            " The operator goes on as soon as it does."
        )
    if refused.status == 403:
        return (
            f"The operator may not list {PLURAL}.{GROUP}: apply deploy/, or give its service account the verbs"
            f" get, list and watch on them. The API server says: {refused}"
        )
    return f"{PLURAL}.{GROUP} cannot be listed: {refused}"


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


class _Informer:
    """Hands on what kopf hears, in the hub's event loop, and knows what has been told."""

    def __init__(self, hub: EventHandler, expected: frozenset[str], ready: asyncio.Event) -> None:
        self._hub = hub
        self._expected = set(expected)
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[kopf.RawEvent] = asyncio.Queue()
        self._known: dict[str, Listed] = {}
        self._overdue: dict[str, Listed] = {}

    def hear(self, event: kopf.RawEvent) -> None:
        """Called in kopf's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def run(self) -> None:
        while True:
            if not self._expected:
                self._ready.set()
            event = await self._events.get()
            self._take(event["type"] == "DELETED", event["object"])

    def _take(self, deleted: bool, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        seen = Listed(metadata["namespace"], metadata["name"], metadata["uid"], metadata.get("resourceVersion", ""))
        self._expected.discard(seen.uid)
        if deleted:
            self._known.setdefault(seen.uid, seen)
            self._forget(seen)
        else:
            self._known[seen.uid] = seen
            self._hub.observe(read_resource(body))

    def known(self) -> frozenset[str]:
        return frozenset(self._known)

    def compare(self, listed: Iterable[Listed], known_before: frozenset[str]) -> None:
        """Forget what was known before the list was asked for and is not in it; notice when the watch is deaf.

        Raises Failure when an object still was not told of as an earlier list had it.
        """
        there = {each.uid: each for each in listed}
        self._expected &= there.keys()
        for uid in known_before - there.keys():
            if uid in self._known:
                self._forget(self._known[uid])
        for uid, earlier in self._overdue.items():
            if uid in there and not self._has_told(earlier):
                raise _lost(f"{earlier.namespace}/{earlier.name} changed, and the watch did not tell of it")
        self._overdue = {uid: each for uid, each in there.items() if not self._has_told(each)}

    def _has_told(self, listed: Listed) -> bool:
        known = self._known.get(listed.uid)
        return known is not None and is_at_least(known.resource_version, listed.resource_version)

    def _forget(self, gone: Listed) -> None:
        del self._known[gone.uid]
        self._hub.forget(gone.namespace, gone.name, gone.uid)


async def _relist(feed: _Informer, api: KubernetesApi, settings: WatchSettings) -> None:
    """A watch that was lost for long starts again with a list, which does not tell what was deleted meanwhile."""
    while True:
        await asyncio.sleep(settings.count_seconds)
        known = feed.known()
        try:
            listed = await api.list_connectors(settings.namespaces)
        except (ApiError, Failure) as error:
            _logger.warning("the resources could not be counted", extra={"error": str(error)})
            continue
        feed.compare(listed, known)


async def _run_kopf(feed: _Informer, login: ClientConfig, settings: WatchSettings, stop: asyncio.Event) -> None:
    """Returns after `stop`; raises what ended kopf otherwise."""
    loop = asyncio.new_event_loop()
    halt = asyncio.Event()

    def on_stray_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """kopf leaves requests to their fate when it is stopped in the midst of its start."""
        if not halt.is_set():
            loop.default_exception_handler(context)

    def run() -> None:
        loop.set_exception_handler(on_stray_error)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_operate(feed, login, settings, halt))

    def end() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have ended by itself just now
            loop.call_soon_threadsafe(halt.set)

    async def pass_on_stop() -> None:
        await stop.wait()
        end()

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kopf")
    running = asyncio.get_running_loop().run_in_executor(thread, run)
    stopping = asyncio.create_task(pass_on_stop())
    try:
        await asyncio.shield(running)
    finally:
        stopping.cancel()
        if not running.done():
            end()
            await asyncio.wait({running})
        thread.shutdown()
    if not stop.is_set():
        raise _lost("kopf has stopped by itself")


async def _operate(feed: _Informer, login: ClientConfig, settings: WatchSettings, halt: asyncio.Event) -> None:
    """In kopf's loop, until `halt`; raises what ended kopf."""
    kopf_login = KopfClientConfig(login)
    halted = asyncio.create_task(halt.wait())
    operator = asyncio.create_task(
        kopf.operator(
            registry=_registry(feed, kopf_login),
            settings=_kopf_settings(settings),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
            stop_flag=halt,
        )
    )
    try:
        await asyncio.wait((operator, halted), return_when=asyncio.FIRST_COMPLETED)
        if not halt.is_set():
            return await operator
        await asyncio.wait((operator,), timeout=_KOPF_STOP_SECONDS)
        operator.cancel()  # it would wait 5 seconds for requests that it left behind
        await asyncio.wait((operator,))
        if not operator.cancelled() and operator.exception():
            _logger.debug("kopf was stopped in the midst of something", exc_info=operator.exception())
    finally:
        halted.cancel()
        await kopf_login.aclose()


def _is_about_us(record: logging.LogRecord) -> bool:
    """kopf warns that it does not handle signals in this thread: the process does."""
    return not record.getMessage().startswith("OS signals are ignored")


logging.getLogger("kopf._core.reactor.running").addFilter(_is_about_us)


def _registry(feed: _Informer, login: KopfClientConfig) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    kopf.on.login(registry=registry, backoff=5)(login.log_in)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def hear(event: kopf.RawEvent, **_: object) -> None:
        feed.hear(event)

    return registry


def _kopf_settings(watch: WatchSettings) -> kopf.OperatorSettings:
    """Every setting that matters, on purpose, whatever kopf's default is."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # no watch of namespaces and definitions, so no right to them either
    settings.watching.initial_streaming = False  # needs Kubernetes 1.34
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = watch.stream_seconds
    settings.watching.inactivity_timeout = 70  # the API server sends a bookmark every minute
    settings.networking.request_timeout = watch.request_seconds
    settings.networking.connect_timeout = watch.connect_seconds
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.trust_env = True
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 1
    settings.execution.max_workers = 1
    settings.process.ultimate_exiting_timeout = None  # the process has its own deadline
    return settings


class _Backoffs:
    """Seconds between tries while the API server is away, without an end: sessions go on meanwhile."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0, 4.0, 8.0), itertools.repeat(15.0))
