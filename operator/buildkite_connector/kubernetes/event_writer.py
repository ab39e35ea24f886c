"""Posts Kubernetes events in the background. `events` decides which."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from buildkite_connector.kubernetes.connection import ApiError, Connection
from buildkite_connector.kubernetes.events import EventDraft
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.kubernetes.schema import API_VERSION, FIELD_MANAGER, GROUP, KIND
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import Clock

_EVENTS = "/apis/events.k8s.io/v1/namespaces/{namespace}/events"
LONGEST_EVENT_WAIT = 2.0
"""The longest Retry-After of the API server, in seconds, after which an event is tried once more."""
_POSTED_AT_ONCE = 4
MOST_WAITING = 4096
"""Events in the queue; a start of 1,000 connectors makes 2,000."""

_logger = logging.getLogger(__name__)


class EventWriter:
    """Posts the events of one process while `posting` is entered; `instance` is the process's name in them.

    No status waits for an event: events are only for people.
    """

    def __init__(self, connection: Connection, clock: Clock, instance: str) -> None:
        self._connection = connection
        self._clock = clock
        self._instance = instance
        self._waiting = asyncio.Queue[tuple[ObservedResource, EventDraft, datetime]](MOST_WAITING)

    def post(self, resource: ObservedResource, draft: EventDraft) -> None:
        """Post an event soon, or count it up if it was posted before."""
        try:
            self._waiting.put_nowait((resource, draft, self._clock.now()))
        except asyncio.QueueFull:
            _log_lost(resource, draft, "too many events are waiting")

    async def drain(self, seconds: float) -> None:
        """Wait until all events are posted, for at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._waiting.join()

    @asynccontextmanager
    async def posting(self) -> AsyncIterator[None]:
        posters = [asyncio.create_task(self._post_all(), name="post events") for _ in range(_POSTED_AT_ONCE)]
        try:
            yield
        finally:
            for poster in posters:
                poster.cancel()
            await asyncio.wait(posters)

    async def _post_all(self) -> None:
        while True:
            resource, draft, moment = await self._waiting.get()
            try:
                await self._post(resource, draft, moment)
            except (ApiError, Failure) as error:
                _log_lost(resource, draft, str(error))
            except Exception:
                _logger.exception("an event could not be posted", extra={"connector": resource.key})
            finally:
                self._waiting.task_done()

    async def _post(self, resource: ObservedResource, draft: EventDraft, moment: datetime) -> None:
        """Retry once when the API server asks for a short wait."""
        try:
            await self._create_or_count(resource, draft, moment)
        except Failure as failure:
            if failure.retry_after is None or failure.retry_after > LONGEST_EVENT_WAIT:
                raise
            await self._clock.sleep(failure.retry_after)
            await self._create_or_count(resource, draft, moment)

    async def _create_or_count(self, resource: ObservedResource, draft: EventDraft, moment: datetime) -> None:
        identity = "\0".join((resource.uid, draft.type, draft.reason, draft.message))
        name = f"{resource.name[:230]}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        time = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        event = {
            "metadata": {"name": name, "namespace": resource.namespace},
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": resource.namespace,
                "name": resource.name,
                "uid": resource.uid,
            },
            "type": draft.type.value,
            "reason": draft.reason.value,
            "note": draft.message,
            "action": "Reconcile",
            "reportingController": f"{GROUP}/{FIELD_MANAGER}",
            "reportingInstance": self._instance,
            "eventTime": time,
        }

        try:
            await self._connection.call(
                "post an event",
                "POST",
                _EVENTS,
                lambda _: None,
                for_connector=True,
                body=event,
                namespace=resource.namespace,
            )
        except ApiError as rejected:
            if rejected.status != 409:
                raise
            before = await self._patch(resource, name, {})  # reads it, without the permission to get events
            await self._patch(resource, name, {"series": {"count": before + 1, "lastObservedTime": time}})

    async def _patch(self, resource: ObservedResource, name: str, changes: dict[str, Any]) -> int:
        """Change an event, and return how often it has come."""
        return await self._connection.call(
            "count an event",
            "PATCH",
            f"{_EVENTS}/{{name}}",
            lambda event: int((event.get("series") or {}).get("count", 1)),
            for_connector=True,
            body=changes,
            content_type="application/merge-patch+json",
            namespace=resource.namespace,
            name=name,
        )


def _log_lost(resource: ObservedResource, draft: EventDraft, why: str) -> None:
    fields = {"connector": resource.key, "event": draft.reason.value, "error": why}
    _logger.warning("an event was not posted", extra=fields)
