"""The spec as people write it: its models give the CRD's schema (`crd`) and read objects (`resource`).

The descriptions are what `kubectl explain` shows. Defaults that depend on another field (`schedule.interval`,
`schedule.timeZone`, `delivery.hostID`) are the operator's, not the CRD's: a default that the API server had stored
would stand in the way when its owner changes from an interval to a cron.
"""

import re
from typing import Annotated, Any, ClassVar

from pydantic import Field

from buildkite_connector.kubernetes.schema import ACCEPT_SHRINK
from buildkite_connector.kubernetes.schema.validation import (
    SLUG_PATTERN,
    Rule,
    SpecPart,
    each_once,
    is_duration,
    matches,
    within,
)
from buildkite_connector.model.directory import WRITE_SCOPE, ResourceKind, Role
from buildkite_connector.model.spec import MAX_CRON_LENGTH, MIN_CRON_MINUTES
from buildkite_connector.model.status import ATOMIC

DEFAULT_INTERVAL = "1h"
LONGEST_HOST_ID = 256

_SECRET_NAME = "([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?"  # noqa: S105
_SECRET_KEY = "[A-Za-z0-9._-]+"  # noqa: S105
_TIME_ZONE = "[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*"
_HOST_ID = "[A-Za-z0-9]([A-Za-z0-9._:@/-]*[A-Za-z0-9])?"

_EMPTY: dict[str, Any] = {"default": {}}
"""Makes the API server fill in the defaults of a part that was left out."""
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
}


def _secret_key(field: str, meaning: str) -> Any:
    """A field that says under which key of the Secret a value is."""
    description = f"The Secret's key that holds {meaning}."
    return Field(_DEFAULT_KEYS[field], alias=field, max_length=253, description=description)


def _key_form(field: str) -> Rule:
    return matches(
        _SECRET_KEY,
        f"spec.credentialsSecretRef.keys.{field} must be a key of a Secret: letters, digits, '.', '_' and '-'.",
    )


def _own_key(field: str) -> Rule:
    """Another field's value would be sent where it must not go: a token as the slug in an address, for one."""
    others = [key for each, key in _DEFAULT_KEYS.items() if each != field]
    return Rule(
        f"!(self in {others})",
        f"spec.credentialsSecretRef.keys.{field} names the default key of another field: name the key that holds"
        " this field's value.",
        lambda key: key not in others,
    )


_ALL_KEYS = f"[{', '.join(f'self.{field}' for field in _DEFAULT_KEYS)}]"


class SecretKeysModel(SpecPart):
    """The Secret's keys. The defaults are those of the vendor's connector, so its Secret works as it is."""

    RULES: ClassVar = (
        Rule(
            # Every field has a default; without them this is asked once, of the default of the whole.
            f"!has(self.clientID) || {_ALL_KEYS}.all(each, {_ALL_KEYS}.exists_one(other, other == each))",
            "spec.credentialsSecretRef.keys names one key of the Secret twice: give each field a key of its own.",
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
        "a Buildkite API token that changes memberships. The key may be absent; then the API token does both",
    )
    organization: Annotated[str, _key_form("organization"), _own_key("organization")] = _secret_key(
        "organization",
        "the organization's slug. The key may be absent; spec.organization goes before it",
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
        description="The Secret's name. It is read from this namespace only.",
        json_schema_extra={"default": ""},
    )
    keys: SecretKeysModel = Field(default_factory=SecretKeysModel, json_schema_extra=_EMPTY)


class ScheduleModel(SpecPart):
    """When to sync: an interval or a cron, not both. Without either, every hour."""

    RULES: ClassVar = (
        Rule(
            "!(has(self.interval) && has(self.cron))",
            "spec.schedule.interval and spec.schedule.cron exclude each other: keep one of them.",
            lambda schedule: schedule.interval is None or schedule.cron is None,
        ),
        Rule(
            "!has(self.timeZone) || has(self.cron)",
            "spec.schedule.timeZone is of use only with spec.schedule.cron: add the cron or remove the time zone.",
            lambda schedule: schedule.time_zone is None or schedule.cron is not None,
        ),
    )

    interval: (
        Annotated[str, is_duration("spec.schedule.interval"), within("spec.schedule.interval", "5m", "168h")] | None
    ) = Field(
        None,
        max_length=20,
        description=f"Time between the starts of two syncs, 5m to 168h, with a jitter of 5 %."
        f" Without interval and cron it is {DEFAULT_INTERVAL}.",
    )
    cron: (
        Annotated[
            str,
            Rule(
                "!self.contains('TZ=')",
                "spec.schedule.cron must not hold a time zone: put it into spec.schedule.timeZone, such as"
                " Europe/Berlin.",
                lambda text: "TZ=" not in text,
            ),
        ]
        | None
    ) = Field(
        None,
        min_length=1,
        max_length=MAX_CRON_LENGTH,
        description="Five fields: minute, hour, day of month, month, day of week. For example '0 3 * * *'."
        f" It may fire every {MIN_CRON_MINUTES} minutes, not more often.",
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
    ) = Field(None, max_length=64, description="The IANA time zone of the cron. Without it, UTC.")


class SyncModel(SpecPart):
    """What one sync takes, and how much of Buildkite's quota it may use."""

    resource_types: Annotated[
        list[Annotated[ResourceKind, Field(strict=False, description="A resource type of C1.")]],
        each_once("spec.sync.resourceTypes must name each resource type once."),
    ] = Field(
        [ResourceKind.USER, ResourceKind.TEAM],
        min_length=1,
        max_length=len(ResourceKind),
        description="What to sync: user, team or both. A team's members are synced with the team.",
        json_schema_extra=_ATOMIC,
    )
    timeout: Annotated[str, is_duration("spec.sync.timeout"), within("spec.sync.timeout", "1m", "24h")] = Field(
        "2h",
        max_length=20,
        description="How long one sync may take, 1m to 24h. A large organization's sync is bound by Buildkite's quota.",
    )
    quota_percent: int = Field(
        80,
        ge=10,
        le=100,
        description="Of each rate-limit window of Buildkite, how many percent a sync may see used before it waits"
        " for the next window. The rest stays for people and other tools.",
    )


class ShrinkGuardModel(SpecPart):
    """Holds back a snapshot that lost suspiciously much: C1 reads what is missing as gone."""

    max_drop_percent: int = Field(
        50,
        ge=0,
        le=100,
        description="Hold a snapshot that lost more than this many percent of the accounts, teams or memberships"
        f" of the last delivered one, until it is accepted by the annotation {ACCEPT_SHRINK}. 0 disables the guard.",
    )


class DeliveryModel(SpecPart):
    """How snapshots get to C1."""

    host_id: (
        Annotated[
            str,
            matches(
                _HOST_ID,
                "spec.delivery.hostID must start and end with a letter or digit;"
                " between them letters, digits and any of . _ : @ / - may stand.",
            ),
        ]
        | None
    ) = Field(
        None,
        alias="hostID",
        max_length=LONGEST_HOST_ID,
        description="What C1 shows as this connector's host. Without it, <namespace>.<name>.",
    )
    max_snapshot_age: Annotated[
        str, is_duration("spec.delivery.maxSnapshotAge"), within("spec.delivery.maxSnapshotAge", "0s", "168h")
    ] = Field(
        "10m",
        max_length=20,
        description="A staged snapshot younger than this answers C1's task at once, 0s to 168h."
        " 0s: always sync afresh.",
    )
    shrink_guard: ShrinkGuardModel = Field(default_factory=ShrinkGuardModel, json_schema_extra=_EMPTY)


class ProvisioningModel(SpecPart):
    """Whether C1's approved requests change memberships of Buildkite teams. Off, the connector only reads."""

    enabled: bool = Field(
        False,
        description="True: C1's grant and revoke tasks change who is in a team. The API token, or the one for writing,"
        f" then needs the scope {WRITE_SCOPE}. False: they are refused, within a second.",
    )
    roles: Annotated[
        list[Annotated[Role, Field(strict=False, description="A role in a team.")]],
        each_once("spec.provisioning.roles must name each role once."),
    ] = Field(
        [Role.MEMBER, Role.MAINTAINER],
        min_length=1,
        max_length=len(Role),
        description="Which roles may be granted: member, maintainer or both. Any membership may be revoked.",
        json_schema_extra=_ATOMIC,
    )
    protected_teams: Annotated[
        list[Annotated[str, Field(max_length=255, description="A team's slug.")]],
        Rule(
            f"self.all(each, each.matches('^{SLUG_PATTERN}$'))",
            "spec.provisioning.protectedTeams must hold slugs of teams, such as release-managers:"
            " lower-case letters, digits, '-' and '_'.",
            lambda slugs: all(re.fullmatch(SLUG_PATTERN, slug) for slug in slugs),
        ),
    ] = Field(
        [],
        max_length=100,
        description="Slugs of teams whose memberships are never changed; a request for one is refused in C1.",
        json_schema_extra=_ATOMIC,
    )


class SpecModel(SpecPart):
    """What to sync from Buildkite to C1, when, and with which credentials."""

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
        description="The slug of the Buildkite organization. May be left out when the Secret carries it, or when"
        " the API token reaches exactly one organization.",
    )
    credentials_secret_ref: SecretRefModel = Field(json_schema_extra={"default": _NO_SECRET})
    schedule: ScheduleModel = Field(default_factory=ScheduleModel)
    suspend: bool = Field(False, description="True: no sync and no contact with C1. What C1 has stays as it is.")
    sync: SyncModel = Field(default_factory=SyncModel, json_schema_extra=_EMPTY)
    delivery: DeliveryModel = Field(default_factory=DeliveryModel, json_schema_extra=_EMPTY)
    provisioning: ProvisioningModel = Field(default_factory=ProvisioningModel, json_schema_extra=_EMPTY)


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
