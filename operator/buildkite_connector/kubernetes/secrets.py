"""Reads the credentials from the Secret that a resource names, or reports what to put into it.

Secrets are read by `get` alone: the operator needs no permission to list or watch them. Their values stay in memory.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from buildkite_connector.connector.ports import Kept, OwnSecret
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.schema.c1_spec import C1KeysModel, C1SecretRefModel
from buildkite_connector.kubernetes.schema.spec import SecretKeysModel, SecretRefModel
from buildkite_connector.kubernetes.schema.validation import SLUG_PATTERN
from buildkite_connector.model.credential_forms import Credential, mistake
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_SECRET
from buildkite_connector.model.spec import (
    C1Access,
    Credentials,
    OrganizationChoice,
    TokenExchange,
)

_DEFAULT_KEYS = (*SecretKeysModel().model_dump().values(), *C1KeysModel().model_dump().values())

ReadSecret = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""Reads the Secret of this namespace and name: values in base64 by key. Raises ApiError and Failure (remedy: retry)."""


async def read_credentials(
    read_secret: ReadSecret, namespace: str, ref: SecretRefModel, own: OwnSecret | None = None, *, portal: bool = False
) -> Credentials:
    """Return the Secret's values without surrounding white space; the client of C1 from the operator's `own` Secret.

    The portal's token is read only for a `portal`. Raises Failure: remedy CREDENTIALS for what is wrong with the
    Secret, RETRY when the API cannot be asked.
    """
    keys = ref.keys
    needed = [] if own else [keys.client_id, keys.client_secret]
    needed += [keys.api_token, keys.portal_token] if portal else [keys.api_token]
    values = await _read(
        read_secret,
        namespace,
        ref.name,
        needed=needed,
        named=keys.model_dump().values(),
        field="spec.credentialsSecretRef.keys",
    )
    if own is None:
        return values.to_credentials(keys, portal=portal)
    kept = await own.read()
    if kept is None or not (kept.client_id and kept.client_secret):
        raise Failure(
            Reason.C1_NOT_CREATED, "The operator is creating the connector in C1: its credentials are not there yet."
        )
    return values.to_credentials(keys, kept, portal=portal)


async def read_c1_access(read_secret: ReadSecret, namespace: str, ref: C1SecretRefModel) -> C1Access:
    """Return the client of C1's REST API. Raises Failure as `read_credentials` does."""
    keys = ref.keys
    values = await _read(
        read_secret,
        namespace,
        ref.name,
        needed=(keys.client_id, keys.client_secret),
        named=keys.model_dump().values(),
        field="spec.c1.auth.secretRef.keys",
    )
    return C1Access(
        client_id=values.require(keys.client_id, Credential.CLIENT_ID),
        client_secret=values.require(keys.client_secret, Credential.CLIENT_SECRET),
        place=f"The client is in keys {keys.client_id} and {keys.client_secret} of {values.secret}.",
    )


async def _read(
    read_secret: ReadSecret, namespace: str, name: str, *, needed: Sequence[str], named: Collection[str], field: str
) -> "_Values":
    try:
        data = await read_secret(namespace, name)
    except ApiError as rejected:
        raise _rejected(rejected, namespace, name, needed) from None
    return _Values(f"Secret {name} in namespace {namespace}", data, frozenset({*named, *_DEFAULT_KEYS}), field)


@dataclass(frozen=True, slots=True, repr=False)
class _Values:
    """A Secret's data. Messages show no value, and only keys that the spec or the defaults name (`known`).

    A person who can create a connector may lack the permission to read the Secret. `field`: where the spec names keys.
    """

    secret: str
    data: Mapping[str, str]
    known: frozenset[str]
    field: str

    def to_credentials(self, keys: SecretKeysModel, client: Kept | None = None, *, portal: bool) -> Credentials:
        """`client`: of C1, where it is not in this Secret."""
        organization = self._find(keys.organization)
        if organization is not None and re.fullmatch(SLUG_PATTERN, organization) is None:
            raise _wrong(
                Reason.SECRET_KEY_INVALID,
                f"Key {keys.organization} of {self.secret} is not the slug of a Buildkite organization:"
                " use the slug from its address on buildkite.com, such as acme-inc.",
            )
        client_id = client.client_id if client else self.require(keys.client_id, Credential.CLIENT_ID)
        client_secret = client.client_secret if client else self.require(keys.client_secret, Credential.CLIENT_SECRET)
        exchange = self._token_exchange(keys)
        api_token = self._find(keys.api_token, Credential.API_TOKEN) or ""
        if exchange is None:
            api_token = self.require(keys.api_token, Credential.API_TOKEN)
        return Credentials(
            client_id=client_id,
            client_secret=client_secret,
            api_token=api_token,
            organization=OrganizationChoice(organization, keys.organization) if organization else None,
            write_api_token=self._find(keys.write_api_token, Credential.API_TOKEN) or "",
            token_exchange=exchange,
            portal_token=self.require(keys.portal_token, Credential.PORTAL_TOKEN) if portal else "",
        )

    def _token_exchange(self, keys: SecretKeysModel) -> TokenExchange | None:
        """None where the Secret has none of it. Where it has an API token, which is used then, any value will do."""
        names = {
            keys.token_exchange_client_id: Credential.EXCHANGE_CLIENT_ID,
            keys.token_exchange_private_key: Credential.EXCHANGE_KEY,
            keys.token_exchange_subject: Credential.EXCHANGE_SUBJECT,
        }
        found = [self._find(name) or "" for name in names]
        if not any(found):
            return None
        if not self._find(keys.api_token):
            found = [self.require(name, meaning) for name, meaning in names.items()]
        return TokenExchange(*found)

    def require(self, key: str, meaning: Credential) -> str:
        if key not in self.data:
            raise _wrong(
                Reason.SECRET_KEY_MISSING,
                f"{self.secret} has no key {key}, which should hold {meaning.value}; it has {self._keys_there()}:"
                f" add the key, or set the right one in {self.field}.",
            )
        value = self._find(key, meaning)
        if value is None:
            raise _wrong(Reason.SECRET_KEY_EMPTY, f"Key {key} of {self.secret} is empty: set it to {meaning.value}.")
        return value

    def _find(self, key: str, meaning: Credential | None = None) -> str | None:
        """The value, which can be `meaning`; None when the key is absent or blank."""
        try:
            text = base64.b64decode(self.data.get(key) or "", validate=True).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            raise _wrong(
                Reason.SECRET_KEY_INVALID, f"Key {key} of {self.secret} is not text: set it to the value as UTF-8."
            ) from None
        if len(text) > LONGEST_SECRET:
            raise _wrong(
                Reason.SECRET_KEY_INVALID,
                f"Key {key} of {self.secret} has more than {LONGEST_SECRET} characters, more than any credential: set"
                " it to the credential alone.",
            )
        if meaning is not None and (wrong := mistake(text, meaning)) is not None:
            raise _wrong(Reason.SECRET_KEY_INVALID, f"Key {key} of {self.secret} {wrong}.")
        return text or None

    def _keys_there(self) -> str:
        """Name the keys that the resource or the vendor's Secret uses, and count the others."""
        known = sorted(self.known & set(self.data))
        others = len(self.data) - len(known)
        told = [", ".join(known)] if known else []
        if others:
            told.append("1 other key" if others == 1 else f"{others} other keys")
        return " and ".join(told) or "no key at all"


def _wrong(reason: Reason, sentence: str) -> Failure:
    return Failure(reason, sentence, remedy=Remedy.CREDENTIALS)


def _rejected(rejected: ApiError, namespace: str, name: str, needed: Sequence[str]) -> Failure:
    if rejected.status == 404:
        *others, last = needed
        keys = f"keys {', '.join(others)} and {last}" if others else f"key {last}"
        return _wrong(
            Reason.SECRET_NOT_FOUND,
            f"There is no Secret {name} in namespace {namespace}: create it there with the {keys}.",
        )
    if rejected.status == 403:
        return _wrong(
            Reason.SECRET_FORBIDDEN,
            f"The operator is not allowed to read Secret {name} in namespace {namespace}: grant its service"
            " account the verb get on secrets there, with a Role and a RoleBinding.",
        )
    return Failure(
        Reason.KUBERNETES_REFUSED,
        f"The Kubernetes API did not give Secret {name} in namespace {namespace}: {rejected}",
    )
