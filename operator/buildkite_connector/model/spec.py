"""A connector's settings and credentials, whether they come from a resource or from flags.

The Kubernetes adapter fills them from a resource (its model has the limits), the command from flags.
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
"""The connector's id in this process: `<namespace>.<name>` in Kubernetes."""


def namespace_of(key: ConnectorKey) -> str:
    """The part before the first dot: a namespace's name holds no dot."""
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
    """The Secret's values. They never appear in a repr, a log or an error.

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
        """Takes out all of them: each of the two servers may come to know a value that was meant for the other.

        Private are the client ID, whose host is public where calls go to it, and the organization, which is public once
        Buildkite has confirmed it.
        """
        slug = self.organization.slug if self.organization is not None else ""
        secrets = (self.api_token, self.write_api_token, *self._parts_of_the_client())
        return Redactor((*secrets, *map(held_in_base64, secrets)), private=(self.client_id, slug))

    def _parts_of_the_client(self) -> Iterator[str]:
        """The parts of ID and secret that stay secret when the host is public, without C1's fixed prefix."""
        name, at, rest = self.client_id.partition("@")
        yield name
        if at:
            yield rest.partition("/")[2]
        is_usual = self.client_secret.startswith(_CLIENT_SECRET)
        yield self.client_secret.rpartition(":")[2] if is_usual else self.client_secret

    def fingerprint(self) -> bytes:
        """A hash by which a changed Secret is noticed; kept in memory only."""
        return hashlib.sha256(repr(astuple(self)).encode()).digest()


def repeats_credential(slug: str, credentials: Credentials) -> bool:
    """Whether a slug that was chosen openly holds a secret value, as by a mistake in pasting."""
    return credentials.redactor.holds_secret(slug)
