"""The Lease (coordination.k8s.io/v1) that says which process acts, as `election` reads and writes it.

Each write names the version that it changes, so that the API server rejects one of two processes that write at once. A
write is a merge patch: labels and annotations of others stay. No call waits for a permit.
"""

from dataclasses import dataclass, field
from datetime import datetime

from kubernetes.aio.client import CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta

from buildkite_connector.kubernetes.connection import ApiError, Connection
from buildkite_connector.kubernetes.schema import FIELD_MANAGER

_MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Lease:
    """The content of a Lease. `holder` empty: no holder; `duration` in seconds; `version` empty: it must be created.

    The times are the holder's wall time, for people: only whether they changed matters. Equality ignores the version: a
    new version alone, as after a change of labels, is no renewal.
    """

    holder: str
    duration: int
    acquired: datetime | None = None
    renewed: datetime | None = None
    transitions: int = 0
    version: str = field(default="", compare=False)


class LeaseClient:
    """One Lease. Each call raises ApiError and Failure; the caller sets the deadlines."""

    def __init__(self, connection: Connection, namespace: str, name: str) -> None:
        self._connection = connection
        self._api = CoordinationV1Api(connection.client)
        self._namespace = namespace
        self._name = name

    async def read(self) -> Lease | None:
        """The newest version; None when the Lease does not exist."""
        try:
            found = await self._connection.call(
                "read its Lease", lambda: self._api.read_namespaced_lease(self._name, self._namespace)
            )
        except ApiError as rejected:
            if rejected.status == 404:
                return None
            raise
        return _parse(found)

    async def write(self, lease: Lease) -> Lease | None:
        """Create the Lease, or replace the version that `lease` names. None when another process was first."""
        metadata = V1ObjectMeta(name=self._name, resource_version=lease.version or None)
        body = V1Lease(metadata=metadata, spec=_spec(lease))
        try:
            written = await (
                self._connection.call(
                    "renew its Lease",
                    lambda: self._api.patch_namespaced_lease(
                        self._name, self._namespace, body, field_manager=FIELD_MANAGER, _content_type=_MERGE
                    ),
                )
                if lease.version
                else self._connection.call(
                    "create its Lease",
                    lambda: self._api.create_namespaced_lease(self._namespace, body, field_manager=FIELD_MANAGER),
                )
            )
        except ApiError as rejected:
            if rejected.status == 409 or (rejected.status == 404 and lease.version):
                return None
            raise
        return _parse(written)


def _spec(lease: Lease) -> V1LeaseSpec:
    return V1LeaseSpec(
        holder_identity=lease.holder,
        lease_duration_seconds=lease.duration,
        acquire_time=_with_fraction(lease.acquired),
        renew_time=_with_fraction(lease.renewed),
        lease_transitions=lease.transitions,
    )


def _parse(lease: V1Lease) -> Lease:
    spec = lease.spec or V1LeaseSpec()
    return Lease(
        holder=spec.holder_identity or "",
        duration=spec.lease_duration_seconds or 0,
        acquired=spec.acquire_time,
        renewed=spec.renew_time,
        transitions=spec.lease_transitions or 0,
        version=(lease.metadata or V1ObjectMeta()).resource_version or "",
    )


def _with_fraction(time: datetime | None) -> datetime | None:
    """The typed client leaves a fraction of zero out, and the API server would reject the time."""
    return None if time is None else time.replace(microsecond=time.microsecond or 1)
