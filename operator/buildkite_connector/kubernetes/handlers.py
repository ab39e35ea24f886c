"""The operator as kopf's handlers: startup, login, event and cleanup, in the main loop of the process.

kopf watches and nothing else: it writes no finalizer, no annotation and no event. What it reports goes through the
`informer` to the `controller`; `watch` is the HTTP session that it reports from. SIGTERM and SIGINT end the watches,
then `stop` ends everything else.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import cast

import aiohttp
import kopf

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.informer import Informer, WatchSettings, watch_lost
from buildkite_connector.kubernetes.schema import GROUP, PLURAL, VERSION
from buildkite_connector.kubernetes.watch import Pulse, WatchSession
from buildkite_connector.model.failure import Failure

_NO_RETRY = kopf.ErrorsMode.PERMANENT


async def operate(
    api: KubernetesApi,
    informer: Informer,
    watch: WatchSettings,
    pulse: Pulse,
    end: Callable[[], Coroutine[None, None, None]],
) -> None:
    """Serve the resources until a signal comes, or until cancelled; then, or after a failure, await `end`.

    Raises Failure when the watch is lost: the process should exit, and be restarted.
    """
    registry, halt = kopf.OperatorRegistry(), asyncio.Event()
    session = WatchSession(api, informer, watch, pulse)
    beside: list[asyncio.Task[None]] = []
    ending: list[asyncio.Task[None]] = []

    async def end_once() -> None:
        """Await `end`, which a second cancellation does not cut short."""
        if not ending:
            for task in beside:
                task.cancel()
            ending.append(asyncio.create_task(end()))
        await asyncio.shield(ending[0])

    @kopf.on.startup(registry=registry, errors=_NO_RETRY)
    async def start(settings: kopf.OperatorSettings, **_: object) -> None:
        configure(settings, watch)

    @kopf.on.login(registry=registry, errors=_NO_RETRY)
    async def log_in(**_: object) -> kopf.AiohttpSession:
        """Called once: no answer of the session makes kopf ask for another login."""
        server = api.connection.session.access.server
        # kopf uses no more of a session than WatchSession has.
        return kopf.AiohttpSession(server=server, aiohttp_session=cast(aiohttp.ClientSession, session))

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def observe(event: kopf.RawEvent, **_: object) -> None:
        informer.on_event(event)

    @kopf.on.cleanup(registry=registry, errors=_NO_RETRY)
    async def stop(**_: object) -> None:
        await end_once()

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
            await end_once()
    except ExceptionGroup as errors:
        cause = errors.exceptions[0]
        if isinstance(cause, Failure):
            raise cause from None
        raise watch_lost(f"{type(cause).__name__}: {cause}") from cause
    finally:
        await end_once()
        await _let_generators_end()


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


async def _let_generators_end() -> None:
    """kopf leaves its watches' generators unfinished. Collected here, the outer one ends the inner one in order."""
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)


async def _look_at_schema(api: KubernetesApi, watch: WatchSettings) -> None:
    """Every `relist_seconds`; at first, until the CRD is found, after `poll_seconds` and then ever later."""
    seconds = watch.poll_seconds
    while True:
        await api.look_at_schema()
        if api.schema.known:
            seconds = watch.relist_seconds
        await asyncio.sleep(seconds)
        seconds = min(2 * seconds, watch.relist_seconds)
