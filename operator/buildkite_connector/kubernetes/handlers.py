"""The operator as kopf's handlers: startup, login, event and cleanup, in the main loop of the process.

kopf watches and nothing else: it writes no finalizer, no annotation and no event. What it reports goes through the
`informer` to the `controller`; `watch` is the HTTP session that it reports from. SIGTERM and SIGINT end the watches,
then `shut_down` ends everything else.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import AsyncGeneratorType
from typing import Any, cast
from weakref import WeakValueDictionary

import aiohttp
import kopf

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.informer import Informer, WatchSettings, watch_lost
from buildkite_connector.kubernetes.schema import GROUP, PLURAL, VERSION
from buildkite_connector.kubernetes.watch import Pulse, WatchSession
from buildkite_connector.model.failure import Failure

_NO_RETRY = kopf.ErrorsMode.PERMANENT
_KOPF = str(Path(kopf.__file__).parent)


async def operate(
    api: KubernetesApi,
    informer: Informer,
    watch: WatchSettings,
    pulse: Pulse,
    shut_down: Callable[[], Coroutine[None, None, None]],
) -> None:
    """Serve the resources until a signal comes, or until cancelled; then, or after a failure, await `shut_down`.

    Raises Failure when the watch is lost: the process should exit, and be restarted.
    """
    registry, halt = kopf.OperatorRegistry(), asyncio.Event()
    session, generators = WatchSession(api, informer, watch, pulse), _Generators()
    beside: list[asyncio.Task[None]] = []
    ending: list[asyncio.Task[None]] = []

    async def shut_down_once() -> None:
        """Await `shut_down`, which a second cancellation does not cut short."""
        if not ending:
            for task in beside:
                task.cancel()
            ending.append(asyncio.create_task(shut_down()))
        await asyncio.shield(ending[0])

    @kopf.on.startup(registry=registry, errors=_NO_RETRY)
    async def start(settings: kopf.OperatorSettings, **_: object) -> None:
        configure(settings, watch)

    @kopf.on.login(registry=registry, errors=_NO_RETRY)
    async def log_in(**_: object) -> kopf.AiohttpSession:
        """Called once: no answer of the session makes kopf ask for another login."""
        server = api.connection.access.server
        # kopf uses no more of a session than WatchSession has.
        return kopf.AiohttpSession(server=server, aiohttp_session=cast(aiohttp.ClientSession, session))

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def observe(event: kopf.RawEvent, **_: object) -> None:
        informer.on_event(event)

    @kopf.on.cleanup(registry=registry, errors=_NO_RETRY)
    async def stop(**_: object) -> None:
        await shut_down_once()

    try:
        async with asyncio.TaskGroup() as group:
            beside.append(group.create_task(informer.relist_regularly(api, watch, session.begin_anew)))
            beside.append(group.create_task(_look_at_schema(api, watch)))
            everywhere = not watch.namespaces
            tasks = await kopf.spawn_tasks(
                registry=registry,
                clusterwide=everywhere,
                namespaces=watch.namespaces,
                standalone=True,
                # By default kopf asks for the user's name, and a container's user has none. Its type is not exported.
                identity="buildkite-connector",  # type: ignore[arg-type]
                stop_flag=halt,
            )
            for number in (signal.SIGTERM, signal.SIGINT):  # kopf's own handlers break on a second signal
                asyncio.get_running_loop().add_signal_handler(number, halt.set)
            for task in tasks:  # once one of them ends, all are to end; kopf's watcher can miss that it is cancelled
                task.add_done_callback(lambda _: session.end())
            await kopf.run_tasks(tasks, ignored=_EveryTask())
            await shut_down_once()
    except ExceptionGroup as errors:
        cause = errors.exceptions[0]
        if isinstance(cause, Failure):
            raise cause from None
        raise watch_lost(f"{type(cause).__name__}: {cause}") from cause
    finally:
        await shut_down_once()
        await generators.close()


def configure(settings: kopf.OperatorSettings, watch: WatchSettings) -> None:
    """Set every relevant setting of kopf explicitly, whatever its default is."""
    settings.posting.enabled = False
    settings.scanning.disabled = True  # no watch of namespaces and CRDs, and so no permissions for them
    settings.watching.initial_streaming = False  # needs Kubernetes 1.34
    settings.watching.chunk_size = 500
    if watch.selector:
        settings.watching.label_selectors[GROUP, VERSION, PLURAL] = watch.selector
    settings.watching.server_timeout = 600
    settings.watching.inactivity_timeout = 70  # the API server sends a bookmark every minute
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = ()  # WatchSession tries again
    settings.networking.trust_env = False
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 1
    settings.execution.max_workers = 1
    settings.process.ultimate_exiting_timeout = None  # the process has its own deadline


class _EveryTask(frozenset[asyncio.Task[None]]):
    """kopf would cancel every task that began after it; its own have all ended by then."""

    def __contains__(self, _: object) -> bool:
        return True


class _Generators:
    """Closes the generators that kopf's watches leave unfinished, an outer one before those that it uses.

    asyncio closes what is left in no order: an outer generator then fails, because an inner one is closed already.
    """

    def __init__(self) -> None:
        self._begun: WeakValueDictionary[int, AsyncGenerator[Any, Any]] = WeakValueDictionary()
        self._numbers, self._hooks = count(), sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._begin)

    def _begin(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._hooks.firstiter is not None:
            self._hooks.firstiter(generator)
        if isinstance(generator, AsyncGeneratorType) and generator.ag_code.co_filename.startswith(_KOPF):
            self._begun[next(self._numbers)] = generator

    async def close(self) -> None:
        sys.set_asyncgen_hooks(firstiter=self._hooks.firstiter)
        for generator in list(self._begun.values()):
            with suppress(Exception):  # of a connection that is broken, for example: nobody reads from it any more
                await generator.aclose()


async def _look_at_schema(api: KubernetesApi, watch: WatchSettings) -> None:
    """Every `relist_seconds`; at first, until the CRD is found, after `poll_seconds` and then ever later."""
    seconds = watch.poll_seconds
    while True:
        await api.look_at_schema()
        if api.schema.known:
            seconds = watch.relist_seconds
        await asyncio.sleep(seconds)
        seconds = min(2 * seconds, watch.relist_seconds)
