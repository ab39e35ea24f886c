"""What a person asked for: one connector's settings, whatever they were read from.

The Kubernetes adapter fills this from a resource (its model has the limits), the command from flags.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from typing import NewType

from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.provisioning import Provisioning
from buildkite_connector.model.schedule import Interval, Schedule
from buildkite_connector.model.scope import ALL_KINDS, ResourceKind
from buildkite_connector.model.untrusted_text import Redactor, held_in_base64

ConnectorKey = NewType("ConnectorKey", str)
"""What tells connectors apart in one process: `<namespace>.<name>` in Kubernetes."""


def namespace_of(key: ConnectorKey) -> str:
    """A namespace has no dot in its name; without Kubernetes it is whatever comes before the first dot."""
    return key.partition(".")[0]


HOURLY = Interval(3600.0)
_CLIENT_SECRET = "secret-token:conductorone.com:"  # noqa: S105


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
class OrganizationChoice:
    """Which organization to read. `key`: the Secret's key that holds the slug; empty where a person chose it openly.

    A slug that only a Secret holds is not shown, since the key may be that of any value. Buildkite's answer makes it an
    `OrganizationSlug`.
    """

    slug: str = field(repr=False)
    key: str = ""

    def __str__(self) -> str:
        return f"with the slug in the Secret's key {self.key}" if self.key else repr(self.slug)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the Secret holds. Values are never shown: not in a repr, a log or an error.

    `write_api_token` changes memberships where it is set, so that `api_token` may be one that only reads.
    """

    client_id: str
    client_secret: str
    api_token: str
    organization: OrganizationChoice | None = None
    write_api_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"

    @property
    def redactor(self) -> Redactor:
        """Knows all of them: each of the two servers may come to know what was meant for the other.

        Private are the client ID, whose host is public where calls go to it, and the organization, which is public once
        Buildkite has confirmed it.
        """
        slug = self.organization.slug if self.organization is not None else ""
        secrets = (self.api_token, self.write_api_token, *self._parts_of_the_client())
        return Redactor((*secrets, *map(held_in_base64, secrets)), private=(self.client_id, slug))

    def _parts_of_the_client(self) -> Iterator[str]:
        """What is secret of ID and secret whatever becomes of the host; C1's own words are not."""
        name, at, rest = self.client_id.partition("@")
        yield name
        if at:
            yield rest.partition("/")[2]
        is_usual = self.client_secret.startswith(_CLIENT_SECRET)
        yield self.client_secret.rpartition(":")[2] if is_usual else self.client_secret

    def fingerprint(self) -> bytes:
        """What tells a changed Secret from the same one read again; kept in memory only."""
        return hashlib.sha256(repr(astuple(self)).encode()).digest()


def repeats_credential(slug: str, credentials: Credentials) -> bool:
    """Whether a slug that was chosen openly is, or holds, what is to stay secret, as by a mistake in pasting."""
    return credentials.redactor.holds_secret(slug)
