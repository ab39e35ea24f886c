"""How the simulated BatonService says no, and how its values look on the wire."""

from dataclasses import dataclass
from typing import NoReturn, Protocol

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from simulators.c1.ingest import Expected
from simulators.c1.tasks import TaskRecord, Who


class Context(Protocol):
    """What this service uses of a gRPC call's context."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...] | None: ...

    def peer(self) -> str: ...

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn: ...


@dataclass(slots=True)
class Exchange:
    """One call in progress: whose it is and what it is about, for the transcript."""

    rpc: str
    peer: str
    user_agent: str
    client_id: str = ""
    host_id: str = ""
    task_id: str = ""

    @property
    def who(self) -> Who:
        return Who(self.client_id, self.host_id)


def wire(message: Message) -> bytes:
    """A message as gRPC sends it."""
    return message.SerializeToString()


def duration_of(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))


def expectation(record: TaskRecord) -> Expected:
    """What the task's options allow. Of a targeted sync this simulator knows only that it is one sync."""
    options = record.message().sync_full
    if options.targeted_sync_resources:
        return Expected()
    return Expected(
        sync_type="resources_only" if options.skip_entitlements_and_grants else "full",
        kinds=frozenset(options.sync_resource_type_ids),
        grants=not options.skip_grants,
        expanded=not options.skip_expand_grants,
    )
