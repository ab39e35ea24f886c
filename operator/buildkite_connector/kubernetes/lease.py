"""The Lease (coordination.k8s.io/v1) that says which process acts, as `election` reads and writes it.

Each write names the version that it changes, so that the API server rejects one of two processes that write at once. A
write is a merge patch: labels and annotations of others stay. No call waits for a permit.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernetes.aio.client import V1Lease, V1LeaseSpec, V1ObjectMeta

from buildkite_connector.kubernetes.connection import ApiError, Connection
from buildkite_connector.kubernetes.schema import FIELD_MANAGER

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
_MANAGED = {"fieldManager": FIELD_MANAGER}


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
        self._namespace = namespace
        self._name = name

    async def read(self) -> Lease | None:
        """The newest version; None when the Lease does not exist."""
        try:
            return await self._connection.call(
                "read its Lease", "GET", f"{_LEASES}/{{name}}", _parse, namespace=self._namespace, name=self._name
            )
        except ApiError as rejected:
            if rejected.status == 404:
                return None
            raise

    async def write(self, lease: Lease) -> Lease | None:
        """Create the Lease, or replace the version that `lease` names. None when another process was first."""
        body = _model(self._name, lease)
        try:
            if not lease.version:
                return await self._connection.call(
                    "create its Lease", "POST", _LEASES, _parse, query=_MANAGED, body=body, namespace=self._namespace
                )
            return await self._connection.call(
                "renew its Lease",
                "PATCH",
                f"{_LEASES}/{{name}}",
                _parse,
                query=_MANAGED,
                body=body,
                content_type="application/merge-patch+json",
                namespace=self._namespace,
                name=self._name,
            )
        except ApiError as rejected:
            if rejected.status == 409 or (rejected.status == 404 and lease.version):
                return None
            raise


def _model(name: str, lease: Lease) -> V1Lease:
    return V1Lease(
        api_version="coordination.k8s.io/v1",
        kind="Lease",
        metadata=V1ObjectMeta(name=name, resource_version=lease.version or None),
        spec=V1LeaseSpec(
            holder_identity=lease.holder,
            lease_duration_seconds=lease.duration,
            lease_transitions=lease.transitions,
            acquire_time=_with_fraction(lease.acquired),
            renew_time=_with_fraction(lease.renewed),
        ),
    )


def _with_fraction(time: datetime | None) -> datetime | None:
    """The Kubernetes client leaves a fraction of zero out, and the API server would reject the time."""
    return None if time is None else time.replace(microsecond=time.microsecond or 1)


def _parse(lease: Any) -> Lease:
    spec = lease.get("spec") or {}
    acquired, renewed = (spec.get(key) for key in ("acquireTime", "renewTime"))
    return Lease(
        holder=spec.get("holderIdentity") or "",
        duration=spec.get("leaseDurationSeconds") or 0,
        acquired=datetime.fromisoformat(acquired) if acquired else None,
        renewed=datetime.fromisoformat(renewed) if renewed else None,
        transitions=spec.get("leaseTransitions") or 0,
        version=lease["metadata"]["resourceVersion"],
    )
