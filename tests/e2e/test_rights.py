"""deploy/ on a real API server: it is accepted, and a Secret that cannot be read any more is reported once.

What the chart, of which deploy/ is rendered, lets the operator do is for `test_chart_rights.py` and `test_audit.py`.
"""

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from harness.cluster import Cluster
from harness.kubernetes_apis import real_api
from harness.rig import condition
from harness.service_account import DEPLOY, ServiceAccount
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant

READ_WITHIN = 120.0
"""Seconds; a Secret is read again within a minute."""


async def test_a_secret_that_cannot_be_read_any_more_is_told_once_and_so_is_its_return(account: ServiceAccount) -> None:
    """One is gone, which is a condition at the next reading; the other is forbidden, which may be for a moment."""

    async def kubectl(*arguments: str) -> str:
        done = await asyncio.to_thread(account.cluster.kubectl, "--namespace", account.namespace, *arguments)
        return done.stdout

    async with (
        real_api(account.cluster, Path(account.login.path)) as kubernetes,
        watched_rig(kubernetes, account.namespace) as rig,
        rig.operator() as operator,
    ):
        gone, forbidden = Tenant(rig, "gone"), Tenant(rig, "forbidden")
        for tenant in (gone, forbidden):
            await tenant.become_ready()
        rules = json.loads(await kubectl("get", "role", account.name, "--output=json"))["rules"]
        [place] = [number for number, rule in enumerate(rules) if rule["resources"] == ["secrets"]]
        narrow = {"op": "add", "path": f"/rules/{place}/resourceNames", "value": [gone.secret_name]}
        await kubectl("patch", "role", account.name, "--type=json", "--patch", json.dumps([narrow]))
        await kubectl("delete", "secret", gone.secret_name)
        await operator.until_logged("the Secret cannot be read", forbidden.secret_name, timeout=READ_WITHIN)
        await gone.until_condition("CredentialsValid", "False", "SecretNotFound", READ_WITHIN)
        assert condition(await forbidden.get(), "Ready")["status"] == "True"
        await kubectl("patch", "role", account.name, "--type=json", "--patch", json.dumps([{**narrow, "op": "remove"}]))
        await operator.until_logged("the Secret was read again", forbidden.host_id, timeout=READ_WITHIN)
        await gone.become_ready()
    told = [record["message"] for record in operator.records() if "the Secret" in record["message"]]
    assert told == ["the Secret cannot be read", "the Secret was read again"]


@pytest.mark.parametrize("folder", ["cluster", "namespace"])
def test_what_is_to_be_deployed_is_accepted(control_plane: Cluster, folder: str) -> None:
    rendered = control_plane.kubectl("kustomize", str(DEPLOY / folder)).stdout
    documents = list(yaml.safe_load_all(rendered))
    home = next(each for each in documents if each["kind"] == "Namespace")
    for document in documents:
        if document["metadata"].get("namespace") == home["metadata"]["name"]:
            document["metadata"]["namespace"] = "default"  # a dry run makes no namespace for the others to be in
    done = control_plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "--filename", "-", input=yaml.safe_dump_all(documents)
    )
    assert done.stdout.count("(server dry run)") == len(documents)
