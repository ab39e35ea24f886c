"""Watches the resources with kopf, which runs in a thread of its own, and feeds the informer.

kopf writes nothing: no finalizer, no annotation, no event. It has its own thread and event loop because it cancels
every task of its loop when it stops, and would take over the process's signals in the main thread.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kopf

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.client_config import ClientConfig, KopfClientConfig
from buildkite_connector.kubernetes.definition import wait_until_served
from buildkite_connector.kubernetes.informer import (
    EventHandler,
    Informer,
    Pulse,
    VersionsWentBack,
    WatchSettings,
    watch_lost,
)
from buildkite_connector.kubernetes.retry_after import ASKS_TO_WAIT
from buildkite_connector.kubernetes.schema import GROUP, PLURAL, VERSION
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.redactor import Redactor

__all__ = ("EventHandler", "Pulse", "WatchSettings", "run_watch")

_KOPF_STOP_SECONDS = 1.0
_BEAT_SECONDS = 5.0
_LONG_SECONDS = 60.0
"""A watch that lasted so long, and then is broken off as the one before, is worth another line of the log."""
_LONGEST_SENTENCE = 512
_KOPF_LOGGERS = ("kopf._core.reactor.running", "kopf._core.reactor.orchestration", "kopf._cogs.clients.watching")
_HANDLED = ("OS signals are ignored", "storage is (re)initializing", "TCP closed; will re-authenticate", ASKS_TO_WAIT)

_logger = logging.getLogger(__name__)


async def run_watch(
    handler: EventHandler,
    api: KubernetesApi,
    login: ClientConfig,
    settings: WatchSettings,
    *,
    ready: asyncio.Event,
    stop: asyncio.Event,
    pulse: Pulse | None = None,
) -> None:
    """Watch until `stop` is set. `ready` is set once `handler` has seen every object that existed at the start.

    While the definition is not in the cluster, or may not be listed, that is logged and waited for. A definition that
    is deleted later takes every resource with it: `handler` forgets them, and the wait begins again. A watch that the
    API server refuses or breaks off with an error begins anew, by a list, which is logged once.
    `pulse` beats while kopf's event loop comes round, and while the definition is waited for.
    Raises Failure when the watch is stale or kopf stops by itself: the process should end, and be started anew.
    """
    informer = Informer(handler, ready, pulse)
    now, logged = asyncio.get_running_loop().time, ""
    try:
        async with asyncio.TaskGroup() as group:
            handling = group.create_task(informer.run())
            lost: Exception | None = None
            while True:
                async with _beating(informer.pulse):
                    listing = await wait_until_served(api, settings, stop, informer.forget_all, again=lost is not None)
                if listing is None:
                    break
                begun = now()
                informer.begin(listing)
                lost = await _watch_until_lost(informer, api, login, settings, stop)
                if now() > begun + _LONG_SECONDS:
                    logged = ""
                if (sentence := _sentence(lost)) and sentence != logged:
                    _logger.warning("the watch was broken off and begins anew", extra={"error": sentence})
                    logged = sentence
            handling.cancel()
    except ExceptionGroup as errors:
        cause = errors.exceptions[0]
    else:
        return
    if isinstance(cause, Failure):
        raise cause
    if stop.is_set():
        _logger.debug("kopf was stopped in the midst of something", exc_info=cause)
        return
    raise watch_lost(f"{type(cause).__name__}: {cause}") from cause


async def _watch_until_lost(
    informer: Informer, api: KubernetesApi, login: ClientConfig, settings: WatchSettings, stop: asyncio.Event
) -> Exception | None:
    """Watch until `stop` is set (None), or something ends the watch that may begin anew.

    Raises Failure when the watch is stale or kopf stopped by itself, and what ends kopf while it is stopped.
    """
    try:
        async with asyncio.TaskGroup() as group:
            relisting = group.create_task(informer.relist_regularly(api, settings))
            looking = group.create_task(_look_at_schema(api, settings))
            await _run_kopf(informer, login, settings, stop)
            relisting.cancel()
            looking.cancel()
    except ExceptionGroup as errors:
        cause = errors.exceptions[0]
    else:
        return None
    if isinstance(cause, Failure) or stop.is_set():
        raise cause
    return cause


async def _look_at_schema(api: KubernetesApi, settings: WatchSettings) -> None:
    while True:
        await api.look_at_schema()
        await asyncio.sleep(settings.relist_seconds)


def _sentence(lost: Exception | None) -> str:
    """What is worth a line of the log; nothing where another sentence follows, or went before.

    While one namespace's watch ends by a 404, kopf closes the session under the others, and aiohttp asserts. Whether
    the definition is gone is asked next, by a list.
    """
    if lost is None or _is_not_found(lost) or isinstance(lost, AssertionError | VersionsWentBack):
        return ""
    return Redactor().quote(f"{type(lost).__name__}: {lost}", _LONGEST_SENTENCE)


def _is_not_found(error: BaseException | None) -> bool:
    """Whether it is a 404 of the API server, which kopf's errors and ApiError both tell by `status`."""
    return getattr(error, "status", None) == 404


async def _run_kopf(informer: Informer, login: ClientConfig, settings: WatchSettings, stop: asyncio.Event) -> None:
    """Returns after `stop`; raises what ended kopf otherwise."""
    loop = asyncio.new_event_loop()
    halt = asyncio.Event()

    def on_stray_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """kopf leaves tasks behind when it is stopped, and a callback of its own that asserts when a watch ends."""
        if not halt.is_set() and not isinstance(context.get("exception"), AssertionError):
            loop.default_exception_handler(context)

    def run() -> None:
        loop.set_exception_handler(on_stray_error)
        with _KopfLog().installed(), asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_operate(informer, login, settings, halt))

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
        raise watch_lost("kopf has stopped by itself")


async def _operate(informer: Informer, login: ClientConfig, settings: WatchSettings, halt: asyncio.Event) -> None:
    """In kopf's loop, until `halt`; raises what ended kopf."""
    kopf_login = KopfClientConfig(login)
    halted = asyncio.create_task(halt.wait())
    try:
        async with _beating(informer.pulse):
            existing = asyncio.all_tasks()
            roots = await kopf.spawn_tasks(
                registry=_registry(informer, kopf_login),
                settings=_kopf_settings(settings),
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                standalone=True,
                stop_flag=halt,
            )
            operator = asyncio.create_task(kopf.run_tasks(roots, ignored=existing))
            ended, _ = await asyncio.wait((*roots, halted), return_when=asyncio.FIRST_COMPLETED)
        stopped = halt.is_set()
        await asyncio.wait(roots, timeout=_KOPF_STOP_SECONDS)
        operator.cancel()  # it would wait 5 seconds for requests that its roots left behind
        await asyncio.wait((operator,), timeout=_KOPF_STOP_SECONDS)  # a watcher may miss that it is cancelled, once
        error = _error_of(operator) or next(filter(None, map(_error_of, ended)), None)
        if error is not None and not stopped:
            raise error
        if error is not None:
            _logger.debug("kopf was stopped in the midst of something", exc_info=error)
    finally:
        halt.set()
        await _end_remaining_tasks()
        await kopf_login.aclose()


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


@contextlib.asynccontextmanager
async def _beating(pulse: Pulse) -> AsyncIterator[None]:
    """`pulse` beats while the context lasts and its event loop comes round."""

    async def beat() -> None:
        while True:
            pulse.beat()
            await asyncio.sleep(_BEAT_SECONDS)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait({beating})


async def _end_remaining_tasks() -> None:
    """What kopf left running in its loop; a request after the end of its session would fail with a traceback."""
    remaining = asyncio.all_tasks() - {asyncio.current_task()}
    for task in remaining:
        task.cancel()
    if remaining:
        await asyncio.wait(remaining, timeout=_KOPF_STOP_SECONDS)


class _KopfLog:
    """Drops what kopf logs of things that this module handles; a filter for one run of kopf.

    kopf warns that it does not handle signals in this thread: the process does. It logs the error that ends its watches
    once for each of its tasks, with traceback, and then what other watches meet when their session is closed: one
    sentence of this module's, or of the wait for the definition, stands for them. Before a 404, the API server says 429
    for a moment. A session that is closed under a request is kopf's own doing, and is opened again.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None and not any(text in record.getMessage() for text in _HANDLED)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        loggers = [logging.getLogger(each) for each in _KOPF_LOGGERS]
        for logger in loggers:
            logger.addFilter(self.filter)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(self.filter)


def _registry(informer: Informer, login: KopfClientConfig) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    kopf.on.login(registry=registry, backoff=5)(login.log_in)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def on_event(event: kopf.RawEvent, **_: object) -> None:
        informer.on_event(event)

    return registry


def _kopf_settings(watch: WatchSettings) -> kopf.OperatorSettings:
    """Every setting that matters, on purpose, whatever kopf's default is."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # no watch of namespaces and definitions, so no right to them either
    settings.watching.initial_streaming = False  # needs Kubernetes 1.34
    settings.watching.chunk_size = 500
    if watch.selector:
        settings.watching.label_selectors[GROUP, VERSION, PLURAL] = watch.selector
    settings.watching.server_timeout = watch.stream_seconds
    settings.watching.inactivity_timeout = 70  # the API server sends a bookmark every minute
    settings.networking.request_timeout = watch.request_seconds
    settings.networking.connect_timeout = watch.connect_seconds
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.trust_env = False
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 1
    settings.execution.max_workers = 1
    settings.process.ultimate_exiting_timeout = None  # the process has its own deadline
    return settings


class _Backoffs:
    """Seconds between tries while the API server is away, without an end: sessions go on meanwhile."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0, 4.0, 8.0), itertools.repeat(15.0))
