"""The part `c1` of the spec: which connector it is in C1, and how the operator asks C1's REST API.

It has no default as a whole: without it there is no request to that API and no field in the status.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from buildkite_connector.kubernetes.schema.validation import EMPTY, Rule, SpecPart, matches, secret_key
from buildkite_connector.model.status import ATOMIC

_ID = "[A-Za-z0-9_-]+"
_SECRET_NAME = "[a-z0-9]([a-z0-9.-]*[a-z0-9])?"  # noqa: S105
_WORKLOAD_CLIENT = "[A-Za-z0-9._~+-]+@[A-Za-z0-9.-]+(:[0-9]{1,5})?/wfe"


def _id(field: str, page: str) -> Rule:
    return matches(
        _ID,
        f"{field} must be an ID from the {page} in C1: letters, digits, '-' and '_'.",
    )


class C1KeysModel(SpecPart):
    """The keys of the Secret."""

    RULES: ClassVar = (
        Rule(
            "!has(self.clientID) || self.clientID != self.clientSecret",
            "spec.c1.auth.secretRef.keys uses one key of the Secret twice: give each field its own key.",
            lambda keys: keys.client_id != keys.client_secret,
        ),
    )

    client_id: Annotated[str, secret_key("spec.c1.auth.secretRef.keys.clientID")] = Field(
        "C1_CLIENT_ID",
        alias="clientID",
        max_length=253,
        description="The key of the Secret that holds the client ID for C1's REST API.",
    )
    client_secret: Annotated[str, secret_key("spec.c1.auth.secretRef.keys.clientSecret")] = Field(
        "C1_CLIENT_SECRET",
        alias="clientSecret",
        max_length=253,
        description="The key of the Secret that holds the client secret for C1's REST API.",
    )


class C1SecretRefModel(SpecPart):
    """A Secret with a client of C1's REST API, in the resource's own namespace."""

    name: Annotated[
        str,
        matches(
            _SECRET_NAME,
            "spec.c1.auth.secretRef.name must be the name of a Secret in this namespace, such as c1-api:"
            " lower-case letters, digits, '-' and '.'.",
        ),
    ] = Field(
        max_length=253,
        description="The name of a Secret in the same namespace as the resource. It can be the one of"
        " spec.credentialsSecretRef.",
    )
    keys: C1KeysModel = Field(default_factory=C1KeysModel, json_schema_extra=EMPTY)


class C1WorkloadIdentityModel(SpecPart):
    """The operator's own service-account token in place of a Secret: see the chart's value c1.workloadIdentity."""

    client_id: Annotated[
        str,
        matches(
            _WORKLOAD_CLIENT,
            "spec.c1.auth.workloadIdentity.clientID must have the form NAME@HOST/wfe: copy the client ID from the trust"
            " of the service principal in C1.",
        ),
    ] = Field(
        alias="clientID",
        max_length=512,
        description="The client ID of the trust in C1, NAME@TENANT.conductor.one/wfe.",
    )


class C1AuthModel(SpecPart):
    """How the operator authenticates to C1's REST API: set secretRef or workloadIdentity, not both."""

    RULES: ClassVar = (
        Rule(
            "has(self.secretRef) != has(self.workloadIdentity)",
            "spec.c1.auth must have exactly one of secretRef and workloadIdentity: set secretRef.name to a Secret"
            " with a client of C1's REST API, or set workloadIdentity.clientID.",
            lambda auth: (auth.secret_ref is None) != (auth.workload_identity is None),
        ),
    )

    secret_ref: C1SecretRefModel | None = None
    workload_identity: C1WorkloadIdentityModel | None = None


class C1CreateModel(SpecPart):
    """Create the connector in C1, in a new app (appName) or in an existing one (appID), with its credentials."""

    RULES: ClassVar = (
        Rule(
            "has(self.appName) != has(self.appID)",
            "spec.c1.create must have exactly one of appName and appID: set appName to create an app in C1, or appID to"
            " use an existing one.",
            lambda create: (create.app_name is None) != (create.app_id is None),
        ),
    )

    app_name: str | None = Field(
        None, min_length=1, max_length=128, description="The name of a new app in C1. Not together with appID."
    )
    app_id: Annotated[str, _id("spec.c1.create.appID", "app's page")] | None = Field(
        None, alias="appID", max_length=64, description="The ID of an existing app in C1. Not together with appName."
    )
    display_name: str = Field(
        "Buildkite", min_length=1, max_length=128, description="The connector's name in C1 until its first sync."
    )
    owners: Annotated[
        list[Annotated[str, Field(max_length=64, description="A user ID in C1.")]],
        Rule(
            f"self.all(each, each.matches('^{_ID}$'))",
            "spec.c1.create.owners must contain user IDs of C1, not e-mail addresses: letters, digits, '-' and '_'.",
            lambda owners: all(re.fullmatch(_ID, owner) for owner in owners),
        ),
    ] = Field(
        [],
        max_length=20,
        description="The user IDs in C1 of the owners of the app and the connector.",
        json_schema_extra=dict(ATOMIC),
    )
    secret_name: (
        Annotated[
            str,
            matches(
                _SECRET_NAME,
                "spec.c1.create.secretName must be a name for a Secret, such as acme-c1: lower-case letters, digits,"
                " '-' and '.'.",
            ),
        ]
        | None
    ) = Field(
        None,
        max_length=253,
        description="The Secret that the operator creates for the connector's credentials. It must not exist yet. The"
        " default is <name>-c1.",
    )
    deletion_policy: Literal["Retain"] = Field(
        "Retain",
        description="What happens in C1 when the resource is deleted. Retain: the app, the connector and the Secret"
        " stay.",
        json_schema_extra={"type": "string", "enum": ["Retain"]},
    )


class C1Model(SpecPart):
    """The connector in C1. Optional: with it, the operator shows what C1 does with the connector, and makes C1 sync."""

    RULES: ClassVar = (
        Rule(
            "has(self.auth)",
            "spec.c1.auth is required: set secretRef.name to a Secret with a client of C1's REST API, or set"
            " workloadIdentity.clientID.",
            lambda c1: c1.auth is not None,
        ),
        Rule(
            "!has(self.create) || (!has(self.appID) && !has(self.connectorID))",
            "spec.c1.create cannot be combined with spec.c1.appID or spec.c1.connectorID: remove create to use an"
            " existing connector, or remove the IDs to create one.",
            lambda c1: c1.create is None or (c1.app_id is None and c1.connector_id is None),
        ),
        Rule(
            "has(self.create) || (has(self.appID) && has(self.connectorID))",
            "spec.c1.appID and spec.c1.connectorID are both required: copy them from the connector's page in C1, or"
            " set spec.c1.create to create the connector.",
            lambda c1: c1.create is not None or (c1.app_id is not None and c1.connector_id is not None),
        ),
    )

    app_id: Annotated[str, _id("spec.c1.appID", "connector's page")] | None = Field(
        None, alias="appID", max_length=64, description="The ID of the app in C1. Requires connectorID."
    )
    connector_id: Annotated[str, _id("spec.c1.connectorID", "connector's page")] | None = Field(
        None, alias="connectorID", max_length=64, description="The ID of the connector in C1. Requires appID."
    )
    force_sync: bool = Field(
        True,
        description="If true, the operator makes C1 sync after each new snapshot. If false, only after a sync that was"
        " requested by the annotation; otherwise C1 syncs when it next asks.",
    )
    auth: C1AuthModel | None = None
    create: C1CreateModel | None = None
