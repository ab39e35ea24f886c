"""Exit codes are gRPC's, as the vendor's SDK has them since v0.25."""

import grpc
import pytest

from buildkite_connector.c1.errors import call_failure
from buildkite_connector.c1.hosts import Endpoint
from buildkite_connector.cli.exit import exit_code
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor


@pytest.mark.parametrize(
    "code", [each for each in grpc.StatusCode if each is not grpc.StatusCode.OK], ids=lambda code: code.name
)
def test_what_c1_said_is_the_exit_code(code: grpc.StatusCode) -> None:
    failure = call_failure("Hello", Endpoint("acme.conductor.one"), code, "", Redactor([]), connecting=False)
    assert exit_code(failure) == code.value[0]


@pytest.mark.parametrize(
    ("reason", "remedy", "code"),
    [
        (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS, 16),
        (Reason.TOKEN_REJECTED, Remedy.CREDENTIALS, 16),
        (Reason.TOKEN_SCOPE_MISSING, Remedy.CREDENTIALS, 7),
        (Reason.ACCESS_DENIED, Remedy.CREDENTIALS, 7),
        (Reason.CLIENT_ID_INVALID, Remedy.CREDENTIALS, 3),
        (Reason.CLIENT_SECRET_INVALID, Remedy.CREDENTIALS, 3),
        (Reason.SPEC_INVALID, Remedy.EDIT, 3),
        (Reason.CLOCK_WRONG, Remedy.RETRY, 9),
        (Reason.ORGANIZATION_AMBIGUOUS, Remedy.EDIT, 9),
        (Reason.C1_ACCESS_DENIED, Remedy.CREDENTIALS, 7),
        (Reason.C1_NOT_FOUND, Remedy.EDIT, 9),
        (Reason.C1_CONFLICT, Remedy.RETRY, 9),
        (Reason.WORKLOAD_IDENTITY_REJECTED, Remedy.CREDENTIALS, 16),
        (Reason.SYNC_TIMEOUT, Remedy.RETRY, 4),
        (Reason.BUILDKITE_UNREACHABLE, Remedy.RETRY, 14),
        (Reason.STORAGE_FAILED, Remedy.RETRY, 2),
        (Reason.INTERNAL_ERROR, Remedy.RETRY, 2),
    ],
)
def test_every_other_failure_has_the_code_that_c1_would_be_told(reason: Reason, remedy: Remedy, code: int) -> None:
    assert exit_code(Failure(reason, "x", remedy=remedy)) == code


@pytest.mark.parametrize("reason", list(Reason))
def test_no_failure_ends_with_0(reason: Reason) -> None:
    assert exit_code(Failure(reason, "x")) > 0
