"""What one process has seen of Leases, and since when: by that alone it tells whether one has expired."""

from dataclasses import dataclass

from buildkite_connector.kubernetes.lease import Lease


@dataclass(frozen=True, slots=True)
class _Sight:
    lease: Lease
    since: float


class ObservedLeases:
    """`duration`, in seconds, counts for a Lease that names none. `now` is monotonic, and taken after the answer."""

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._sights: dict[str, _Sight] = {}

    def note(self, name: str, lease: Lease | None, now: float) -> None:
        """A Lease that is gone counts as it was until it would have expired: its holder may not know yet."""
        sight = self._sights.get(name)
        if lease is not None and (sight is None or sight.lease.record != lease.record):
            self._sights[name] = _Sight(lease, now)

    def holder(self, name: str, now: float) -> str:
        """Who may act by this Lease; "" when nobody may."""
        sight = self._sights.get(name)
        if sight is None or not sight.lease.record.holder:
            return ""
        expires = sight.since + (sight.lease.record.duration or self._duration)
        return sight.lease.record.holder if now < expires else ""

    def held(self, now: float) -> list[Lease]:
        """Those by which somebody may act."""
        return [sight.lease for name, sight in self._sights.items() if self.holder(name, now)]
