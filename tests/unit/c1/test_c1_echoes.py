"""Whatever C1 sends back, in whatever place and form: no credential of the connector gets into a failure or a log."""

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildkite_connector.model.failure import Failure
from unit.hostile.c1_answers import (
    ACCESS_TOKEN,
    CLIENT_SECRET,
    KEY,
    PRIVATE,
    assertion_of,
    good_token,
    next_task,
    token_with,
    whole,
)
from unit.hostile.c1_call_answers import no_task, task, trailers_only
from unit.hostile.c1_server import GOAWAY, CallAnswer, HostileC1, frame
from unit.hostile.http_server import Part
from unit.hostile.measurement import leaks

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded in part": quote,
    "as a form has it": quote_plus,
    "percent-encoded throughout": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in base64 with a name before": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "in base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "in JSON": lambda text: json.dumps(text).replace("/", "\\/"),
    "with blanks between": " ".join,
    "with what cannot be printed between": "\u202e".join,
}
WHOLE = ("client secret", "key", "private key", "access token", "assertion")
credentials = st.tuples(st.sampled_from(WHOLE), st.sampled_from(sorted(FORMS)))
words = st.lists(
    st.one_of(credentials, st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)),
    min_size=2,
    max_size=14,
)
Words = list[str | tuple[str, str]]


class Echo:
    """A C1 that says these words, wherever it is told to, of the credentials that it has seen."""

    def __init__(self, said: Words) -> None:
        self._said = said
        self.assertion = ""

    @property
    def secrets(self) -> dict[str, str]:
        known = (CLIENT_SECRET, KEY, PRIVATE, ACCESS_TOKEN, self.assertion)
        return dict(zip(WHOLE, known, strict=True))

    def text(self) -> str:
        return "".join(each if isinstance(each, str) else FORMS[each[1]](self.secrets[each[0]]) for each in self._said)

    def latin(self) -> bytes:
        return self.text().encode("latin-1", "replace")

    # At the token endpoint: the first request gets a token, for one call; the second gets the words

    def _then(self, make: Callable[[], Iterable[Part]]) -> Callable[[str], Iterable[Part]]:
        def answer(form: str) -> Iterable[Part]:
            is_first, self.assertion = not self.assertion, assertion_of(form)
            return token_with(expires_in=0)(form) if is_first else make()

        return answer

    def token_answers(self) -> dict[str, Callable[[str], Iterable[Part]]]:
        def body(status: str) -> Callable[[], Iterable[Part]]:
            return lambda: whole(json.dumps({"error": self.text(), "access_token": [self.text()]}), status)("")

        makes: dict[str, Callable[[], Iterable[Part]]] = {
            "the body of a 401": body("401 No"),
            "the body of a 500": body("500 No"),
            "the body of a 200": body("200 OK"),
            "the reason": lambda: [b"HTTP/1.1 401 " + self.latin() + b"\r\nContent-Length: 0\r\n\r\n"],
            "the status line": lambda: [self.latin() + b"\r\n\r\n"],
            "a header's name": lambda: [b"HTTP/1.1 401 No\r\n" + self.latin() + b": a\r\n\r\n"],
            "the content coding": lambda: [b"HTTP/1.1 200 OK\r\nContent-Encoding: " + self.latin() + b"\r\n\r\n"],
            "the location": lambda: [b"HTTP/1.1 302 Go\r\nLocation: http://[" + self.latin() + b"\r\n\r\n"],
            "the length": lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: " + self.latin() + b"\r\n\r\n"],
            "the wait": lambda: [b"HTTP/1.1 503 No\r\nRetry-After: " + self.latin() + b"\r\n\r\n"],
            "a chunk's size": lambda: [
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + self.latin() + b"\r\n"
            ],
        }
        return {place: self._then(make) for place, make in makes.items()}

    # In answer to a call

    def token(self, form: str) -> Iterable[Part]:
        self.assertion = assertion_of(form)
        return good_token(form)

    def call_answers(self) -> dict[str, CallAnswer]:
        def details(code: int) -> CallAnswer:
            return lambda stream: trailers_only(stream, code, self.text())

        return {
            "the details": details(14),
            "the details of a refusal": details(7),
            "the words of a farewell": lambda _: [frame(GOAWAY, 0, 0, bytes(7) + b"\x0b" + self.text().encode())],
            "a task's id": task(lambda: {"task": {"id": self.text() or "?"}}),
        }


PLACES = [*Echo([]).token_answers(), *Echo([]).call_answers()]


async def failure_at(place: str, echo: Echo) -> Failure:
    tokens, calls = echo.token_answers(), echo.call_answers()
    server = HostileC1(tokens.get(place, echo.token), calls.get(place, no_task))
    async with server.running() as address, next_task(address) as ask:
        if place in tokens:
            await ask()
        with pytest.raises(Failure) as caught:
            await ask()
    return caught.value


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=words)
async def test_no_credential_that_c1_sends_back_is_shown(
    place: str, said: Words, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    echo = Echo(said)

    failure = await failure_at(place, echo)

    shown = [failure.message, str(failure), repr(failure), repr(failure.args), repr(failure.__cause__)]
    shown += ["".join(traceback.format_exception(failure))]
    shown += [
        f"{record.getMessage()} {record.args!r} {record.exc_text}"
        for record in caplog.records
        if record.name.startswith("buildkite_connector")
        or record.levelno >= logging.WARNING  # as configure_logs has it
    ]
    for name in {each[0] for each in said if isinstance(each, tuple)}:
        secret = echo.secrets[name].rpartition(":")[2]  # what stands before the client secret's key is no secret
        assert [found for text in shown for found in leaks(text, secret)] == []
    assert failure.message.isprintable()
    assert len(failure.message) < 800
