"""Whatever of an answer repeats the token, no failure and no log record shows it."""

import base64
import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buildkite_connector.buildkite import BuildkiteClient, Patience, open_buildkite
from buildkite_connector.buildkite.client import path_part
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import preflight
from fakes.buildkite_setup import HASTY
from fakes.organization_api import REST_KINDS
from harness.examples import examples
from harness.trust import DIRECT
from unit.hostile.buildkite_answers import (
    ACCESS_TOKEN,
    CLUSTER,
    CLUSTERS,
    HONEST,
    MEMBERS,
    OF_OPT_IN_TYPES,
    ORGANIZATION,
    ORGANIZATIONS,
    TEAM_MEMBERS,
    TEAM_PIPELINES,
    TEAMS,
    TOKEN,
    document,
    head,
)
from unit.hostile.http_server import HostileServer, Part, Request
from unit.hostile.measurement import leaks

ONE_TRY = replace(HASTY, patience=Patience(tries=1, blind_pause=0.01, refusals=0), longest_window=0.01)
FORMS = {
    "plain": TOKEN,
    "upper case": TOKEN.upper(),
    "percent-encoded": "".join(f"%{byte:02X}" for byte in TOKEN.encode()),
    "quoted": quote(TOKEN, safe=""),
    "base64": base64.b64encode(TOKEN.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {TOKEN}".encode()).decode(),
    "split by blanks": " ".join(TOKEN),
    "split by NULs": "\0".join(TOKEN),
    "split by bidi characters": "\u202e".join(TOKEN),
    "split by zero-width characters": "\u200b\u2060".join(TOKEN),
    "split by line ends": "\r\n".join(TOKEN[at : at + 8] for at in range(0, len(TOKEN), 8)),
}
BODIES = (
    *("message", "name", "id", "slug", "role", "uuid", "scopes", "expires_at", "html", "field", "nothing"),
    *("access_level", "pipeline_id", "pipeline_url", "web_url", "maintainers"),
)
STATUSES = [200, 301, 401, 403, 404, 418, 429, 500, 503]
PLACES = [ACCESS_TOKEN, ORGANIZATION, ORGANIZATIONS, MEMBERS, TEAMS, TEAM_MEMBERS, *OF_OPT_IN_TYPES]


def body(kind: str, text: str, honest: bytes) -> bytes:
    if kind == "message":
        return json.dumps({"message": text}).encode()
    if kind == "html":
        return f"<html>{text}</html>".encode()
    if kind == "nothing":
        return honest
    document = json.loads(honest)
    for each in document if isinstance(document, list) else [document]:
        each[text if kind == "field" else kind] = text
    return json.dumps(document).encode()


def one_line(text: str) -> str:
    """What may stand in a header: HTTP takes no control characters there."""
    return quote(text) if not text.isascii() or not text.isprintable() else text


async def failure_of(client: BuildkiteClient, slug: str) -> Failure | None:
    try:
        found = await preflight(client, OrganizationChoice(slug) if slug else None, REST_KINDS)
        await collect(client, found.organization, SyncScope(REST_KINDS))
    except Failure as failure:
        return failure
    return None


async def everything_shown(routes: HostileServer, caplog: pytest.LogCaptureFixture, slug: str) -> str:
    async with (
        routes.running() as origin,
        open_buildkite(replace(ONE_TRY, api_url=f"{origin}/v2"), DIRECT) as buildkite,
    ):
        client = buildkite.client(TOKEN)
        failure = await failure_of(client, slug)
    message = "" if failure is None else failure.message
    assert message == "" or message.isprintable()
    assert len(message) <= 600
    shown = f"{client!r} {message} {failure} {failure!r}"
    records = [record for record in caplog.records if record.name.startswith("buildkite_connector")]
    caplog.clear()
    return shown + "".join(f"{record.getMessage()} {vars(record)}" for record in records)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(ACCESS_TOKEN, 401, "plain", "message", 0, "acme")
@example(TEAMS, 200, "plain", "id", 0, "acme")
@example(ORGANIZATIONS, 200, "plain", "slug", 0, "")
@example(MEMBERS, 500, "split by NULs", "message", 190, "acme")
@example(CLUSTERS, 200, "plain", "id", 0, "acme")
@example(TEAM_PIPELINES, 200, "plain", "access_level", 0, "acme")
@example(MEMBERS, 301, "upper case", "nothing", 0, "acme")
@given(
    at=st.sampled_from(PLACES),
    status=st.sampled_from(STATUSES),
    form=st.sampled_from(sorted(FORMS)),
    kind=st.sampled_from(BODIES),
    before=st.integers(0, 320),
    slug=st.sampled_from(["acme", "another", ""]),
)
async def test_no_failure_shows_the_token_wherever_an_answer_repeats_it(
    caplog: pytest.LogCaptureFixture, at: str, status: int, form: str, kind: str, before: int, slug: str
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "x" * before + FORMS[form]
    line = one_line(text)

    def answer(request: Request) -> Iterable[Part]:
        honest = list(HONEST[at](request))[-1]
        assert isinstance(honest, bytes)
        sent = body(kind, text, honest)
        headers = [
            f"Location: https://{line}.example/{line}",
            f"Retry-After: {line}",
            f"RateLimit-Limit: {line}",
            f"X-Request-ID: {line}",
        ]
        if kind == "nothing":  # otherwise the links would be refused before the body is looked at
            headers.append(f'Link: <{line}?page={line}>; rel="next", <https://{line}/?page=2>; rel="last"')
        return [head(f"{status} {line}", *headers, length=len(sent)), sent]

    # Where the answer is taken, what asks on with its ids and slugs fails, and names the endpoint.
    asks_on = CLUSTER if at == CLUSTERS else TEAM_MEMBERS
    routes = {**HONEST, asks_on: document({}, "500 No"), at: answer}
    shown = await everything_shown(HostileServer(routes), caplog, slug)
    assert leaks(shown, TOKEN) == []


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_a_part_of_a_path_never_leads_to_another_path(text: str) -> None:
    with pytest.raises(ValueError, match="not part of a path"):
        path_part(text)


def test_a_part_of_a_path_is_quoted() -> None:
    assert path_part("a/../b?c#d%2e é") == "a%2F..%2Fb%3Fc%23d%252e%20%C3%A9"
