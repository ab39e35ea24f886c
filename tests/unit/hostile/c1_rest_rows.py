"""C1's rows of the table of hostile answers, those of the REST API: an object is read, or a list."""

import functools
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable

from buildkite_connector.c1 import RestClient
from unit.hostile.c1_answers import (
    ACCESS_TOKEN,
    DEADLINE,
    HURRIED,
    PRIVATE,
    SECRETS,
    after_a_token,
    chunks_of_one_byte,
    dribble,
    each_alone,
    endless,
    endless_header,
    endless_headers,
    endless_hints,
    gzip_bomb,
    head,
    never,
    repeated,
    rest_call,
    whole,
)
from unit.hostile.c1_call_answers import no_task
from unit.hostile.c1_rows import METADATA_ADDRESS
from unit.hostile.c1_server import BROKEN_RECORD, HostileC1, TokenAnswer
from unit.hostile.http_server import Part
from unit.hostile.rows import Bounds, Row

MANY = {f"{number:x}": "" for number in range(40_000)}
SLOW = 18.0
"""Seconds in which half a megabyte comes to a socket on loopback, whose buffer is smaller than one segment there."""


def row(
    name: str,
    outcome: str | None,
    answer: TokenAnswer,
    call: Callable[[RestClient], Awaitable[object]],
    call_timeout: float,
    bounds: Bounds,
) -> Row:
    serve = HostileC1(after_a_token(answer), no_task).running
    operation = functools.partial(rest_call, call=call, call_timeout=call_timeout)
    return Row(f"rest: {name}", serve, operation, outcome, SECRETS, bounds)


def reading(name: str, outcome: str | None, answer: TokenAnswer, *, hurried: bool = False) -> Row:
    """The connector's state is read."""
    bounds, timeout = (Bounds(peak=10.0), HURRIED) if hurried else (Bounds(), DEADLINE)
    return row(name, outcome, answer, lambda client: client.connector("app1", "con1"), timeout, bounds)


def listing(name: str, outcome: str | None, answer: TokenAnswer) -> Row:
    """The app with a marker is looked for."""
    return row(name, outcome, answer, lambda client: client.find_apps("marker"), SLOW, Bounds(ends_within=SLOW))


def connector(**fields: object) -> TokenAnswer:
    return whole(json.dumps({"connectorView": {"connector": {"id": "con1", **fields}}}))


def pages() -> TokenAnswer:
    """Lists of nothing, each with another that follows."""
    numbers = itertools.count()

    def answer(form: str) -> Iterable[Part]:
        return whole(json.dumps({"list": [], "nextPageToken": str(next(numbers))}))(form)

    return answer


def refusal(status: str, text: str) -> TokenAnswer:
    return whole(json.dumps({"code": 7, "message": text}), status)


ROWS: list[Row] = [
    reading("an honest C1", None, connector()),
    listing("an honest list", None, whole('{"list": [], "nextPageToken": ""}')),
    reading("200 without an end", "answered 200 with more than 262144 bytes|did not answer", endless("200 OK")),
    reading("403 without an end", "answered 403 with more than 262144 bytes|did not answer", endless("403 No")),
    reading("a bomb of gzip", "content coding gzip", gzip_bomb),
    reading("a body byte by byte", "did not answer within", dribble, hurried=True),
    reading("chunks of one byte", "did not answer within|with more than", chunks_of_one_byte, hurried=True),
    reading("no answer", "did not answer within", never, hurried=True),
    reading("a redirect", "with 307", whole("", "307 Elsewhere", f"Location: {METADATA_ADDRESS}")),
    reading("HTML", "other than C1 documents", whole("<html>" + "a" * 100_000)),
    reading("HTML in a 404", "answered 404 with a web page", whole("<html>" + "a" * 100_000, "404 No")),
    reading("JSON 100,000 deep", "other than C1 documents", whole('{"connectorView":' * 10_000)),
    reading("a number without an end", "other than C1 documents", whole('{"connectorView":' + "9" * 100_000 + "}")),
    reading("a status of a hundred thousand letters", None, connector(status={"status": "A" * 100_000})),
    reading("an error of a hundred thousand letters", None, connector(status={"lastError": "aé" * 30_000})),
    reading("times out of range", None, connector(status={"startedAt": "9" * 100_000, "completedAt": -(10**300)})),
    reading("an ID that is a credential", None, connector(id=PRIVATE)),
    reading("headers without an end", "could not be reached", endless_headers),
    reading("a header without an end", "could not be reached", endless_header),
    reading("hints without an end", "could not be reached|did not answer within", endless_hints, hurried=True),
    reading("a wait that is no number", "with 503", whole("{}", "503 No", f"Retry-After: {'9' * 5000}")),
    *(
        reading(f"the credentials in a 403, {number}", ": 403", refusal("403 No", f"{each} {each}"))
        for number, each in enumerate(each_alone(""))
    ),
    reading("the credentials in a 500", "with 500", refusal("500 No", repeated(""))),
    reading("the credentials in a 200", "other than C1 documents", whole(json.dumps([repeated("")]))),
    reading("the credentials in the reason", ": 403", lambda _: [head(f"403 {repeated('')}", length=0)]),
    reading("the credentials for a status line", "could not be reached", lambda _: [ACCESS_TOKEN.encode()]),
    reading("the credentials for a coding", "content coding", whole("", "200 OK", f"Content-Encoding: {ACCESS_TOKEN}")),
    reading(
        "the credentials for a location",
        "with 302|could not be reached",
        whole("", "302 Found", f"Location: http://[{ACCESS_TOKEN}"),
    ),
    reading("a TLS record that cannot be read", "could not be reached", lambda _: [BROKEN_RECORD]),
    listing("a list of too many", "other than C1 documents", whole('{"list": [' + "{}," * 170_000 + "{}]}")),
    listing("an app whose ID is lists", None, whole('{"list": [{"id": [' + "[]," * 170_000 + "[]]}]}")),
    listing("an app with many annotations", None, whole(json.dumps({"list": [{"annotations": MANY}]}))),
    listing("more than is asked for", None, whole('{"list": [], "more": [' + "[]," * 170_000 + "[]]}")),
    listing("pages without an end", "more than 400 pages", pages()),
]
