"""The Secret that the operator writes for a connector which it creates in C1. Nobody else's Secret is ever changed.

It belongs to the operator when it names the connector in an annotation. It holds the IDs in C1 too, and outlives the
resource: a resource of the same name takes the connector up again, once C1 shows that it is this resource's.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildkite_connector.connector.ports import Kept
from buildkite_connector.kubernetes.connection import ApiError, Connection
from buildkite_connector.kubernetes.schema import FIELD_MANAGER, GROUP
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor

CLIENT_ID, CLIENT_SECRET = "BATON_CLIENT_ID", "BATON_CLIENT_SECRET"
MANAGED_BY = "app.kubernetes.io/managed-by"
CONNECTOR = f"{GROUP}/connector"
_IDS = f"{GROUP}/c1-app-id", f"{GROUP}/c1-connector-id", f"{GROUP}/c1-credential-id"
_SECRETS = "/api/v1/namespaces/{namespace}/secrets"
_SECRET = f"{_SECRETS}/{{name}}"


@dataclass(frozen=True, slots=True)
class OwnSecretOf:
    """The Secret `name` of the resource `connector`; it fits `connector.ports.OwnSecret`."""

    connection: Connection
    namespace: str
    connector: str
    name: str

    async def read(self) -> Kept | None:
        try:
            return await self.connection.call(
                "read a Secret",
                "GET",
                _SECRET,
                self._kept,
                for_connector=True,
                namespace=self.namespace,
                name=self.name,
            )
        except ApiError as rejected:
            if rejected.status == 404:
                return None
            raise self._refused("read", rejected) from None

    async def check_writable(self, there: Kept | None) -> None:
        """A dry run: the API server checks permissions, quota and admission, and stores nothing."""
        await self._send(Kept("", "", "", "", "") if there is None else there, there, {"dryRun": "All"})

    async def write(self, content: Kept, there: Kept | None) -> None:
        """`create` fails where there is a Secret, and the patch where it is not the version that was read."""
        await self._send(content, there, {})

    async def _send(self, content: Kept, there: Kept | None, how: Mapping[str, str]) -> None:
        ids = (content.app_id, content.connector_id, content.credential_id)
        annotations = {CONNECTOR: self.connector, **dict(zip(_IDS, ids, strict=True))}
        values = {CLIENT_ID: content.client_id, CLIENT_SECRET: content.client_secret}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        sent = Redactor((*values.values(), *data.values()))  # an admission webhook may repeat what was sent
        metadata: dict[str, Any] = {"annotations": annotations, "labels": {MANAGED_BY: FIELD_MANAGER}}
        names, query = {"namespace": self.namespace}, {"fieldManager": FIELD_MANAGER, **how}
        try:
            if there is None:
                body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data}
                body["metadata"] = {**metadata, "name": self.name}
                await self.connection.call(
                    "create a Secret", "POST", _SECRETS, _nothing, for_connector=True, query=query, body=body, **names
                )
            else:
                body = {"metadata": {**metadata, "resourceVersion": there.version}, "data": data}
                await self.connection.call(
                    "write a Secret",
                    "PATCH",
                    _SECRET,
                    _nothing,
                    for_connector=True,
                    query=query,
                    body=body,
                    content_type="application/merge-patch+json",
                    **names,
                    name=self.name,
                )
        except ApiError as rejected:
            raise self._refused("write", ApiError(rejected.status, sent.quote(rejected.message))) from None
        except Failure as failure:
            told, after = sent.redact(failure.message), failure.retry_after
            raise Failure(failure.reason, told, remedy=failure.remedy, retry_after=after) from None

    def _kept(self, secret: Any) -> Kept:
        """Read the API server's JSON. Raises Failure when the Secret is somebody else's."""
        metadata = secret["metadata"]
        annotations = metadata.get("annotations") or {}
        if annotations.get(CONNECTOR) != self.connector:
            raise Failure(
                Reason.SECRET_NOT_OWN,
                f"Secret {self.name} in namespace {self.namespace} exists already, and the operator did not create it"
                " for this resource. The operator does not change it: set another spec.c1.create.secretName, or delete"
                " the Secret if nothing uses it.",
                remedy=Remedy.EDIT,
            )
        app_id, connector_id, credential_id = (str(annotations.get(each, "")) for each in _IDS)
        data = secret.get("data") or {}
        client_id, client_secret = _text(data.get(CLIENT_ID)), _text(data.get(CLIENT_SECRET))
        return Kept(app_id, connector_id, credential_id, client_id, client_secret, metadata["resourceVersion"])

    def _refused(self, verb: str, rejected: ApiError) -> Failure:
        where = f"Secret {self.name} in namespace {self.namespace}"
        match rejected.status, verb:
            case 403, "read":
                return Failure(
                    Reason.SECRET_FORBIDDEN,
                    f"The operator is not allowed to read {where}: grant its service account the verb get on secrets"
                    " there, with a Role and a RoleBinding.",
                    remedy=Remedy.CREDENTIALS,
                )
            case 403, _:
                return Failure(
                    Reason.SECRET_FORBIDDEN,
                    f"The operator is not allowed to write {where}, which spec.c1.create needs: set the chart's value"
                    " c1.create.enabled to true. Its Role then has the verbs create and patch on secrets. The"
                    f" Kubernetes API says: {rejected}",
                    remedy=Remedy.CREDENTIALS,
                )
            case ((404 | 409), _):
                return Failure(
                    Reason.KUBERNETES_UNAVAILABLE, f"{where} changed meanwhile; the operator reads it again."
                )
        return Failure(
            Reason.KUBERNETES_REFUSED,
            f"The Kubernetes API does not let the operator {verb} {where}: {rejected}",
            remedy=Remedy.EDIT,
        )


def _text(value: Any) -> str:
    """A value of the Secret; "" for one that was removed or is not ours."""
    try:
        return base64.b64decode(value or "", validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError, TypeError, ValueError):
        return ""


def _nothing(_: Any) -> None:
    """The answer repeats the Secret."""
