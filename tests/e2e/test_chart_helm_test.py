"""`helm test` on a real API server, by Helm's own code. In the kubelet's place, the Pod's command runs as a process."""

import asyncio
import json

import helm_python
import pytest

from buildkite_connector.telemetry.server import serve
from harness.command import run
from harness.control_plane import ControlPlane
from harness.helm_chart import FULL_NAME, RELEASE, merged
from harness.helm_release import NO_DEFINITION, NO_PODS, helm, installed

pytestmark = [pytest.mark.xdist_group("chart"), pytest.mark.usefixtures("definition")]

POD = f"{FULL_NAME}-test"


async def play_kubelet(cluster: ControlPlane, namespace: str) -> str:
    """Run the Pod's command and write into its status how it ended. Return what the command printed."""
    here = ("--namespace", namespace)
    await asyncio.to_thread(cluster.kubectl, "wait", "--for=create", "--timeout=30s", f"pod/{POD}", *here)
    pod = await asyncio.to_thread(cluster.kubectl_json, "get", "pod", POD, *here)
    service = await asyncio.to_thread(cluster.kubectl_json, "get", "service", POD, *here)
    words = pod["spec"]["containers"][0]["args"]
    done = await run(*(word.replace(f"={service['metadata']['name']}", "=127.0.0.1") for word in words))
    status = json.dumps({"status": {"phase": "Failed" if done.code else "Succeeded"}})
    patch = ("patch", "pod", POD, *here, "--subresource=status", "--type=merge", "--patch", status)
    await asyncio.to_thread(cluster.kubectl, *patch)
    return done.err or done.out


async def helm_test(cluster: ControlPlane, namespace: str, problem: str | None) -> str:
    """Of a release whose operator has this problem. Raises helm_python.HelmError if the test fails."""
    async with serve("127.0.0.1:0", {}, {"crd": lambda: problem}, None) as port:
        values = merged(NO_DEFINITION, NO_PODS, {"http": {"port": port}})
        with installed(cluster, namespace, values), helm(cluster, namespace) as config:
            kubelet = asyncio.create_task(play_kubelet(cluster, namespace))
            try:
                await asyncio.to_thread(config.test, RELEASE, timeout=60)
            finally:
                said = await kubelet
    return said


def left(cluster: ControlPlane, namespace: str) -> list[str]:
    found = cluster.kubectl("get", "pods,services", "--namespace", namespace, "--output=name").stdout
    return found.split()


async def test_a_ready_operator_passes_and_nothing_is_left(cluster: ControlPlane, ops: str) -> None:
    assert await helm_test(cluster, ops, None) == "crd: ok\n"
    assert left(cluster, ops) == []


async def test_another_fails_and_its_pod_stays_for_its_log(cluster: ControlPlane, ops: str) -> None:
    with pytest.raises(helm_python.HelmError, match=POD):
        await helm_test(cluster, ops, "the CRD is older than the operator")
    assert f"pod/{POD}" in left(cluster, ops)
