"""The Leases (coordination.k8s.io/v1) that say which process acts, as `election` reads and writes them.

Each write names the version that it changes, so that of two processes that write at once one is refused. A write is a
merge patch: labels and annotations of others stay. No call waits behind those for connectors.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kubernetes.aio.client import CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta

from buildkite_connector.kubernetes.requests import ApiError, Connection
from buildkite_connector.kubernetes.schema import FIELD_MANAGER, LEASE_LABEL, SHARDS_ANNOTATION

_MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says. `holder` empty: nobody holds it. `duration` in seconds.

    The times are the holder's wall time, for people: nothing is decided by them but whether they changed.
    """

    holder: str
    duration: int
    acquired: datetime | None = None
    renewed: datetime | None = None
    transitions: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease as it is in the cluster. `shards`: into how many the connectors were divided when it was taken."""

    name: str
    record: LeaseRecord
    version: str
    shards: int = 1


class LeaseClient:
    """The Leases of one name, and its shards' (see `shards`), in one namespace.

    `seconds` of each call is its deadline. Every call raises ApiError, Failure and TimeoutError.
    """

    def __init__(self, connection: Connection, namespace: str, label: str) -> None:
        self._connection = connection
        self._api = CoordinationV1Api(connection.client)
        self._namespace = namespace
        self._label = label

    async def read(self, name: str, seconds: float) -> Lease | None:
        """The newest; None when there is none."""
        try:
            found = await self._connection.call(
                "read its Lease",
                lambda: self._api.read_namespaced_lease(name, self._namespace, _request_timeout=seconds),
            )
        except ApiError as refused:
            if refused.status == 404:
                return None
            raise
        return _parse(found)

    async def list_related(self, seconds: float) -> Sequence[Lease]:
        """The newest of every Lease with this label."""
        found = await self._connection.call(
            "list its Leases",
            lambda: self._api.list_namespaced_lease(
                self._namespace, label_selector=f"{LEASE_LABEL}={self._label}", _request_timeout=seconds
            ),
        )
        return [_parse(each) for each in found.items]

    async def create(self, name: str, record: LeaseRecord, shards: int, seconds: float) -> Lease | None:
        """None: another was first."""
        lease = V1Lease(
            metadata=V1ObjectMeta(
                name=name, labels={LEASE_LABEL: self._label}, annotations={SHARDS_ANNOTATION: str(shards)}
            ),
            spec=V1LeaseSpec(
                holder_identity=record.holder,
                lease_duration_seconds=record.duration,
                acquire_time=_with_fraction(record.acquired),
                renew_time=_with_fraction(record.renewed),
                lease_transitions=record.transitions,
            ),
        )
        return await self._write(
            {409},
            "create its Lease",
            lambda: self._api.create_namespaced_lease(
                self._namespace, lease, field_manager=FIELD_MANAGER, _request_timeout=seconds
            ),
        )

    async def replace(self, name: str, record: LeaseRecord, version: str, shards: int, seconds: float) -> Lease | None:
        """None: it has another version by now, or is gone."""
        patch = {
            "metadata": {
                "resourceVersion": version,
                "labels": {LEASE_LABEL: self._label},
                "annotations": {SHARDS_ANNOTATION: str(shards)},
            },
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": record.duration,
                "acquireTime": _text(record.acquired),
                "renewTime": _text(record.renewed),
                "leaseTransitions": record.transitions,
            },
        }
        return await self._write(
            {404, 409},
            "renew its Lease",
            lambda: self._api.patch_namespaced_lease(
                name,
                self._namespace,
                patch,
                field_manager=FIELD_MANAGER,
                _content_type=_MERGE,
                _request_timeout=seconds,
            ),
        )

    async def _write(self, too_late: set[int], what: str, send: Callable[[], Awaitable[V1Lease]]) -> Lease | None:
        try:
            return _parse(await self._connection.call(what, send))
        except ApiError as refused:
            if refused.status in too_late:
                return None
            raise


def _parse(lease: V1Lease) -> Lease:
    metadata, spec = lease.metadata or V1ObjectMeta(), lease.spec or V1LeaseSpec()
    shards = (metadata.annotations or {}).get(SHARDS_ANNOTATION, "1")
    record = LeaseRecord(
        holder=spec.holder_identity or "",
        duration=spec.lease_duration_seconds or 0,
        acquired=spec.acquire_time,
        renewed=spec.renew_time,
        transitions=spec.lease_transitions or 0,
    )
    return Lease(metadata.name or "", record, metadata.resource_version or "", int(shards) if shards.isdecimal() else 1)


def _text(time: datetime | None) -> str | None:
    """RFC 3339 with microseconds, the only form that the API server takes for these fields."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _with_fraction(time: datetime | None) -> datetime | None:
    """The typed client leaves a fraction of zero out, and the API server would refuse the time."""
    return None if time is None else time.replace(microsecond=time.microsecond or 1)
