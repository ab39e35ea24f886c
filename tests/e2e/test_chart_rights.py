"""What a release of the chart lets the operator do, asked right by right; and what the release leaves alone."""

import json

import pytest

from harness.cluster import Cluster
from harness.control_plane import ControlPlane
from harness.helm_chart import FULL_NAME, merged
from harness.helm_release import NO_DEFINITION, installed, new_namespace, there
from harness.pages import manifests

pytestmark = [pytest.mark.xdist_group("chart rights"), pytest.mark.usefixtures("definition")]

CONNECTORS, SECRETS = ("connectors.c1.ai", "buildkiteconnectors"), ("", "secrets")
STATUS, EVENTS = ("connectors.c1.ai", "buildkiteconnectors/status"), ("events.k8s.io", "events")
LEASES = ("coordination.k8s.io", "leases")
ALL_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
WATCHED = {
    CONNECTORS: {"get", "list", "watch"},
    STATUS: {"patch"},
    SECRETS: {"get"},
    EVENTS: {"create", "patch"},
    LEASES: set(),
    ("", "events"): set(),
    ("", "pods"): set(),
    ("", "pods/exec"): set(),
    ("", "configmaps"): set(),
    ("", "namespaces"): set(),
    ("", "serviceaccounts/token"): set(),
    ("apps", "deployments"): set(),
    ("apiextensions.k8s.io", "customresourcedefinitions"): set(),
    ("rbac.authorization.k8s.io", "clusterroles"): set(),
}
"""What the operator may do where it watches; nothing else."""
AT_HOME = {LEASES: {"get", "create", "patch"}}


def allowed(cluster: Cluster, ops: str, namespace: str) -> dict[tuple[str, str], set[str]]:
    """What the service account may do in a namespace."""
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{ops}", "system:authenticated"]
    return allowed_to(cluster, namespace, f"system:serviceaccount:{ops}:{FULL_NAME}", groups)


def allowed_to(cluster: Cluster, namespace: str, user: str, groups: list[str]) -> dict[tuple[str, str], set[str]]:
    """What somebody may do in a namespace, by SubjectAccessReviews."""
    asked = [(resource, verb) for resource in WATCHED for verb in ALL_VERBS]
    reviews = []
    for (group, path), verb in asked:
        name, _, subresource = path.partition("/")
        attributes = {"group": group, "resource": name, "subresource": subresource, "verb": verb}
        spec = {
            "user": user,
            "groups": groups,
            "resourceAttributes": {**attributes, "namespace": namespace},
        }
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    output = 'jsonpath={.status.allowed}{" "}'
    verdicts = cluster.kubectl("create", "--filename", "-", "--output", output, input=listed).stdout.split()
    may: dict[tuple[str, str], set[str]] = {resource: set() for resource in WATCHED}
    for (resource, verb), verdict in zip(asked, verdicts, strict=True):
        if verdict == "true":
            may[resource].add(verb)
    return may


def test_the_operator_of_all_namespaces_may_do_this_and_nothing_else(cluster: ControlPlane, ops: str) -> None:
    with installed(cluster, ops, NO_DEFINITION):
        assert allowed(cluster, ops, "default") == WATCHED
        assert allowed(cluster, ops, ops) == {**WATCHED, **AT_HOME}
    assert not any(allowed(cluster, ops, ops).values())


def test_the_operator_of_named_namespaces_may_nothing_outside_of_them(cluster: ControlPlane, ops: str) -> None:
    team = new_namespace(cluster)
    nothing: dict[tuple[str, str], set[str]] = {resource: set() for resource in WATCHED}
    with installed(cluster, ops, merged(NO_DEFINITION, {"watchNamespaces": [team]})):
        assert allowed(cluster, ops, team) == WATCHED
        assert allowed(cluster, ops, ops) == {**nothing, **AT_HOME}
        assert allowed(cluster, ops, "default") == nothing


def test_an_install_for_named_namespaces_touches_nothing_outside_of_them(cluster: ControlPlane, ops: str) -> None:
    team = new_namespace(cluster)
    before = there(cluster)
    with installed(cluster, ops, merged(NO_DEFINITION, {"watchNamespaces": [team]})):
        made = there(cluster) - before
    assert {namespace for _, namespace, _ in made} == {ops, team}
    assert {(kind, name) for kind, namespace, name in made if namespace == team} == {
        ("Role", FULL_NAME),
        ("RoleBinding", FULL_NAME),
    }
    assert there(cluster) == before


def test_two_releases_of_one_name_live_side_by_side(cluster: ControlPlane, ops: str) -> None:
    with installed(cluster, ops, NO_DEFINITION), installed(cluster, new_namespace(cluster), NO_DEFINITION):
        assert len(cluster.kubectl("get", "deployment", "--all-namespaces", "--output=name").stdout.split()) == 3


def test_the_role_of_the_page_on_tenants_is_for_connectors_alone(cluster: ControlPlane, ops: str) -> None:
    team = new_namespace(cluster)
    [page] = manifests("multi-tenancy")
    with installed(cluster, ops, merged(NO_DEFINITION, {"watchNamespaces": [team]})):
        cluster.kubectl("apply", "--filename", "-", input=page.replace("namespace: team-a", f"namespace: {team}"))
        may = allowed_to(cluster, team, "ada", ["team-a", "system:authenticated"])
        assert {resource: verbs for resource, verbs in may.items() if verbs} == {
            CONNECTORS: set(ALL_VERBS) - {"deletecollection"}
        }
        assert not any(allowed_to(cluster, "default", "ada", ["team-a", "system:authenticated"]).values())
