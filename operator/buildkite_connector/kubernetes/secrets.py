"""The credentials from the Secret that a resource names, or a sentence on what to put into it.

A Secret is only ever read by `get`: the operator needs no right to list or watch them. What it holds stays in
memory.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from buildkite_connector.kubernetes.requests import ApiError
from buildkite_connector.kubernetes.resource import SecretKeys, SecretRef
from buildkite_connector.kubernetes.schema.validation import SLUG_PATTERN
from buildkite_connector.model.credential_forms import Credential, mistake
from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials

_KEYS_SHOWN = 10


class SecretReader(Protocol):
    """The one call that is needed of the API (see `api`)."""

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """The Secret's data: values in base64 by key. Raises ApiError and Failure (remedy: retry)."""
        ...


async def read_credentials(reader: SecretReader, namespace: str, ref: SecretRef) -> Credentials:
    """What the Secret holds, without surrounding whitespace.

    Raises Failure: remedy CREDENTIALS for what is wrong with the Secret, RETRY when the API cannot be asked.
    """
    try:
        data = await reader.read_secret(namespace, ref.name)
    except ApiError as refused:
        raise _refused(refused, namespace, ref) from None
    return _Values(f"Secret {ref.name} in namespace {namespace}", data).to_credentials(ref.keys)


@dataclass(frozen=True, slots=True, repr=False)
class _Values:
    """A Secret's data. No value of it gets into a message."""

    secret: str
    data: Mapping[str, str]

    def to_credentials(self, keys: SecretKeys) -> Credentials:
        organization = self._find(keys.organization)
        if organization is not None and re.fullmatch(SLUG_PATTERN, organization) is None:
            raise _wrong(
                Reason.SECRET_KEY_INVALID,
                f"Key {keys.organization} of {self.secret} is not the slug of a Buildkite organization:"
                " write the slug from its address on buildkite.com, such as acme-inc.",
            )
        return Credentials(
            client_id=self._require(keys.client_id, Credential.CLIENT_ID),
            client_secret=self._require(keys.client_secret, Credential.CLIENT_SECRET),
            api_token=self._require(keys.api_token, Credential.API_TOKEN),
            organization=OrganizationSlug(organization) if organization else None,
            write_api_token=self._find(keys.write_api_token, Credential.API_TOKEN) or "",
        )

    def _require(self, key: str, meaning: Credential) -> str:
        if key not in self.data:
            raise _wrong(
                Reason.SECRET_KEY_MISSING,
                f"{self.secret} has no key {key}, which should hold {meaning.value}; it has {self._keys_there()}:"
                " add the key, or name the right one in spec.credentialsSecretRef.keys.",
            )
        value = self._find(key, meaning)
        if value is None:
            raise _wrong(Reason.SECRET_KEY_EMPTY, f"Key {key} of {self.secret} is empty: put {meaning.value} there.")
        return value

    def _find(self, key: str, meaning: Credential | None = None) -> str | None:
        """The value, which can be `meaning`; None when the key is absent or blank."""
        try:
            text = base64.b64decode(self.data.get(key) or "", validate=True).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            raise _wrong(
                Reason.SECRET_KEY_INVALID, f"Key {key} of {self.secret} is not text: put the value as UTF-8 there."
            ) from None
        if meaning is not None and (wrong := mistake(text, meaning)) is not None:
            raise _wrong(Reason.SECRET_KEY_INVALID, f"Key {key} of {self.secret} {wrong}.")
        return text or None

    def _keys_there(self) -> str:
        names = sorted(self.data)
        more = f" and {len(names) - _KEYS_SHOWN} more" if len(names) > _KEYS_SHOWN else ""
        return (", ".join(names[:_KEYS_SHOWN]) or "no key at all") + more


def _wrong(reason: Reason, sentence: str) -> Failure:
    return Failure(reason, sentence, remedy=Remedy.CREDENTIALS)


def _refused(refused: ApiError, namespace: str, ref: SecretRef) -> Failure:
    keys = ref.keys
    if refused.status == 404:
        return _wrong(
            Reason.SECRET_NOT_FOUND,
            f"There is no Secret {ref.name} in namespace {namespace}: create it there with the keys"
            f" {keys.client_id}, {keys.client_secret} and {keys.api_token}.",
        )
    if refused.status == 403:
        return _wrong(
            Reason.SECRET_FORBIDDEN,
            f"The operator may not read Secret {ref.name} in namespace {namespace}: give its service account"
            " the verb get on secrets there, with a Role and a RoleBinding.",
        )
    return Failure(
        Reason.KUBERNETES_REFUSED,
        f"The Kubernetes API did not give Secret {ref.name} in namespace {namespace}: {refused}",
    )
