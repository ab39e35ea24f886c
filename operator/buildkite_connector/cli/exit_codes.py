"""Exit codes of service mode and of the command without a sub-command: gRPC's, as the vendor's SDK has them (v0.25)."""

from buildkite_connector.c1.errors import CallFailure
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import Code
from buildkite_connector.tasks.outcomes import outcome_of

CANCELLED = int(Code.CANCELLED)
UNKNOWN = 2
"""gRPC's UNKNOWN: whatever has no code of its own, wrong flags among it."""

_CODES = {
    Reason.SPEC_INVALID: Code.INVALID_ARGUMENT,
    Reason.CLIENT_ID_INVALID: Code.INVALID_ARGUMENT,
    Reason.CLIENT_SECRET_INVALID: Code.INVALID_ARGUMENT,
}
_OURS = frozenset({Reason.STORAGE_FAILED, Reason.SNAPSHOT_INVALID, Reason.INTERNAL_ERROR})


def exit_code(failure: Failure) -> int:
    """C1's own code where C1 gave one, else the code that C1 would be told; never 0."""
    if failure.reason is Reason.CLOCK_WRONG:
        return int(Code.FAILED_PRECONDITION)
    if isinstance(failure, CallFailure):
        return failure.code or UNKNOWN
    if failure.reason in _OURS:
        return UNKNOWN
    return int(_CODES.get(failure.reason) or outcome_of(failure).code) or UNKNOWN
