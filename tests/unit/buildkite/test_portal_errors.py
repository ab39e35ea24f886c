"""Each way in which a portal fails, over a real socket: its reason, its remedy and what a person is told."""

import base64
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from buildkite_connector.buildkite.errors import LONGEST_BUILDKITE_WAIT
from buildkite_connector.buildkite.portal_document import MARK, portal_document
from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import PLACEHOLDER
from buildkite_connector.model.spec import Credentials
from fakes.buildkite_setup import HASTY
from fakes.task_ports import Records
from fakes.virtual_time import virtual_time
from simulators.buildkite import faults
from simulators.buildkite.faults import Effect
from unit.buildkite.portals import PATH, Setup, answer, member, members, serving

REJECTED, DOCUMENT, FAILED = Reason.PORTAL_REJECTED, Reason.PORTAL_DOCUMENT_INVALID, Reason.PORTAL_QUERY_FAILED
MISSING, INVALID = Reason.PORTAL_NOT_FOUND, Reason.BUILDKITE_RESPONSE_INVALID
CREDENTIALS, EDIT, RETRY = Remedy.CREDENTIALS, Remedy.EDIT, Remedy.RETRY
HTML = {"Content-Type": "text/html"}
PRINTED = "`buildkite-connector portal`"
WITHOUT = "`buildkite-connector portal --without-machine-users`"
UNKNOWN_FIELD = "Field 'machineUser' doesn't exist on type 'User'"


@dataclass(frozen=True)
class Case:
    """What is wrong, and what comes of it. `asked`: how often."""

    name: str
    break_it: Callable[[Setup], object]
    reason: Reason
    remedy: Remedy
    says: str
    asked: int = 1


def answered(effect: Effect) -> Callable[[Setup], object]:
    return lambda setup: setup.sim.fault(effect, path=PATH, times=None)


def said(status: int, document: object, headers: dict[str, str] | None = None) -> Callable[[Setup], object]:
    return answered(faults.answer(status, document, headers))


def errors(*messages: str, status: int = 200, data: object = None) -> Callable[[Setup], object]:
    document = {"errors": [{"message": message, "path": ["organization"]} for message in messages]}
    return said(status, document if data is None else {**document, **answer(data)})


def portal(**changes: str | None) -> Callable[[Setup], object]:
    def change(setup: Setup) -> None:
        for name, value in changes.items():
            setattr(setup.portal, name, value)

    return change


def stored(old: str, new: str) -> Callable[[Setup], object]:
    return portal(document=portal_document().replace(old, new))


def older_schema(setup: Setup) -> None:
    setup.sim.portals.machine_users = False


def deleted(setup: Setup) -> None:
    setup.sim.portals.delete(setup.portal)


def paged(**info: object) -> Callable[[Setup], object]:
    return said(200, answer(members(member(), info=info)))


CASES = [
    # What the simulator finds out by itself
    Case("another token", portal(token="x" * 48), REJECTED, CREDENTIALS, "does not accept the portal token (Authentic"),
    Case("no token", portal(token=None), REJECTED, CREDENTIALS, "create a new service token on the portal's Security"),
    Case("another address", portal(allowed_ip_addresses="10.0.0.0/8"), REJECTED, CREDENTIALS, "allowed IP addresses"),
    Case("no portal", deleted, MISSING, EDIT, "no portal 'c1-connector' in the organization 'acme'. Correct"),
    Case("no operation", stored("BuildkiteConnectorM", "M"), DOCUMENT, CREDENTIALS, PRINTED),
    Case("another operation", portal(document="query Other { __typename }"), DOCUMENT, CREDENTIALS, PRINTED),
    Case("an older schema", older_schema, DOCUMENT, CREDENTIALS, WITHOUT),
    Case("another field", stored("lastSeenAt", "lastSeen"), DOCUMENT, CREDENTIALS, PRINTED),
    Case("another variable", stored("$first", "$number"), DOCUMENT, CREDENTIALS, PRINTED),
    Case("no document", portal(document="?"), DOCUMENT, CREDENTIALS, PRINTED),
    Case("another version", stored(MARK, f"{MARK}9"), DOCUMENT, CREDENTIALS, f"does not show {MARK}."),
    Case("a field less", stored("lastSeenAt", ""), DOCUMENT, CREDENTIALS, "for members.edges[0].node.lastSeenAt."),
    Case("no organization", stored("slug: $org", "uuid: $org"), MISSING, EDIT, "shows no organization 'acme'"),
    # What GraphQL may say, with either status
    Case("401", said(401, {}), REJECTED, CREDENTIALS, "the portal token. It was removed"),
    Case("403", said(403, {"message": "no"}), REJECTED, CREDENTIALS, "denies access to the portal (no)"),
    Case("404", said(404, {}), MISSING, EDIT, "no portal"),
    Case("400", said(400, {"message": "bad"}), DOCUMENT, CREDENTIALS, "(bad). Print the document of this version"),
    Case("422", errors(UNKNOWN_FIELD, status=422), DOCUMENT, CREDENTIALS, WITHOUT),
    Case("a 400 of many", errors("A", "B", "C", "D", status=400), DOCUMENT, CREDENTIALS, "(A; B; C)"),
    Case("its word", errors("Cannot query field 'x' on type 'User'."), DOCUMENT, CREDENTIALS, "(Cannot query field"),
    Case("a name", errors("An operation name is required"), DOCUMENT, CREDENTIALS, "name is required)"),
    Case("a value", errors("Variable $first of type Int! was provided invalid value"), DOCUMENT, CREDENTIALS, PRINTED),
    Case("later", errors("Oops", "Oops", "Oops", UNKNOWN_FIELD), DOCUMENT, CREDENTIALS, WITHOUT),
    Case("an error", errors("Something went wrong"), FAILED, RETRY, "with an error (Something went wrong). The next"),
    Case("a timeout", errors("The operation timed out"), FAILED, RETRY, "(The operation timed out)"),
    Case("complexity", errors("Query has complexity of 60000, which exceeds"), FAILED, RETRY, "complexity of 60000"),
    Case("beside data", errors("Oops", data=members(member())), FAILED, RETRY, "(Oops)"),
    Case("no text", said(200, {"errors": [{}]}), FAILED, RETRY, "with an error. The next"),
    Case("odd errors", said(200, answer(members(), errors="x")), FAILED, RETRY, "with an error. The next"),
    Case("a long text", errors("a" * 99_999), FAILED, RETRY, "aaa…)"),
    Case("many errors", errors(*["Oops"] * 9999), FAILED, RETRY, "(Oops; Oops; Oops)"),
    Case("null", said(200, answer(None)), MISSING, EDIT, "shows no organization 'acme'"),
    # What makes no sense
    Case("no data", said(200, {"data": None}), INVALID, RETRY, "data: expected an object"),
    Case("a list", said(200, []), INVALID, RETRY, "not what Buildkite documents"),
    Case("no key", said(200, {"data": {MARK: "Query"}}), DOCUMENT, CREDENTIALS, "does not ask for organization."),
    Case("too many", said(200, answer(members(member(), member()))), INVALID, RETRY, "at most 1 items, but it has 2"),
    Case("no page info", said(200, answer(members(info=None))), INVALID, RETRY, "members.pageInfo"),
    Case("no cursor", paged(endCursor=None, hasNextPage=True), INVALID, RETRY, "endCursor: expected a cursor"),
    Case("same cursor", paged(endCursor="here", hasNextPage=True), INVALID, RETRY, "another cursor than that of this"),
    # What else an endpoint, or something before it, may answer
    Case("204", said(204, {}), INVALID, RETRY, "response is 204. Check BUILDKITE_PORTAL_URL"),
    Case("418", said(418, {}), INVALID, RETRY, "response is 418. Check BUILDKITE_PORTAL_URL"),
    Case("429", said(429, {}), Reason.BUILDKITE_RATE_LIMITED, RETRY, "rate limit is used up", 6),
    Case("a 429's text", errors("Wait", status=429), Reason.BUILDKITE_RATE_LIMITED, RETRY, "used up (Wait)", 6),
    Case("500", answered(faults.server_error()), Reason.BUILDKITE_UNAVAILABLE, RETRY, "responded with 500", 4),
    Case("502", answered(faults.bad_gateway()), Reason.BUILDKITE_UNAVAILABLE, RETRY, "responded with 502", 4),
    Case(
        "a redirect",
        answered(faults.redirect("https://x.example/")),
        Reason.BUILDKITE_LINK_REFUSED,
        RETRY,
        "leads to https://x.example. The token was not sent there. Check BUILDKITE_PORTAL_URL",
    ),
    Case("HTML", answered(faults.not_json()), INVALID, RETRY, "not what Buildkite documents", 4),
    Case("403 in HTML", said(403, {}, HTML), REJECTED, CREDENTIALS, "denies access"),
    Case("endless", answered(faults.endless()), INVALID, RETRY, "is larger than 4,194,304 bytes"),
    Case("cut short", answered(faults.truncated_json()), INVALID, RETRY, "not what Buildkite documents", 4),
    Case("cut off", answered(faults.reset()), Reason.BUILDKITE_UNREACHABLE, RETRY, "Check the network", 4),
    Case("silence", answered(faults.stall(None)), Reason.BUILDKITE_UNREACHABLE, RETRY, "no response in time", 4),
]
QUICK = {"another token", "another address", "no portal", "an older schema", "another version", "beside data", "HTML"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(each, id=each.name, marks=() if each.name in QUICK else pytest.mark.thorough) for each in CASES],
)
@virtual_time
async def test_each_failure_has_its_reason_its_remedy_and_advice(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    records = Records()
    async with serving(observer=records) as setup:
        known = str(setup.portal.token)
        client = setup.client(Credentials("", "", "", portal_token=known).redactor)
        case.break_it(setup)
        with pytest.raises(Failure) as raised:
            await client.members("here", first=1) if case.name == "same cursor" else await client.members(first=1)
        assert client.requests == case.asked
    failure = raised.value
    assert (failure.reason, failure.remedy) == (case.reason, case.remedy), failure.message
    assert case.says in failure.message, failure.message
    assert len(failure.message) < 700
    assert "\n" not in failure.message
    told = f"{failure!r} {traceback.format_exception(failure)} {caplog.text} {records}"
    assert known[:20] not in told


@pytest.mark.parametrize("after", [7, 5000, None])
@virtual_time
async def test_an_outage_says_when_to_come_back(after: int | None) -> None:
    hasty = replace(HASTY, patience=replace(HASTY.patience, tries=1))
    async with serving(settings=hasty) as setup:
        setup.sim.fault(faults.unavailable(after), path=PATH)
        with pytest.raises(Failure) as raised:
            await setup.client().members()
        assert raised.value.retry_after == (None if after is None else min(after, LONGEST_BUILDKITE_WAIT))


@pytest.mark.parametrize("portal", ["", ".", ".."])
@virtual_time
async def test_a_slug_that_leads_to_another_path_is_not_asked_for(portal: str) -> None:
    async with serving() as setup:
        with pytest.raises(Failure, match=r"Correct spec\.portal\.slug") as raised:
            await setup.client(slug=portal).members()
        assert (raised.value.reason, raised.value.remedy, setup.requests) == (MISSING, EDIT, 0)


@virtual_time
async def test_a_slug_is_one_part_of_the_path() -> None:
    async with serving() as setup:
        with pytest.raises(Failure, match=r"no portal 'a/\.\./b"):
            await setup.client(slug="a/../b?x=1#y").members()
        [asked] = setup.sim.requests
        assert asked.path == "/portal/organizations/acme/portals/a%2F..%2Fb%3Fx%3D1%23y"


@pytest.mark.parametrize("token", ["", "  ", '"portal-token-0123456789"', "p-token 0123", "PORTAL_TOKEN=x", "Märchen"])
@virtual_time
async def test_what_cannot_be_a_token_is_not_sent(token: str) -> None:
    async with serving() as setup:
        with pytest.raises(Failure, match=r"^The portal token ") as raised:
            setup.buildkite.portal(OrganizationSlug("acme"), "c1", token)
        assert (raised.value.reason, raised.value.remedy) == (Reason.TOKEN_INVALID, CREDENTIALS)
        assert not token.strip() or token not in raised.value.message


def plain(token: str) -> str:
    return token


def in_base64(token: str) -> str:
    return base64.b64encode(f"Bearer {token}".encode()).decode()


def spaced(token: str) -> str:
    return "\u200b".join(token)


@pytest.mark.parametrize("write", [plain, in_base64, spaced, str.upper])
@pytest.mark.parametrize("place", ["401", "400", "errors", "429", "content", "redirect"])
@virtual_time
async def test_a_token_that_a_portal_repeats_is_shown_nowhere(
    write: Callable[[str], str], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    records = Records()
    settings = replace(HASTY, patience=replace(HASTY.patience, refusals=0))
    async with serving(observer=records, settings=settings) as setup:
        token = str(setup.portal.token)
        text = f"No {write(token)} here"
        effect = {
            "401": faults.answer(401, {"message": text}),
            "400": faults.answer(400, {"errors": [{"message": text}]}),
            "errors": faults.answer(200, {"errors": [{"message": text}]}),
            "429": faults.answer(429, {"message": text}),
            "content": faults.answer(200, answer(members(member(user={"uuid": write(token)})))),
            "redirect": faults.redirect(f"https://{write(token)}.example/"),
        }[place]
        setup.sim.fault(effect, path=PATH, times=None)
        with pytest.raises(Failure) as raised:
            await setup.client().members()
    logged = [each.getMessage() for each in caplog.records if each.name.startswith("buildkite_connector")]
    told = f"{raised.value!r} {traceback.format_exception(raised.value)} {logged} {records}"
    assert write(token)[8:28] not in told
    assert token not in told
    if place not in ("content", "redirect"):
        assert PLACEHOLDER in raised.value.message
