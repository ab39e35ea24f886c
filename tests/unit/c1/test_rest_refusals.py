"""Each refusal of each call of C1's REST API: one sentence, its reason, and no credential in anything that is shown."""

import json
import logging
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from buildkite_connector.c1 import rest
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Work
from buildkite_connector.model.redactor import PLACEHOLDER
from buildkite_connector.model.spec import C1Access
from fakes.task_ports import Records
from harness.examples import pairs
from simulators.c1.server import C1Simulator
from unit.c1.rest_setup import CALLS, at_a_hostile_c1, rest_client, said
from unit.hostile.c1_answers import ACCESS_TOKEN, KEY, SECRETS, after_a_token, endless, head, never, whole
from unit.hostile.c1_server import TokenAnswer
from unit.hostile.http_server import Part

ECHO = said(f"no {ACCESS_TOKEN} there or {KEY} here")
"""Every refusal repeats what C1 got, where it has a body."""
SHOWN = f"(no {PLACEHOLDER} there or {PLACEHOLDER} here)"
HTML = f"<html>{ACCESS_TOKEN}</html>"

ROLE = (
    "The client's user or service principal probably lacks the role {role} in C1, or the credential is limited to "
    "other roles."
)
NO_APP = "C1 does not have this app, or the client cannot see it: check the app ID."
CLIENT = (
    "Check in C1 that this client of the REST API still exists and has not expired; otherwise, create another and "
    "replace the client ID and secret."
)
AGAIN = "The connector retries. If this persists, check that the client ID's host is your C1 tenant's."
TENANT = "Check that the client ID's host is your C1 tenant's, and that no proxy answers in its place."
VERSION = "If this persists, check the IDs, and that this connector's version works with your C1."
SUBJECT = "{c1}, asked to {words},"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`sentence`: with {c1}, {words} and {role} of the call."""

    answer: TokenAnswer
    reason: Reason
    remedy: Remedy
    sentence: str
    retry_after: float | None = None
    call_timeout: float = 10.0


def cut_off(_: str) -> Iterable[Part]:
    return [head("200 OK", length=1000), b'{"list": [']


def dribble(_: str) -> Iterator[Part]:
    yield head("200 OK", length=10_000)
    while True:
        yield b" "
        yield 0.05


def passing(status: str, *fields: str) -> tuple[TokenAnswer, Reason, Remedy, str]:
    sentence = f"{{c1}} answered the request to {{words}} with {status[:3]} {SHOWN}. {AGAIN}"
    return whole(ECHO, status, *fields), Reason.C1_UNAVAILABLE, Remedy.RETRY, sentence


def no_answer(answer: TokenAnswer, what: str, call_timeout: float = 10.0) -> Refusal:
    return Refusal(answer, Reason.C1_UNAVAILABLE, Remedy.RETRY, f"{SUBJECT} {what}", call_timeout=call_timeout)


REFUSALS = {
    "400": Refusal(
        whole(ECHO, "400 No"),
        Reason.C1_REQUEST_REJECTED,
        Remedy.RETRY,
        f"{{c1}} refused the request to {{words}}: 400 {SHOWN}. {VERSION}",
    ),
    "401": Refusal(
        whole(ECHO, "401 No"),
        Reason.C1_CLIENT_REJECTED,
        Remedy.CREDENTIALS,
        f"{{c1}} refused the request to {{words}}: 401 {SHOWN}. {CLIENT}",
    ),
    "403": Refusal(
        whole(ECHO, "403 No"),
        Reason.C1_ACCESS_DENIED,
        Remedy.CREDENTIALS,
        f"{{c1}} refused the request to {{words}}: 403 {SHOWN}. {ROLE}",
    ),
    "403 without a message": Refusal(
        whole("", "403 No"),
        Reason.C1_ACCESS_DENIED,
        Remedy.CREDENTIALS,
        f"{{c1}} refused the request to {{words}}: 403. {ROLE}",
    ),
    "409": Refusal(
        whole(ECHO, "409 No"),
        Reason.C1_CONFLICT,
        Remedy.RETRY,
        f"{{c1}} refused the request to {{words}}: 409 {SHOWN}. The connector asks again later.",
    ),
    "429 with seconds": Refusal(*passing("429 No", "Retry-After: 17"), 17.0),
    "429 with too many seconds": Refusal(*passing("429 No", "Retry-After: 999999"), 3600.0),
    "429 with nonsense": Refusal(*passing("429 No", "Retry-After: soon")),
    "500": Refusal(*passing("500 No")),
    "503 with seconds": Refusal(*passing("503 No", "Retry-After: 5"), 5.0),
    "a redirect": Refusal(*passing("302 Found", "Location: http://169.254.169.254/")),
    "418": Refusal(
        whole("[]", "418 No"),
        Reason.C1_REQUEST_REJECTED,
        Remedy.RETRY,
        f"{{c1}} refused the request to {{words}}: 418. {VERSION}",
    ),
    "200 in HTML": no_answer(whole(HTML), f"answered with something other than C1 documents. {TENANT}"),
    "200 that is a list": no_answer(whole("[]"), f"answered with something other than C1 documents. {TENANT}"),
    "200 that is deep": no_answer(
        whole('{"app":' * 2_500), f"answered with something other than C1 documents. {TENANT}"
    ),
    "401 in HTML": no_answer(whole(HTML, "401 No"), f"answered 401 with a web page. {TENANT}"),
    "404 in HTML": no_answer(whole(f"\n {HTML}", "404 No"), f"answered 404 with a web page. {TENANT}"),
    "502 in HTML": no_answer(whole(HTML, "502 No"), f"answered 502 with a web page. {TENANT}"),
    "200 without an end": no_answer(
        endless("200 OK"), f"answered 200 with more than {{limit}} bytes, which is the limit. {AGAIN}"
    ),
    "403 without an end": no_answer(
        endless("403 No"), f"answered 403 with more than {{limit}} bytes, which is the limit. {AGAIN}"
    ),
    "200 in gzip": no_answer(
        whole(ECHO, "200 OK", "Content-Encoding: gzip"),
        f"answered in the content coding gzip, although the request asked for none. {AGAIN}",
    ),
    "200 cut off": Refusal(
        cut_off,
        Reason.C1_UNREACHABLE,
        Remedy.RETRY,
        f"{SUBJECT} could not be reached: peer closed connection without sending complete message body (received 10 "
        "bytes, expected 1000). Check DNS, firewall and proxy.",
    ),
    "no answer": no_answer(never, "did not answer within 0.4 s. The connector retries.", 0.4),
    "200 byte by byte": no_answer(dribble, "did not answer within 0.4 s. The connector retries.", 0.4),
}


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger there is, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.mark.parametrize(("name", "refused"), pairs(CALLS, REFUSALS, one_in=4))
async def test_a_refusal_is_one_sentence_without_credentials(
    name: str, refused: str, shown: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "LONGEST_PAGE", 40_000)
    monkeypatch.setattr(rest, "LONGEST_OBJECT", 20_000)
    call, refusal, records = CALLS[name], REFUSALS[refused], Records()
    answer = after_a_token(refusal.answer)
    async with at_a_hostile_c1(answer, call_timeout=refusal.call_timeout, observer=records) as (client, c1):
        with pytest.raises(Failure) as caught:
            await call.make(client)
    failure = caught.value
    limit = 40_000 if name in {"apps", "connectors"} else 20_000
    message = refusal.sentence.format(c1=c1, words=call.words, role=call.role, limit=limit)
    if failure.reason is Reason.C1_ACCESS_DENIED and "app " in call.words:
        message += " Otherwise, check the app ID and the connector ID."
    assert failure.message == message
    assert (failure.reason, failure.remedy) == (refusal.reason, refusal.remedy)
    assert failure.retry_after == refusal.retry_after
    told = [record.getMessage() + repr(record.args) for record in shown.records]
    told += [failure.message, repr(failure), "".join(traceback.format_exception(failure)), repr(records.facts)]
    assert any("auth/v1/token" in text for text in told), "the HTTP client's own log must be among what is searched"
    assert not [secret for secret in SECRETS for text in told if secret in text]
    kind, facts = records.facts[0]
    assert (kind, facts["method"], facts["call"]) == (Work.C1_REST.value, call.method, name)


@pytest.mark.parametrize("name", CALLS)
async def test_an_honest_answer_is_taken(name: str) -> None:
    call, records = CALLS[name], Records()
    async with at_a_hostile_c1(after_a_token(whole(json.dumps(call.good))), observer=records) as (client, _):
        await call.make(client)
    assert records.facts[0] == (Work.C1_REST.value, {"method": call.method, "call": name, "status": 200})


async def test_a_date_to_wait_for_is_honoured() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    answer = after_a_token(whole("{}", "429 No", f"Retry-After: {date}"))
    async with at_a_hostile_c1(answer) as (client, _):
        with pytest.raises(Failure) as caught:
            await client.force_sync("app1", "con1")
    assert caught.value.retry_after is not None
    assert 80 < caught.value.retry_after <= 90


NOT_FOUND = whole(said("connector not found"), "404 No")
LIST = '{"list": [{"connector": {"id": "other"}}], "nextPageToken": "2"}'


@pytest.mark.parametrize("name", ["connector", "force_sync", "create_credential"])
@pytest.mark.parametrize(
    ("listed", "missing"),
    [
        (whole(said("app not found"), "404 No"), "C1 does not have app app1 either: correct the app ID."),
        (whole(LIST), "App app1 has connectors, but not con1: correct the connector ID."),
        (
            whole('{"list": []}'),
            "App app1 does not show any connector: correct the app ID, or the connector ID.",
        ),
        (whole(said("no"), "403 No"), "Correct the app ID or the connector ID."),
        (whole(HTML, "404 No"), "Correct the app ID or the connector ID."),
    ],
    ids=["no app", "others", "none", "denied", "a web page"],
)
async def test_a_connector_that_is_not_found_is_looked_for_once(name: str, listed: TokenAnswer, missing: str) -> None:
    call, records = CALLS[name], Records()
    async with at_a_hostile_c1(after_a_token(NOT_FOUND, listed), observer=records) as (client, c1):
        with pytest.raises(Failure) as caught:
            await call.make(client)
    assert caught.value.message == f"{c1} refused the request to {call.words}: 404 (connector not found). {missing}"
    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_NOT_FOUND, Remedy.EDIT)
    assert [facts["call"] for work, facts in records.facts if work == Work.C1_REST.value] == [name, "connectors"]


@pytest.mark.parametrize("name", ["connectors", "create_connector"])
async def test_an_app_that_is_not_found_is_not_looked_for(name: str) -> None:
    call = CALLS[name]
    async with at_a_hostile_c1(after_a_token(NOT_FOUND)) as (client, c1):
        with pytest.raises(Failure) as caught:
            await call.make(client)
    assert caught.value.message == f"{c1} refused the request to {call.words}: 404 (connector not found). {NO_APP}"
    assert caught.value.reason is Reason.C1_NOT_FOUND


async def test_a_credential_that_is_not_found_is_gone() -> None:
    async with at_a_hostile_c1(after_a_token(NOT_FOUND)) as (client, _):
        assert await client.credential("app1", "con1", "cred1") is None
        await client.revoke_credential("app1", "con1", "cred1")


@pytest.mark.parametrize("rpc", ["ForceSync", "Token"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_client_of_a_connector_is_told_to_be_one(sim: C1Simulator, rpc: str, status: int) -> None:
    own = sim.register_client()
    if rpc == "Token":
        sim.answer_token(status, "{}", times=None)
    else:
        sim.answer_rest(rpc, status, times=None)
    async with rest_client(sim, access=C1Access(own.client_id, own.client_secret)) as client:
        with pytest.raises(Failure) as caught:
            await client.force_sync("app1", "con1")
    assert caught.value.remedy is Remedy.CREDENTIALS
    assert caught.value.message.endswith(
        f"{status}. The client ID ends with /ccc: this is a connector's own client. C1's REST API needs a service "
        "principal's credential or a personal API key: create one, and replace the client ID and secret."
    )


async def test_the_client_of_a_connector_may_ask_where_c1_lets_it(sim: C1Simulator) -> None:
    own = sim.register_client()
    sim.answer_rest("ForceSync", 200, "{}")
    async with rest_client(sim, access=C1Access(own.client_id, own.client_secret)) as client:
        await client.force_sync("app1", "con1")
