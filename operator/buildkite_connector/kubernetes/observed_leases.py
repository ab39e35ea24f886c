"""What one process has seen of Leases, and since when: by that alone it tells whether one has expired."""

from dataclasses import dataclass

from buildkite_connector.kubernetes.lease import Lease
from buildkite_connector.kubernetes.resource import is_lower


@dataclass(frozen=True, slots=True)
class _Sight:
    """`before`: who may still act by the Lease as it was before the cluster was set back, "" when nobody does."""

    lease: Lease
    since: float
    before: str = ""


class ObservedLeases:
    """`duration`, in seconds, counts for a Lease that names none. `now` is monotonic, and taken after the answer."""

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._sights: dict[str, _Sight] = {}

    def note(self, name: str, lease: Lease | None, now: float) -> None:
        """A Lease that is gone counts as it was until it would have expired: its holder may not know yet.

        So does one that is older than it was, after a restore of etcd, beside the one that is there now.
        """
        sight = self._sights.get(name)
        if lease is None or (sight is not None and sight.lease.record == lease.record):
            return
        before = ""
        if sight is not None and is_lower(lease.version, sight.lease.version):
            before = next(iter(self.holders(name, now)), "")
        self._sights[name] = _Sight(lease, now, before)

    def holders(self, name: str, now: float) -> list[str]:
        """Who may act by this Lease: nobody or one; two after the cluster was set back."""
        sight = self._sights.get(name)
        if sight is None or now >= sight.since + (sight.lease.record.duration or self._duration):
            return []
        return [each for each in (sight.lease.record.holder, sight.before) if each]

    def held(self, now: float) -> list[Lease]:
        """Those by which somebody may act."""
        return [sight.lease for name, sight in self._sights.items() if self.holders(name, now)]
