"""The private key of a token exchange app: read, checked, and what Buildkite gets of it (a JWK).

No error quotes the key. RSA with 2048 to 4096 bits signs by RS256, EC on P-256 by ES256: Buildkite takes no others.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import jwt
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from buildkite_connector.model.credential_forms import Credential, mistake
from buildkite_connector.model.failure import Failure, Reason, Remedy

RSA_BITS = range(2048, 4097)
WANTED = "Use an RSA key of 2048 to 4096 bits or an EC key on the curve P-256."


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`key_id`: the JWK's thumbprint (RFC 7638), by which Buildkite finds the public key in the app's JWKS."""

    private_key: RSAPrivateKey | EllipticCurvePrivateKey = field(repr=False, compare=False)
    algorithm: str
    key_id: str

    @classmethod
    def parse(cls, pem: str) -> "SigningKey":
        """Takes milliseconds. Raises Failure SECRET_KEY_INVALID.

        The library tests the primes of an RSA key for up to a second (five for a key of 7680 bits), and nothing else in
        the process runs meanwhile. Whether the key's own signature is valid says enough: it serves to sign only.
        """
        wrong = mistake(pem, Credential.EXCHANGE_KEY) if pem.strip() else "is empty"
        if wrong is not None:
            raise _invalid(f"{wrong}.")
        try:
            key = cls.of(load_pem_private_key(pem.strip().encode(), None, unsafe_skip_rsa_key_validation=True))
            if isinstance(key.private_key, RSAPrivateKey):
                _try_out(key.private_key)
        except (ValueError, TypeError, UnsupportedAlgorithm, InternalError, InvalidSignature):
            raise _invalid(f"cannot be read: it was edited or cut short. {WANTED}") from None
        return key

    @classmethod
    def of(cls, key: object) -> "SigningKey":
        """Raises Failure SECRET_KEY_INVALID for a key that Buildkite does not take."""
        if isinstance(key, RSAPrivateKey):
            if key.key_size not in RSA_BITS:
                raise _invalid(f"is an RSA key of {key.key_size} bits. {WANTED}")
            return cls(key, "RS256", _thumbprint(key))
        if isinstance(key, EllipticCurvePrivateKey):
            if not isinstance(key.curve, SECP256R1):
                raise _invalid(f"is an EC key on the curve {key.curve.name}. {WANTED}")
            return cls(key, "ES256", _thumbprint(key))
        raise _invalid(f"is neither an RSA key nor an EC key. {WANTED}")

    def public_jwk(self) -> dict[str, str]:
        """What belongs into the app's JWKS."""
        return {**_members(self.private_key), "kid": self.key_id, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT. Takes milliseconds."""
        return jwt.encode(dict(claims), self.private_key, self.algorithm, headers={"kid": self.key_id})


def _try_out(key: RSAPrivateKey) -> None:
    """Raises InvalidSignature, or what the library raises, for a key whose parts do not belong together."""
    key.public_key().verify(key.sign(b"", PKCS1v15(), SHA256()), b"", PKCS1v15(), SHA256())


def _members(key: RSAPrivateKey | EllipticCurvePrivateKey) -> dict[str, str]:
    """The members of the public JWK that say which key it is."""
    if isinstance(key, RSAPrivateKey):
        rsa = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _number(rsa.n, (rsa.n.bit_length() + 7) // 8), "e": _number(rsa.e, 3)}
    point = key.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)}


def _thumbprint(key: RSAPrivateKey | EllipticCurvePrivateKey) -> str:
    canonical = json.dumps(_members(key), sort_keys=True, separators=(",", ":"))
    return _base64url(sha256(canonical.encode()).digest())


def _number(number: int, size: int) -> str:
    return _base64url(number.to_bytes(max(size, (number.bit_length() + 7) // 8)))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _invalid(what: str) -> Failure:
    return Failure(
        Reason.SECRET_KEY_INVALID, f"The private key of the token exchange app {what}", remedy=Remedy.CREDENTIALS
    )
