"""What can go wrong between the connector and Buildkite, translated once, and whether another try can help.

The client asks here about every answer that is not 2xx and every exception; it decides nothing itself.
Messages say what was asked and what came, never with what token.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from buildkite_connector.buildkite.body import OBJECT_LIMIT, BodyRefused
from buildkite_connector.buildkite.pagination import refused
from buildkite_connector.buildkite.parsing import PayloadError, complaint
from buildkite_connector.buildkite.settings import API_VARIABLE
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import Proxy, connection_errors
from buildkite_connector.sync.preflight import ScopesMissing
from buildkite_connector.timing.clock import clock_error, retry_after, server_time, wrong_clock

LONGEST_BUILDKITE_WAIT = 3600.0
"""The longest Retry-After of Buildkite that counts, in seconds."""

APP_SETTINGS = "Organization Settings, Integrations, Token Exchange Apps"
"""Where an administrator of the organization finds its token exchange apps."""

LONGEST_COMPLAINT = 200
"""Characters of what Buildkite says that are passed on."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and what its errors say.

    `name`: the endpoint in the words of an error. `target`: what follows the API's URL. `gone`: what a 404 means;
    `meanings`: what other statuses mean here, by Buildkite's reason, where that is something else than for most calls.
    `redactor`: all that a server sent goes through it before it stands in an error. `scope`: what the call needs.
    `organization`: whose window it counts to. `limit`: bytes of the answer; `expected`: the statuses of success.
    `shown`: what stands in spans and logs in place of a target that holds what must not be shown; else empty.
    `pages`: how much memory the answer takes while it is kept, in pages of the REST API.
    `variable`: which one says where the call goes. `changes`: whether it changes something in Buildkite, so that a try
    that failed may have taken effect.
    """

    name: str
    target: str = field(repr=False)
    gone: Exception
    redactor: Redactor
    scope: str = ""
    method: str = "GET"
    organization: str | None = field(default=None, repr=False)
    limit: int = OBJECT_LIMIT
    json: Mapping[str, object] | None = field(default=None, repr=False)
    expected: tuple[int, ...] = (httpx.codes.OK,)
    meanings: Mapping[int, Callable[[str], Exception]] = field(default_factory=dict)
    shown: str = ""
    pages: int = 1
    variable: str = API_VARIABLE
    changes: bool = False

    def quote(self, text: str) -> str:
        return self.redactor.quote(text, LONGEST_COMPLAINT)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Why one try failed. `again`: another may succeed. `wait`: not before so many seconds.

    `refused`: by the rate limit. `unauthorized`: Buildkite does not accept the token. `timed_out`: there was no
    response in time.
    """

    error: Exception
    again: bool = False
    wait: float | None = None
    refused: bool = False
    unauthorized: bool = False
    timed_out: bool = False


def from_exception(error: Exception, call: Call, origin: str, proxy: Proxy | None = None) -> FailedAttempt:
    """A try without an answer, or without all of it. `proxy`: the one that lies between."""
    causes = list(connection_errors.chain_of(error))
    timed_out = isinstance(error, (httpx.TimeoutException, TimeoutError))
    host = urlsplit(origin).hostname or origin
    quote = call.redactor.with_secrets(*proxy.secrets).quote if proxy else call.redactor.quote
    trouble = connection_errors.from_exception(error, host, proxy, lambda text: quote(text, LONGEST_COMPLAINT))
    if trouble is not None:
        return FailedAttempt(
            Failure(
                Reason.BUILDKITE_UNREACHABLE,
                f"{call.name}: expected a response from {origin}, but {trouble.what}. {trouble.advice}",
            ),
            again=trouble.again,
            timed_out=timed_out,
        )
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    again = True
    if tls is not None:
        what = f"TLS failed ({call.quote(getattr(tls, 'reason', '') or str(tls))})"
    elif isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
        what, again = "the request could not be sent", False  # its text may hold what could not
    elif timed_out:
        what = "there was no response in time"
    elif isinstance(error, (httpx.RemoteProtocolError, httpx.DecodingError, httpx.InvalidURL, ValueError)):
        what = "the response was cut off or is not HTTP"
    else:
        what = f"the connection failed ({call.quote(str(causes[-1])) or type(causes[-1]).__name__})"
    return FailedAttempt(
        Failure(
            Reason.BUILDKITE_UNREACHABLE,
            f"{call.name}: expected a response from {origin}, but {what}. Check the network, proxies and "
            "https://www.buildkitestatus.com; the next sync tries again.",
        ),
        again=again,
        timed_out=timed_out,
    )


def from_payload(error: PayloadError, call: Call) -> FailedAttempt:
    """A 200 that does not hold what it should. Broken JSON may be whole the next time; a wrong field stays."""
    return FailedAttempt(
        Failure(
            Reason.BUILDKITE_RESPONSE_INVALID,
            f"{call.name}: the response is not what Buildkite documents: {call.quote(str(error))}. If there is a proxy "
            "in between, check it; otherwise, upgrade the connector.",
        ),
        again=error.broken,
    )


def from_body(error: BodyRefused, call: Call) -> FailedAttempt:
    """A 200 whose body was not read to its end."""
    return FailedAttempt(
        Failure(
            Reason.BUILDKITE_RESPONSE_INVALID,
            f"{call.name}: expected a response as Buildkite documents it, but it {error}. The rest was not read. "
            f"Check {call.variable} and the proxies in between.",
        ),
        again=error.broken,
    )


def from_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes | BodyRefused,
    call: Call,
    *,
    now: datetime,
    token_hint: str = "",
    exchanged: bool = False,
) -> FailedAttempt:
    """An answer other than 200. `now`: the time here, to compare with the answer's dates.

    `token_hint`: what is odd about the token, for when it is refused. `exchanged`: the token came by token exchange.
    """
    said = f"its body {body} and was not read" if isinstance(body, BodyRefused) else call.quote(complaint(body))
    quoted = f" ({said})" if said else ""
    wait = retry_after(headers, now, LONGEST_BUILDKITE_WAIT)
    if status == 429:
        return FailedAttempt(
            Failure(
                Reason.BUILDKITE_RATE_LIMITED,
                f"{call.name}: Buildkite rejects requests because its rate limit is used up{quoted}. "
                "Reduce the use by other tools, or sync less often.",
                retry_after=wait,
            ),
            again=True,
            wait=wait,
            refused=True,
        )
    if status >= 500 or status in (408, 425):
        return FailedAttempt(
            Failure(
                Reason.BUILDKITE_UNAVAILABLE,
                f"{call.name}: expected 200, but Buildkite responded with {status}{quoted}. See "
                "https://www.buildkitestatus.com; the next sync tries again.",
                retry_after=wait,
            ),
            again=True,
            wait=wait,
        )
    if status == 401 and exchanged:
        return FailedAttempt(_new_token_refused(call, quoted), unauthorized=True)
    if status in call.meanings:
        return FailedAttempt(call.meanings[status](said), unauthorized=status == 401)
    failure = _refusal(status, headers, said, quoted, call, now, token_hint)
    if exchanged and status == 403 and isinstance(failure, Failure):
        failure = _denied_to_app(call, quoted, failure)
    return FailedAttempt(failure, unauthorized=status == 401)


def _new_token_refused(call: Call, quoted: str) -> Failure:
    return Failure(
        Reason.TOKEN_REJECTED,
        f"{call.name}: Buildkite does not accept a token that it has just issued to the token exchange app{quoted}. "
        f"The token was revoked, or the app does not allow its use from this address. Check the app ({APP_SETTINGS}).",
        remedy=Remedy.CREDENTIALS,
    )


def _denied_to_app(call: Call, quoted: str, denied: Failure) -> Failure:
    """The same refusal in the words of token exchange."""
    advice = (
        f"Check the IP addresses from which the token exchange app's tokens can be used ({APP_SETTINGS}), and what the "
        "subject can access."
    )
    if isinstance(denied, ScopesMissing):
        told = f"{call.name}: the token exchange app's token lacks the scope {call.scope}{quoted}."
        return ScopesMissing(f"{told} Add it to the app ({APP_SETTINGS}).", denied.missing)
    return Failure(denied.reason, f"{call.name}: Buildkite denies access{quoted}. {advice}", remedy=denied.remedy)


def _refusal(
    status: int, headers: Mapping[str, str], said: str, quoted: str, call: Call, now: datetime, token_hint: str
) -> Exception:
    """An answer that will be the same next time."""
    if 300 <= status < 400:
        to = headers.get("location", "")
        return refused(call.name, f"a redirect ({status})", to, call.redactor, call.variable)
    if status == 401:
        told = f"{call.name}: Buildkite does not accept the API token{quoted}."
        return _token_refused(told, headers, now, token_hint)
    if status == 403 and call.scope and "scope" in said.lower():
        return ScopesMissing(
            f"{call.name}: the Buildkite API token lacks the scope {call.scope}{quoted}. Edit the token in "
            "Buildkite (Personal Settings, API Access Tokens) or use another one.",
            (call.scope,),
        )
    if status == 403:
        return Failure(
            Reason.ACCESS_DENIED,
            f"{call.name}: Buildkite denies access{quoted}. Check the token's allowed IP addresses, its "
            f"Organization Access{f' and the scope {call.scope}' if call.scope else ''}.",
            remedy=Remedy.CREDENTIALS,
        )
    if status == 404:
        return call.gone
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"{call.name}: expected 200, but the response is {status}{quoted}. Check {call.variable} and the "
        "proxies in between.",
    )


def _token_refused(refused: str, headers: Mapping[str, str], now: datetime, token_hint: str) -> Failure:
    said = server_time(headers)
    wrong = wrong_clock(clock_error(said, now, now), "Buildkite's", now) if said is not None else None
    if wrong is not None:
        return Failure(
            Reason.CLOCK_WRONG,
            f"{refused} {wrong} If Buildkite still rejects the token then, it was revoked, has expired or is mistyped.",
        )
    return Failure(
        Reason.TOKEN_REJECTED,
        f"{refused} It was revoked, has expired or is mistyped{token_hint}. Create a new API token in Buildkite and "
        "replace this one.",
        remedy=Remedy.CREDENTIALS,
    )
