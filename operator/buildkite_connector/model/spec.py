"""What a person asked for: one connector's settings, whatever they were read from.

The Kubernetes adapter fills this from a resource (its model has the limits), the command from flags.
"""

import hashlib
from dataclasses import astuple, dataclass, field
from typing import NewType

from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.provisioning import Provisioning
from buildkite_connector.model.schedule import Interval, Schedule
from buildkite_connector.model.scope import ALL_KINDS, ResourceKind

ConnectorKey = NewType("ConnectorKey", str)
"""What tells connectors apart in one process: `<namespace>.<name>` in Kubernetes."""


def namespace_of(key: ConnectorKey) -> str:
    """A namespace has no dot in its name; without Kubernetes it is whatever comes before the first dot."""
    return key.partition(".")[0]


HOURLY = Interval(3600.0)


@dataclass(frozen=True, slots=True)
class ConnectorSpec:
    """Seconds and percents. `max_drop_percent` 0 disables the shrink guard."""

    host_id: str
    organization: OrganizationSlug | None = None
    schedule: Schedule = HOURLY
    suspend: bool = False
    kinds: frozenset[ResourceKind] = ALL_KINDS
    sync_timeout: float = 7200.0
    quota_percent: int = 80
    max_snapshot_age: float = 600.0
    max_drop_percent: int = 50
    provisioning: Provisioning = field(default_factory=Provisioning)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the Secret holds. Values are never shown: not in a repr, a log or an error.

    `write_api_token` changes memberships where it is set, so that `api_token` may be one that only reads.
    """

    client_id: str
    client_secret: str
    api_token: str
    organization: OrganizationSlug | None = None
    write_api_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"

    def fingerprint(self) -> bytes:
        """What tells a changed Secret from the same one read again; kept in memory only."""
        return hashlib.sha256(repr(astuple(self)).encode()).digest()
