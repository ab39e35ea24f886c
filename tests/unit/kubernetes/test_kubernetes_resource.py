"""What the operator makes of an object: the same rules as the definition's, with the same sentences."""

import itertools
from typing import Any

import pytest

from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.kubernetes.schema.spec import SecretKeysModel
from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.model.failure import Reason, Remedy
from buildkite_connector.model.spec import ConnectorSpec, Cron, Interval

SECRET = {"credentialsSecretRef": {"name": "buildkite-credentials"}}


def body(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "acme", "uid": "u-1", "generation": 3, **metadata},
        "spec": spec,
    }


KEYS = {
    "clientID": "BATON_CLIENT_ID",
    "clientSecret": "BATON_CLIENT_SECRET",
    "apiToken": "BATON_API_TOKEN",
    "writeApiToken": "BATON_WRITE_API_TOKEN",
    "organization": "BATON_ORGANIZATION",
}


def read(spec: dict[str, Any], **metadata: Any) -> ObservedResource:
    seen = read_resource(body({**SECRET, **spec}, **metadata))
    assert seen.failure is None
    return seen


def test_the_least_object_gets_every_default() -> None:
    seen = read({}, resourceVersion="17")
    assert seen.key == "default.acme"
    assert (seen.uid, seen.generation, seen.resource_version, seen.deleting) == ("u-1", 3, "17", False)
    assert seen.spec == ConnectorSpec(host_id="default.acme")
    assert seen.secret.name == "buildkite-credentials"
    assert seen.secret.keys == SecretKeysModel()
    assert (seen.sync_request, seen.accept_shrink, seen.status) == (None, None, None)


def test_every_field_of_the_spec_arrives() -> None:
    seen = read(
        {
            "organization": "acme-inc",
            "credentialsSecretRef": {"name": "s", "keys": {"clientID": "id", "apiToken": "token"}},
            "portal": {"slug": "c1-connector_2"},
            "schedule": {"interval": "1h30m"},
            "suspend": True,
            "sync": {"resourceTypes": ["team", "api_token"], "timeout": "90s", "quotaPercent": 10},
            "delivery": {"hostID": "here", "maxSnapshotAge": "0s", "shrinkGuard": {"maxDropPercent": 0}},
        }
    )
    assert seen.spec == ConnectorSpec(
        host_id="here",
        organization=seen.spec.organization,
        schedule=Interval(5400.0),
        suspend=True,
        kinds=frozenset({ResourceKind.TEAM, ResourceKind.API_TOKEN}),
        sync_timeout=90.0,
        quota_percent=10,
        max_snapshot_age=0.0,
        max_drop_percent=0,
        portal="c1-connector_2",
    )
    assert seen.spec.organization == "acme-inc"
    assert (seen.secret.keys.client_id, seen.secret.keys.api_token) == ("id", "token")


@pytest.mark.parametrize("keys", [KEYS, dict(zip(KEYS, "abcde", strict=True))], ids=["defaults", "names of one's own"])
def test_each_field_of_the_keys_may_name_its_default_or_any_key_of_its_own(keys: dict[str, str]) -> None:
    seen = read({"credentialsSecretRef": {"name": "s", "keys": keys}}).secret.keys
    found = (seen.client_id, seen.client_secret, seen.api_token, seen.write_api_token, seen.organization)
    assert found == tuple(keys.values())


def test_a_cron_without_a_time_zone_is_in_utc() -> None:
    assert read({"schedule": {"cron": "0 3 * * *"}}).spec.schedule == Cron("0 3 * * *", "UTC")


def test_a_cron_keeps_its_time_zone() -> None:
    schedule = {"cron": "0 3 * * 1-5", "timeZone": "Europe/Berlin"}
    assert read({"schedule": schedule}).spec.schedule == Cron("0 3 * * 1-5", "Europe/Berlin")


def test_the_annotations_of_a_person_are_read_and_others_are_not() -> None:
    annotations = {
        "connectors.c1.ai/sync-requested-at": "now",
        "connectors.c1.ai/accept-shrink": "2abc",
        "example.com/other": "x",
    }
    seen = read({}, annotations=annotations)
    assert (seen.sync_request, seen.accept_shrink) == ("now", "2abc")


def test_a_huge_annotation_is_cut_so_that_its_echo_fits_the_status() -> None:
    seen = read({}, annotations={"connectors.c1.ai/sync-requested-at": "x" * 100_000})
    assert seen.sync_request == "x" * 256


def test_an_object_that_is_being_deleted_says_so() -> None:
    assert read({}, deletionTimestamp="2026-03-02T09:00:00Z").deleting


def test_unknown_fields_are_passed_over() -> None:
    assert read({"later": {"version": 2}}).spec.host_id == "default.acme"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"credentialsSecretRef": {}}, "spec.credentialsSecretRef.name"),
        ({"credentialsSecretRef": {"name": ""}}, "spec.credentialsSecretRef.name"),
        ({"credentialsSecretRef": {"name": "Not_A_Name"}}, "spec.credentialsSecretRef.name"),
        (
            {"credentialsSecretRef": {"name": "s", "keys": {"apiToken": "a b"}}},
            "spec.credentialsSecretRef.keys.apiToken",
        ),
        *(
            (
                {"credentialsSecretRef": {"name": "s", "keys": {field: key}}},
                f"spec.credentialsSecretRef.keys.{field} is the default key of another field",
            )
            for field in KEYS
            for other, key in KEYS.items()
            if other != field
        ),
        *(
            (
                {"credentialsSecretRef": {"name": "s", "keys": {field: "x", other: "x"}}},
                "spec.credentialsSecretRef.keys uses one key of the Secret twice",
            )
            for field, other in itertools.combinations(KEYS, 2)
        ),
        (
            {"credentialsSecretRef": {"name": "s", "keys": {"apiToken": "BATON_ORGANIZATION", "organization": "x"}}},
            "spec.credentialsSecretRef.keys.apiToken",
        ),
        ({"schedule": {"interval": "1h", "cron": "0 3 * * *"}}, "spec.schedule.interval and spec.schedule.cron"),
        ({"schedule": {"interval": "3x"}}, "spec.schedule.interval"),
        ({"schedule": {"interval": ""}}, "spec.schedule.interval"),
        ({"schedule": {"interval": "4m59s"}}, "spec.schedule.interval"),
        ({"schedule": {"interval": "168h1s"}}, "spec.schedule.interval"),
        ({"schedule": {"interval": 5}}, "spec.schedule.interval"),
        ({"schedule": {"cron": "TZ=UTC 0 3 * * *"}}, "spec.schedule.cron"),
        ({"schedule": {"cron": "0 3 * * *", "timeZone": "Berlin time"}}, "spec.schedule.timeZone"),
        ({"schedule": {"timeZone": "UTC"}}, "spec.schedule.timeZone"),
        ({"suspend": "yes"}, "spec.suspend"),
        ({"sync": {"resourceTypes": []}}, "spec.sync.resourceTypes"),
        ({"sync": {"resourceTypes": ["project"]}}, "spec.sync.resourceTypes.0"),
        ({"sync": {"resourceTypes": ["user", "user"]}}, "spec.sync.resourceTypes"),
        ({"sync": {"timeout": "59s"}}, "spec.sync.timeout"),
        ({"sync": {"quotaPercent": 9}}, "spec.sync.quotaPercent"),
        ({"sync": {"quotaPercent": 101}}, "spec.sync.quotaPercent"),
        ({"delivery": {"hostID": "a b"}}, "spec.delivery.hostID"),
        ({"delivery": {"hostID": "x" * 257}}, "spec.delivery.hostID"),
        ({"delivery": {"maxSnapshotAge": "169h"}}, "spec.delivery.maxSnapshotAge"),
        ({"delivery": {"shrinkGuard": {"maxDropPercent": 101}}}, "spec.delivery.shrinkGuard.maxDropPercent"),
        ({"organization": "Acme Inc"}, "spec.organization"),
        ({"organization": "../x"}, "spec.organization"),
        ({"portal": {}}, "spec.portal.slug"),
        *(({"portal": {"slug": slug}}, "spec.portal.slug must be the slug") for slug in ("", "C1", "../x", "a/b?c=")),
        ({"portal": {"slug": "x" * 256}}, "spec.portal.slug"),
        (
            {"sync": {"resourceTypes": ["user", "api_token"]}},
            "spec.sync.resourceTypes contains api_token, which requires spec.portal: set spec.portal.slug or remove",
        ),
        *(
            (
                {"credentialsSecretRef": {"name": "s", "keys": {"portalToken": key}}},
                "spec.credentialsSecretRef.keys.portalToken",
            )
            for key in ("BATON_API_TOKEN", "a b")
        ),
    ],
)
def test_what_an_older_definition_let_pass_is_a_failure_that_names_the_field(spec: dict[str, Any], field: str) -> None:
    seen = read_resource(body({**SECRET, **spec}))
    assert seen.failure is not None
    assert seen.key == "default.acme"
    assert (seen.failure.reason, seen.failure.remedy) == (Reason.SPEC_INVALID, Remedy.EDIT)
    assert seen.failure.message.startswith(field)
    assert seen.failure.message.endswith("apply crds/ of the operator's version.")


def test_an_object_without_a_spec_is_a_failure_too() -> None:
    bare = body({})
    del bare["spec"]
    seen = read_resource(bare)
    assert seen.failure is not None
    assert "spec.credentialsSecretRef" in seen.failure.message


def test_a_name_that_leaves_no_room_for_the_host_id_is_a_failure() -> None:
    seen = read_resource(body(SECRET, namespace="n" * 63, name="a" * 200))
    assert seen.failure is not None
    assert "set spec.delivery.hostID" in seen.failure.message


def test_a_broken_object_keeps_its_status() -> None:
    seen = read_resource({**body({}), "status": {"observedGeneration": 2, "lastHandledSyncRequest": "then"}})
    assert seen.failure is not None
    assert seen.status is not None
    assert seen.status.last_handled_sync_request == "then"
