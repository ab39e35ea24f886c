"""Leases on a real API server, by a service account that may do to them what docs/high-availability.md says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import yaml

from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.lease import Lease, LeaseClient
from buildkite_connector.timing.clock import SystemClock
from harness.cluster import Cluster

NAME = "candidate"
VERBS = ["get", "create", "patch"]
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HELD = Lease("pod-1_ab", 15, NOW, NOW, 3)


@pytest.fixture
async def leases(control_plane: Cluster, namespace: str) -> AsyncIterator[LeaseClient]:
    rbac, home = "rbac.authorization.k8s.io", {"name": NAME, "namespace": namespace}
    rules = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": VERBS}]
    subjects = [{"kind": "ServiceAccount", **home}]
    role = {"apiGroup": rbac, "kind": "Role", "name": NAME}
    documents = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": home},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": home, "rules": rules},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": home, "roleRef": role, "subjects": subjects},
    ]
    await asyncio.to_thread(control_plane.kubectl, "apply", "--filename", "-", input=yaml.safe_dump_all(documents))
    login = KubeconfigLogin(str(control_plane.service_account_kubeconfig(namespace, NAME)))
    async with connect(login, SystemClock(), "pod-1") as api:
        yield api.leases(namespace, "bkc")


async def test_a_lease_is_made_renewed_and_released_with_those_permissions(leases: LeaseClient) -> None:
    async with asyncio.timeout(30):
        assert await leases.read() is None
        made = await leases.write(HELD)
        assert made is not None
        assert await leases.write(HELD) is None
        released = await leases.write(replace(made, holder=""))
        assert released is not None
        assert released.holder == ""
        assert await leases.write(made) is None
        taken = await leases.write(replace(made, version=released.version))
        assert (await leases.read(), taken) == (taken, made)
