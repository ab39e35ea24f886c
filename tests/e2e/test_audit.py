"""What the operator asks of a real API server, by its audit log, held against what the chart lets it do."""

import asyncio
import itertools
import json
from collections.abc import Callable

import httpx
import pytest

from buildkite_connector.kubernetes.schema import GROUP, PLURAL, VERSION
from harness.control_plane import ControlPlane
from harness.helm_release import NO_PODS, Release, released_in
from harness.kubernetes_apis import real_api
from harness.replicas import ACTS, replica
from harness.rig import Rig
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant

Right = tuple[str, str, str]
"""Verb, API group, resource with its subresource."""

LONGEST_FAILURES = 120.0
"""Seconds for two failures within one term of a leader, which counts the second in the event of the first."""
AT_ONCE = 4
"""Clients that write to a resource while the operator writes its status."""

pytestmark = [pytest.mark.xdist_group("audit"), pytest.mark.usefixtures("definition")]


def granted(release: Release) -> set[Right]:
    """What the bindings of the release's service account give it."""
    cluster, found = release.cluster, set()
    for binding in cluster.kubectl_json("get", "clusterrolebindings,rolebindings", "--all-namespaces")["items"]:
        names = {
            f"system:serviceaccount:{each.get('namespace')}:{each['name']}" for each in binding.get("subjects", ())
        }
        if release.user not in names:
            continue
        role = binding["roleRef"]
        where = ("--namespace", binding["metadata"]["namespace"]) if role["kind"] == "Role" else ()
        for rule in cluster.kubectl_json("get", role["kind"], role["name"], *where)["rules"]:
            assert set(rule) == {"apiGroups", "resources", "verbs"}
            found |= {
                (v, group, name) for v in rule["verbs"] for group in rule["apiGroups"] for name in rule["resources"]
            }
    return found


def used(release: Release) -> set[Right]:
    """What the API server gave to the operator. Paths without a resource (discovery) are open to everybody."""
    return {
        (request.verb, request.group, request.resource)
        for request in release.requests()
        if request.status < httpx.codes.BAD_REQUEST and not request.resource.startswith("/")
    }


async def collide(rig: Rig, cluster: ControlPlane, tenant: Tenant, seen: Callable[[], bool]) -> None:
    """Syncs, while others write to the resource without a pause, until `seen`."""
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{rig.namespace}/{PLURAL}/{tenant.name}"

    async def write(http: httpx.AsyncClient, client: int) -> None:
        for number in itertools.count():
            patch = json.dumps({"metadata": {"annotations": {f"example.com/{client}": str(number)}}})
            await http.patch(path, content=patch, headers={"Content-Type": "application/merge-patch+json"})

    async with httpx.AsyncClient(base_url=cluster.url, verify=cluster.tls(), trust_env=False) as http:
        writers = [asyncio.create_task(write(http, client)) for client in range(AT_ONCE)]
        try:
            async with asyncio.timeout(30):
                for seconds in itertools.count(1):  # requested syncs are 10 s apart, edits are synced at once
                    await tenant.apply(tenant.connector(sync={"timeout": f"{1000 + seconds}s"}))
                    if seen():  # the log has no event
                        break
        finally:
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
    generation = (await tenant.get())["metadata"]["generation"]
    await tenant.until(lambda status: status["observedGeneration"] == generation and status["phase"] == "Connected")


async def fail_twice(rig: Rig, tenant: Tenant) -> None:
    """The same failure, and its end, two times."""
    for _ in range(2):
        rig.buildkite.revoke(tenant.token)
        await tenant.request_sync()
        await tenant.until_condition("Ready", "False", "TokenRejected")
        rig.buildkite.grant(tenant.token)
        await tenant.request_sync()
        await tenant.until_ready()


async def live(rig: Rig, release: Release, cluster: ControlPlane, *, everywhere: bool) -> None:
    """All that the operator has to do with the API server: it elects, watches, syncs, fails twice alike, is overtaken
    by others' writes, and is replaced."""
    settings = {"BUILDKITE_CONNECTOR_LEASE_NAMESPACE": release.namespace}
    async with (
        replica(rig, "first", everywhere=everywhere, **settings) as first,
        replica(rig, "second", everywhere=everywhere, **settings) as second,
    ):
        tenant = Tenant(rig, "acme")
        await tenant.become_ready()
        await tenant.deliver()
        await tenant.until_condition("Delivered", "True")
        async with asyncio.timeout(LONGEST_FAILURES):
            terms = None
            while terms != (first.terms, second.terms):
                terms = (first.terms, second.terms)
                await fail_twice(rig, tenant)
        await collide(rig, cluster, tenant, lambda: ("get", GROUP, PLURAL) in used(release))
        assert await first.operator.stop() == 0
        await second.operator.until_logged(ACTS)
        await tenant.sync()
        assert await second.operator.stop() == 0
        await tenant.delete()


@pytest.mark.parametrize("everywhere", [True, False])
async def test_every_right_of_a_release_is_used_and_nothing_else_is_asked_for(
    cluster: ControlPlane, ops: str, everywhere: bool
) -> None:
    team = cluster.create_namespace()
    with released_in(cluster, ops, NO_PODS if everywhere else {**NO_PODS, "watchNamespaces": [team]}) as release:
        async with real_api(cluster, release.kubeconfig) as kubernetes, watched_rig(kubernetes, team) as rig:
            await live(rig, release, cluster, everywhere=everywhere)
        assert used(release) == granted(release)
        namespaces = {each.namespace for each in release.requests() if not each.resource.startswith("/")}
        assert namespaces == ({team, ops, ""} if everywhere else {team, ops})


async def test_a_secret_that_the_role_no_longer_gives_is_refused_and_told(cluster: ControlPlane, ops: str) -> None:
    with released_in(cluster, ops, {**NO_PODS, "watchNamespaces": [ops]}) as release:
        [name] = [each for each in role_names(release) if not each.endswith("-leases")]
        rules = cluster.kubectl_json("get", "role", name, "--namespace", ops)["rules"]
        patch = json.dumps({"rules": [rule for rule in rules if rule["resources"] != ["secrets"]]})
        cluster.kubectl("patch", "role", name, "--namespace", ops, "--type=merge", "--patch", patch)
        async with real_api(cluster, release.kubeconfig) as kubernetes, watched_rig(kubernetes, ops) as rig:
            tenant = Tenant(rig, "acme")
            async with rig.operator():
                await tenant.apply()
                await tenant.until_condition("Ready", "False", "SecretForbidden")
            await tenant.delete()
        release.provoked.add("get secrets")
        assert release.refused() == release.provoked


def role_names(release: Release) -> list[str]:
    found = release.cluster.kubectl_json("get", "roles", "--namespace", release.namespace)["items"]
    return [each["metadata"]["name"] for each in found]


def test_the_operator_has_a_token_and_nothing_else_to_log_in_with(cluster: ControlPlane, ops: str) -> None:
    with released_in(cluster, ops) as release:
        login = cluster.kubectl_json("--kubeconfig", str(release.kubeconfig), "config", "view", "--raw")
        who = ("auth", "whoami", "--output=jsonpath={.status.userInfo.username}")
        assert [list(each["user"]) for each in login["users"]] == [["token"]]
        assert cluster.kubectl("--kubeconfig", str(release.kubeconfig), *who).stdout == release.user
