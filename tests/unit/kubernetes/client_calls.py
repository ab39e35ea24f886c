"""What the tests of the client call it with."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from buildkite_connector.kubernetes.access import Access
from buildkite_connector.kubernetes.events import EventDraft, EventType
from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.status import Condition, ConditionStatus, ConditionType, ConnectorStatus, Phase
from simulators.kubernetes.server import KubernetesSimulator
from simulators.sockets import stop_listening
from unit.kubernetes.recording_server import Accesses

T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)


READY = ConnectorStatus(
    observed_generation=1,
    phase=Phase.CONNECTED,
    conditions=(
        Condition(ConditionType.READY, ConditionStatus.TRUE, Reason.READY, "12 accounts.", 1, last_transition_time=T0),
    ),
)


SYNCING = replace(READY, phase=Phase.SYNCING)


DRAFT = EventDraft(EventType.WARNING, Reason.TOKEN_REJECTED, "Buildkite refuses the token.")


def create(simulator: KubernetesSimulator, name: str = "acme", namespace: str = "default") -> ObservedResource:
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"credentialsSecretRef": {"name": "s"}},
    }
    seen = read_resource(simulator.apply(manifest))
    assert seen.failure is None
    return seen


def status_of(simulator: KubernetesSimulator) -> Any:
    return simulator.get(KIND, "default", "acme").get("status")


def events(simulator: KubernetesSimulator) -> list[dict[str, Any]]:
    return simulator.objects("Event", "default")


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], token: str = ""
) -> AsyncIterator[Accesses]:
    """A server on a free port of loopback, by a login that leads there; every connection is closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await answer(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield Accesses(Access(f"http://127.0.0.1:{port}", secrets=(token,) if token else ()))
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    finally:
        stop_listening(server)


def request_in(record: logging.LogRecord) -> tuple[str, str, object]:
    fields = vars(record)
    assert fields["milliseconds"] >= 0
    return fields["method"], fields["path"], fields.get("status") or fields["error"]
