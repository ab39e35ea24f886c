"""A C1 to deliver to: the token endpoint, the REST API and BatonService on one TLS port of 127.0.0.1, as strict as the
real one.

In a test: `async with C1Simulator() as sim`. As a command: `python -m simulators.c1 --help`.
What it does by itself is `policy`, what goes wrong `faults`; from another process, `http` drives it.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from buildkite_connector.timing.clock import Clock, SystemClock
from simulators.c1.access import WHOLLY_KNOWN, Book, Form
from simulators.c1.apps import Connector
from simulators.c1.connectors import Connectors
from simulators.c1.faults import TOKEN, Action, Fault, FaultScript
from simulators.c1.federation import KeySource
from simulators.c1.front import NAME, Certificate, Front
from simulators.c1.http import HttpSide
from simulators.c1.journal import Call, Journal
from simulators.c1.ksuid import ksuid
from simulators.c1.policy import Policy
from simulators.c1.readings import Reading
from simulators.c1.requests import AccessRequest, Change, Requests
from simulators.c1.service import BatonService
from simulators.c1.tasks import Ledger, Outcome, Session, TaskRecord, Who
from simulators.c1.token import Authority, Client, RestClient, Role
from simulators.c1.uploads import Received, Uploads

PATIENCE = 10.0
"""Seconds that a test waits for something to happen before it says what did instead."""


class C1Simulator:
    """Use as an async context manager.

    `keep_uploads`: where received files stay; by default they go when the simulator does.
    `ca`: signs its certificate, for one CA file among several simulators.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        port: int = 0,
        keep_uploads: Path | None = None,
        ca: trustme.CA | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.policy = policy or Policy()
        self.clock = clock or SystemClock()
        self.journal = Journal()
        self.faults = FaultScript()
        self.authority = Authority(self.policy, self.clock)
        self.port = port
        self.ca_file = Path()
        self.ledger: Ledger
        self.uploads: Uploads
        self.requests: Requests
        self.connectors: Connectors
        self.front: Front
        self._ca = ca or trustme.CA()
        self._keep_uploads = keep_uploads
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._run: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup

    async def __aenter__(self) -> Self:
        self._run = asyncio.create_task(self._serve())
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({ready, self._run}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            try:
                await self._run
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._run is not None:
            await self._run

    async def _serve(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="c1-simulator-")))
            self.ca_file = folder / "ca.pem"
            self._ca.cert_pem.write_to_path(str(self.ca_file))
            self.uploads = Uploads(self._keep_uploads or folder)
            self.ledger = Ledger(self.policy, self.journal, asyncio.get_running_loop().call_later)
            self.requests = Requests(self.policy, self.ledger, self.clock.now)
            stack.callback(self.ledger.close)
            self.connectors = Connectors(
                policy=self.policy,
                journal=self.journal,
                authority=self.authority,
                ledger=self.ledger,
                uploads=self.uploads,
                call_later=asyncio.get_running_loop().call_later,
                now=self.clock.now,
            )
            stack.callback(self.connectors.close)
            http_side = HttpSide(self)
            http, http_port = await http_side.start()
            stack.push_async_callback(http.cleanup)
            stack.push_async_callback(http_side.rest.close)
            service = BatonService(
                policy=self.policy,
                clock=self.clock,
                authority=self.authority,
                faults=self.faults,
                ledger=self.ledger,
                uploads=self.uploads,
                requests=self.requests,
                journal=self.journal,
                drop=self._drop,
            )
            grpc_server, grpc_port = await service.start()
            stack.push_async_callback(grpc_server.stop, 0)
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self.front = Front(self._tasks, self._ca, http=http_port, grpc=grpc_port)
            self.port = await self.front.open(self.port)
            self._ready.set()
            await self._stop.wait()
            self.faults.clear()
            self.front.close()

    def _drop(self, inner_port: int) -> None:
        self.front.drop(inner_port)

    @property
    def address(self) -> str:
        """`host:port`, for an override of the host or among the allowed ones."""
        return f"{NAME}:{self.port}"

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    def register_client(self, address: str | None = None) -> Client:
        """A client whose ID names this simulator, or `address` (then the connector needs its host override)."""
        return self.authority.register(address or self.address)

    def register_rest_client(
        self, kind: str = "spc", roles: Iterable[Role] = (), *, user_id: str = "", address: str | None = None
    ) -> RestClient:
        """A client of the REST API, `pcc` or `spc`. `user_id` is what an app or a connector has among its owners."""
        return self.authority.register_rest_client(address or self.address, kind, user_id or ksuid(), roles)

    def register_trust(
        self,
        issuer: str,
        keys: KeySource,
        *,
        subject: str | None = None,
        roles: Iterable[Role] = (),
        user_id: str = "",
        address: str | None = None,
    ) -> RestClient:
        """A `/wfe` client: the tokens that `issuer` signed with one of `keys`, for `subject` where there is one."""
        return self.authority.register_trust(
            address or self.address, user_id or ksuid(), roles, issuer=issuer, keys=keys, subject=subject
        )

    def register_connector(
        self, client: Client | None = None, *, app_name: str = "Buildkite", owners: Iterable[str] = (), **fields: Any
    ) -> Connector:
        """A connector in an app of its own, whose credentials are `client`'s. `fields` are those of `Connector`."""
        app = self.connectors.add_app(app_name)
        connector = self.connectors.add(app, display_name="Buildkite", owners=list(owners), **fields)
        self.connectors.add_credential(connector, client or self.register_client())
        return connector

    def add_task(
        self,
        kind: str = "sync_full",
        host_id: str | None = None,
        *,
        client: Client | None = None,
        debug: bool = False,
        **options: Any,
    ) -> str:
        """The new task's ID. `options` are the fields of the task's message."""
        client_id = client.client_id if client else None
        return self.ledger.add(kind, client_id=client_id, host_id=host_id, debug=debug, options=options)

    def request(
        self,
        action: str,
        team: str,
        role: str,
        user: str,
        *,
        host_id: str | None = None,
        client: Client | None = None,
        form: Form = WHOLLY_KNOWN,
    ) -> AccessRequest:
        """A `grant` or `revoke` of a team's role, by ids; without host or client, of the only host that said Hello.

        Raises LookupError for a host, a team, a role or a user that C1 does not know.
        """
        who = self.requests.host(client.client_id if client else None, host_id)
        return self.requests.make(who, Change(action), team=team, role=role, user=user, form=form)

    async def ended(self, request: AccessRequest, timeout: float = PATIENCE) -> Reading:  # noqa: ASYNC109
        """What became of the request, once no further attempt comes. Raises TimeoutError."""
        await self.wait_for(lambda: request.ended, timeout)
        assert request.reading is not None
        return request.reading

    def book(self, host_id: str | None = None, client: Client | None = None) -> Book:
        """Who has what, as C1 believes now of a host, chosen as for `request`."""
        return self.requests.book(self.requests.host(client.client_id if client else None, host_id))

    def cancel(self, task_id: str) -> None:
        self.ledger.cancel(task_id)

    def fail(self, rpc: str, code: str = "UNAVAILABLE", *, times: int | None = 1, **fault: Any) -> None:
        """The next `times` calls of `rpc` end with `code`; other fields of `Fault` as it has them."""
        self.faults.add(Fault(rpc, Action.ERROR, times, code, **fault))

    def stall(self, rpc: str, *, times: int | None = 1, **fault: Any) -> None:
        self.faults.add(Fault(rpc, Action.STALL, times, **fault))

    def drop(self, rpc: str, *, times: int | None = 1, **fault: Any) -> None:
        self.faults.add(Fault(rpc, Action.DROP, times, **fault))

    def reject_checksum(self, *, times: int | None = 1) -> None:
        self.faults.add(Fault("UploadAsset", Action.CHECKSUM, times))

    def answer_token(
        self, status: int, body: str, content_type: str = "application/json", *, times: int | None = 1
    ) -> None:
        """The next `times` token requests get this answer."""
        self.faults.add(Fault(TOKEN, times=times, status=status, body=body, content_type=content_type))

    def answer_rest(
        self, rpc: str, status: int, body: str = "{}", content_type: str = "application/json", **fault: Any
    ) -> None:
        """The next calls of `rpc` get this answer; other fields of `Fault` as it has them, as `headers`."""
        self.faults.add(Fault(rpc, status=status, body=body, content_type=content_type, **fault))

    def show_certificate(self, certificate: Certificate) -> None:
        """To those who connect from now on; open connections are reset."""
        self.front.show(certificate)
        self.front.reset()

    def close_port(self) -> None:
        """Connections are refused until `reopen_port`, and those that are open reset."""
        self.front.close()

    async def reopen_port(self) -> None:
        await self.front.open(self.port)
        self.journal.announce()

    @property
    def listening(self) -> bool:
        return self.front.listening

    async def wait_for(self, predicate: Callable[[], object], timeout: float = PATIENCE) -> None:  # noqa: ASYNC109
        """Returns once `predicate` holds; it is asked anew whenever something happened. Raises TimeoutError."""
        await self.journal.until(predicate, timeout)

    async def finished(self, task_id: str, timeout: float = PATIENCE) -> Outcome:  # noqa: ASYNC109
        """How the task ended, once it has. Raises TimeoutError."""
        record = self.tasks[task_id]
        await self.wait_for(lambda: record.outcome, timeout)
        assert record.outcome is not None
        return record.outcome

    def calls(self, rpc: str) -> list[Call]:
        """The calls of one rpc (or `Token`) that have ended, oldest first."""
        return [call for call in self.transcript if call.rpc == rpc]

    @property
    def transcript(self) -> Sequence[Call]:
        return self.journal.transcript

    @property
    def under_way(self) -> Mapping[str, int]:
        """How many calls of each rpc have begun and not ended."""
        return self.journal.under_way

    @property
    def violations(self) -> list[str]:
        """Breaches of the contract by connectors; scripted faults are none."""
        return self.journal.violations

    @property
    def token_requests(self) -> int:
        return len(self.calls(TOKEN))

    @property
    def tasks(self) -> Mapping[str, TaskRecord]:
        return self.ledger.tasks

    @property
    def sessions(self) -> Mapping[Who, Session]:
        return self.ledger.sessions

    @property
    def received(self) -> list[Received]:
        """Accepted uploads, oldest first."""
        return self.uploads.received

    @property
    def ingested(self) -> list[Received]:
        """Those whose task finished with success."""
        return self.uploads.ingested

    @property
    def repeated_syncs(self) -> Mapping[str, int]:
        """Syncs that were ingested under more than one task, and how often."""
        return self.uploads.repeated_syncs
