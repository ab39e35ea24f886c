"""Posts events; one that was posted before is counted up, so that a repeated transition is one line for people."""

import hashlib
import logging
from collections import OrderedDict
from datetime import UTC

from kubernetes.aio.client import EventsV1Api, EventsV1Event, V1ObjectMeta, V1ObjectReference

from buildkite_connector.kubernetes.events import EventDraft
from buildkite_connector.kubernetes.requests import ApiError, Connection
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.kubernetes.schema import API_VERSION, FIELD_MANAGER, GROUP, KIND
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import Clock

_MERGE = "application/merge-patch+json"
_LONGEST_WAIT = 2.0
_EVENTS_REMEMBERED = 1000

_logger = logging.getLogger(__name__)


class EventWriter:
    """The events of one process; `instance` is its name in them."""

    def __init__(self, connection: Connection, clock: Clock, instance: str) -> None:
        self._connection = connection
        self._clock = clock
        self._instance = instance
        self._events = EventsV1Api(connection.client)
        self._event_counts: OrderedDict[str, int] = OrderedDict()

    async def post(self, resource: ObservedResource, draft: EventDraft) -> None:
        """Post an event, or count it up if it was posted before. Never raises: events are only for people.

        It is tried again once, when the API server asks to wait for a moment: the next status waits for the event.
        """
        identity = "\0".join((resource.uid, draft.type, draft.reason, draft.message))
        name = f"{resource.name[:230]}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        try:
            try:
                count = await self._create_or_count_event(resource, draft, name)
            except Failure as failure:
                if failure.retry_after is None or failure.retry_after > _LONGEST_WAIT:
                    raise
                await self._clock.sleep(failure.retry_after)
                count = await self._create_or_count_event(resource, draft, name)
        except (ApiError, Failure) as error:
            _logger.warning(
                "an event was not posted",
                extra={"connector": resource.key, "event": draft.reason.value, "error": str(error)},
            )
            return
        self._event_counts[name] = count
        self._event_counts.move_to_end(name)
        if len(self._event_counts) > _EVENTS_REMEMBERED:
            self._event_counts.popitem(last=False)

    async def _create_or_count_event(self, resource: ObservedResource, draft: EventDraft, name: str) -> int:
        """How often it has been posted now."""
        now = self._clock.now()
        event = EventsV1Event(
            metadata=V1ObjectMeta(name=name, namespace=resource.namespace),
            regarding=V1ObjectReference(
                api_version=API_VERSION,
                kind=KIND,
                namespace=resource.namespace,
                name=resource.name,
                uid=resource.uid,
            ),
            type=draft.type.value,
            reason=draft.reason.value,
            note=draft.message,
            action="Reconcile",
            reporting_controller=f"{GROUP}/{FIELD_MANAGER}",
            reporting_instance=self._instance,
            event_time=now,
        )
        try:
            await self._connection.call_in_turn(
                "post an event",
                lambda: self._events.create_namespaced_event(
                    resource.namespace, event, _request_timeout=self._connection.request_seconds
                ),
            )
        except ApiError as refused:
            if refused.status != 409:
                raise
        else:
            return 1
        count = self._event_counts.get(name, 1) + 1
        series = {"count": count, "lastObservedTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        await self._connection.call_in_turn(
            "count an event",
            lambda: self._events.patch_namespaced_event(
                name,
                resource.namespace,
                {"series": series},
                _content_type=_MERGE,
                _request_timeout=self._connection.request_seconds,
            ),
        )
        return count
