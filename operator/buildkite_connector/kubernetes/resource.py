"""Reads an object of the custom resource from the API server's JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from buildkite_connector.kubernetes.schema import ACCEPT_SHRINK, SYNC_REQUESTED_AT
from buildkite_connector.kubernetes.schema.c1_spec import C1Model, C1SecretRefModel, C1WorkloadIdentityModel
from buildkite_connector.kubernetes.schema.spec import (
    DEFAULT_INTERVAL,
    NAME_FITS_HOST_ID,
    SECRET_IS_NAMED,
    SecretRefModel,
    SpecModel,
)
from buildkite_connector.kubernetes.schema.status_json import status_from_json
from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import (
    C1Creation,
    C1Spec,
    ConnectorKey,
    ConnectorSpec,
    Cron,
    Interval,
    Provisioning,
    parse_duration,
)
from buildkite_connector.model.status import ConnectorStatus

LONGEST_REQUEST = 256
"""Characters of a sync request that count: an annotation may be 256 KiB, and its echo goes into the status."""
_NO_SECRET = SecretRefModel(name="")


@dataclass(frozen=True, slots=True)
class ObservedResource:
    """An object as it was last observed. `c1_auth` is set with `spec.c1`.

    `failure` is set when the spec is invalid, which an older CRD in the cluster let through; `spec` and `secret` then
    hold defaults.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str | None
    deleting: bool
    created: str
    status: ConnectorStatus | None
    spec: ConnectorSpec
    secret: SecretRefModel
    sync_request: str | None = None
    accept_shrink: str | None = None
    failure: Failure | None = None
    c1_auth: C1SecretRefModel | C1WorkloadIdentityModel | None = None

    @property
    def key(self) -> ConnectorKey:
        return ConnectorKey(f"{self.namespace}.{self.name}")


def read_resource(body: Mapping[str, Any]) -> ObservedResource:
    """Reads an object as the API server sent it. Raises nothing for an invalid spec."""
    metadata = body["metadata"]
    annotations = metadata.get("annotations") or {}
    namespace, name = metadata["namespace"], metadata["name"]
    found = ObservedResource(
        namespace,
        name,
        metadata["uid"],
        metadata.get("generation", 0),
        metadata.get("resourceVersion"),
        "deletionTimestamp" in metadata,
        str(metadata.get("creationTimestamp") or ""),
        status_from_json(body.get("status")),
        ConnectorSpec(host_id=f"{namespace}.{name}"),
        _NO_SECRET,
    )
    try:
        model = SpecModel.model_validate(body.get("spec") or {})
    except ValidationError as error:
        return replace(found, failure=_invalid(spec_error(error)))
    host_id = model.delivery.host_id or found.key
    for rule, value in ((SECRET_IS_NAMED, model), (NAME_FITS_HOST_ID, host_id)):
        if not rule.holds(value):
            return replace(found, failure=_invalid(rule.sentence))
    auth = model.c1.auth if model.c1 is not None else None
    return replace(
        found,
        spec=to_spec(model, host_id, name),
        secret=model.credentials_secret_ref,
        sync_request=annotations.get(SYNC_REQUESTED_AT, "")[:LONGEST_REQUEST] or None,
        accept_shrink=annotations.get(ACCEPT_SHRINK, "")[:LONGEST_REQUEST] or None,
        c1_auth=(auth.secret_ref or auth.workload_identity) if auth is not None else None,
    )


def to_spec(model: SpecModel, host_id: str, name: str = "") -> ConnectorSpec:
    """The spec in this project's words. `name`: of the resource, for the default of spec.c1.create.secretName."""
    schedule = model.schedule
    return ConnectorSpec(
        host_id=host_id,
        organization=OrganizationSlug(model.organization) if model.organization else None,
        schedule=(
            Interval(parse_duration(schedule.interval or DEFAULT_INTERVAL))
            if schedule.cron is None
            else Cron(schedule.cron, schedule.time_zone or "UTC")
        ),
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
        portal=model.portal.slug if model.portal is not None else "",
        c1=_to_c1(model.c1, name) if model.c1 is not None else None,
    )


def _to_c1(model: C1Model, name: str) -> C1Spec:
    creation = None
    if (create := model.create) is not None:
        creation = C1Creation(
            secret_name=create.secret_name or f"{name}-c1",
            app_name=create.app_name or "",
            app_id=create.app_id or "",
            display_name=create.display_name,
            owners=tuple(create.owners),
        )
    return C1Spec(model.app_id or "", model.connector_id or "", model.force_sync, creation)


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
        f"{sentence} The CRD in the cluster accepted this, so it is of another version: apply crds/ of the operator's "
        "version.",
        remedy=Remedy.EDIT,
    )


def is_lower(version: str, other: str) -> bool:
    """Whether a resource version is certainly older."""
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)


def is_at_least(version: str | None, other: str | None) -> bool:
    """Whether a resource version is not older. They are decimal numbers that grow (so since Kubernetes 1.35)."""
    if version is None or other is None or not (version.isdecimal() and other.isdecimal()):
        return version is not None and version == other
    return int(version) >= int(other)
