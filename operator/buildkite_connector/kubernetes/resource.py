"""Reads an object of the custom resource from the API server's JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from buildkite_connector.kubernetes.schema import ACCEPT_SHRINK, SYNC_REQUESTED_AT
from buildkite_connector.kubernetes.schema.spec import (
    DEFAULT_INTERVAL,
    NAME_FITS_HOST_ID,
    SECRET_IS_NAMED,
    ScheduleModel,
    SecretKeysModel,
    SecretRefModel,
    SpecModel,
)
from buildkite_connector.kubernetes.schema.status_json import status_from_json
from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import (
    ConnectorKey,
    ConnectorSpec,
    Cron,
    Interval,
    Provisioning,
    Schedule,
    parse_duration,
)
from buildkite_connector.model.status import ConnectorStatus

LONGEST_REQUEST = 256
"""Characters of a sync request that count: an annotation may be 256 KiB, and its echo goes into the status."""


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """The Secret's keys that hold the values."""

    client_id: str
    client_secret: str
    api_token: str
    organization: str
    write_api_token: str = "BATON_WRITE_API_TOKEN"  # noqa: S105


def _to_keys(model: SecretKeysModel) -> SecretKeys:
    return SecretKeys(model.client_id, model.client_secret, model.api_token, model.organization, model.write_api_token)


DEFAULT_KEYS = _to_keys(SecretKeysModel())


@dataclass(frozen=True, slots=True)
class SecretRef:
    """The Secret with the credentials, in the resource's namespace."""

    name: str
    keys: SecretKeys


@dataclass(frozen=True, slots=True)
class ObservedResource:
    """What every object has, whether its spec can be used or not."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str | None
    deleting: bool
    created: str
    status: ConnectorStatus | None

    @property
    def key(self) -> ConnectorKey:
        return ConnectorKey(f"{self.namespace}.{self.name}")


@dataclass(frozen=True, slots=True)
class ObservedConnector(ObservedResource):
    """A resource with a valid spec."""

    spec: ConnectorSpec
    secret: SecretRef
    sync_request: str | None
    accept_shrink: str | None


@dataclass(frozen=True, slots=True)
class BrokenConnector(ObservedResource):
    """A resource with an invalid spec, which the CRD in the cluster let through."""

    failure: Failure


def read_resource(body: Mapping[str, Any]) -> ObservedConnector | BrokenConnector:
    """Reads an object as the API server sent it. Raises nothing for an invalid spec."""
    metadata = body["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    annotations = metadata.get("annotations") or {}
    seen = {
        "namespace": namespace,
        "name": name,
        "uid": metadata["uid"],
        "generation": metadata.get("generation", 0),
        "resource_version": metadata.get("resourceVersion"),
        "deleting": "deletionTimestamp" in metadata,
        "created": str(metadata.get("creationTimestamp") or ""),
        "status": status_from_json(body.get("status")),
    }
    try:
        model = SpecModel.model_validate(body.get("spec") or {})
        spec = to_spec(model, _host_id(model, namespace, name))
    except ValidationError as error:
        return BrokenConnector(**seen, failure=_invalid(spec_error(error)))
    except Failure as failure:
        return BrokenConnector(**seen, failure=failure)
    return ObservedConnector(
        **seen,
        spec=spec,
        secret=_to_ref(model.credentials_secret_ref),
        sync_request=_bounded(annotations.get(SYNC_REQUESTED_AT)),
        accept_shrink=_bounded(annotations.get(ACCEPT_SHRINK)),
    )


def _host_id(model: SpecModel, namespace: str, name: str) -> str:
    if not SECRET_IS_NAMED.holds(model):
        raise _invalid(SECRET_IS_NAMED.sentence)
    host_id = model.delivery.host_id or f"{namespace}.{name}"
    if not NAME_FITS_HOST_ID.holds(host_id):
        raise _invalid(NAME_FITS_HOST_ID.sentence)
    return host_id


def to_spec(model: SpecModel, host_id: str) -> ConnectorSpec:
    """The spec in this project's words."""
    return ConnectorSpec(
        host_id=host_id,
        organization=OrganizationSlug(model.organization) if model.organization else None,
        schedule=_to_schedule(model.schedule),
        suspend=model.suspend,
        kinds=frozenset(model.sync.resource_types),
        sync_timeout=parse_duration(model.sync.timeout),
        quota_percent=model.sync.quota_percent,
        max_snapshot_age=parse_duration(model.delivery.max_snapshot_age),
        max_drop_percent=model.delivery.shrink_guard.max_drop_percent,
        provisioning=Provisioning(
            enabled=model.provisioning.enabled,
            roles=tuple(model.provisioning.roles),
            protected_teams=tuple(model.provisioning.protected_teams),
        ),
    )


def _to_schedule(model: ScheduleModel) -> Schedule:
    if model.cron is not None:
        return Cron(model.cron, model.time_zone or "UTC")
    return Interval(parse_duration(model.interval or DEFAULT_INTERVAL))


def _to_ref(model: SecretRefModel) -> SecretRef:
    return SecretRef(model.name, _to_keys(model.keys))


def spec_error(error: ValidationError) -> str:
    """The sentence of the first error. It begins with the field's path and does not repeat the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    field = ".".join(["spec", *(str(part) for part in first["loc"])])
    return f"{field}: {first['msg']}."


def _invalid(sentence: str) -> Failure:
    return Failure(
        Reason.SPEC_INVALID,
        f"{sentence} The CRD in the cluster accepted this: apply the crds/ of this version.",
        remedy=Remedy.EDIT,
    )


def _bounded(text: object) -> str | None:
    return str(text)[:LONGEST_REQUEST] if text else None


def is_lower(version: str, other: str) -> bool:
    """Whether a resource version is certainly older."""
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)


def is_at_least(version: str | None, other: str | None) -> bool:
    """Whether a resource version is not older. They are decimal numbers that grow (so since Kubernetes 1.35)."""
    if version is None or other is None or not (version.isdecimal() and other.isdecimal()):
        return version is not None and version == other
    return int(version) >= int(other)
