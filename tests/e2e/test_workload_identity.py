"""Workload identity with a real API server: it signs the projected token, and C1 verifies it by the server's own keys.

The chart is installed with `c1.workloadIdentity`, and `harness.kubelet` fills the volume that its Deployment has.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.control_plane import ControlPlane
from harness.helm_chart import FULL_NAME, Values
from harness.helm_release import released_in
from harness.kubelet import Kubelet, kubelet
from harness.kubernetes_apis import Manifest, real_api
from scenarios.c1_side import MANAGER, Listed, is_in_c1
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant
from simulators.c1.federation import Mismatch

AUDIENCE = "localhost"
"""The tenant's domain: the simulator's name."""
HOUR = 3600
LATER = timedelta(minutes=11)
"""More than a token may be old, and more than the projected one lives."""


class Federated(Listed):
    """A tenant whose client of C1's REST API is a trust in the API server's tokens, for the operator's account.

    `brought`: the tokens that it sent to C1.
    """

    def __init__(self, tenant: Tenant, cluster: Cluster, account: str) -> None:
        document = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration").stdout)

        async def keys() -> Mapping[str, Any]:
            """As they are published where the document says, without its host, which is the cluster's own."""
            answer = await asyncio.to_thread(cluster.kubectl, "get", "--raw", "/openid/v1/jwks")
            return dict(json.loads(answer.stdout))

        assert document["jwks_uri"].endswith("/openid/v1/jwks")
        trust = tenant.c1.register_trust(document["issuer"], keys, subject=account, roles=(MANAGER,))
        super().__init__(tenant, client=trust)
        self.account = account
        self.brought: list[str] = []
        exchange = tenant.c1.authority.exchange

        def listen(form: Mapping[str, str]) -> dict[str, object]:
            self.brought += [form["subject_token"]] if "subject_token" in form else []
            return exchange(form)

        tenant.c1.authority.exchange = listen  # type: ignore[method-assign]  # what was sent is kept nowhere else

    def auth(self) -> Manifest:
        return {"workloadIdentity": {"clientID": self.client.client_id}}


@dataclass(frozen=True)
class Running:
    """An operator as the chart starts it."""

    federated: Federated
    pods: Kubelet


@pytest.fixture
async def running(control_plane: Cluster, namespace: str) -> AsyncIterator[Running]:
    if not isinstance(control_plane, ControlPlane):
        pytest.skip("an API server without a kubelet of its own is needed")
    identity = {"enabled": True, "audience": AUDIENCE}
    values: Values = {"watchNamespaces": [namespace], "c1": {"workloadIdentity": identity}}
    account = f"system:serviceaccount:{namespace}:{FULL_NAME}"
    with released_in(control_plane, namespace, values):
        async with (
            real_api(control_plane, control_plane.kubeconfig) as kubernetes,
            watched_rig(kubernetes, namespace) as rig,
            kubelet(control_plane, rig) as pods,
        ):
            wait = ("rollout", "status", f"deployment/{FULL_NAME}", "--namespace", namespace, "--timeout=60s")
            await asyncio.to_thread(control_plane.kubectl, *wait)
            yield Running(Federated(Tenant(rig, "acme"), control_plane, account), pods)
            for operator in rig.operators:
                print("operator:", *operator.lines, sep="\n  ")


async def test_the_projected_token_makes_c1_sync_and_a_wrong_one_is_told_with_what_is_wrong(running: Running) -> None:
    federated, pods = running.federated, running.pods
    tenant, rig = federated.tenant, federated.tenant.rig
    rig.c1.policy.tells_time = True
    [projected] = pods.tokens
    assert projected.seconds == 600
    edits = (f"{hours}h" for hours in range(2, 20))

    async def refused(*texts: str) -> str:
        """What the operator tells after an edit, which makes it look again, once. It has these."""
        interval = next(edits)
        await tenant.apply(tenant.connector(schedule={"interval": interval}, **federated.spec(forceSync=False)))
        told = await federated.until_told("WorkloadIdentityRejected", texts[0])
        assert [text for text in texts if text not in told] == []
        return told

    who = f"issuer https://kubernetes.default.svc, subject {federated.account}"
    await pods.project(projected, audience="https://kubernetes.default.svc")
    await tenant.apply(tenant.secret())
    await refused(
        "The service-account token was not sent to C1.",
        f"The token's audience is not {AUDIENCE}: set c1.workloadIdentity.audience of the chart to it.",
    )
    await tenant.until_ready()

    await pods.project(projected, seconds=HOUR)
    rig.c1_clock.ahead = LATER
    told = await refused("and C1 accepts 600 s: set expirationSeconds of its volume to 600.", who)
    assert seconds_in(told, "The token was issued") >= LATER.total_seconds()
    await pods.project(projected)
    told = await refused("check that the kubelet renews BUILDKITE_CONNECTOR_C1_TOKEN_FILE.", who)
    assert seconds_in(told, "The token expired") >= LATER.total_seconds() - projected.seconds
    rig.c1_clock.ahead = timedelta()

    trust = rig.c1.authority.trusts[federated.client.client_id]
    issuer, trust.issuer = trust.issuer, "https://another.example.com"
    await refused(f"401 (invalid_grant). Check that the trust in C1 fits this token ({who})")
    trust.issuer = issuer
    projected.file.unlink()
    await refused("does not exist", "Set the chart value c1.workloadIdentity.enabled")
    why = [Mismatch.TOKEN_TOO_OLD, Mismatch.TOKEN_EXPIRED, Mismatch.ISSUER_MISMATCH]
    assert list(dict.fromkeys(each for _, each in rig.c1.journal.system_log)) == why

    sent = await exchanged(federated, await pods.project(projected))
    rig.c1.authority.expire_tokens()
    renewed = await exchanged(federated, await pods.project(projected))
    assert sent != renewed
    assert set(federated.asked("ForceSync")) == {"200"}


def seconds_in(told: str, words: str) -> int:
    """How long ago it says that was."""
    return int(told.partition(words)[2].split()[0])


async def exchanged(federated: Federated, token: str) -> str:
    """The token, once a sync has reached C1 with it."""
    tenant = federated.tenant
    before = len(federated.brought)
    await tenant.sync()
    await tenant.until(is_in_c1)
    assert federated.brought[before:] == [token]
    return token
