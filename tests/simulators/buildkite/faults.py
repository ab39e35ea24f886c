"""What the Buildkite simulator can do wrong; `fault_rules` says to which requests.

An effect says what happens to one request. Effects are made by the functions below, so that a test reads
`sim.fault(stall(), path="/v2/organizations/*/teams")`; those that take plain values stand in `EFFECTS` by name, for
control from another process. Where it matters whether a write took effect, an argument `applied` says so: the API
has then seen the request and counted it, whatever the client gets.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from simulators.buildkite.api import JSON_TYPE, Api, Call, Reply
from simulators.buildkite.listing import encode
from simulators.buildkite.pages import format_links


@dataclass(frozen=True, slots=True)
class Answer:
    """The edge answers: the API never sees the request, no quota is used, no quota told."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Edit:
    """The API's own answer goes out changed."""

    edit: Callable[[Call, Reply], Reply]


@dataclass(frozen=True, slots=True)
class Change:
    """Data or tokens change just before the request is answered."""

    change: Callable[[Api, Call], None]


class Ending(Enum):
    RESET = auto()
    CLOSE = auto()
    STALL = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class Cut:
    """The answer ends early, after that share of the body; with None nothing at all is sent. Or it never ends.

    Unless `applied`, the API never sees the request.
    """

    ending: Ending
    after: float | None
    applied: bool = True


@dataclass(frozen=True, slots=True)
class Slow:
    """The whole answer comes, so many seconds late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Outage:
    """Every connection is reset and new ones are refused, for so many seconds or until resumed."""

    seconds: float | None


Effect = Answer | Edit | Change | Cut | Slow | Outage


def server_error(message: str = "Internal Server Error", applied: bool = True) -> Effect:
    """500 from the application, so it tells the quota; from the edge when not `applied`."""
    if not applied:
        return Answer(Reply(500, encode({"message": message}), JSON_TYPE))
    return Edit(lambda _, reply: Reply(500, encode({"message": message}), {**reply.headers, **JSON_TYPE}))


def answer(status: int, document: object, headers: Mapping[str, str] | None = None) -> Effect:
    """Any status with any JSON, from the application: a 403 of the IP allowlist, a 404 of a team."""
    return Edit(
        lambda _, reply: Reply(status, encode(document), {**_without(reply.headers, "Link"), **(headers or {})})
    )


def bad_gateway(applied: bool = False) -> Effect:
    """502 with the edge's HTML page."""
    body = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>"
    return _from_edge(Reply(502, body, {"Content-Type": "text/html"}), applied)


def unavailable(retry_after: int | str | None = 1, applied: bool = False) -> Effect:
    """503 with Retry-After: seconds, an HTTP date or nonsense; None leaves it out."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return _from_edge(Reply(503, encode({"message": "Service Unavailable"}), {**JSON_TYPE, **headers}), applied)


def _from_edge(told: Reply, applied: bool) -> Effect:
    return Edit(lambda _, __: told) if applied else Answer(told)


def redirect(location: str, status: int = 302) -> Effect:
    return Answer(Reply(status, b"", {"Location": location, "Content-Type": "text/html"}))


def reset(after: float | None = 0.5, applied: bool = True) -> Effect:
    """A TCP reset in the middle of the body."""
    return Cut(Ending.RESET, after if applied else None, applied)


def disconnect(after: float | None = 0.5, applied: bool = True) -> Effect:
    """An orderly close before the promised length."""
    return Cut(Ending.CLOSE, after if applied else None, applied)


def stall(after: float | None = 0.5, applied: bool = True) -> Effect:
    """Silence in the middle of the body, until the client gives up or the simulator stops."""
    return Cut(Ending.STALL, after if applied else None, applied)


def endless() -> Effect:
    """The body begins as it should and goes on with blanks, until the client gives up or the simulator stops."""
    return Cut(Ending.NEVER, 0.5)


def slow(seconds: float) -> Effect:
    return Slow(seconds)


def outage(seconds: float | None = None) -> Effect:
    return Outage(seconds)


def truncated_json(share: float = 0.5) -> Effect:
    """A well-formed HTTP answer whose JSON stops short."""
    return Edit(lambda _, reply: replace(reply, body=reply.body[: int(len(reply.body) * share)]))


def not_json(text: str = "<!DOCTYPE html><title>Buildkite</title>") -> Effect:
    """200, said to be JSON, and something else."""
    return Edit(lambda _, reply: replace(reply, body=text.encode()))


def document(value: object) -> Effect:
    """200 with other JSON than expected, null and scalars included."""
    return Edit(lambda _, reply: replace(reply, body=encode(value)))


def object_instead_of_list() -> Effect:
    return Edit(lambda _, reply: replace(reply, body=b'{"items":' + reply.body + b"}"))


def set_field(name: str, value: object, index: int | None = 0) -> Effect:
    """Sets a field of one record of the answer, of every record with `index=None`; it may be a new field."""
    return _edit_records(lambda record: {**record, name: value}, index)


def drop_field(name: str, index: int | None = 0) -> Effect:
    """Leaves a field out of one record of the answer, of every record with `index=None`."""
    return _edit_records(lambda record: _without(record, name), index)


def set_at(path: str, value: object) -> Effect:
    """Sets what stands at a path of keys and indexes in the answer, as in `data.organization.members.edges.0.node`; `*`
    is every item of a list."""

    def edit(parent: Any, key: Any) -> None:
        parent[key] = value

    return _edit_at(path, edit)


def drop_at(path: str) -> Effect:
    """Leaves out what stands at a path, see `set_at`."""

    def edit(parent: Any, key: Any) -> None:
        del parent[key]

    return _edit_at(path, edit)


def graphql_errors(messages: Sequence[str], *, beside_data: bool = False) -> Effect:
    """A portal's 200 with errors in place of the data, or beside it."""

    def edited(_: Call, reply: Reply) -> Reply:
        errors = {"errors": [{"message": message} for message in messages]}
        return replace(reply, body=encode({**json.loads(reply.body), **errors} if beside_data else errors))

    return Edit(edited)


def relink(rel: str, url: str | None) -> Effect:
    """Points one relation of the Link header at any address; None leaves it out."""

    def edit(links: dict[str, str], _call: Call) -> dict[str, str]:
        kept = _without(links, rel)
        return kept if url is None else {**kept, rel: url}

    return _edit_links(edit)


def drop_links() -> Effect:
    """A gateway cuts the Link header."""
    return _edit_links(lambda _links, _call: {})


def drop_items(number: int = 1, at: int = -1) -> Effect:
    """Leaves so many records out of the answer, from index `at` on; a negative one counts from the end."""

    def edit(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        start = at % len(records) if records else 0
        return records[:start] + records[start + number :]

    return _edit_list(edit)


def repeat_item(source: int = 0, at: int = -1, *, instead: bool = False) -> Effect:
    """A record comes once more, before the one at `at`, or `instead` of it."""

    def edit(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not records:
            return records
        place = at % len(records)
        return [*records[:place], records[source % len(records)], *records[place + instead :]]

    return _edit_list(edit)


def stale_page() -> Effect:
    """A cache that knows the path alone: every page is the first one that was asked for."""
    kept: dict[str, Reply] = {}

    def edited(call: Call, reply: Reply) -> Reply:
        return kept.setdefault(call.path, reply)

    return Edit(edited)


def page_loop() -> Effect:
    """Next leads to the same page, and nothing else is linked."""

    def edit(links: dict[str, str], call: Call) -> dict[str, str]:
        """The page's own address: the linked one with its page number put back."""
        here = f"page={call.query.get('page', '1')}"
        return {"next": re.sub(r"\bpage=\d+", here, next(iter(links.values())))} if links else {}

    return _edit_links(edit)


def links_elsewhere(origin: str) -> Effect:
    """The right pages at another `scheme://host:port`."""
    return _edit_links(lambda links, _: {rel: re.sub(r"^\w+://[^/]+", origin, url) for rel, url in links.items()})


def no_rate_limit_headers() -> Effect:
    return Edit(
        lambda _, reply: replace(
            reply,
            headers={name: text for name, text in reply.headers.items() if not name.lower().startswith("ratelimit")},
        )
    )


def rate_limit_headers(values: Mapping[str, str]) -> Effect:
    """Other values for the named headers: absurd, negative, empty."""
    return Edit(lambda _, reply: replace(reply, headers={**reply.headers, **values}))


def revoke_token() -> Effect:
    """The token that the request carries is revoked before it is looked at."""
    return Change(lambda api, call: api.revoke(call.authorization.partition(" ")[2]))


def change(edit: Callable[[Api], None]) -> Effect:
    """Any change of data or tokens just before the request is answered."""
    return Change(lambda api, _: edit(api))


def edit_data(edits: Sequence[Mapping[str, Any]]) -> Effect:
    """`Organization.edit`s before the answer: each with its `operation` and arguments, see `Api.edit`."""
    return Change(lambda api, _: api.edit(edits))


def _edit_records(edit: Callable[[dict[str, Any]], dict[str, Any]], index: int | None) -> Effect:
    def edited(_: Call, reply: Reply) -> Reply:
        payload = json.loads(reply.body)
        if isinstance(payload, dict):
            payload = edit(payload)
        else:
            payload = [edit(each) if index in (None, place) else each for place, each in enumerate(payload)]
        return replace(reply, body=encode(payload))

    return Edit(edited)


def _edit_at(path: str, edit: Callable[[Any, Any], None]) -> Effect:
    """Raises KeyError or IndexError for the server where the answer has no such place."""
    *way, last = path.split(".")

    def edited(_: Call, reply: Reply) -> Reply:
        payload = json.loads(reply.body)
        parents = [payload]
        for step in way:
            children = [parent if step == "*" else [parent[_key(parent, step)]] for parent in parents]
            parents = [child for each in children for child in each]
        for parent in parents:
            edit(parent, _key(parent, last))
        return replace(reply, body=encode(payload))

    return Edit(edited)


def _key(parent: Any, step: str) -> str | int:
    return int(step) if isinstance(parent, list) else step


def _edit_list(edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Effect:
    """Edits an answer that is a list; any other stays."""

    def edited(_: Call, reply: Reply) -> Reply:
        payload = json.loads(reply.body)
        return replace(reply, body=encode(edit(payload))) if isinstance(payload, list) else reply

    return Edit(edited)


def _edit_links(edit: Callable[[dict[str, str], Call], dict[str, str]]) -> Effect:
    def edited(call: Call, reply: Reply) -> Reply:
        found = re.findall(r'<([^>]*)>; rel="(\w+)"', reply.headers.get("Link", ""))
        links = edit({rel: url for url, rel in found}, call)
        headers = _without(reply.headers, "Link")
        return replace(reply, headers={**headers, "Link": format_links(links)} if links else headers)

    return Edit(edited)


def _without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


EFFECTS: Mapping[str, Callable[..., Effect]] = {
    make.__name__: make
    for make in (
        server_error,
        answer,
        bad_gateway,
        unavailable,
        redirect,
        reset,
        disconnect,
        stall,
        endless,
        slow,
        outage,
        truncated_json,
        not_json,
        document,
        object_instead_of_list,
        set_field,
        drop_field,
        set_at,
        drop_at,
        graphql_errors,
        relink,
        drop_links,
        drop_items,
        repeat_item,
        stale_page,
        page_loop,
        links_elsewhere,
        no_rate_limit_headers,
        rate_limit_headers,
        revoke_token,
        edit_data,
    )
}
