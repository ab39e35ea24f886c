"""What C1 says when it does not do as asked, as failures that a person can act on.

The one place that decides which of C1's gRPC statuses pass with time.
"""

import grpc

from buildkite_connector.c1.endpoint import Endpoint
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import Proxy, connection_errors

ROTATE = (
    "Check that the connector still exists in C1, rotate its credentials there and replace the client ID and secret "
    "with the new ones."
)

_CLIENT_REFUSED = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
_REQUEST_REFUSED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
    }
)
_UNDER_A_TASK = frozenset({"Heartbeat", "UploadAsset", "FinishTask"})
"""Refused for what became of the task, which no edit of the resource mends."""


class CallFailure(Failure):
    """A call that C1 did not carry out. `code`: its google.rpc code."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        code: int,
        remedy: Remedy = Remedy.RETRY,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason, message, remedy=remedy, retry_after=retry_after)
        self.code = code


def call_failure(
    rpc: str,
    endpoint: Endpoint,
    code: grpc.StatusCode,
    details: str,
    redactor: Redactor,
    *,
    connecting: bool,
    proxy: Proxy | None = None,
    wrong_clock: str | None = None,
) -> CallFailure:
    """What a call's status means. `redactor` knows the credentials that C1 has seen.

    `connecting`: no connection to C1 could be made so far. `proxy`: the one that lies between.
    `wrong_clock`: a sentence when this machine's clock is wrong.

    Codes that are not known to be final pass with time, as in the reference client.
    """
    if proxy is not None:
        redactor = redactor.with_secrets(*proxy.secrets)
    if code in _CLIENT_REFUSED and wrong_clock is not None:
        meaning = clock_failure(f"C1 at {endpoint} refused {rpc} with {_said(code, details, redactor)}", wrong_clock)
    else:
        meaning = _meaning(rpc, endpoint, code, details, redactor, proxy, connecting=connecting)
    return CallFailure(meaning.reason, meaning.message, code=code.value[0], remedy=meaning.remedy)


def _meaning(
    rpc: str,
    endpoint: Endpoint,
    code: grpc.StatusCode,
    details: str,
    redactor: Redactor,
    proxy: Proxy | None,
    *,
    connecting: bool,
) -> Failure:
    said = _said(code, details, redactor)
    if code in _CLIENT_REFUSED:
        return Failure(
            Reason.C1_CLIENT_REJECTED,
            f"C1 at {endpoint} refused {rpc} with {said}. {ROTATE}",
            remedy=Remedy.CREDENTIALS,
        )
    if code in _REQUEST_REFUSED:
        refused = f"C1 at {endpoint} refused {rpc} with {said}."
        if rpc in _UNDER_A_TASK:
            return Failure(Reason.C1_REQUEST_REJECTED, f"{refused} C1 hands out another task when it wants one.")
        return Failure(
            Reason.C1_REQUEST_REJECTED,
            f"{refused} Asking again cannot help: check delivery.hostID, and that this connector's version suits "
            "your C1.",
            remedy=Remedy.EDIT,
        )
    if connecting:
        unreached = f"C1 at {endpoint} could not be reached for {rpc}"
        trouble = connection_errors.from_grpc(details, endpoint.host, proxy, redactor.quote)
        if trouble is not None:
            why = f"{code.name} ({trouble.what}). {trouble.advice} It is tried again."
            return Failure(Reason.C1_UNREACHABLE, f"{unreached}: {why}")
        return Failure(
            Reason.C1_UNREACHABLE,
            f"{unreached}: {said}. It is tried again; should this last, check DNS, firewall and proxy.",
        )
    late = proxy if code is grpc.StatusCode.DEADLINE_EXCEEDED else None
    return Failure(
        Reason.C1_UNAVAILABLE,
        f"C1 at {endpoint} did not carry out {rpc}: {said}{connection_errors.by_way_of(late)}. It is tried again.",
    )


def clock_failure(refused: str, wrong_clock: str) -> Failure:
    """A refusal that a wrong clock explains: the credentials may be right, so it is tried again."""
    return Failure(Reason.CLOCK_WRONG, f"{refused}. {wrong_clock} C1 refuses a client whose clock is wrong.")


def _said(code: grpc.StatusCode, details: str, redactor: Redactor) -> str:
    return f"{code.name} ({redactor.quote(details)})" if details else code.name
