"""Buildkite's rows of the table of hostile answers."""

import base64
import gzip
from collections.abc import Iterable

from unit.hostile.buildkite_answers import (
    A_CLUSTER,
    A_PIPELINE,
    ACCESS_TOKEN,
    BIDI,
    CHUNKED,
    CLUSTER,
    CLUSTERS,
    HURRIED,
    MAINTAINED,
    MEMBER,
    MOST_PAGES,
    ORG,
    ORGANIZATION,
    ORGANIZATIONS,
    PIPELINES,
    TEAM,
    TEAM_MEMBERS,
    TEAM_PIPELINE,
    TEAM_PIPELINES,
    TEAMS,
    TOKEN,
    UNHURRIED,
    USER,
    bomb,
    document,
    dribble,
    endless,
    head,
    hostile,
    linked,
    listing,
    one,
    parts,
    split,
    told,
    user,
    whole,
    zipped,
)
from unit.hostile.http_server import FOREVER, Part, Request
from unit.hostile.rows import Row


def big_page(request: Request) -> Iterable[Part]:
    """Just below the limit of a page, all of it sent but its end; so each of many is held at the same time."""
    body = b"[" + b" " * 1_000_000
    return [head(length=len(body) + 1), body, 0.4, b"]"]


MANY_TEAMS = listing(
    lambda page, place: {**TEAM, "id": f"t-{page}-{place}", "slug": f"t-{page}-{place}"}, last=2, ends=True
)
"""20: their pages together are larger than the peak that the row allows."""


def large_pipelines(request: Request) -> Iterable[Part]:
    """A page of pipelines just below its limit, of those that YAML fills, all but its end."""
    body = b'[{"id": "p-%d", "slug": "p", "configuration": "' % request.page + b"x" * 8_000_000
    links = [
        f'Link: <{request.origin}{request.path}?page={page}>; rel="{rel}"'
        for rel, page in (("next", request.page + 1), ("last", MOST_PAGES))
        if request.page < MOST_PAGES
    ]
    return [head("200 OK", *links, length=len(body) + 3), body, 0.1, b'"}]']


def people(number: int) -> dict[str, object]:
    return {"users": [{"id": f"m{each}", "actor": {"id": f"u{each}"}} for each in range(number)], "teams": []}


INVALID = "not what Buildkite documents"


BROKEN = "was cut off or is not HTTP"


LATE = "there was no response in time"


LARGE = r"is larger than [0-9,]+ bytes"


ENCODED = base64.b64encode(TOKEN.encode()).decode()


PERCENT = "".join(f"%{byte:02X}" for byte in TOKEN.encode())


ROWS: list[Row] = [
    # bodies
    hostile("a page without an end", endless(head() + b'[{"id": "', b"a" * 1_000_000), LARGE),
    hostile("an error without an end", endless(head("500 No"), b"a" * 1_000_000), LARGE, at=ACCESS_TOKEN),
    hostile("a token without an end", endless(head() + b'{"uuid": "', b"a" * 100_000), LARGE, at=ACCESS_TOKEN),
    hostile("a redirect without an end", endless(head("302 Found"), b"a" * 100_000), "a redirect"),
    hostile("a refusal without an end", endless(head("429 Slow"), b"a" * 100_000), f"rate limit .*{LARGE}"),
    hostile("gzip that unpacks to 1 GB", zipped("200 OK", bomb), LARGE),
    hostile("gzip of an error that unpacks to 1 GB", zipped("500 No", bomb), LARGE, at=ACCESS_TOKEN),
    hostile("gzip without an end", endless(head("200 OK", "Content-Encoding: gzip"), bomb()), LARGE),
    hostile("gzip that is none", zipped("200 OK", lambda: b"[]" * 1000), "is not gzip"),
    hostile(
        "gzip that breaks off",
        zipped("200 OK", lambda: gzip.compress(b"[]")[:-6]),
        "ends in the middle of its gzip data",
    ),
    hostile(
        "gzip after gzip",
        zipped("200 OK", lambda: gzip.compress(b"[") + gzip.compress(b"]")),
        "after the end of its gzip data",
    ),
    hostile("gzip within gzip", zipped("200 OK", lambda: gzip.compress(bomb())), INVALID),
    hostile(
        "an encoding that nobody asked for",
        whole(b"x", "200 OK", "Content-Encoding: br"),
        "unexpected content encoding",
    ),
    hostile(
        "chunks of one byte without an end",
        endless(CHUNKED, b"1\r\na\r\n" * 10_000),
        "more than 10,000 pieces",
        timeouts=UNHURRIED,
    ),
    hostile("a chunk without an end", endless(CHUNKED + b"fffffffff\r\n", b"a" * 100_000), LARGE),
    hostile("a chunk's length without an end", endless(CHUNKED, b"1" * 100_000), BROKEN),
    hostile("chunks with endless extensions", endless(CHUNKED + b"1;", b"x" * 100_000), BROKEN),
    hostile("trailers without an end", endless(CHUNKED + b"2\r\n[]\r\n0\r\n", b"a: b\r\n" * 10_000), BROKEN),
    hostile("a body shorter than its length", parts(head(length=100), b"[]"), BROKEN),
    hostile("a body longer than its length", parts(head(length=2), b"[]" + b" " * 1_000_000), "list is empty"),
    hostile("a negative length", parts(head(length=-1), b"[]"), BROKEN),
    hostile("an absurd length", parts(head(length="9" * 30), b"[]"), BROKEN),
    hostile("a length of 5,000 digits", parts(head(length="9" * 5_000), b"[]"), BROKEN),
    hostile("two lengths", parts(head("200 OK", "Content-Length: 3", length=2), b"[]"), BROKEN),
    hostile(
        "many pages that each nearly are too large",
        big_page,
        None,
        at=TEAM_MEMBERS,
        timeouts=UNHURRIED,
        peak=32.0,
        TEAMS=MANY_TEAMS,
    ),
    # heads
    hostile("headers without an end", endless(b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n" * 1000), BROKEN),
    hostile("as many headers as are read", whole(b"[]", "200 OK", *["a: b"] * 9_000), "list is empty"),
    hostile("thousands of headers", whole(b"[]", "200 OK", *["a: b"] * 15_000), BROKEN),
    hostile("a header of 1 MB", whole(b"[]", "200 OK", f"X: {'x' * 1_000_000}"), BROKEN),
    hostile("a reason phrase without an end", endless(b"HTTP/1.1 200 ", b"x" * 100_000), BROKEN),
    hostile("100 Continue for ever", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000), LATE, timeouts=HURRIED),
    hostile(
        "103 Early Hints for ever",
        endless(b"", b"HTTP/1.1 103 Hints\r\nLink: <x>\r\n\r\n" * 4_000),
        LATE,
        timeouts=HURRIED,
    ),
    hostile("101 Switching Protocols", parts(head("101 Switching Protocols", "Upgrade: x"), b"a" * 1_000_000), BROKEN),
    hostile("HTTP/0.9", parts(b"<html>hello</html>"), BROKEN),
    hostile("not HTTP", parts(b"\x16\x03\x01\x02\x00" * 1000), BROKEN),
    hostile("a status that there is not", document([], "999 Beyond"), "responded with 999"),
    hostile("closed at once", parts(), BROKEN),
    # time
    hostile("no answer", parts(FOREVER), LATE),
    hostile("a head that dribbles", dribble(b"X", 0.05, b"HTTP/1.1 200 OK\r\nX: "), LATE, timeouts=HURRIED),
    hostile("a body that dribbles", dribble(b" ", 0.05, head()), LATE, timeouts=HURRIED),
    hostile("an error that dribbles", dribble(b" ", 0.05, head("503 No")), LATE, timeouts=HURRIED),
    # JSON
    hostile("JSON of 100,000 levels", whole(b"[" * 100_000 + b"]" * 100_000), f"{INVALID}.*recursion limit"),
    hostile("a name of 10 MB", one(USER, name="n" * 10_000_000), LARGE),
    hostile("a name of 1 MB", one(USER, name="n" * 1_000_000), None),
    hostile("a number of a million digits", whole(b'[{"id": ' + b"9" * 1_000_000 + b"}]"), "number out of range"),
    hostile("half a million items of another type", whole(b"[" + b"0," * 520_000 + b"0]"), f"{INVALID}.*at most 1000"),
    hostile("as many empty objects as fit", whole(b"[" + b"{}," * 345_000 + b"{}]"), f"{INVALID}.*at most 1000"),
    hostile("1,001 items", document([USER] * 1001), f"{INVALID}.*at most 1000 items"),
    hostile("1,000 items of another type", whole(b"[" + b"0," * 999 + b"0]"), rf"{INVALID}.*\[0\].*999 more"),
    hostile(
        "as many unknown fields as fit", whole(b'[{"id": 0' + b',"":{}' * 172_000 + b"}]"), rf"{INVALID}.*\[0\]\.id"
    ),
    hostile("as many nested arrays as fit", whole(b'[{"id": [' + b"[]," * 345_000 + b"0]}]"), rf"{INVALID}.*\[0\]\.id"),
    hostile("a field 90,000 times", whole(b'[{"id": 0' + b',"id": 0' * 90_000 + b"}]"), rf"{INVALID}.*\[0\]\.id"),
    hostile("UTF-8 that is none", whole(b'[{"id": "\xff\xfe"}]'), f"{INVALID}.*Invalid JSON"),
    hostile("UTF-16", whole("[]".encode("utf-16")), f"{INVALID}.*Invalid JSON"),
    hostile("HTML", whole(b"<html>" * 10_000), f"{INVALID}.*Invalid JSON"),
    hostile("a name of NULs", one(USER, name="\0" * 1000), None),
    hostile("a name that turns the writing's direction", one(USER, name=BIDI * 100), None),
    hostile(
        "an organization's name that turns it",
        document({"id": "o", "slug": "acme", "name": BIDI}),
        None,
        at=ORGANIZATION,
    ),
    # ids and slugs
    hostile("a team called ..", one(TEAM, id=".."), rf"{INVALID}.*\[0\]\.id", at=TEAMS),
    hostile("a team called .", one(TEAM, id="."), rf"{INVALID}.*\[0\]\.id", at=TEAMS),
    hostile("a team with a path for its id", one(TEAM, id="../members"), rf"{INVALID}.*\[0\]\.id", at=TEAMS),
    hostile("a team with a query for its id", one(TEAM, id="t1?x=1#"), rf"{INVALID}.*\[0\]\.id", at=TEAMS),
    hostile("a team with a bidi id", one(TEAM, id=f"t{BIDI}"), rf"{INVALID}.*\[0\]\.id", at=TEAMS),
    hostile("a team with NULs in its slug", one(TEAM, slug="a\0b"), rf"{INVALID}.*\[0\]\.slug", at=TEAMS),
    hostile("a team with an id of 1 MB", one(TEAM, id="t" * 1_000_000), rf"{INVALID}.*\[0\]\.id", at=TEAMS),
    hostile("a team with the token for its id", one(TEAM, id=TOKEN), "credential is among them", at=TEAMS),
    hostile(
        "an organization with the token for its slug",
        document([{**ORG, "slug": TOKEN}]),
        "credential is among them",
        at=ORGANIZATIONS,
        slug="",
    ),
    hostile(
        "organizations with long slugs",
        document([{**ORG, "slug": f"{n}" + "s" * 190} for n in range(9)]),
        "can access 9",
        at=ORGANIZATIONS,
        slug="",
    ),
    # listings and links
    hostile("the same page for ever", listing(lambda _, place: user(0, place), last=None), "has no new id"),
    hostile("the same page on every page", listing(lambda _, place: user(0, place), last=MOST_PAGES), "no new id"),
    hostile("an empty page for ever", listing(user, last=None, per_page=0), "has no new id"),
    hostile("another page for ever", listing(user, last=None), f"at most {MOST_PAGES} pages"),
    hostile(
        "the same organizations for ever", listing(lambda *_: ORG, last=None), "no new id", at=ORGANIZATIONS, slug=""
    ),
    hostile(
        "other organizations for ever",
        listing(lambda page, place: {**ORG, "slug": f"o-{page}-{place}"}, last=None),
        f"at most {MOST_PAGES} pages",
        at=ORGANIZATIONS,
        slug="",
    ),
    hostile("a last page that cannot be", listing(user, last=10**8), f"to {MOST_PAGES}, but it is 100000000"),
    hostile("a page number that is none", linked("?page=" + "9" * 5_000), "a page number"),
    hostile(
        "a link to another host", linked("https://evil.example/v2/organizations/acme/members?page=2"), "evil.example"
    ),
    hostile("a link that is no URL", linked("http://[/?page=2"), "a URL in the 'next' link"),
    hostile("a link of 56 KB", linked("?page=2&" + "a=b&" * 14_000), "the next page to be 3"),
    hostile("thousands of links", whole(b"[]", "200 OK", "Link: " + "<?page=2>; rel=x, " * 3_000), "list is empty"),
    hostile("a link with the token", linked(f"https://{TOKEN}@{TOKEN}.example/?page=2"), r"\[redacted\]"),
    hostile(
        "a redirect to the cloud's metadata",
        document([], "302 Found", "Location: http://169.254.169.254/latest/"),
        "169.254.169.254. The token was not sent there",
    ),
    hostile("a redirect to no URL", document([], "302 Found", "Location: http://[/"), f"redirect|{BROKEN}"),
    hostile(
        "a redirect with the token",
        document([], "307 Go", f"Location: https://{TOKEN}.example/{TOKEN}"),
        r"\[redacted\]",
    ),
    # the token comes back
    hostile("401 with the token", whole(told(f"bad {TOKEN}"), "401 No"), r"bad \[redacted\]", at=ACCESS_TOKEN),
    hostile(
        "401 with the token in base64", whole(told(f"bad {ENCODED}"), "401 No"), r"bad \[redacted\]", at=ACCESS_TOKEN
    ),
    hostile(
        "401 with the token percent-encoded",
        whole(told(f"bad {PERCENT}"), "401 No"),
        r"bad \[redacted\]",
        at=ACCESS_TOKEN,
    ),
    hostile("403 with the token in pieces", whole(told(split(TOKEN, "\0\u202e ")), "403 No"), r"\[redacted\]"),
    hostile("404 with the token", whole(told(TOKEN), "404 No"), "no organization", at=ORGANIZATION),
    hostile("429 with the token", whole(told(TOKEN), "429 Slow", "Retry-After: 0"), r"\[redacted\]"),
    hostile("500 with the token", whole(told(f"{'x' * 190}{TOKEN}"), "500 No"), "xxx"),
    hostile("HTML with the token", whole(f"<html>{TOKEN}</html>".encode(), "500 No"), "responded with 500"),
    hostile("a reason phrase with the token", whole(told("x"), f"401 {TOKEN}", f"X: {TOKEN}"), "does not accept"),
    hostile("a role that is the token", one(MEMBER, role=TOKEN), rf"{INVALID}.*role", at=TEAM_MEMBERS),
    hostile("a field that is the token", document([{TOKEN: TOKEN}]), rf"{INVALID}.*\[0\]\.id"),
    hostile("an error of 60 KB", whole(told("x" * 60_000), "418 No"), "x{190}"),
    # waiting
    hostile("Retry-After 1e308", whole(b"", "503 No", "Retry-After: 1e308"), "responded with 503"),
    hostile("Retry-After of 400 digits", whole(b"", "503 No", f"Retry-After: {'9' * 400}"), "responded with 503"),
    hostile("Retry-After in the past", whole(b"", "503 No", "Retry-After: -5"), "responded with 503"),
    hostile(
        "Retry-After that is garbage", whole(b"", "503 No", f"Retry-After: {'Sat, ' * 5_000}"), "responded with 503"
    ),
    hostile("429 that says to come back at once", whole(b"", "429 Slow", "Retry-After: 0"), "rate limit"),
    hostile("429 with infinity", whole(b'{"scope": "rest", "limit": 1, "reset": Infinity}', "429 Slow"), "rate limit"),
    hostile(
        "rate-limit headers of garbage",
        document(
            [USER],
            "200 OK",
            *(
                f"RateLimit{scope}-{name}: {value}"
                for scope in ("", "-User")
                for name in ("Limit", "Remaining", "Reset")
                for value in ("9" * 5_000, "-1", "nan", "1e400")
            ),
        ),
        None,
    ),
    # opt-in types
    hostile("pipelines without an end", endless(head() + b'[{"id": "', b"a" * 1_000_000), LARGE, at=PIPELINES),
    hostile("gzip of pipelines that unpacks to 1 GB", zipped("200 OK", bomb), LARGE, at=PIPELINES),
    hostile(
        "pages of pipelines that each nearly are too large",
        large_pipelines,
        "has 1 items instead of 10",
        at=PIPELINES,
        timeouts=UNHURRIED,
    ),
    hostile(
        "pipelines of more values than memory is for",
        whole(b'[{"id": 0, "steps": [' + b"[]," * 2_500_000 + b"0]}]"),
        f"{INVALID}.*at most 200,000 values",
        at=PIPELINES,
    ),
    hostile(
        "pipelines of as many values as are read",
        whole(b'[{"id": 0, "steps": [' + b"[]," * 99_990 + b"0]}]" + b" " * 7_000_000),
        rf"{INVALID}.*\[0\]\.id",
        at=PIPELINES,
    ),
    hostile("1,001 pipelines", document([A_PIPELINE] * 1001), f"{INVALID}.*at most 1000 items", at=PIPELINES),
    hostile("a pipeline called ..", one(A_PIPELINE, slug=".."), rf"{INVALID}.*\[0\]\.slug", at=PIPELINES),
    hostile("a pipeline with the token for its slug", one(A_PIPELINE, slug=TOKEN), "credential is", at=PIPELINES),
    hostile("the same pipelines for ever", listing(lambda *_: A_PIPELINE, last=None), "no new id", at=PIPELINES),
    hostile(
        "a team's pipelines without an end", endless(head() + b'[{"x": "', b"a" * 1_000_000), LARGE, at=TEAM_PIPELINES
    ),
    hostile(
        "a team's pipeline whose URL leads elsewhere",
        one(TEAM_PIPELINE, pipeline_url="https://evil.example/pipelines/../../x"),
        None,
        at=TEAM_PIPELINES,
    ),
    hostile("a level that is the token", one(TEAM_PIPELINE, access_level=TOKEN), "access_level", at=TEAM_PIPELINES),
    hostile(
        "a slug that is the token",
        one(TEAM_PIPELINE, pipeline_url=f"x/pipelines/{TOKEN}"),
        "credential is",
        at=TEAM_PIPELINES,
    ),
    hostile("clusters without an end", endless(head() + b'[{"id": "', b"a" * 1_000_000), LARGE, at=CLUSTERS),
    hostile("a cluster called ..", one(A_CLUSTER, id=".."), rf"{INVALID}.*\[0\]\.id", at=CLUSTERS),
    hostile("a cluster with the token for its id", one(A_CLUSTER, id=TOKEN), "credential is among them", at=CLUSTERS),
    hostile(
        "pages of clusters with as many people as are read",
        listing(
            lambda page, place: {**A_CLUSTER, "id": f"c-{page}-{place}", "maintainers": people(110)}, last=2, ends=True
        ),
        "list of members to contain every member of a team and every maintainer of a cluster, but it lacks 109",
        at=CLUSTERS,
    ),
    hostile(
        "1,001 people who maintain a cluster",
        document({**A_CLUSTER, "maintainers": people(1001)}),
        f"{INVALID}.*at most 1000 items",
        at=CLUSTER,
    ),
    hostile("a cluster without an end", endless(head() + b'{"id": "', b"a" * 1_000_000), LARGE, at=CLUSTER),
    hostile(
        "another cluster than was asked for", document({**MAINTAINED, "id": "c2"}), "a response about c1", at=CLUSTER
    ),
    hostile(
        "a maintainer with a path for an id",
        document({**A_CLUSTER, "maintainers": {"users": [], "teams": [{"actor": {"id": "../x"}}]}}),
        rf"{INVALID}.*maintainers\.teams\[0\]\.actor\.id",
        at=CLUSTER,
    ),
    hostile(
        "a maintainer with the token for an id",
        document({**A_CLUSTER, "maintainers": {"users": [{"actor": {"id": TOKEN}}], "teams": []}}),
        "credential is among them",
        at=CLUSTER,
    ),
]
