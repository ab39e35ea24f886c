"""What a check is told: the vendor's variables, as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildkite_connector.c1 import C1Settings
from buildkite_connector.model.directory import ALL_KINDS, ResourceKind
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import Credentials


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """Texts without white space around them, empty where they are not set. `host_id`: what C1 shows.

    `environment`: proxies and authorities are read of it. `hosts_listed`: whether somebody set which hosts a client ID
    may lead to.
    """

    api_url: str
    api_token: str = field(repr=False)
    host_id: str
    c1: C1Settings
    environment: Mapping[str, str] = field(repr=False)
    organization: str = ""
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    hosts_listed: bool = False
    kinds: frozenset[ResourceKind] = ALL_KINDS

    @property
    def redactor(self) -> Redactor:
        """Knows all credentials: each side's steps quote a server that may have come to know the other's."""
        unwrapped = Credentials(self.client_id, "".join(self.client_secret.split()), self.api_token)
        return unwrapped.redactor.with_secrets(self.client_secret)
