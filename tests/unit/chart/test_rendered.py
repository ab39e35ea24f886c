"""What holds for the chart as a whole, whatever the values are."""

from pathlib import Path

import helm_python
import pytest

from buildkite_connector.network import read_proxies
from harness.helm_chart import (
    CHART,
    FULL_NAME,
    REGISTRY,
    Values,
    at,
    chart,
    empty_parts,
    hooks,
    identity,
    merged,
    nested,
    of_kind,
    one,
    render,
    workload,
)
from harness.yaml_text import parsed

ROOT = CHART.parents[1]
SELECTOR = {"app.kubernetes.io/name": "buildkite-connector", "app.kubernetes.io/instance": "bc"}
VERSION = parsed((CHART / "Chart.yaml").read_text())["appVersion"]
MEANT_EMPTY = {"/rules/2/apiGroups/0"}
"""The core API group has an empty name."""
OPERATOR_RULES = [
    {"apiGroups": ["connectors.c1.ai"], "resources": ["buildkiteconnectors"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["connectors.c1.ai"], "resources": ["buildkiteconnectors/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
LEASES = ["get", "create", "patch"]
TEAMS: Values = {"watchNamespaces": ["team-a", "team-b"]}


def test_the_lint_is_strict_and_has_nothing_to_say(values: Values) -> None:
    report = helm_python.lint(CHART, dict(values), strict=True)
    assert [each for each in report["messages"] if each["severity"] > 1] == []
    assert report["errors"] == []


def test_nothing_is_rendered_empty(values: Values) -> None:
    for document in [*render(values), *hooks(values)]:
        # A definition's spec is that of crds/, whose defaults may be empty.
        seen = document["metadata"] if document["kind"] == "CustomResourceDefinition" else document
        assert set(empty_parts(seen)) <= MEANT_EMPTY, identity(document)


def test_there_is_no_hook_but_the_test_and_no_webhook(values: Values) -> None:
    assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in hooks(values)} == {"test"}
    assert [each for each in render(values) if "Webhook" in each["kind"]] == []


def test_no_object_is_rendered_twice(values: Values) -> None:
    keys = [identity(each) for each in [*render(values), *hooks(values)]]
    assert len(keys) == len(set(keys))


def test_the_selector_is_frozen() -> None:
    """Immutable in the cluster: a change of it, by a version or a value, would break every upgrade."""
    labels = {"team": "a", "app.kubernetes.io/name": "other", "app.kubernetes.io/instance": "other"}
    documents = render({"commonLabels": labels, "podLabels": labels, "image": {"tag": "2"}})
    spec = workload(documents)["spec"]
    assert spec["selector"] == {"matchLabels": SELECTOR}
    assert spec["template"]["metadata"]["labels"] == {**SELECTOR, "team": "a"}


def test_every_selector_selects_the_pods() -> None:
    documents = render(
        {
            "metrics": {"service": {"enabled": True}},
            "podDisruptionBudget": {"enabled": True},
            "networkPolicy": {"enabled": True},
            "podMonitor": {"enabled": True, "renderMode": "alwaysRender"},
        }
    )
    assert [each["spec"]["selector"] for each in of_kind(documents, "Service")] == [SELECTOR]
    for kind, path in (
        ("PodDisruptionBudget", "spec/selector/matchLabels"),
        ("NetworkPolicy", "spec/podSelector/matchLabels"),
        ("PodMonitor", "spec/selector/matchLabels"),
    ):
        assert at(one(documents, kind), path) == SELECTOR


def test_the_service_monitor_selects_the_metrics_service() -> None:
    documents = render({"serviceMonitor": {"enabled": True, "renderMode": "alwaysRender"}})
    wanted = at(one(documents, "ServiceMonitor"), "spec/selector/matchLabels")
    found = [
        each["metadata"]["name"]
        for each in of_kind(documents, "Service")
        if wanted.items() <= each["metadata"]["labels"].items()
    ]
    assert found == [f"{FULL_NAME}-metrics"]


def test_two_releases_of_one_name_share_nothing() -> None:
    names = []
    for namespace in ("ops", "dev"):
        documents = render({"crds": {"enabled": False}}, namespace=namespace)
        names.append({identity(each) for each in documents})
    assert names[0] & names[1] == set()


def test_all_names_carry_the_release(values: Values) -> None:
    unnamed = {"fullnameOverride": "", "extraObjects": [], "serviceAccount": {"name": ""}}
    values = merged(values, unnamed)
    for document in [*render(values), *hooks(values)]:
        if document["kind"] != "CustomResourceDefinition":
            assert "bc-" in document["metadata"]["name"]


def test_the_operators_rights_are_these() -> None:
    documents = render()
    assert one(documents, "Role")["rules"] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": LEASES}
    ]
    (operator,) = [each for each in of_kind(documents, "ClusterRole") if each["metadata"]["name"] == f"ops-{FULL_NAME}"]
    assert operator["rules"] == OPERATOR_RULES
    assert one(documents, "ClusterRoleBinding")["roleRef"]["name"] == operator["metadata"]["name"]


def test_named_namespaces_get_roles_and_nothing_is_cluster_wide() -> None:
    documents = render(TEAMS)
    assert [each["kind"] for each in documents if each["kind"].startswith("ClusterRole")] == []
    roles = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in of_kind(documents, "Role")}
    assert set(roles) == {("team-a", FULL_NAME), ("team-b", FULL_NAME), ("ops", f"{FULL_NAME}-leases")}
    assert roles["team-b", FULL_NAME]["rules"] == OPERATOR_RULES
    for binding in of_kind(documents, "RoleBinding"):
        assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) in roles
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": FULL_NAME, "namespace": "ops"}]


@pytest.mark.parametrize("scope", [{}, TEAMS], ids=["all namespaces", "some"])
def test_secrets_are_written_only_when_connectors_may_be_created_in_c1(scope: Values) -> None:
    for enabled, verbs in ((False, ["get"]), (True, ["get", "create", "patch"])):
        documents = render(merged(scope, nested("c1.create.enabled", enabled)))
        roles = [*of_kind(documents, "ClusterRole"), *of_kind(documents, "Role")]
        rules = [rule for role in roles for rule in role["rules"] if "secrets" in rule["resources"]]
        assert [rule["verbs"] for rule in rules] == [verbs] * (len(scope.get("watchNamespaces", ())) or 1)


def test_without_its_values_nothing_of_c1s_side_is_rendered() -> None:
    assert render({"c1": {"workloadIdentity": {"audience": "acme.conductor.one"}}}) == render()
    pod = workload(render())["spec"]["template"]["spec"]
    [container] = pod["containers"]
    for names in (pod["volumes"], container["volumeMounts"]):
        assert {each["name"] for each in names} == {"data", "tmp"}
    assert "BUILDKITE_CONNECTOR_C1_TOKEN_FILE" not in {each["name"] for each in container["env"]}


def test_the_token_for_c1_is_mounted_where_the_variable_says() -> None:
    documents = render({"c1": {"workloadIdentity": {"enabled": True, "audience": "acme.conductor.one"}}})
    volume, container = "spec/template/spec/volumes/name=c1-token", "spec/template/spec/containers/0"
    mount = at(workload(documents), f"{container}/volumeMounts/name=c1-token")
    path = at(workload(documents), f"{volume}/projected/sources/0/serviceAccountToken/path")
    variable = at(workload(documents), f"{container}/env/name=BUILDKITE_CONNECTOR_C1_TOKEN_FILE/value")
    assert variable == f"{mount['mountPath']}/{path}"
    assert mount["readOnly"] is True


def test_people_get_no_secrets_by_the_aggregated_roles() -> None:
    for role in of_kind(render(), "ClusterRole"):
        if any("aggregate-to" in label for label in role["metadata"]["labels"]):
            assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"buildkiteconnectors"}


REFUSED = (
    ({"replicaCount": 2, "leaderElection": {"enabled": False}}, "replicaCount above 1 needs leaderElection.enabled"),
    ({"shards": 2}, "shards is no longer supported: divide the connectors among releases by connectorSelector"),
    ({"replicaCount": 2, "data": {"existingClaim": "c"}}, "data.existingClaim serves one pod only"),
    ({"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, "enable one of them"),
    ({"podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": 1}}, "minAvailable or maxUnavailable, not both"),
    ({"podMonitor": {"enabled": True, "renderMode": "failIfMissing"}}, "The cluster does not have the kind PodMonitor"),
    ({"c1": {"workloadIdentity": {"enabled": True}}}, "set it to your tenant's domain in C1, for example acme."),
    ({"proxy": {"httpsProxy": "http://p", "httpsProxySecretRef": {"name": "s"}}}, "are both set: set one of them"),
    ({"proxy": {"httpProxy": "http://svc:hunter2@p:3128"}}, "proxy.httpProxy has a user name or a password"),
    ({"proxy": {"httpsProxy": "https://p:3128"}}, "proxy.httpsProxy must look like http://proxy.example.com:3128"),
    ({"proxy": {"httpProxy": "http://p:31x28"}}, "proxy.httpProxy must look like http://proxy.example.com:3128"),
    *(
        ({"networkPolicy": {"enabled": True}, "proxy": {"httpsProxy": url}}, "has a user name or a password")
        for url in ("http://svc:hunter2%zz@p:3128", "http://svc:hunter2@p:31x28")  # Go's url.Parse would quote them
    ),
    ({"proxy": {"httpsProxy": "http://p"}, "extraEnv": [{"name": "HTTPS_PROXY"}]}, "both set HTTPS_PROXY: set it in"),
    ({"proxy": {"httpProxy": "http://p"}, "extraEnv": [{"name": "HTTP_PROXY"}]}, "both set HTTP_PROXY: set it in"),
    ({"proxy": {"noProxy": ["a"]}, "extraEnv": [{"name": "NO_PROXY"}]}, "both set NO_PROXY: set it in"),
)


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_values_that_cannot_work_together_are_refused(values: Values, words: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as caught:
        render(values)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


STRATEGIES: tuple[tuple[Values, str], ...] = (
    ({}, "RollingUpdate"),
    ({"replicaCount": 2}, "RollingUpdate"),
    ({"leaderElection": {"enabled": False}}, "Recreate"),
    ({"data": {"existingClaim": "c"}}, "Recreate"),
)


@pytest.mark.parametrize(("values", "expected"), STRATEGIES)
def test_the_strategy_follows_from_who_may_act(values: Values, expected: str) -> None:
    assert one(render(values), "Deployment")["spec"]["strategy"] == {"type": expected}


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector:4318", 4318),
        ("http://[::1]:4317", 4317),
        ("https://otlp.example.com", 443),
        ("http://otlp.example.com/x", 80),
        ("http://user:%zz@otlp.example.com:4318", 4318),
    ],
)
def test_the_network_policy_lets_otlp_out(endpoint: str, port: int) -> None:
    policy = one(render({"networkPolicy": {"enabled": True}, "otel": {"endpoint": endpoint}}), "NetworkPolicy")
    opened = [[each["port"] for each in rule["ports"]] for rule in policy["spec"]["egress"]]
    assert opened == [[53, 53], [443, 6443], [443], [port]]


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_monitor_in_another_namespace_selects_the_releases(kind: str) -> None:
    key = kind[0].lower() + kind[1:]
    for namespace, selected in (("monitoring", {"matchNames": ["ops"]}), ("ops", None), ("", None)):
        values = {key: {"enabled": True, "renderMode": "alwaysRender", "namespace": namespace}}
        assert one(render(values), kind)["spec"].get("namespaceSelector") == selected


PROXIED: Values = parsed((CHART / "values-proxy.yaml").read_text())


@pytest.mark.parametrize(("address", "url"), [("10.96.0.1", "https://10.96.0.1"), ("fd00::1", "https://[fd00::1]")])
def test_behind_a_proxy_the_kubernetes_api_and_services_are_reached_directly(address: str, url: str) -> None:
    env = at(workload(render(PROXIED)), "spec/template/spec/containers/0/env")
    variables = {
        each["name"]: each["value"].replace("$(KUBERNETES_SERVICE_HOST)", address) for each in env if "value" in each
    }
    proxies = read_proxies(variables)
    for direct in (url, "https://collector.observability.svc:4318", "https://otlp.example.com"):
        assert proxies.proxy_for(direct) is None, direct
    for through in ("https://api.buildkite.com/v2", "https://acme.conductor.one"):
        assert str(proxies.proxy_for(through)) == "proxy.example.com:3128"
    assert variables["SSL_CERT_FILE"] == "/etc/buildkite-connector/ca/ca.crt"


@pytest.mark.parametrize(("url", "port"), [("http://p:3128", 3128), ("http://p/", 80), ("http://[fd00::1]:8080", 8080)])
def test_the_network_policy_opens_the_proxys_port(url: str, port: int) -> None:
    for name in ("httpsProxy", "httpProxy"):
        policy = one(render({"networkPolicy": {"enabled": True}, "proxy": {name: url}}), "NetworkPolicy")
        assert policy["spec"]["egress"][-1]["ports"] == [{"port": port, "protocol": "TCP"}]


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor", "PrometheusRule"])
def test_what_the_cluster_does_not_know_is_left_out(kind: str) -> None:
    key = kind[0].lower() + kind[1:]
    assert of_kind(render({key: {"enabled": True}}), kind) == []


def test_the_definition_is_the_one_of_crds() -> None:
    rendered = one(render({"crds": {"annotations": {"a": "b"}}}), "CustomResourceDefinition")
    generated = parsed((ROOT / "crds" / "buildkiteconnectors.yaml").read_text())
    assert rendered["spec"] == generated["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep", "a": "b"}


def test_the_definition_fits_into_the_annotation_of_kubectl_apply() -> None:
    assert len((CHART / "templates" / "crd.yaml").read_bytes()) < 262_144


def test_without_a_registry_nothing_is_rendered_and_the_sentence_says_what_to_set() -> None:
    with pytest.raises(helm_python.HelmError, match=r"image\.registry is not set.*--set image\.registry="):
        render({"image": {"registry": ""}})
    assert render({"image": {"registry": "", "repository": "ghcr.io/acme/buildkite-connector"}})


@pytest.mark.parametrize("own", ["registry.corp.example", "mirror:5000", "localhost"])
@pytest.mark.parametrize("other", [{"image": {"registry": "ghcr.io"}}, {"global": {"imageRegistry": "ghcr.io"}}])
def test_a_repository_that_begins_with_a_registry_gets_no_other(own: str, other: Values) -> None:
    documents = render(merged(other, nested("image.repository", f"{own}/team/x")))
    assert at(workload(documents), "spec/template/spec/containers/0/image") == f"{own}/team/x:{VERSION}"


def test_a_variable_that_the_proxy_does_not_set_may_be_an_extra_one() -> None:
    values = {"proxy": {"httpsProxy": "http://p"}, "extraEnv": [{"name": "HTTP_PROXY", "value": "http://q"}]}
    assert at(workload(render(values)), "spec/template/spec/containers/0/env/name=HTTP_PROXY/value") == "http://q"


def test_the_values_for_high_availability_make_a_standby_that_is_spread_and_drained_alone() -> None:
    documents = render(parsed((CHART / "values-ha.yaml").read_text()))
    spec = workload(documents)["spec"]
    assert spec["replicas"] == 2
    spread = spec["template"]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert all(each["labelSelector"] == spec["selector"] for each in spread)
    assert one(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def notes(values: Values) -> str:
    texts = chart().render(merged(REGISTRY, values), name="bc", namespace="ops")
    return texts["buildkite-connector/templates/NOTES.txt"]


def test_the_notes_warn_of_a_budget_that_blocks_drains_and_of_a_definition_that_goes() -> None:
    assert "Note" not in notes({})
    assert "draining" in notes({"podDisruptionBudget": {"enabled": True, "minAvailable": 1}})
    assert "every connector" in notes(nested("crds.keep", False))


@pytest.mark.parametrize("folder", ["cluster", "namespace"])
def test_the_plain_manifests_are_all_listed_and_there(folder: str) -> None:
    path = ROOT / "deploy" / folder
    listed = parsed((path / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(each.name for each in Path(path).iterdir() if each.name != "kustomization.yaml")
