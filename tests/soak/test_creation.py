"""An operator that is killed while it creates connectors in C1 creates each once, and loses no Secret.

`make soak` runs it: CREATION_KILLS says how often it is killed, SEED at which moments. C1 often carries a call out only
after the operator that made it has died. How long the operator waits for that is tested elsewhere: here it is seconds.
"""

import asyncio
import base64
import contextlib
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from harness.kubernetes_apis import SimulatedApi
from harness.rig import OperatorProcess, Rig, condition
from simulators.c1.faults import Action, Fault
from simulators.c1.token import Role
from soak.endings import PATIENCE

KILLS = int(os.environ.get("CREATION_KILLS", "3"))
SEED = int(os.environ.get("SEED", "0")) or time.time_ns() % 1_000_000
SETTLE = 8.0
LATE = (1.0, 6.0)
"""Seconds after which a late call is carried out: when the next process has looked, and within what it waits for."""
HURRIED = (
    "from buildkite_connector.connector import creation;"
    f"creation.SETTLE_SECONDS, creation.FRESH_SECONDS, creation.CALL_SECONDS = {SETTLE}, 0.5, 1.0;"
    "from buildkite_connector.cli.entry import main; main()"
)
CREATES = ("CreateApp", "CreateConnector", "CreateCredential")
MOMENTS = ("start", "ListApps", "ListConnectors", *CREATES, "GetCredential", "RevokeCredential", "Hello")
ACCESS = "c1-api"


class Creations:
    """One resource after the other, each created in C1 by processes that are killed."""

    def __init__(self, rig: Rig, kubernetes: SimulatedApi, chance: random.Random) -> None:
        self.rig, self.kubernetes, self.chance = rig, kubernetes, chance
        self.killed: Counter[str] = Counter()
        self.kills = 0
        self.lost = 0

    async def one(self, name: str) -> None:
        """Created, its credentials created again after the Secret was deleted, each amid kills; then it is deleted."""
        create = {"appName": name, "displayName": name}
        await self.rig.apply(self.rig.connector(name, c1={"create": create, "auth": {"secretRef": {"name": ACCESS}}}))
        uid = (await self.kubernetes.get(self.rig.namespace, name))["metadata"]["uid"]
        for _ in range(2):
            for _ in range(self.chance.randint(1, 4)):
                await self._kill()
            await self._complete(name, uid)
            self._delete_secret(f"{name}-c1")
        await self.kubernetes.delete(self.rig.namespace, name)

    async def _kill(self) -> None:
        moment = self.chance.choice(MOMENTS)
        for rpc in CREATES:
            if self.chance.random() < 0.5:
                self.rig.c1.faults.add(Fault(rpc, Action.LATE, delay=self.chance.uniform(*LATE)))
        process = self._process()
        await process.begin()
        try:
            before = self._begun(moment)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.chance.uniform(2.0, 8.0)):
                    while moment == "start" or self._begun(moment) == before:  # noqa: ASYNC110
                        await asyncio.sleep(0.002)
            await asyncio.sleep(self.chance.uniform(0.0, 0.1))
        finally:
            await process.kill()
        self.rig.c1.faults.clear()
        self.kills += 1
        self.killed[moment] += 1

    def _begun(self, rpc: str) -> int:
        return len(self.rig.c1.calls(rpc)) + self.rig.c1.under_way[rpc]

    async def _complete(self, name: str, uid: str) -> None:
        """A process that is left alone: then there is one of each, and the Secret has what the status says."""
        book, secret_name = self.rig.c1.connectors, f"{name}-c1"

        def complete(connector: dict[str, Any]) -> bool:
            record = connector["status"].get("c1", {})
            credential = record.get("credential", {})
            ready = condition(connector, "CredentialsValid").get("status") == "True"
            done = ready and "creating" not in record and bool(credential) and "retiring" not in credential
            return done and self._kept(secret_name) == credential["id"]

        async with self._process():
            await self.rig.until(complete, PATIENCE, name)
            await asyncio.sleep(LATE[1])
            connector = await self.rig.until(complete, PATIENCE, name)
        record = connector["status"]["c1"]
        apps = [each.id for each in book.apps.values() if uid in each.annotations["iac_resource_address"]]
        connectors = [each.id for each in book.connectors.values() if uid in each.description]
        assert (apps, connectors) == ([record["appID"]], [record["connectorID"]])
        secret = self.kubernetes.simulator.get("Secret", self.rig.namespace, secret_name)
        credential = book.credentials[record["credential"]["id"]]
        assert credential.deleted_at is None
        values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
        client = credential.client
        assert values == {"BATON_CLIENT_ID": client.client_id, "BATON_CLIENT_SECRET": client.client_secret}
        live = [
            each
            for each in book.credentials.values()
            if each.connector_id == record["connectorID"] and each.deleted_at is None
        ]
        self.lost += len(live) - 1
        assert self.lost <= self.kills

    def _kept(self, name: str) -> str:
        """The ID of the credential in the Secret, "" while there is none."""
        for secret in self.kubernetes.simulator.objects("Secret", self.rig.namespace):
            if secret["metadata"]["name"] == name:
                return str(secret["metadata"]["annotations"]["connectors.c1.ai/c1-credential-id"])
        return ""

    def _delete_secret(self, name: str) -> None:
        self.kubernetes.simulator.delete("Secret", self.rig.namespace, name)

    def _process(self) -> OperatorProcess:
        operator = self.rig.operator()
        operator.command = (sys.executable, "-c", HURRIED, "operator")
        return operator


@contextlib.asynccontextmanager
async def creations(kubernetes: SimulatedApi) -> AsyncIterator[Creations]:
    async with Rig(kubernetes, "soak") as rig:
        client = rig.c1.register_rest_client("spc", (Role.APPLICATION_ADMINISTRATOR, Role.CONNECTOR_ADMINISTRATOR))
        access = rig.secret(ACCESS, C1_CLIENT_ID=client.client_id, C1_CLIENT_SECRET=client.client_secret)
        await rig.apply(access, rig.secret(BATON_CLIENT_ID=None, BATON_CLIENT_SECRET=None))
        made = Creations(rig, kubernetes, random.Random(SEED))
        try:
            yield made
        finally:
            for process in rig.operators[-2:]:
                print("process:", *process.lines, sep="\n  ")


async def test_an_operator_that_is_killed_creates_each_connector_once(kubernetes: SimulatedApi) -> None:
    print(f"SEED={SEED}")
    async with creations(kubernetes) as made:
        number = 0
        while made.kills < KILLS:
            number += 1
            await made.one(f"acme-{number}")
        assert made.rig.violations == []
        met = ", ".join(f"{moment} {times}" for moment, times in sorted(made.killed.items()))
        print(f"{made.kills} kills at {met}; {number} connectors, {made.lost} credentials lost")
