"""The operator's own Secret on kube-apiserver, with the permissions of the chart's value c1.create.enabled."""

import json

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.own_secret import OwnSecretOf
from buildkite_connector.model.failure import Failure, Reason
from contracts.own_secret import OwnSecretContract
from e2e.test_contracts import RealPlace
from harness.service_account import ServiceAccount


class TestOwnSecret(OwnSecretContract):
    """With `delete`, which stands for somebody else."""

    @pytest.fixture
    def place(self, account: ServiceAccount) -> RealPlace:
        name = f"{account.name}-secrets"
        rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]}
        rbac, metadata = "rbac.authorization.k8s.io", {"name": name, "namespace": account.namespace}
        role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
        binding = {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}],
        }
        for manifest in (role, binding):
            account.cluster.kubectl("apply", "--filename", "-", input=json.dumps(manifest))
        account.until("create", "secrets", may=True)
        return RealPlace(account.cluster, account.namespace)


async def test_without_the_chart_value_nothing_may_be_written(account: ServiceAccount, api: KubernetesApi) -> None:
    own = OwnSecretOf(api.connection, account.namespace, "acme", "acme-c1")
    with pytest.raises(Failure, match=r"set the chart's value c1\.create\.enabled to true") as failed:
        await own.check_writable(None)
    assert failed.value.reason is Reason.SECRET_FORBIDDEN
