"""Token exchange apps at a Buildkite simulator, and what a connector needs to use one."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from buildkite_connector.buildkite import SigningKey
from buildkite_connector.model.spec import ExchangeRequest, TokenExchange
from simulators.buildkite.exchange import App
from simulators.buildkite.server import BuildkiteSimulator

CLIENT_ID = "0123456789abcdef0123"
READING = ("read_organizations", "read_teams")


def pem_of(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@cache
def ec_pem(number: int = 0) -> str:
    """An EC key on P-256; another number is another key."""
    del number
    return pem_of(ec.generate_private_key(ec.SECP256R1()))


@cache
def rsa_pem(bits: int = 2048) -> str:
    return pem_of(rsa.generate_private_key(65537, bits))


def jwk_of(pem: str) -> dict[str, str]:
    return SigningKey.parse(pem).public_jwk()


@dataclass
class Registered:
    """An app at a simulator, and the connector's part of it."""

    sim: BuildkiteSimulator
    app: App
    exchange: TokenExchange

    def request(self, *scopes: str) -> ExchangeRequest:
        return ExchangeRequest(self.exchange, self.app.organization, frozenset(scopes or READING))


def register(sim: BuildkiteSimulator, pem: str | None = None, client_id: str = CLIENT_ID, **app: Any) -> Registered:
    """An app of the first organization, for its first member, who is made an administrator."""
    key = pem or ec_pem()
    member = sim.organization.members.records[0]
    sim.organization.update_member(member["id"], {"role": "admin"})
    registered = sim.exchanges.register(App(client_id, sim.organization.slug, [jwk_of(key)], **app))
    return Registered(sim, registered, TokenExchange(client_id, key, member["email"]))
