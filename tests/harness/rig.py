"""Everything around an operator process: the simulators of Buildkite and C1, and a Kubernetes API, simulated or real.

The integration tests, the end-to-end suite and the demo all run the operator as a process of its own on this.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from buildkite_connector.kubernetes.schema import GROUP, KIND, PLURAL, VERSION
from buildkite_connector.timing.clock import SystemClock
from harness.forked_command import fork_command, start_command
from harness.kubernetes_apis import Kubernetes, Manifest, RealApi, SimulatedApi, real_api, simulated_api
from simulators.buildkite.api import Token
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator

__all__ = (
    "KIND",
    "PLURAL",
    "Kubernetes",
    "Manifest",
    "OperatorProcess",
    "RealApi",
    "Rig",
    "SimulatedApi",
    "condition",
    "real_api",
    "simulated_api",
)

GOLDEN = Path(__file__).parents[1] / "data" / "acme-org.json"
API_TOKEN = "bkua_" + "5ec4e7" * 6 + "abcd"
"""A token of the real form; tests look for it where it must not be."""
SECRET_NAME = "acme-credentials"
CONFIDED = ("BATON_CLIENT_SECRET", "BATON_API_TOKEN", "BUILDKITE_PORTAL_TOKEN", "C1_CLIENT_SECRET")
"""Keys of Secrets whose values are secret."""
PATIENCE = 30.0
"""Seconds that a scenario waits for what should happen much sooner."""


COMMAND = str(Path(sys.executable).parent / "buildkite-connector")


@dataclass
class OperatorProcess:
    """`buildkite-connector operator`, its logs kept in `lines`. `ready`: the text that it logs once it works.

    `command`: what is started in its place; `inherits`: whether it gets this process's environment too; `forked`: see
    `harness.forked_command`.
    """

    environment: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    ready_within: float = PATIENCE
    command: tuple[str, ...] = (COMMAND, "operator")
    ready: str = "the operator is ready"
    inherits: bool = True
    forked: bool = False
    _ended: bool = False

    async def begin(self) -> None:
        """Start it without waiting for it to be ready; whoever does so ends it, too."""
        environment = {**(os.environ if self.inherits else {}), **self.environment}
        start = fork_command if self.forked else start_command
        self._process = await start((*self.command, *self.arguments), environment)
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def __aenter__(self) -> Self:
        await self.begin()
        try:
            await self.until_logged(self.ready, timeout=self.ready_within)
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = await self.stop()
        assert error is not None or self._ended or code in {0, -signal.SIGKILL}, self._told(f"ended with code {code}")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip())
            self._tell()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def until_logged(self, *texts: str, timeout: float = PATIENCE) -> None:  # noqa: ASYNC109
        """Once there is a line with all of these in it. The operator's end, or the time's, is an AssertionError."""
        try:
            async with asyncio.timeout(timeout):
                while not any(all(text in line for text in texts) for line in self.lines):
                    assert not self._reading.done(), self._told(f"ended before it logged {texts}")
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(self._told(f"did not log {texts} within {timeout} s")) from None

    async def ends(self, within: float = 15.0) -> int:
        """Its exit code, once it has ended by itself."""
        async with asyncio.timeout(within):
            await self._reading
            self._ended = True
            return await self._process.wait()

    async def stop(self, within: float = 15.0) -> int:
        """SIGTERM; gives the exit code. An operator that does not end in time is killed, and that is an error."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                await self._reading
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            raise AssertionError(self._told(f"did not stop within {within} s")) from None

    async def kill(self) -> None:
        """Its end without warning, as when a node dies."""
        if self._process.returncode is None:
            self._process.kill()
        await self._reading
        await self._process.wait()

    def records(self) -> list[dict[str, Any]]:
        """The JSON log records."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def _told(self, what: str) -> str:
        return f"the operator {what}:\n" + "\n".join(self.lines)


class C1Clock(SystemClock):
    """Ahead of this machine's clock by what a test sets."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Rig:
    """The simulators, one registered client, and manifests that fit them.

    `c1_clock` is the time in every C1. `ca` signs the certificates of `c1` and of `other_c1`, which the operator may go
    to both. `operators`: all that were made. `confided`: every secret value that went into a Secret or to C1 and back,
    for tests to look for where it must not be. `forks`: how operators begin (`harness.forked_command`).
    """

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace
        self.c1_clock = C1Clock()
        self.ca = trustme.CA()
        self.operators: list[OperatorProcess] = []
        self.forks = False
        self.confided: set[str] = set()
        self._c1s: list[C1Simulator] = []
        self._opened = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opening:
            self._opened = opening
            self.directory = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="rig-")))
            self.buildkite = await opening.enter_async_context(
                BuildkiteSimulator(
                    Config((Organization.load(GOLDEN),), (Token(API_TOKEN),), Limits(user=None, organization=None))
                )
            )
            self.c1 = await self._open_c1()
            self.other_c1 = await self._open_c1()
            self.client = self.c1.register_client()
            self._opened = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, trace)

    async def _open_c1(self) -> C1Simulator:
        """One more C1 that the operator trusts and may go to; it ends with the rig."""
        c1 = await self._opened.enter_async_context(
            C1Simulator(
                # A machine that is busy, or a coverage run, holds a process for seconds: no breach of C1's contract.
                Policy(next_poll=0.5, next_heartbeat=1.0, heartbeat_grace=10.0, sync_on_hello=False),
                ca=self.ca,
                clock=self.c1_clock,
            )
        )
        exchange = c1.authority.exchange

        def listen(form: Mapping[str, str]) -> dict[str, object]:
            proofs = ("client_assertion", "client_secret", "subject_token")
            self.confided.update(form[name] for name in proofs if name in form)
            answer = exchange(form)
            self.confided.add(str(answer["access_token"]))
            return answer

        c1.authority.exchange = listen  # type: ignore[method-assign]  # what it hands out is kept nowhere else
        self._c1s.append(c1)
        return c1

    @property
    def violations(self) -> list[str]:
        """Breaches of C1's contract, seen by any of them."""
        return [violation for c1 in self._c1s for violation in c1.violations]

    @property
    def staged(self) -> list[Path]:
        """The snapshots that wait in the operator's data directory."""
        return sorted((self.directory / "snapshots").glob("*"))

    def operator(self, *arguments: str, everywhere: bool = False, **environment: str) -> OperatorProcess:
        """The operator on this rig; enter it to start it. It watches the rig's namespace, or `everywhere`."""
        operator = OperatorProcess(
            {
                "KUBECONFIG": str(self.kubernetes.kubeconfig),
                "BUILDKITE_API_URL": self.buildkite.url,
                "BUILDKITE_TOKEN_EXCHANGE_URL": self.buildkite.exchange_url,
                "BUILDKITE_PORTAL_URL": self.buildkite.portal_url,
                "SSL_CERT_FILE": str(self.c1.ca_file),
                "BUILDKITE_CONNECTOR_C1_HOSTS": ",".join(c1.address for c1 in self._c1s),
                "BUILDKITE_CONNECTOR_HTTP_ADDRESS": "127.0.0.1:0",
                "BUILDKITE_CONNECTOR_DATA_DIR": str(self.directory / "snapshots"),
                "HOME": str(self.directory),
                **environment,
            },
            arguments if everywhere else ("--namespace", self.namespace, *arguments),
            forked=self.forks,
        )
        self.operators.append(operator)
        return operator

    def secret(self, name: str = SECRET_NAME, **changes: str | None) -> Manifest:
        """A Secret with the vendor's keys; `changes` by key, None leaves a key out."""
        values: dict[str, str | None] = {
            "BATON_CLIENT_ID": self.client.client_id,
            "BATON_CLIENT_SECRET": self.client.client_secret,
            "BATON_API_TOKEN": API_TOKEN,
            **changes,
        }
        self.confided |= {values.get(key) or "" for key in CONFIDED} - {""}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace},
            "type": "Opaque",
            "stringData": {key: value for key, value in values.items() if value is not None},
        }

    def connector(self, name: str = "acme", **spec: Any) -> Manifest:
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"credentialsSecretRef": {"name": SECRET_NAME}, **spec},
        }

    async def apply(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            await self.kubernetes.apply(manifest)

    async def until(
        self,
        predicate: Callable[[Manifest], object],
        timeout: float = PATIENCE,  # noqa: ASYNC109
        name: str = "acme",
    ) -> Manifest:
        """The connector once the predicate holds; a failure shows its last status."""

        def holds(connector: Manifest) -> bool:
            return "status" in connector and bool(predicate(connector))

        try:
            return await self.kubernetes.wait_for(self.namespace, name, holds, timeout)
        except TimeoutError:
            found = await self.kubernetes.get(self.namespace, name)
            status = json.dumps(found.get("status"), indent=1)
            raise AssertionError(f"not within {timeout} s; the status is {status}") from None

    async def until_condition(
        self,
        kind: str,
        status: str,
        reason: str | None = None,
        timeout: float = PATIENCE,  # noqa: ASYNC109
        name: str = "acme",
    ) -> Manifest:
        """The condition, once it is so."""

        def holds(connector: Manifest) -> bool:
            found = condition(connector, kind)
            return found.get("status") == status and reason in (None, found.get("reason"))

        return condition(await self.until(holds, timeout, name), kind)


def condition(connector: Manifest, kind: str) -> Manifest:
    """The condition of this type, or {}."""
    conditions = connector.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})
