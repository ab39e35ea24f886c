"""`helm test`: a Pod with the operator's image asks the operator whether it is ready."""

import re
from collections.abc import Callable
from typing import Any

from buildkite_connector.telemetry.server import serve
from harness.command import Ended, run
from harness.helm_chart import Values, at, hooks, merged, one, render, workload

FROM: Values = {"networkPolicy": {"enabled": True, "ingress": {"from": [{"namespaceSelector": {}}]}}}
PLACED: Values = {
    "image": {"tag": "2"},
    "imagePullSecrets": ["pull"],
    "tolerations": [{"operator": "Exists"}],
    "global": {"nodeSelector": {"pool": "infra"}},
    "commonLabels": {"team": "a"},
    "podLabels": {"mesh": "on", "app.kubernetes.io/name": "other"},
    "podAnnotations": {"mesh/port": "8080", "helm.sh/hook": "none"},
    "affinity": {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"a": "b"}}]},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "host"}]},
    },
}


def arguments(port: int) -> list[str]:
    """What the Pod runs, asked of this machine: every word but the Service's name is the chart's."""
    made = hooks({"http": {"port": port}})
    given: list[str] = at(one(made, "Pod"), "spec/containers/0/args")
    name = one(made, "Service")["metadata"]["name"]
    return [word.replace(f"={name}", "=127.0.0.1") for word in given]


async def asked(problem: Callable[[], str | None]) -> Ended:
    """Of an operator with this answer to `/readyz`."""
    async with serve("127.0.0.1:0", {}, {"crd": problem}, None) as port:
        assert port is not None
        return await run(*arguments(port))


async def test_it_succeeds_if_the_operator_is_ready() -> None:
    done = await asked(lambda: None)
    assert (done.code, done.out, done.err) == (0, "crd: ok\n", "")


async def test_it_fails_with_the_operators_reason() -> None:
    done = await asked(lambda: "the CRD is older than the operator")
    assert done.code != 0
    assert done.err == "error: crd: the CRD is older than the operator\n"


async def test_it_fails_with_a_sentence_if_nobody_answers() -> None:
    async with serve("127.0.0.1:0", {}, {}, None) as port:
        assert port is not None
    done = await run(*arguments(port))
    assert done.code != 0
    assert re.fullmatch(r"error: http://127\.0\.0\.1:\d+/readyz did not answer: .+\n", done.err)


def test_it_asks_the_service_that_selects_the_operator_ready_or_not() -> None:
    values = {"http": {"port": 9090}}
    service, pod = one(hooks(values), "Service"), one(hooks(values), "Pod")
    assert f"--health-check-bind-address={service['metadata']['name']}" in pod["spec"]["containers"][0]["args"]
    assert service["metadata"]["namespace"] == pod["metadata"]["namespace"]
    assert service["spec"]["selector"] == workload(render(values))["spec"]["selector"]["matchLabels"]
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert [each["port"] for each in service["spec"]["ports"]] == [9090]


def test_the_pod_runs_as_the_operators_does_without_a_service_account_token() -> None:
    pod = one(hooks(PLACED), "Pod")
    operators: dict[str, Any] = at(workload(render(PLACED)), "spec/template/spec")
    for key in ("securityContext", "nodeSelector", "tolerations", "imagePullSecrets"):
        assert pod["spec"][key] == operators[key], key
    for key in ("image", "imagePullPolicy", "securityContext"):
        assert pod["spec"]["containers"][0][key] == operators["containers"][0][key], key
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["affinity"] == {"nodeAffinity": operators["affinity"]["nodeAffinity"]}
    assert {"team": "a", "mesh": "on"}.items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["annotations"] == {
        "mesh/port": "8080",
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }


def test_no_selector_of_the_operators_pods_selects_the_pod() -> None:
    values = merged(PLACED, {"nameOverride": "n" * 63})
    labels = one(hooks(values), "Pod")["metadata"]["labels"]
    selector = workload(render(values))["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= labels.items()
    assert all(len(value) <= 63 for value in labels.values())


def test_the_network_policy_admits_the_pod_beside_the_peers_that_are_named() -> None:
    first, second = at(one(render(FROM), "NetworkPolicy"), "spec/ingress/0/from")
    assert first == {"namespaceSelector": {}}
    labels = one(hooks(FROM), "Pod")["metadata"]["labels"]
    assert second["podSelector"]["matchLabels"].items() <= labels.items()
