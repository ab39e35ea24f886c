"""What `kubectl apply` refuses, with which sentence, and what it makes of what it takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts import c1_spec
from harness.cluster import Cluster

ROOT = Path(__file__).parents[2]
SECRET = {"credentialsSecretRef": {"name": "buildkite-credentials"}}
KEYS = ("clientID", "clientSecret", "apiToken", "writeApiToken", "organization")


def manifest(spec: dict[str, Any] | None, namespace: str, name: str = "acme") -> str:
    body = {
        "apiVersion": "connectors.c1.ai/v1alpha1",
        "kind": "BuildkiteConnector",
        "metadata": {"name": name, "namespace": namespace},
    }
    return json.dumps(body if spec is None else {**body, "spec": spec})


def refusal(cluster: Cluster, document: str) -> str:
    done = cluster.kubectl("apply", "--dry-run=server", "--filename", "-", input=document, check=False)
    assert done.returncode != 0, "it was accepted"
    return done.stderr


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"credentialsSecretRef": {}},
        "spec.credentialsSecretRef.name is required: name the Secret in this namespace that holds the credentials.",
    ),
    ({"credentialsSecretRef": {"name": ""}}, "spec.credentialsSecretRef.name is required"),
    ({"credentialsSecretRef": {"name": "A_b"}}, "spec.credentialsSecretRef.name must be the name of a Secret"),
    (
        {"credentialsSecretRef": {"name": "s", "keys": {"apiToken": "a b"}}},
        "spec.credentialsSecretRef.keys.apiToken must be a key of a Secret",
    ),
    *(
        (
            {"credentialsSecretRef": {"name": "s", "keys": {field: key}}},
            f"spec.credentialsSecretRef.keys.{field} is the default key of another field",
        )
        for field, key in [
            ("organization", "BATON_API_TOKEN"),
            ("organization", "BATON_WRITE_API_TOKEN"),
            ("organization", "BATON_CLIENT_SECRET"),
            ("clientID", "BATON_CLIENT_SECRET"),
            ("clientSecret", "BATON_CLIENT_ID"),
            ("apiToken", "BATON_CLIENT_SECRET"),
            ("writeApiToken", "BATON_API_TOKEN"),
        ]
    ),
    (
        {"credentialsSecretRef": {"name": "s", "keys": {"apiToken": "BATON_ORGANIZATION", "organization": "slug"}}},
        "spec.credentialsSecretRef.keys.apiToken is the default key of another field",
    ),
    (
        {"credentialsSecretRef": {"name": "s", "keys": {"organization": "token", "apiToken": "token"}}},
        "spec.credentialsSecretRef.keys uses one key of the Secret twice: give each field its own key.",
    ),
    (
        {"schedule": {"interval": "1h", "cron": "0 3 * * *"}},
        "spec.schedule.interval and spec.schedule.cron are mutually exclusive: remove one of them.",
    ),
    ({"schedule": {"interval": "3x"}}, "spec.schedule.interval is not a duration"),
    ({"schedule": {"interval": ""}}, "spec.schedule.interval is not a duration"),
    ({"schedule": {"interval": "1.5h"}}, "spec.schedule.interval is not a duration"),
    ({"schedule": {"interval": "99999999999h"}}, "spec.schedule.interval is not a duration"),
    ({"schedule": {"interval": "1m"}}, "spec.schedule.interval must be at least 5m and at most 168h."),
    ({"schedule": {"interval": "4m59s"}}, "spec.schedule.interval must be at least 5m"),
    ({"schedule": {"interval": "1000h"}}, "spec.schedule.interval must be at least 5m and at most 168h."),
    (
        {"schedule": {"cron": "0 3 * * *", "timeZone": "Berlin time"}},
        "spec.schedule.timeZone must be the name of an IANA time zone",
    ),
    (
        {"schedule": {"cron": "0 3 * * *", "timeZone": "+02:00"}},
        "spec.schedule.timeZone must be the name of an IANA time zone",
    ),
    ({"schedule": {"cron": "TZ=UTC 0 3 * * *"}}, "spec.schedule.cron must not contain a time zone"),
    ({"schedule": {"cron": ""}}, "spec.schedule.cron in body should be at least 1 chars long"),
    ({"schedule": {"timeZone": "UTC"}}, "spec.schedule.timeZone requires spec.schedule.cron"),
    ({"sync": {"quotaPercent": 5}}, "spec.sync.quotaPercent in body should be greater than or equal to 10"),
    ({"sync": {"quotaPercent": 101}}, "spec.sync.quotaPercent in body should be less than or equal to 100"),
    (
        {"sync": {"resourceTypes": ["project"]}},
        'spec.sync.resourceTypes[0]: Unsupported value: "project": supported values: "user", "team"',
    ),
    ({"sync": {"resourceTypes": []}}, "spec.sync.resourceTypes in body should have at least 1 items"),
    ({"sync": {"resourceTypes": ["user", "user"]}}, "spec.sync.resourceTypes must name each resource type once."),
    ({"sync": {"timeout": "30s"}}, "spec.sync.timeout must be at least 1m and at most 24h."),
    ({"sync": {"timeout": "25h"}}, "spec.sync.timeout must be at least 1m and at most 24h."),
    ({"sync": {"timeout": "soon"}}, "spec.sync.timeout is not a duration"),
    ({"delivery": {"hostID": ""}}, "spec.delivery.hostID must start and end with a letter or digit"),
    ({"delivery": {"hostID": "a b"}}, "spec.delivery.hostID must start and end with a letter or digit"),
    ({"delivery": {"hostID": "x" * 257}}, "spec.delivery.hostID: Too long"),
    ({"delivery": {"maxSnapshotAge": "169h"}}, "spec.delivery.maxSnapshotAge must be at least 0s and at most 168h."),
    (
        {"delivery": {"shrinkGuard": {"maxDropPercent": 101}}},
        "spec.delivery.shrinkGuard.maxDropPercent in body should be less than or equal to 100",
    ),
    (
        {"provisioning": {"roles": ["owner"]}},
        'spec.provisioning.roles[0]: Unsupported value: "owner": supported values: "member", "maintainer"',
    ),
    ({"provisioning": {"roles": []}}, "spec.provisioning.roles in body should have at least 1 items"),
    ({"provisioning": {"roles": ["member", "member"]}}, "spec.provisioning.roles must name each role once."),
    ({"provisioning": {"protectedTeams": ["On Call"]}}, "spec.provisioning.protectedTeams must contain team slugs"),
    ({"provisioning": {"protectedTeams": ["x"] * 101}}, "spec.provisioning.protectedTeams: Too many: 101"),
    ({"provisioning": {"enabled": "yes"}}, "spec.provisioning.enabled in body must be of type boolean"),
    ({"provisioning": {"on": True}}, 'unknown field "spec.provisioning.on"'),
    (
        {"credentialsSecretRef": {"name": "s", "keys": {"writeApiToken": "a b"}}},
        "spec.credentialsSecretRef.keys.writeApiToken must be a key of a Secret",
    ),
    *(
        ({"portal": {"slug": slug}}, "spec.portal.slug must be the slug from the portal's")
        for slug in ("", "C1", "../x")
    ),
    ({"portal": {"slug": "x" * 256}}, "spec.portal.slug: Too long"),
    ({"portal": {}}, "spec.portal.slug: Required value"),
    ({"portal": {"slug": "c1", "token": "x"}}, 'unknown field "spec.portal.token"'),
    (
        {"sync": {"resourceTypes": ["user", "api_token"]}},
        "spec.sync.resourceTypes: Invalid value: spec.sync.resourceTypes contains api_token, which requires",
    ),
    (
        {"credentialsSecretRef": {"name": "s", "keys": {"portalToken": "BATON_API_TOKEN"}}},
        "spec.credentialsSecretRef.keys.portalToken is the default key of another field",
    ),
    *(({"c1": c1}, sentence) for c1, sentence in c1_spec.REFUSED.values()),
    ({"c1": {**c1_spec.PAIR, "auth": {"secretRef": {}}}}, "spec.c1.auth.secretRef.name: Required value"),
    ({"c1": {}}, "spec.c1.auth is required"),
    ({"c1": {**c1_spec.PAIR, **c1_spec.AUTH, "appId": "x"}}, 'unknown field "spec.c1.appId"'),
    ({"organization": "Acme Inc"}, "spec.organization must be the slug"),
    ({"organization": ""}, "spec.organization must be the slug"),
    ({"organisation": "acme"}, 'unknown field "spec.organisation"'),
]


@pytest.mark.parametrize(("spec", "sentence"), REFUSED, ids=[json.dumps(spec)[:60] for spec, _ in REFUSED])
def test_it_is_refused_with_a_sentence_that_names_the_field(
    control_plane: Cluster, spec: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(control_plane, manifest({**SECRET, **spec}, "default"))


@pytest.mark.parametrize("spec", [None, {}])
def test_an_object_without_a_secret_is_refused_however_bare_it_is(
    control_plane: Cluster, spec: dict[str, Any] | None
) -> None:
    assert "spec.credentialsSecretRef.name is required" in refusal(control_plane, manifest(spec, "default"))


def test_a_name_that_leaves_no_room_for_the_host_id_is_refused_until_one_is_given(control_plane: Cluster) -> None:
    said = refusal(control_plane, manifest(SECRET, "default", "n" * 193))
    assert "metadata.name is longer than 192 characters" in said
    accepted = manifest({**SECRET, "delivery": {"hostID": "short"}}, "default", "n" * 193)
    control_plane.kubectl("apply", "--dry-run=server", "--filename", "-", input=accepted)


@pytest.mark.parametrize(
    "spec",
    [
        {"schedule": {"interval": "5m"}},
        {"schedule": {"interval": "168h0m0s"}},
        {"schedule": {"cron": "*/5 * * * *"}},
        {"schedule": {"cron": "0 3 * * 1-5", "timeZone": "America/Argentina/Buenos_Aires"}},
        {"schedule": {"cron": "0 3 * * *", "timeZone": "Etc/GMT+1"}},
        {"sync": {"timeout": "1m", "quotaPercent": 10, "resourceTypes": ["team"]}},
        {"sync": {"timeout": "24h", "quotaPercent": 100}},
        {"delivery": {"hostID": "h" * 256, "maxSnapshotAge": "0s", "shrinkGuard": {"maxDropPercent": 0}}},
        {"organization": "acme-inc_2"},
        {
            "credentialsSecretRef": {
                "name": "s",
                "keys": {
                    "clientID": "a",
                    "clientSecret": "b",
                    "apiToken": "c",
                    "writeApiToken": "d",
                    "organization": "e",
                    "tokenExchangeClientID": "f",
                    "tokenExchangePrivateKey": "g",
                    "tokenExchangeSubject": "h",
                    "portalToken": "i",
                },
            }
        },
        {"credentialsSecretRef": {"name": "s", "keys": {"apiToken": "BATON_API_TOKEN", "organization": "slug"}}},
        {"provisioning": {"enabled": True, "roles": ["maintainer"], "protectedTeams": ["on-call", "release_2"]}},
        {"portal": {"slug": "c1_connector-2"}, "sync": {"resourceTypes": ["user", "api_token"]}},
        {"portal": {"slug": "p" * 255}},
        *({"c1": c1} for c1 in c1_spec.ACCEPTED),
    ],
    ids=json.dumps,
)
def test_what_is_within_the_limits_is_accepted(control_plane: Cluster, spec: dict[str, Any]) -> None:
    document = manifest({**SECRET, **spec}, "default")
    control_plane.kubectl("apply", "--dry-run=server", "--filename", "-", input=document)


def test_defaults_are_filled_in_and_what_depends_on_another_field_is_not(
    control_plane: Cluster, namespace: str
) -> None:
    control_plane.kubectl("apply", "--filename", "-", input=manifest(SECRET, namespace))
    assert control_plane.kubectl_json("get", "bkc/acme", "--namespace", namespace)["spec"] == {
        "credentialsSecretRef": {
            "name": "buildkite-credentials",
            "keys": {
                "clientID": "BATON_CLIENT_ID",
                "clientSecret": "BATON_CLIENT_SECRET",
                "apiToken": "BATON_API_TOKEN",
                "writeApiToken": "BATON_WRITE_API_TOKEN",
                "organization": "BATON_ORGANIZATION",
                "tokenExchangeClientID": "BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID",
                "tokenExchangePrivateKey": "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY",
                "tokenExchangeSubject": "BUILDKITE_TOKEN_EXCHANGE_SUBJECT",
                "portalToken": "BUILDKITE_PORTAL_TOKEN",
            },
        },
        "suspend": False,
        "sync": {"resourceTypes": ["user", "team"], "timeout": "2h", "quotaPercent": 80},
        "delivery": {"maxSnapshotAge": "10m", "shrinkGuard": {"maxDropPercent": 50}},
        "provisioning": {"enabled": False, "roles": ["member", "maintainer"], "protectedTeams": []},
    }


def test_the_connector_in_c1_has_defaults_inside_and_none_as_a_whole(control_plane: Cluster, namespace: str) -> None:
    created = {"create": c1_spec.CREATE, **c1_spec.AUTH}
    control_plane.kubectl("apply", "--filename", "-", input=manifest({**SECRET, "c1": created}, namespace))
    assert control_plane.kubectl_json("get", "bkc/acme", "--namespace", namespace)["spec"]["c1"] == {
        "forceSync": True,
        "auth": {
            "secretRef": {
                "name": "c1-api",
                "keys": {"clientID": "C1_CLIENT_ID", "clientSecret": "C1_CLIENT_SECRET"},
            }
        },
        "create": {"appName": "Buildkite", "displayName": "Buildkite", "owners": [], "deletionPolicy": "Retain"},
    }


@pytest.mark.parametrize("side", [[], ["--server-side"]], ids=["client-side", "server-side"])
@pytest.mark.parametrize(
    "example",
    sorted([*(ROOT / "examples").glob("*.yaml"), *(ROOT / "examples" / "c1").glob("*.yaml")]),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_an_example_is_accepted_and_stays_as_it_was_applied(
    control_plane: Cluster, namespace: str, example: Path, side: list[str]
) -> None:
    document = yaml.safe_load(example.read_text())
    document["metadata"]["namespace"] = namespace
    text = json.dumps(document)
    control_plane.kubectl("apply", *side, "--filename", "-", input=text)
    assert control_plane.kubectl("diff", *side, "--filename", "-", input=text).stdout == ""


@pytest.mark.parametrize("side", [[], ["--server-side"]], ids=["client-side", "server-side"])
def test_a_change_of_mind_from_the_default_interval_to_a_cron_and_back_is_accepted(
    control_plane: Cluster, namespace: str, side: list[str]
) -> None:
    for schedule in ({}, {"cron": "0 3 * * *", "timeZone": "UTC"}, {"interval": "30m"}, {}):
        document = manifest({**SECRET, "schedule": schedule} if schedule else SECRET, namespace)
        control_plane.kubectl("apply", *side, "--filename", "-", input=document)
        spec = control_plane.kubectl_json("get", "bkc/acme", "--namespace", namespace)["spec"]
        assert spec.get("schedule", {}) == schedule


def test_one_resource_type_replaces_the_default_of_both(control_plane: Cluster, namespace: str) -> None:
    control_plane.kubectl("apply", "--server-side", "--filename", "-", input=manifest(SECRET, namespace))
    narrower = manifest({**SECRET, "sync": {"resourceTypes": ["user"]}}, namespace)
    control_plane.kubectl("apply", "--server-side", "--filename", "-", input=narrower)
    spec = control_plane.kubectl_json("get", "bkc/acme", "--namespace", namespace)["spec"]
    assert spec["sync"]["resourceTypes"] == ["user"]


def test_the_definition_itself_stays_as_it_was_applied(control_plane: Cluster) -> None:
    assert control_plane.kubectl("diff", "--filename", str(ROOT / "crds")).stdout == ""


@pytest.mark.parametrize("name", ["bkc", "buildkiteconnector", "buildkiteconnectors", "connectors"])
def test_it_can_be_asked_for_by_each_of_its_names(control_plane: Cluster, namespace: str, name: str) -> None:
    control_plane.kubectl("apply", "--filename", "-", input=manifest(SECRET, namespace))
    assert "acme" in control_plane.kubectl("get", name, "--namespace", namespace).stdout


def test_every_field_is_explained(control_plane: Cluster) -> None:
    said = control_plane.kubectl("explain", "bkc.spec.credentialsSecretRef").stdout
    assert "name\t<string> -required-" in said
    assert "The name of a Secret in the same namespace as the resource." in said
    assert "Without it, accounts have no last login in C1." in " ".join(
        control_plane.kubectl("explain", "bkc.spec.portal").stdout.split()
    )
