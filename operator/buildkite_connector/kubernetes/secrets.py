"""Reads the credentials from the Secret that a resource names, or reports what to put into it.

Secrets are read by `get` alone: the operator needs no permission to list or watch them. Their values stay in memory.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.schema.spec import SecretKeysModel, SecretRefModel
from buildkite_connector.kubernetes.schema.validation import SLUG_PATTERN
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_SECRET
from buildkite_connector.model.spec import Credential, Credentials, OrganizationChoice, mistake

_DEFAULT_KEYS = SecretKeysModel().model_dump().values()

ReadSecret = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""Reads the Secret of this namespace and name: values in base64 by key. Raises ApiError and Failure (remedy: retry)."""


async def read_credentials(read_secret: ReadSecret, namespace: str, ref: SecretRefModel) -> Credentials:
    """Return the Secret's values without surrounding white space.

    Raises Failure: remedy CREDENTIALS for what is wrong with the Secret, RETRY when the API cannot be asked.
    """
    try:
        data = await read_secret(namespace, ref.name)
    except ApiError as rejected:
        raise _rejected(rejected, namespace, ref) from None
    return _Values(f"Secret {ref.name} in namespace {namespace}", data).to_credentials(ref.keys)


@dataclass(frozen=True, slots=True, repr=False)
class _Values:
    """A Secret's data. Messages show no value, and only keys that the spec or the defaults name.

    A person who can create a connector may lack the permission to read the Secret.
    """

    secret: str
    data: Mapping[str, str]

    def to_credentials(self, keys: SecretKeysModel) -> Credentials:
        organization = self._find(keys.organization)
        if organization is not None and re.fullmatch(SLUG_PATTERN, organization) is None:
            raise _wrong(
                Reason.SECRET_KEY_INVALID,
                f"Key {keys.organization} of {self.secret} is not the slug of a Buildkite organization:"
                " use the slug from its address on buildkite.com, such as acme-inc.",
            )
        return Credentials(
            client_id=self._require(keys.client_id, Credential.CLIENT_ID, keys),
            client_secret=self._require(keys.client_secret, Credential.CLIENT_SECRET, keys),
            api_token=self._require(keys.api_token, Credential.API_TOKEN, keys),
            organization=OrganizationChoice(organization, keys.organization) if organization else None,
            write_api_token=self._find(keys.write_api_token, Credential.API_TOKEN) or "",
        )

    def _require(self, key: str, meaning: Credential, keys: SecretKeysModel) -> str:
        if key not in self.data:
            raise _wrong(
                Reason.SECRET_KEY_MISSING,
                f"{self.secret} has no key {key}, which should hold {meaning.value}; it has {self._keys_there(keys)}:"
                " add the key, or set the right one in spec.credentialsSecretRef.keys.",
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

    def _keys_there(self, keys: SecretKeysModel) -> str:
        """Name the keys that the resource or the vendor's Secret uses, and count the others."""
        known = sorted({*keys.model_dump().values(), *_DEFAULT_KEYS} & set(self.data))
        others = len(self.data) - len(known)
        told = [", ".join(known)] if known else []
        if others:
            told.append("1 other key" if others == 1 else f"{others} other keys")
        return " and ".join(told) or "no key at all"


def _wrong(reason: Reason, sentence: str) -> Failure:
    return Failure(reason, sentence, remedy=Remedy.CREDENTIALS)


def _rejected(rejected: ApiError, namespace: str, ref: SecretRefModel) -> Failure:
    keys = ref.keys
    if rejected.status == 404:
        return _wrong(
            Reason.SECRET_NOT_FOUND,
            f"There is no Secret {ref.name} in namespace {namespace}: create it there with the keys"
            f" {keys.client_id}, {keys.client_secret} and {keys.api_token}.",
        )
    if rejected.status == 403:
        return _wrong(
            Reason.SECRET_FORBIDDEN,
            f"The operator is not allowed to read Secret {ref.name} in namespace {namespace}: grant its service"
            " account the verb get on secrets there, with a Role and a RoleBinding.",
        )
    return Failure(
        Reason.KUBERNETES_REFUSED,
        f"The Kubernetes API did not give Secret {ref.name} in namespace {namespace}: {rejected}",
    )
