"""Waits until the cluster serves the custom resource definition.

Without the definition there is nothing to watch. The operator then waits, so that the order in which it and the
definition are applied does not matter.
"""

import asyncio
import logging
from collections.abc import Callable

from buildkite_connector.kubernetes.client import KubernetesApi, Listing
from buildkite_connector.kubernetes.informer import WatchSettings
from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.schema import GROUP, PLURAL
from buildkite_connector.model.failure import Failure

_NAME = f"{PLURAL}.{GROUP}"

_logger = logging.getLogger(__name__)


async def wait_until_served(
    api: KubernetesApi, settings: WatchSettings, stop: asyncio.Event, when_missing: Callable[[], None], *, again: bool
) -> Listing | None:
    """Every resource there is, once they can be listed and watched; None when `stop` came first.

    What stands in the way is logged once. `when_missing` is called when there is no definition, maybe repeatedly.
    `again`: there was a watch before, which the API server has ended, be it for a moment.
    A stop does not wait for an API server that does not answer.
    """
    waiting = asyncio.create_task(_wait_until_served(api, settings, stop, when_missing, again))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await waiting if waiting.done() else None
    finally:
        waiting.cancel()
        stopping.cancel()
        await asyncio.wait({waiting, stopping})


async def _wait_until_served(
    api: KubernetesApi, settings: WatchSettings, stop: asyncio.Event, when_missing: Callable[[], None], again: bool
) -> Listing | None:
    logged = ""
    pause = again  # else a watch that is refused while the list is not would begin again without a rest
    while not stop.is_set():
        sentence, wait = "", settings.poll_seconds
        try:
            listing = await api.list_connectors(settings.namespaces, settings.selector)
            if not pause and await api.is_discoverable():
                return listing
        except ApiError as refused:
            sentence = _advice(refused, again)
            if refused.status == 404:
                when_missing()
        except Failure as failure:
            sentence, wait = failure.message, max(wait, failure.retry_after or 0.0)
        if sentence and sentence != logged:
            _logger.error(sentence)
            logged = sentence
        pause = False
        await _sleep_unless(stop, wait)
    return None


def _advice(refused: ApiError, again: bool) -> str:
    if refused.status == 404:
        what = f"{_NAME} was deleted, and every resource with it" if again else f"The cluster does not know {_NAME}"
        return f"{what}: run `kubectl apply -f crds/`. The operator goes on as soon as the cluster knows it."
    if refused.status == 403:
        return (
            f"The operator may not list {_NAME}: apply deploy/, or give its service account the verbs"
            f" get, list and watch on them. The API server says: {refused}"
        )
    return f"{_NAME} cannot be listed: {refused}"


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
