"""The operator run as the chart would run it: with the container's environment, as its service account, and probed."""

import re
from typing import Any

import pytest

from harness.control_plane import ControlPlane
from harness.control_plane_process import free_port
from harness.helm_chart import at, merged, render, workload
from harness.helm_release import NO_DEFINITION, released_in
from harness.kubernetes_apis import real_api
from harness.trust import plain_client
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant

OF_THE_RIG = {"BUILDKITE_API_URL", "BUILDKITE_CONNECTOR_C1_HOSTS", "BUILDKITE_CONNECTOR_DATA_DIR"}
"""Where the simulators are, and a folder that this machine has."""


def environment(container: dict[str, Any], fields: dict[str, str]) -> dict[str, str]:
    """The container's variables as the kubelet resolves them."""
    found: dict[str, str] = {}
    for variable in container["env"]:
        value = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


@pytest.mark.usefixtures("definition")
async def test_the_operator_works_with_what_the_chart_gives_it(cluster: ControlPlane, ops: str) -> None:
    values = merged(NO_DEFINITION, {"watchNamespaces": [ops], "http": {"port": free_port()}})
    container = at(workload(render(values, namespace=ops)), "spec/template/spec/containers/name=operator")
    fields = {"metadata.name": "operator-0", "metadata.namespace": ops, "metadata.uid": "uid-0", "spec.nodeName": "n"}
    variables = {key: value for key, value in environment(container, fields).items() if key not in OF_THE_RIG}
    with released_in(cluster, ops, values) as release:
        async with real_api(cluster, release.kubeconfig) as kubernetes, watched_rig(kubernetes, ops) as rig:
            tenant = Tenant(rig, "acme")
            async with rig.operator(everywhere=True, **variables) as operator:
                await tenant.become_ready()
                async with plain_client(f"http://127.0.0.1:{container['ports'][0]['containerPort']}") as http:
                    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                        assert (await http.get(container[probe]["httpGet"]["path"])).status_code == 200
                    metrics = (await http.get("/metrics")).text
                assert f'buildkite_connector_info{{name="acme",namespace="{ops}"' in metrics
                assert 'k8s_pod_uid="uid-0"' in metrics
                assert await operator.stop() == 0
            await tenant.delete()
