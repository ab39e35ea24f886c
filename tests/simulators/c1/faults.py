"""What goes wrong at the simulated C1, on demand: a script of faults, each met by the next calls of its kind."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

TOKEN = "Token"
"""The token endpoint's name among the rpcs."""

BATON_RPCS = ("Hello", "GetTask", "GetTasks", "Heartbeat", "UploadAsset", "FinishTask", "StartDebugging")
REST_RPCS = (
    "Introspect",
    *("ListApps", "CreateApp", "GetApp", "UpdateApp", "DeleteApp"),
    *("ListConnectors", "CreateConnector", "GetConnector", "DeleteConnector"),
    *("ForceSync", "PauseConnector", "ResumeConnector"),
    *("CreateCredential", "GetCredential", "RevokeCredential"),
)
"""This simulator's names for the calls of the REST API."""

RPCS = (TOKEN, *BATON_RPCS, *REST_RPCS)


class Action(StrEnum):
    """What befalls a call."""

    ERROR = "error"
    """gRPC: ends with `code` and `message`; Token and REST: answers `status` with `body` and `headers`."""
    STALL = "stall"
    """No answer until the caller gives up or the faults are cleared."""
    DROP = "drop"
    """The connection is reset."""
    CHECKSUM = "checksum"
    """UploadAsset: the checksum is found wrong."""
    LATE = "late"
    """REST: the call's own answer comes after `delay`. It takes effect then, whether or not its caller still waits, or
    at once where it is `carried_out`."""
    ENDLESS = "endless"
    """REST and Token: `status` and a body that does not end; `delay` between its pieces."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`times`: how many calls it befalls (None: all until cleared).

    `carried_out`: the call takes effect first, and only its answer is lost.
    `after_bytes`: UploadAsset: strikes once this much of the file has come.
    """

    rpc: str
    action: Action = Action.ERROR
    times: int | None = 1
    code: str = "UNAVAILABLE"
    message: str = "a scripted fault"
    carried_out: bool = False
    after_bytes: int = 0
    status: int = 500
    body: str = '{"error":"server_error"}'
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0

    def __post_init__(self) -> None:
        if self.rpc not in RPCS:
            raise ValueError(f"rpc: expected one of {', '.join(RPCS)}, got {self.rpc!r}")


class FaultScript:
    """Faults still to come. Each rpc meets its own in the order in which they were added."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []
        self._cleared = asyncio.Event()

    def add(self, fault: Fault) -> None:
        self._pending.append(fault)

    def take(self, rpc: str) -> Fault | None:
        """The fault that befalls this call of `rpc`, counted down."""
        for index, fault in enumerate(self._pending):
            if fault.rpc != rpc:
                continue
            if fault.times is not None:
                left = fault.times - 1
                self._pending[index : index + 1] = [replace(fault, times=left)] if left > 0 else []
            return fault
        return None

    def clear(self) -> None:
        """No more faults; calls that stall end."""
        self._pending.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()

    async def cleared(self) -> None:
        await self._cleared.wait()
