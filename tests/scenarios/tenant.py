"""One customer of a rig: a connector with a Secret, a Buildkite token and a C1 client of its own.

Many tenants share one operator and the simulators, as in a cluster; none sees what is done to another.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from buildkite_connector.kubernetes.schema import ACCEPT_SHRINK, SYNC_REQUESTED_AT
from harness.kubernetes_apis import Manifest
from harness.rig import PATIENCE, Rig
from simulators.buildkite.api import BASE_PATH, WRITING_SCOPES, Token, User
from simulators.buildkite.transcript import Request
from simulators.c1.journal import Call
from simulators.c1.tasks import Outcome
from simulators.c1.uploads import Received


class Tenant:
    """`name` is the connector's. `organizations`: the slugs that the token reaches, the rig's first by default.

    `writes`: its token may change teams, and whatever it writes is expected.
    """

    def __init__(
        self, rig: Rig, name: str, *organizations: str, scopes: tuple[str, ...] = Token().scopes, writes: bool = False
    ) -> None:
        self.rig = rig
        self.name = name
        self.c1 = rig.c1
        self.client = rig.c1.register_client()
        self.host_id = f"{rig.namespace}.{name}"
        self.secret_name = f"{name}-credentials"
        self.organizations = frozenset(organizations or (rig.buildkite.organization.slug,))
        self.tokens: list[Token] = []
        if writes:
            rig.buildkite.journal.expected_of.add(name)
        self.renew_token(WRITING_SCOPES if writes else scopes)

    def renew_token(self, scopes: tuple[str, ...] = Token().scopes, user: User = User()) -> None:  # noqa: B008
        """Another Buildkite token from now on; the Secret in the cluster still has the one before.

        `user`: whose quota it uses.
        """
        value = f"bkua_{token_hex(20)}"
        self.tokens.append(Token(value, scopes, organizations=self.organizations, user=user, description=self.name))
        self.rig.buildkite.grant(self.tokens[-1])

    @property
    def token(self) -> Token:
        return self.tokens[-1]

    # What a person with kubectl does

    def secret(self, **changes: str | None) -> Manifest:
        """The Secret; `changes` by key, None leaves a key out."""
        values: dict[str, str | None] = {
            "BATON_CLIENT_ID": self.client.client_id,
            "BATON_CLIENT_SECRET": self.client.client_secret,
            "BATON_API_TOKEN": self.token.value,
        }
        return self.rig.secret(self.secret_name, **(values | changes))

    def connector(self, **spec: Any) -> Manifest:
        return self.rig.connector(self.name, **{"credentialsSecretRef": {"name": self.secret_name}, **spec})

    async def apply(self, *manifests: Manifest) -> None:
        """Apply these; by default the Secret and a connector that has nothing but its name."""
        await self.rig.apply(*(manifests or (self.secret(), self.connector())))

    async def become_ready(self, **spec: Any) -> Manifest:
        """Apply all with this spec, and wait until the connector is Ready."""
        await self.apply(self.secret(), self.connector(**spec))
        return await self.until_ready()

    async def request_sync(self) -> str:
        """Set the annotation; gives its value."""
        value = f"request-{token_hex(4)}"
        await self.rig.kubernetes.annotate(self.rig.namespace, self.name, {SYNC_REQUESTED_AT: value})
        return value

    async def sync(self) -> Manifest:
        """A sync on request; the connector after it."""
        before = (await self.get())["status"].get("lastSync", {}).get("id")
        value = await self.request_sync()
        return await self.until(
            lambda status: (
                status.get("lastHandledSyncRequest") == value
                and status["phase"] != "Syncing"
                and status["lastSync"]["id"] != before
            )
        )

    async def accept_shrink(self, sync_id: str) -> None:
        await self.rig.kubernetes.annotate(self.rig.namespace, self.name, {ACCEPT_SHRINK: sync_id})

    async def delete(self) -> None:
        await self.rig.kubernetes.delete(self.rig.namespace, self.name)

    async def get(self) -> Manifest:
        return await self.rig.kubernetes.get(self.rig.namespace, self.name)

    async def exists(self) -> bool:
        return await self.rig.kubernetes.exists(self.rig.namespace, self.name)

    async def events(self) -> list[Manifest]:
        """The events about the connector, of its name at least."""
        return await self.rig.kubernetes.events(self.rig.namespace, self.name)

    async def footprint(self) -> object:
        """Equal as long as nothing is written of the connector."""
        return await self.rig.kubernetes.footprint(self.rig.namespace, self.name)

    async def until(
        self,
        predicate: Callable[[Manifest], object],
        timeout: float = PATIENCE,  # noqa: ASYNC109
    ) -> Manifest:
        """The connector, once the predicate holds for its status."""
        return await self.rig.until(lambda connector: predicate(connector["status"]), timeout, self.name)

    async def until_condition(
        self,
        kind: str,
        status: str,
        reason: str | None = None,
        timeout: float = PATIENCE,  # noqa: ASYNC109
    ) -> Manifest:
        return await self.rig.until_condition(kind, status, reason, timeout, self.name)

    async def until_ready(self, timeout: float = PATIENCE) -> Manifest:  # noqa: ASYNC109
        await self.until_condition("Ready", "True", timeout=timeout)
        return await self.get()

    # What C1 does and sees

    def add_task(self, kind: str = "sync_full", **options: Any) -> str:
        return self.c1.add_task(kind, client=self.client, **options)

    async def finished(self, task_id: str) -> Outcome:
        return await self.c1.finished(task_id, PATIENCE)

    async def answer(self, kind: str = "sync_full", **options: Any) -> Outcome:
        """How a task ends that C1 hands out now."""
        return await self.finished(self.add_task(kind, **options))

    async def deliver(self, **options: Any) -> Received:
        """What C1 ingested under a sync task that it hands out now."""
        task_id = self.add_task(**options)
        outcome = await self.finished(task_id)
        assert outcome.success, outcome
        return next(received for received in self.c1.ingested if received.task_id == task_id)

    @property
    def calls(self) -> list[Call]:
        """Its calls that have ended, token requests left out."""
        return [call for call in self.c1.transcript if call.host_id == self.host_id]

    @property
    def polls(self) -> int:
        return sum(call.rpc == "GetTask" for call in self.calls)

    async def until_polled(self, times: int) -> None:
        """Once it has asked C1 for a task so many times more: an operator that is alive shows it so."""
        wanted = self.polls + times
        await self.c1.wait_for(lambda: self.polls >= wanted, PATIENCE)

    # What else it leaves behind

    @property
    def collecting(self) -> list[Request]:
        """Its requests to Buildkite that syncs made, by arrival; those of checks left out."""
        folders = tuple(f"{BASE_PATH}/organizations/{slug}/" for slug in self.organizations)
        made = [each for each in self.rig.buildkite.requests if each.token == self.name]
        return sorted((each for each in made if each.path.startswith(folders)), key=lambda each: each.at)

    @property
    def syncs(self) -> int:
        """How many syncs have begun to read the accounts."""
        firsts = (each for each in self.collecting if dict(each.query).get("page", "1") == "1")
        return sum(each.path.endswith("/members") and "/teams/" not in each.path for each in firsts)

    @property
    def staged(self) -> list[Path]:
        """Its snapshot in the operator's data directory."""
        return [path for path in self.rig.staged if path.name.startswith(self.host_id)]


NewTenant = Callable[..., Tenant]


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


@dataclass(frozen=True)
class Idler:
    """A tenant that is well and to whom nothing happens; its footprint and polls when that began."""

    tenant: Tenant
    footprint: object
    polls: int
    since: Stopwatch
