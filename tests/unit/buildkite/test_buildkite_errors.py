"""What each answer and exception means, and whether asking again can help: decided in one place."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from buildkite_connector.buildkite.errors import Call, from_exception, from_status
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.sync.preflight import ScopesMissing

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
GONE = Failure(Reason.ORGANIZATION_NOT_FOUND, "gone", remedy=Remedy.EDIT)
CALL = Call(
    "GET /organizations/acme/teams (page 1)", "/organizations/acme/teams?page=1", GONE, Redactor(), "read_teams"
)


def answered(status: int, body: bytes = b"", retry: str = "") -> Failure:
    trouble = from_status(status, {"retry-after": retry}, body, CALL, now=NOW)
    assert isinstance(trouble.error, Failure)
    return trouble.error


@pytest.mark.parametrize(
    ("status", "reason", "remedy", "again"),
    [
        (301, Reason.BUILDKITE_LINK_REFUSED, Remedy.RETRY, False),
        (400, Reason.BUILDKITE_RESPONSE_INVALID, Remedy.RETRY, False),
        (401, Reason.TOKEN_REJECTED, Remedy.CREDENTIALS, False),
        (403, Reason.ACCESS_DENIED, Remedy.CREDENTIALS, False),
        (404, Reason.ORGANIZATION_NOT_FOUND, Remedy.EDIT, False),
        (408, Reason.BUILDKITE_UNAVAILABLE, Remedy.RETRY, True),
        (422, Reason.BUILDKITE_RESPONSE_INVALID, Remedy.RETRY, False),
        (429, Reason.BUILDKITE_RATE_LIMITED, Remedy.RETRY, True),
        (500, Reason.BUILDKITE_UNAVAILABLE, Remedy.RETRY, True),
        (502, Reason.BUILDKITE_UNAVAILABLE, Remedy.RETRY, True),
        (503, Reason.BUILDKITE_UNAVAILABLE, Remedy.RETRY, True),
        (504, Reason.BUILDKITE_UNAVAILABLE, Remedy.RETRY, True),
        (204, Reason.BUILDKITE_RESPONSE_INVALID, Remedy.RETRY, False),
    ],
)
def test_a_status_has_its_reason_and_its_remedy(status: int, reason: Reason, remedy: Remedy, again: bool) -> None:
    trouble = from_status(status, {}, b"", CALL, now=NOW)
    assert isinstance(trouble.error, Failure)
    assert (trouble.error.reason, trouble.error.remedy, trouble.again) == (reason, remedy, again)


def test_a_403_about_a_scope_names_the_scope_of_the_endpoint() -> None:
    failure = answered(403, b'{"message": "Your access token doesn\'t have the right scope"}')
    assert isinstance(failure, ScopesMissing)
    assert failure.missing == ("read_teams",)
    assert "read_teams" in failure.message


def test_any_other_403_points_to_the_allowlist() -> None:
    assert "allowed IP addresses" in answered(403, b'{"message": "Forbidden"}').message


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_what_buildkite_says_is_passed_on(status: int) -> None:
    message = answered(status, b'{"message": "Because of the \\u001b[31mmoon"}').message
    assert "Because of the [31mmoon" in message
    assert CALL.name in message


@pytest.mark.parametrize("status", [429, 503])
def test_when_to_come_back_is_passed_on(status: int) -> None:
    assert answered(status, retry="17").retry_after == 17


EXCEPTIONS = [
    error
    for error in (*httpx.TransportError.__subclasses__(), *httpx.NetworkError.__subclasses__())
    if not error.__subclasses__()
]


@pytest.mark.parametrize("kind", [*EXCEPTIONS, httpx.DecodingError, TimeoutError, ConnectionResetError])
def test_every_exception_of_the_transport_means_unreachable(kind: type[Exception]) -> None:
    trouble = from_exception(kind("x"), CALL, "https://api.buildkite.com/v2")
    assert isinstance(trouble.error, Failure)
    assert trouble.error.reason is Reason.BUILDKITE_UNREACHABLE
    assert trouble.again is (kind is not httpx.UnsupportedProtocol)


def test_a_timeout_is_told_from_a_refused_connection() -> None:
    assert from_exception(httpx.ReadTimeout("x"), CALL, "").timed_out
    assert from_exception(TimeoutError(), CALL, "").timed_out
    assert not from_exception(httpx.ConnectError("x"), CALL, "").timed_out


def test_what_could_not_be_sent_is_not_shown() -> None:
    error = httpx.LocalProtocolError("Illegal header value b'Bearer secret'")
    trouble = from_exception(error, CALL, "https://api.buildkite.com/v2")
    assert "secret" not in str(trouble.error)
    assert not trouble.again


def test_a_certificate_problem_is_found_behind_the_librarys_exception() -> None:
    error = httpx.ConnectError("x")
    error.__cause__ = OSError("y")
    error.__cause__.__context__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    trouble = from_exception(error, CALL, "https://api.buildkite.com/v2")
    assert "SSL_CERT_FILE" in str(trouble.error)
    assert not trouble.again


def test_a_broken_tls_connection_is_worth_another_try() -> None:
    error = httpx.ReadError("x")
    error.__cause__ = ssl.SSLError(1, "decryption failed")
    trouble = from_exception(error, CALL, "https://api.buildkite.com/v2")
    assert "TLS failed" in str(trouble.error)
    assert trouble.again


@pytest.mark.parametrize("seconds", [-600, -90, 90, 600])
def test_a_refused_token_while_the_clock_is_wrong_blames_the_clock_first(seconds: int) -> None:
    date = format_datetime(NOW - timedelta(seconds=seconds), usegmt=True)
    failure = from_status(401, {"date": date}, b"", CALL, now=NOW).error
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.remedy) == (Reason.CLOCK_WRONG, Remedy.RETRY)
    told = f"{seconds - 1} s ahead of" if seconds > 0 else f"{-seconds} s behind"  # a Date is cut to whole seconds
    assert f"{told} Buildkite's" in failure.message


@pytest.mark.parametrize("date", ["", "soon", format_datetime(NOW - timedelta(seconds=50), usegmt=True)])
def test_a_refused_token_while_the_clock_is_right_or_unknown_is_rejected(date: str) -> None:
    failure = from_status(401, {"date": date}, b"", CALL, now=NOW, token_hint=": odd").error
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.TOKEN_REJECTED
    assert "is mistyped: odd." in failure.message
