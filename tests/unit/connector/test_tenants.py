"""Two namespaces in one process: whatever the connectors of one do, the other's work begins at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.timing.slots import Slots
from fakes.connector_setup import C1, MINUTE, Buildkite, Reports, SecretCredentials, Setup
from fakes.virtual_time import until, virtual_time

MISSING = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
LONG = 100_000.0


class Tenants(Setup):
    """`noisy` is what the connectors of one namespace meet, `buildkite` and `c1` what those of the other do."""

    def __init__(self) -> None:
        super().__init__()
        self.noisy, self.noisy_c1 = Buildkite(), C1()
        self.connectors: dict[ConnectorKey, Connector] = {}
        self.reported: dict[ConnectorKey, Reports] = {}
        self.fake_secrets: dict[ConnectorKey, SecretCredentials] = {}

    def connect_buildkite(self, token: str, redactor: Redactor, **how: Any) -> BuildkiteAPI:
        return (self.noisy if token == "noisy" else self.buildkite).client()

    def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
        return self.noisy_c1 if credentials.api_token == "noisy" else self.c1

    def environment(self) -> Environment:
        syncs, checks, hellos = (Slots(32, shared=True) for _ in range(3))
        return replace(super().environment(), sync_slots=syncs, check_slots=checks, hello_slots=hellos)

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator["Tenants"]:
        self.shared = self.environment()
        rereading = asyncio.create_task(reread_secrets(self.connectors.values, self.clock))
        try:
            yield self
        finally:
            rereading.cancel()
            await asyncio.gather(*(each.close(discard=False) for each in self.connectors.values()))

    def start(self, name: str, failure: Failure | None = None) -> ConnectorKey:
        key = ConnectorKey(name)
        namespace, _, short = name.partition(".")
        fake_secret = SecretCredentials(Credentials(f"id-{short}", "secret", namespace), failure)
        self.fake_secrets[key], self.reported[key] = fake_secret, Reports()
        desired = replace(self.order, credentials=fake_secret)
        connector = self.connectors[key] = Connector(key, desired, None, self.reported[key], self.shared)
        connector.start()
        return key

    def start_many(self, number: int, failure: Failure | None = None) -> None:
        for each in range(number):
            self.start(f"noisy.{each}", failure)

    def ready(self, key: ConnectorKey) -> bool:
        found = self.connectors[key].status.condition(ConditionType.READY)
        return found is not None and found.reason is Reason.READY

    async def seconds_until_ready(self, key: ConnectorKey) -> float:
        began = asyncio.get_running_loop().time()
        await until(lambda: self.ready(key))
        return asyncio.get_running_loop().time() - began


@virtual_time
async def test_a_hundred_syncs_that_never_end_keep_none_of_another_namespace_waiting() -> None:
    async with Tenants().process() as tenants:
        tenants.noisy.seconds = LONG
        tenants.start_many(100)
        await asyncio.sleep(MINUTE)
        assert tenants.noisy.active == 16
        tenants.buildkite.seconds = 1.0
        assert await tenants.seconds_until_ready(tenants.start("calm.acme")) < 2


@virtual_time
async def test_a_hundred_checks_that_never_end_keep_none_of_another_namespace_waiting() -> None:
    async with Tenants().process() as tenants:
        tenants.noisy.preflight_seconds = LONG
        tenants.start_many(100)
        await asyncio.sleep(MINUTE)
        assert tenants.noisy.preflights == 16
        tenants.buildkite.seconds = 1.0
        assert await tenants.seconds_until_ready(tenants.start("calm.acme")) < 2


@virtual_time
async def test_a_silent_c1_keeps_no_hello_waiting_not_even_in_its_own_namespace() -> None:
    async with Tenants().process() as tenants:
        tenants.noisy_c1.silent = True
        tenants.start_many(100)
        tenants.buildkite.seconds = 1.0
        assert await tenants.seconds_until_ready(tenants.start("calm.acme")) < 2
        await asyncio.sleep(MINUTE)
        key = tenants.start("noisy.well")
        tenants.fake_secrets[key].credentials = replace(tenants.fake_secrets[key].credentials, api_token="calm")
        assert await tenants.seconds_until_ready(key) < 5


@virtual_time
async def test_hundreds_of_missing_secrets_slow_no_other_namespace() -> None:
    async with Tenants().process() as tenants:
        tenants.start_many(300, MISSING)
        calm, late = tenants.start("calm.acme"), tenants.start("calm.late", MISSING)
        await asyncio.sleep(2 * MINUTE)
        reads, began = (
            sum(fake_secret.reads for fake_secret in tenants.fake_secrets.values()),
            asyncio.get_running_loop().time(),
        )
        tenants.fake_secrets[late].failure = None
        assert await tenants.seconds_until_ready(late) < 10 + 1 + 5  # 10 s between reads, 5 s a sync
        collected = len(tenants.buildkite.collections)
        fake_secret = tenants.fake_secrets[calm]
        fake_secret.credentials = replace(fake_secret.credentials, client_id="another")
        await until(lambda: len(tenants.buildkite.collections) > collected)
        assert asyncio.get_running_loop().time() - began < 20 + MINUTE
        await asyncio.sleep(2 * MINUTE)
        reads = sum(fake_secret.reads for fake_secret in tenants.fake_secrets.values()) - reads
        assert reads / (asyncio.get_running_loop().time() - began) <= 5.01
