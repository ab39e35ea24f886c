"""A connector that the operator creates in C1, on a real API server, with the permissions that the chart gives it."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness.cluster import Cluster
from harness.helm_release import NO_PODS, Release, released_in
from harness.kubernetes_apis import Manifest, real_api
from harness.rig import Rig
from scenarios.c1_side import MANAGER, is_in_c1
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant
from simulators.c1.faults import REST_RPCS
from simulators.c1.token import Role

CREATES = ("CreateApp", "CreateConnector", "CreateCredential")
FORBIDDEN = "create secrets"


@asynccontextmanager
async def opened(cluster: Cluster, namespace: str, *, writes_secrets: bool) -> AsyncIterator[tuple[Rig, Release]]:
    """A release for this namespace, with or without the chart's value c1.create.enabled."""
    values = {**NO_PODS, "watchNamespaces": [namespace], "c1": {"create": {"enabled": writes_secrets}}}
    with released_in(cluster, namespace, values) as release:
        async with real_api(cluster, release.kubeconfig) as kubernetes, watched_rig(kubernetes, namespace) as rig:
            yield rig, release
            for operator in rig.operators:
                print("operator:", *operator.lines, sep="\n  ")


class Created:
    """A tenant whose Secret holds Buildkite's token and a client of C1's REST API, and no client of a connector."""

    def __init__(self, rig: Rig) -> None:
        self.tenant = Tenant(rig, "acme")
        self.owner = rig.c1.register_rest_client(roles=(MANAGER, Role.APPLICATION_ADMINISTRATOR))

    async def apply(self) -> None:
        client = {"C1_CLIENT_ID": self.owner.client_id, "C1_CLIENT_SECRET": self.owner.client_secret}
        create: dict[str, Any] = {"appName": "Buildkite of Acme", "owners": [self.owner.user_id]}
        auth = {"secretRef": {"name": self.tenant.secret_name}}
        await self.tenant.apply(
            self.tenant.secret(BATON_CLIENT_ID=None, BATON_CLIENT_SECRET=None, **client),
            self.tenant.connector(c1={"auth": auth, "create": create}),
        )

    def in_c1(self) -> tuple[list[str], list[str], list[str]]:
        """The IDs of all apps, connectors and credentials in C1."""
        there = self.tenant.c1.connectors
        return [*there.apps], [*there.connectors], [*there.credentials]


def own_secret(cluster: Cluster, rig: Rig) -> Manifest:
    secret: Manifest = cluster.kubectl_json("get", "secret", "acme-c1", "--namespace", rig.namespace)
    rig.confided.add(base64.b64decode(secret["data"]["BATON_CLIENT_SECRET"]).decode())
    return secret


async def test_from_buildkites_token_to_data_in_c1_and_what_a_deletion_leaves(
    control_plane: Cluster, namespace: str
) -> None:
    async with opened(control_plane, namespace, writes_secrets=True) as (rig, _), rig.operator():
        created = Created(rig)
        await created.apply()
        connector = await created.tenant.until(is_in_c1)
        await created.tenant.until_ready()
        in_c1 = created.in_c1()
        [app_id], [connector_id], [credential_id] = in_c1
        c1 = connector["status"]["c1"]
        assert (c1["appID"], c1["connectorID"], c1["credential"]["id"]) == (app_id, connector_id, credential_id)
        assert "creating" not in c1
        assert connector["status"]["phase"] == "Connected"

        secret = own_secret(control_plane, rig)
        client = rig.c1.connectors.credentials[credential_id].client
        values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
        assert values == {"BATON_CLIENT_ID": client.client_id, "BATON_CLIENT_SECRET": client.client_secret}
        assert secret["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "buildkite-connector"}
        assert secret["metadata"]["annotations"] == {
            "connectors.c1.ai/connector": "acme",
            "connectors.c1.ai/c1-app-id": app_id,
            "connectors.c1.ai/c1-connector-id": connector_id,
            "connectors.c1.ai/c1-credential-id": credential_id,
        }
        assert "ownerReferences" not in secret["metadata"]
        marked = rig.c1.connectors.apps[app_id].annotations
        uid = connector["metadata"]["uid"]
        assert marked["iac_resource_address"] == f"buildkite-connector/{namespace}/acme/{uid}"

        await created.tenant.delete()
        await rig.operators[0].until_logged("connector gone", created.tenant.host_id)
        assert own_secret(control_plane, rig) == secret
        assert rig.c1.connectors.connectors[connector_id].deleted_at is None
        await created.apply()
        again = await created.tenant.until(is_in_c1)
        assert again["metadata"]["uid"] != connector["metadata"]["uid"]
        assert created.in_c1() == in_c1
        assert own_secret(control_plane, rig)["data"] == secret["data"]


async def test_without_the_permission_the_charts_value_is_named_and_nothing_is_created_in_c1(
    control_plane: Cluster, namespace: str
) -> None:
    async with opened(control_plane, namespace, writes_secrets=False) as (rig, release), rig.operator():
        release.provoked.add(FORBIDDEN)
        created = Created(rig)
        await created.apply()
        told = await created.tenant.until_condition("Ready", "False", "SecretForbidden")
        assert "set the chart's value c1.create.enabled to true" in told["message"]
        assert created.in_c1() == ([], [], [])
        assert {call.rpc for call in rig.c1.transcript}.isdisjoint(set(REST_RPCS) & set(CREATES))
