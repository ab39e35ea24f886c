"""The spec as people write it: its models give the CRD's schema (`crd`) and read objects (`resource`).

The descriptions are what `kubectl explain` shows. Defaults that depend on another field (`schedule.interval`,
`schedule.timeZone`, `delivery.hostID`) are the operator's, not the CRD's: a default that the API server had stored
would stand in the way when its owner changes from an interval to a cron.
"""

import re
from typing import Annotated, Any, ClassVar

from pydantic import Field

from buildkite_connector.kubernetes.schema import ACCEPT_SHRINK
from buildkite_connector.kubernetes.schema.c1_spec import C1Model
from buildkite_connector.kubernetes.schema.validation import (
    EMPTY,
    SLUG_PATTERN,
    Rule,
    SpecPart,
    each_once,
    is_duration,
    matches,
    secret_key,
    within,
)
from buildkite_connector.model.directory import ResourceKind, Role
from buildkite_connector.model.spec import MAX_CRON_LENGTH, MIN_CRON_MINUTES
from buildkite_connector.model.status import ATOMIC
from buildkite_connector.model.token_scopes import WRITE_SCOPE

DEFAULT_INTERVAL = "1h"
LONGEST_HOST_ID = 256

_SECRET_NAME = "([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?"  # noqa: S105
_TIME_ZONE = "[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*"
_HOST_ID = "[A-Za-z0-9]([A-Za-z0-9._:@/-]*[A-Za-z0-9])?"

_ATOMIC: dict[str, Any] = dict(ATOMIC)
"""A server-side apply of one item over the default would be merged to all of them in a set."""

_NO_SECRET: dict[str, Any] = {"name": ""}
NO_SPEC: dict[str, Any] = {"credentialsSecretRef": dict(_NO_SECRET)}
"""What is required is filled in too, only to be refused by SECRET_IS_NAMED: the API server checks no rule while
something required is missing, and would say no more than `Required value`."""


_DEFAULT_KEYS = {
    "clientID": "BATON_CLIENT_ID",
    "clientSecret": "BATON_CLIENT_SECRET",
    "apiToken": "BATON_API_TOKEN",
    "writeApiToken": "BATON_WRITE_API_TOKEN",
    "organization": "BATON_ORGANIZATION",
    "tokenExchangeClientID": "BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID",
    "tokenExchangePrivateKey": "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY",
    "tokenExchangeSubject": "BUILDKITE_TOKEN_EXCHANGE_SUBJECT",
    "portalToken": "BUILDKITE_PORTAL_TOKEN",
}


def _secret_key(field: str, meaning: str) -> Any:
    """A field that says under which key of the Secret a value is."""
    description = f"The key of the Secret that holds {meaning}."
    return Field(_DEFAULT_KEYS[field], alias=field, max_length=253, description=description)


def _key_form(field: str) -> Rule:
    return secret_key(f"spec.credentialsSecretRef.keys.{field}")


def _own_key(field: str) -> Rule:
    """Another field's value would be sent where it must not go: a token as the slug in an address, for one."""
    others = [key for each, key in _DEFAULT_KEYS.items() if each != field]
    return Rule(
        f"!(self in {others})",
        f"spec.credentialsSecretRef.keys.{field} is the default key of another field: use the key that holds"
        " this field's value.",
        lambda key: key not in others,
    )


_ALL_KEYS = f"[{', '.join(f'self.{field}' for field in _DEFAULT_KEYS)}]"


class SecretKeysModel(SpecPart):
    """The keys of the Secret. The defaults are those of ConductorOne's own connector: its Secret works unchanged."""

    RULES: ClassVar = (
        Rule(
            # Every field has a default; without them this is asked once, of the default of the whole.
            f"!has(self.clientID) || {_ALL_KEYS}.all(each, {_ALL_KEYS}.exists_one(other, other == each))",
            "spec.credentialsSecretRef.keys uses one key of the Secret twice: give each field its own key.",
            lambda keys: len(set(keys.model_dump().values())) == len(_DEFAULT_KEYS),
        ),
    )

    client_id: Annotated[str, _key_form("clientID"), _own_key("clientID")] = _secret_key("clientID", "C1's client ID")
    client_secret: Annotated[str, _key_form("clientSecret"), _own_key("clientSecret")] = _secret_key(
        "clientSecret", "C1's client secret"
    )
    api_token: Annotated[str, _key_form("apiToken"), _own_key("apiToken")] = _secret_key(
        "apiToken", "Buildkite's API token"
    )
    write_api_token: Annotated[str, _key_form("writeApiToken"), _own_key("writeApiToken")] = _secret_key(
        "writeApiToken",
        "a Buildkite API token that changes memberships. The key is optional; without it, the operator uses"
        " the API token",
    )
    organization: Annotated[str, _key_form("organization"), _own_key("organization")] = _secret_key(
        "organization",
        "the organization's slug. The key is optional; spec.organization takes precedence",
    )
    token_exchange_client_id: Annotated[str, _key_form("tokenExchangeClientID"), _own_key("tokenExchangeClientID")] = (
        _secret_key(
            "tokenExchangeClientID",
            "the client ID of a token exchange app in Buildkite. Token exchange is used only if the Secret has no API"
            " token",
        )
    )
    token_exchange_private_key: Annotated[
        str, _key_form("tokenExchangePrivateKey"), _own_key("tokenExchangePrivateKey")
    ] = _secret_key(
        "tokenExchangePrivateKey",
        "the private key of the token exchange app, in PEM format; \\n can stand for its line breaks",
    )
    token_exchange_subject: Annotated[str, _key_form("tokenExchangeSubject"), _own_key("tokenExchangeSubject")] = (
        _secret_key(
            "tokenExchangeSubject",
            "the e-mail address or UUID of the person as whom the connector acts",
        )
    )
    portal_token: Annotated[str, _key_form("portalToken"), _own_key("portalToken")] = _secret_key(
        "portalToken",
        "the service token of the portal in spec.portal. The key is required with spec.portal and ignored without it",
    )


class SecretRefModel(SpecPart):
    """The Secret with the credentials of Buildkite and C1, in the resource's own namespace."""

    name: Annotated[
        str,
        matches(
            _SECRET_NAME,
            "spec.credentialsSecretRef.name must be the name of a Secret, such as buildkite-credentials:"
            " lower-case letters, digits, '-' and '.'.",
        ),
    ] = Field(
        max_length=253,
        description="The name of a Secret in the same namespace as the resource.",
        json_schema_extra={"default": ""},
    )
    keys: SecretKeysModel = Field(default_factory=SecretKeysModel, json_schema_extra=EMPTY)


class PortalModel(SpecPart):
    """A portal in Buildkite, which shows last logins and API tokens. Without it, accounts have no last login in C1."""

    slug: Annotated[
        str,
        matches(
            SLUG_PATTERN,
            "spec.portal.slug must be the slug from the portal's address in Buildkite: lower-case letters, digits, '-'"
            " and '_', such as c1-connector.",
        ),
    ] = Field(
        max_length=255,
        description="The slug of the portal. An administrator of the organization creates the portal with the document"
        " that `buildkite-connector portal` prints. In C1, accounts then have a last login and a two-factor"
        " authentication status, and machine users are service accounts. If the portal cannot be read, the sync fails.",
    )


class ScheduleModel(SpecPart):
    """When to sync: set an interval or a cron, not both. The default is every hour."""

    RULES: ClassVar = (
        Rule(
            "!(has(self.interval) && has(self.cron))",
            "spec.schedule.interval and spec.schedule.cron are mutually exclusive: remove one of them.",
            lambda schedule: schedule.interval is None or schedule.cron is None,
        ),
        Rule(
            "!has(self.timeZone) || has(self.cron)",
            "spec.schedule.timeZone requires spec.schedule.cron: set the cron or remove the time zone.",
            lambda schedule: schedule.time_zone is None or schedule.cron is not None,
        ),
    )

    interval: (
        Annotated[str, is_duration("spec.schedule.interval"), within("spec.schedule.interval", "5m", "168h")] | None
    ) = Field(
        None,
        max_length=20,
        description=f"The time between the starts of two syncs, from 5m to 168h, with a jitter of 5 %."
        f" Without interval and cron, it is {DEFAULT_INTERVAL}.",
    )
    cron: (
        Annotated[
            str,
            Rule(
                "!self.contains('TZ=')",
                "spec.schedule.cron must not contain a time zone: set spec.schedule.timeZone instead, such as"
                " Europe/Berlin.",
                lambda text: "TZ=" not in text,
            ),
        ]
        | None
    ) = Field(
        None,
        min_length=1,
        max_length=MAX_CRON_LENGTH,
        description="Five fields: minute, hour, day of month, month and day of week, such as '0 3 * * *'."
        f" It must not fire more often than every {MIN_CRON_MINUTES} minutes.",
    )
    time_zone: (
        Annotated[
            str,
            matches(
                _TIME_ZONE,
                "spec.schedule.timeZone must be the name of an IANA time zone, such as Europe/Berlin or UTC.",
            ),
        ]
        | None
    ) = Field(None, max_length=64, description="The IANA time zone of the cron. The default is UTC.")


class SyncModel(SpecPart):
    """What a sync reads, and how much of Buildkite's rate limit it can use."""

    resource_types: Annotated[
        list[Annotated[ResourceKind, Field(strict=False, description="A C1 resource type.")]],
        each_once("spec.sync.resourceTypes must name each resource type once."),
    ] = Field(
        [ResourceKind.USER, ResourceKind.TEAM],
        min_length=1,
        max_length=len(ResourceKind),
        description="What to sync. user: accounts. team: teams and their members. organization: which accounts are"
        " administrators of the organization. pipeline: what each team can do with each pipeline; this about doubles"
        " the requests. cluster: who maintains each cluster. api_token: people's API tokens, without the tokens"
        " themselves; this requires spec.portal. Access is synced only for accounts and teams whose type is listed"
        " too.",
        json_schema_extra=_ATOMIC,
    )
    timeout: Annotated[str, is_duration("spec.sync.timeout"), within("spec.sync.timeout", "1m", "24h")] = Field(
        "2h",
        max_length=20,
        description="The maximum duration of a sync, from 1m to 24h. Buildkite's rate limit determines how long the"
        " sync of a large organization takes.",
    )
    quota_percent: int = Field(
        80,
        ge=10,
        le=100,
        description="A sync waits for Buildkite's next rate-limit window when this percentage of the current one is"
        " used. The rest is left for people and other tools.",
    )


class ShrinkGuardModel(SpecPart):
    """Holds a snapshot that lost too much, because C1 treats anything missing as deleted."""

    max_drop_percent: int = Field(
        50,
        ge=0,
        le=100,
        description="Hold a snapshot that lost more than this percentage of the accounts, teams, memberships or"
        " anything else that it counts since the last delivery, until you accept it with the annotation"
        f" {ACCEPT_SHRINK}. 0 disables the guard.",
    )


class DeliveryModel(SpecPart):
    """How the operator delivers snapshots to C1."""

    host_id: (
        Annotated[
            str,
            matches(
                _HOST_ID,
                "spec.delivery.hostID must start and end with a letter or digit"
                " and contain only letters, digits, '.', '_', ':', '@', '/' and '-'.",
            ),
        ]
        | None
    ) = Field(
        None,
        alias="hostID",
        max_length=LONGEST_HOST_ID,
        description="The host that C1 shows for this connector. The default is <namespace>.<name>.",
    )
    max_snapshot_age: Annotated[
        str, is_duration("spec.delivery.maxSnapshotAge"), within("spec.delivery.maxSnapshotAge", "0s", "168h")
    ] = Field(
        "10m",
        max_length=20,
        description="When C1 asks for a sync, the operator delivers the staged snapshot if it is younger than this;"
        " otherwise it syncs first. From 0s to 168h; with 0s it always syncs first.",
    )
    shrink_guard: ShrinkGuardModel = Field(default_factory=ShrinkGuardModel, json_schema_extra=EMPTY)


class ProvisioningModel(SpecPart):
    """Whether requests approved in C1 change Buildkite team memberships. By default, the connector is read-only."""

    enabled: bool = Field(
        False,
        description="If true, C1's grant and revoke tasks change team memberships; the token for writing, or the API"
        f" token, needs the scope {WRITE_SCOPE}. If false, the operator refuses these tasks within a second.",
    )
    roles: Annotated[
        list[Annotated[Role, Field(strict=False, description="A role in a team.")]],
        each_once("spec.provisioning.roles must name each role once."),
    ] = Field(
        [Role.MEMBER, Role.MAINTAINER],
        min_length=1,
        max_length=len(Role),
        description="The roles that can be granted: member, maintainer or both. Any membership can be revoked.",
        json_schema_extra=_ATOMIC,
    )
    protected_teams: Annotated[
        list[Annotated[str, Field(max_length=255, description="The slug of a team.")]],
        Rule(
            f"self.all(each, each.matches('^{SLUG_PATTERN}$'))",
            "spec.provisioning.protectedTeams must contain team slugs, such as release-managers:"
            " lower-case letters, digits, '-' and '_'.",
            lambda slugs: all(re.fullmatch(SLUG_PATTERN, slug) for slug in slugs),
        ),
    ] = Field(
        [],
        max_length=100,
        description="Slugs of teams whose memberships are never changed. The operator refuses requests for them.",
        json_schema_extra=_ATOMIC,
    )


class SpecModel(SpecPart):
    """What to sync from Buildkite to C1, when, and with which credentials."""

    RULES: ClassVar = (
        Rule(
            f"has(self.portal) || !has(self.sync) || !('{ResourceKind.API_TOKEN}' in self.sync.resourceTypes)",
            f"spec.sync.resourceTypes contains {ResourceKind.API_TOKEN}, which requires spec.portal: set"
            f" spec.portal.slug or remove {ResourceKind.API_TOKEN}.",
            lambda spec: spec.portal is not None or ResourceKind.API_TOKEN not in spec.sync.resource_types,
            ".sync.resourceTypes",
        ),
    )

    organization: (
        Annotated[
            str,
            matches(
                SLUG_PATTERN,
                "spec.organization must be the slug from the organization's address on buildkite.com:"
                " lower-case letters, digits, '-' and '_', such as acme-inc.",
            ),
        ]
        | None
    ) = Field(
        None,
        max_length=255,
        description="The slug of the Buildkite organization. Optional if the Secret contains it, or if the API token"
        " can access only one organization. With token exchange, it must be here or in the Secret.",
    )
    credentials_secret_ref: SecretRefModel = Field(json_schema_extra={"default": _NO_SECRET})
    portal: PortalModel | None = None
    schedule: ScheduleModel = Field(default_factory=ScheduleModel)
    suspend: bool = Field(
        False,
        description="If true, the connector does not sync and does not contact C1. The data in C1 stays as it is.",
    )
    sync: SyncModel = Field(default_factory=SyncModel, json_schema_extra=EMPTY)
    delivery: DeliveryModel = Field(default_factory=DeliveryModel, json_schema_extra=EMPTY)
    provisioning: ProvisioningModel = Field(default_factory=ProvisioningModel, json_schema_extra=EMPTY)
    c1: C1Model | None = None


LONGEST_NAME_WITHOUT_HOST_ID = LONGEST_HOST_ID - 64
"""A namespace's name has up to 63 characters, and a dot stands between it and the name."""

SECRET_IS_NAMED = Rule(
    "self.spec.credentialsSecretRef.name != ''",
    "spec.credentialsSecretRef.name is required: name the Secret in this namespace that holds the credentials.",
    lambda spec: spec.credentials_secret_ref.name != "",
    ".spec.credentialsSecretRef.name",
)
NAME_FITS_HOST_ID = Rule(
    f"has(self.spec.delivery.hostID) || size(self.metadata.name) <= {LONGEST_NAME_WITHOUT_HOST_ID}",
    f"metadata.name is longer than {LONGEST_NAME_WITHOUT_HOST_ID} characters, which leaves no room for the host ID"
    " <namespace>.<name>: choose a shorter name or set spec.delivery.hostID.",
    lambda host_id: len(host_id) <= LONGEST_HOST_ID,
)
