"""Translates what C1 answers, or that it does not answer, into failures with a remedy.

The one place that decides which of C1's gRPC statuses pass with time.
"""

import grpc

from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.hosts import Endpoint
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
"""Refused for what became of the task, which no edit of the resource fixes."""


class CallFailure(Failure):
    """A call that C1 did not carry out. `code`: its google.rpc code."""

    def __init__(self, reason: Reason, message: str, *, code: int, remedy: Remedy = Remedy.RETRY) -> None:
        super().__init__(reason, message, remedy=remedy)
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
    `wrong_clock`: a sentence when this machine's clock is wrong: then the credentials may be right.

    Codes that are not known to be final pass with time, as in the reference client.
    """
    if proxy is not None:
        redactor = redactor.with_secrets(*proxy.secrets)
    said = f"{code.name} ({redactor.quote(details)})" if details else code.name
    refused, number = f"C1 at {endpoint} refused {rpc} with {said}", code.value[0]
    if code in _CLIENT_REFUSED and wrong_clock is not None:
        failure = clock_failure(refused, wrong_clock)
        return CallFailure(failure.reason, failure.message, code=number)
    if code in _CLIENT_REFUSED:
        message = f"{refused}. {ROTATE}"
        return CallFailure(Reason.C1_CLIENT_REJECTED, message, code=number, remedy=Remedy.CREDENTIALS)
    if code in _REQUEST_REFUSED and rpc in _UNDER_A_TASK:
        message = f"{refused}. C1 hands out another task when it needs one."
        return CallFailure(Reason.C1_REQUEST_REJECTED, message, code=number)
    if code in _REQUEST_REFUSED:
        message = (
            f"{refused}. Retrying does not help: check delivery.hostID, and that this connector's version works"
            " with your C1."
        )
        return CallFailure(Reason.C1_REQUEST_REJECTED, message, code=number, remedy=Remedy.EDIT)
    if connecting:
        trouble = connection_errors.from_grpc(details, endpoint.host, proxy, redactor.quote)
        why = f"{said}. The connector retries. If this persists, check DNS, firewall and proxy."
        if trouble is not None:
            why = f"{code.name} ({trouble.what}). {trouble.advice} The connector retries."
        return CallFailure(
            Reason.C1_UNREACHABLE, f"C1 at {endpoint} could not be reached for {rpc}: {why}", code=number
        )
    late = proxy if code is grpc.StatusCode.DEADLINE_EXCEEDED else None
    message = (
        f"C1 at {endpoint} did not complete {rpc}: {said}{connection_errors.by_way_of(late)}. The connector retries."
    )
    return CallFailure(Reason.C1_UNAVAILABLE, message, code=number)


def clock_failure(refused: str, wrong_clock: str) -> Failure:
    """A refusal that a wrong clock explains: the credentials may be right, so it is tried again."""
    return Failure(Reason.CLOCK_WRONG, f"{refused}. {wrong_clock} C1 refuses a client whose clock is wrong.")


def unreached(error: Exception, channel: Channel, redactor: Redactor) -> str:
    """Why an HTTP request to C1 brought no answer, and what to do, in two sentences."""
    proxy = channel.proxy
    if proxy is not None:
        redactor = redactor.with_secrets(*proxy.secrets)
    trouble = connection_errors.from_exception(error, channel.endpoint.host, proxy, redactor.quote)
    if trouble is not None:
        return f"{trouble.what}. {trouble.advice}"
    return f"{redactor.quote(str(error) or type(error).__name__)}. Check DNS, firewall and proxy."
