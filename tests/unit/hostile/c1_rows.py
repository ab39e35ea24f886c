"""C1's rows of the table of hostile answers: the token endpoint's, and those of gRPC calls."""

import base64
import functools
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

from unit.hostile.c1_answers import (
    ACCESS_TOKEN,
    GOOD_TOKEN,
    HURRIED,
    SECRETS,
    bomb,
    chunks_of_one_byte,
    cookies,
    dribble,
    each_alone,
    echo_in_body,
    echo_in_coding,
    echo_in_garbage,
    echo_in_location,
    echo_in_reason,
    endless,
    endless_header,
    endless_headers,
    endless_hints,
    good_token,
    gzip_bomb,
    head,
    never,
    next_task,
    repeated,
    token_with,
    whole,
)
from unit.hostile.c1_call_answers import (
    GZIP_OK,
    answered,
    data_over_the_window,
    endless_metadata,
    endless_trailers,
    floods,
    garbage,
    go_away,
    message_without_end,
    messages_without_end,
    no_task,
    refused,
    reset,
    sync_task,
    task,
)
from unit.hostile.c1_server import BROKEN_RECORD, CallAnswer, HostileC1, TokenAnswer
from unit.hostile.http_server import Part
from unit.hostile.rows import Bounds, Row

METADATA_ADDRESS = "http://169.254.169.254/latest/meta-data/iam/"


def hostile(
    name: str,
    outcome: str | None,
    *,
    prepare: Callable[[], object] = dict,
    token: TokenAnswer = good_token,
    call: CallAnswer = no_task,
    plain: Callable[[], Iterable[Part]] | None = None,
    hurried: bool = False,
) -> Row:
    def serve() -> AbstractAsyncContextManager[str]:
        prepare()  # what takes longer to make than the product waits
        return HostileC1(token, call, plain).running()

    if hurried:
        if token is good_token:
            operation = functools.partial(next_task, poll_timeout=HURRIED)
        else:
            operation = functools.partial(next_task, token_timeout=HURRIED)
        return Row(name, serve, operation, outcome, SECRETS, Bounds(peak=10.0))
    return Row(name, serve, next_task, outcome, SECRETS)


EMPTY_ITEM = b"\x22\x00"
"""Field 4 of GetTask's answer, an annotation, with nothing in it."""


LONGEST = {"seconds": 315_576_000_000, "nanos": 999_999_999}


SHORTEST = {"seconds": -315_576_000_000, "nanos": -999_999_999}


ROWS: list[Row] = [
    hostile("an honest C1", None),
    hostile("token: 200 without an end", "answered 200 with more than 32768 bytes", token=endless("200 OK")),
    hostile("token: 401 without an end", "answered 401 with more than 32768 bytes", token=endless("401 No")),
    hostile("token: 500 without an end", "answered 500 with more than 32768 bytes", token=endless("500 No")),
    hostile("token: a bomb of gzip", "content coding gzip", token=gzip_bomb, prepare=bomb),
    hostile("token: a body byte by byte", "did not answer within", token=dribble, hurried=True),
    hostile(
        "token: chunks of one byte",
        "with more than 32768 bytes|did not answer within",
        token=chunks_of_one_byte,
        hurried=True,
    ),
    hostile("token: no answer", "did not answer within", token=never, hurried=True),
    hostile(
        "token: a redirect to the metadata address",
        "answered 307 where 200 was expected",
        token=whole("", "307 Elsewhere", f"Location: {METADATA_ADDRESS}"),
    ),
    hostile("token: HTML", "something other than a token", token=whole("<html>" + "a" * 30_000)),
    hostile("token: JSON 100,000 deep", "more than 32768 bytes", token=whole("[" * 100_000)),
    hostile("token: JSON 30,000 deep", "something other than a token", token=whole('{"access_token":' + "[" * 30_000)),
    hostile("token: a huge token", "token of 20000 characters", token=token_with(access_token="a" * 20_000)),
    hostile("token: a number without an end", "other than a token", token=whole('{"expires_in":' + "9" * 30_000 + "}")),
    hostile("token: a lifetime of 1e308 s", None, token=token_with(expires_in=1e308)),
    hostile("token: a lifetime before its time", None, token=token_with(expires_in=-(10**18))),
    hostile("token: a lifetime that is true", "something other than a token", token=token_with(expires_in=True)),
    hostile("token: headers without an end", "could not be reached", token=endless_headers),
    hostile("token: a header without an end", "could not be reached", token=endless_header),
    hostile(
        "token: hints without an end", "could not be reached|did not answer within", token=endless_hints, hurried=True
    ),
    hostile("token: hundreds of cookies", "answered 500", token=cookies),
    hostile("token: credentials in a 401", "refused the client ID and secret with 401", token=echo_in_body("401 No")),
    hostile("token: credentials in a 500", "answered 500", token=echo_in_body("500 No")),
    hostile("token: credentials in a 200", "something other than a token", token=echo_in_body("200 OK")),
    hostile("token: credentials in the reason", "with 401", token=echo_in_reason),
    hostile("token: credentials for a status line", "could not be reached", token=echo_in_garbage),
    hostile("token: credentials for a coding", "content coding", token=echo_in_coding),
    hostile("token: credentials for a location", "answered 302|could not be reached", token=echo_in_location),
    hostile("token: a TLS record that cannot be read", "could not be reached", token=lambda _: [BROKEN_RECORD]),
    hostile(
        "token: a body that ends in such a record",
        "could not be reached",
        token=lambda _: [head(length=1000), b"{", BROKEN_RECORD],
    ),
    hostile("port: garbage in place of TLS", "could not be reached", plain=lambda: [bytes(range(256)) * 1000]),
    hostile("port: plain HTTP", "could not be reached", plain=lambda: whole(json.dumps(GOOD_TOKEN))("")),
    hostile("port: no handshake", "could not be reached|did not answer within", plain=never),
    hostile("port: closed at once", "could not be reached", plain=list),
    hostile("call: an answer one byte too long", "RESOURCE_EXHAUSTED", call=answered(lambda: bytes((1 << 19) + 1))),
    hostile("call: an answer of 100 MB", "RESOURCE_EXHAUSTED|DEADLINE", call=answered(lambda: bytes(100 << 20))),
    hostile("call: an answer without an end", "RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED", call=message_without_end),
    hostile(
        "call: answers without an end",
        "INTERNAL|UNIMPLEMENTED|DEADLINE_EXCEEDED",
        call=messages_without_end,
        hurried=True,
    ),
    hostile("call: data over the window", "did not complete GetTask|could not be reached", call=data_over_the_window),
    hostile(
        "call: a bomb of gzip",
        "did not complete GetTask|UNIMPLEMENTED",
        call=answered(bomb, GZIP_OK, 1),
        prepare=bomb,
    ),
    hostile("call: a task of empty annotations", None, call=answered(lambda: EMPTY_ITEM * (1 << 18))),
    hostile(
        "call: a task for a quarter of a million resources",
        None,
        call=sync_task(lambda: {"targeted_sync_resources": [{}] * ((1 << 18) - 100)}),
    ),
    hostile("call: a task for many types", None, call=sync_task(lambda: {"sync_resource_type_ids": ["a"] * 170_000})),
    hostile(
        "call: a task of a type half a megabyte long",
        None,
        call=sync_task(lambda: {"sync_resource_type_ids": ["a" * 500_000]}),
    ),
    hostile(
        "call: a task whose id is the token",
        "not 27 letters and digits",
        call=task(lambda: {"task": {"id": ACCESS_TOKEN * 1000}}),
    ),
    hostile(
        "call: the longest times",
        None,
        call=task(lambda: {"next_poll": LONGEST, "next_heartbeat": SHORTEST}),
    ),
    hostile(
        "call: times beyond the type's range",
        None,
        call=task(lambda: {"next_poll": {"seconds": -(2**63), "nanos": -(2**31)}}),
    ),
    hostile("call: details of 1 MB", "GetTask", call=refused(13, "a" * 1_000_000)),
    hostile("call: details of 15 KB", "INTERNAL", call=refused(13, "a" * 15_000)),
    *(
        hostile(f"call: the credentials in details, {number}", "UNAVAILABLE", call=refused(14, f"{each} {each}"))
        for number, each in enumerate(each_alone(""))
    ),
    hostile(
        "call: the credentials in metadata",
        "INTERNAL",
        call=refused(
            13, "no", ("x-echo", repeated("")), ("grpc-status-details-bin", base64.b64encode(b"\xff" * 99).decode())
        ),
    ),
    hostile("call: a status that there is not", "GetTask", call=refused(9999, repeated("")[:5000])),
    hostile("call: details that are no text", "INTERNAL", call=refused(13, "\x00\x1b[2J\u202e" * 500)),
    hostile("call: metadata without an end", "GetTask", call=endless_metadata),
    hostile("call: trailers without an end", "GetTask", call=endless_trailers),
    hostile("call: reset at once", "GetTask", call=reset),
    hostile("call: sent away at once", "GetTask", call=go_away),
    hostile("call: garbage", "GetTask", call=garbage),
    hostile("call: pings and settings without an end", "GetTask|DEADLINE", call=floods, hurried=True),
    hostile("call: no answer", "DEADLINE_EXCEEDED", call=never, hurried=True),
]
