"""C1's REST API against the simulated C1: state, a sync now, creation, tokens, the Lease, and what C1 sends."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from buildkite_connector.c1 import rest
from buildkite_connector.c1.rest_payload import ConnectorAnswer
from buildkite_connector.connector.ports import C1Rest, C1RestClients
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_QUOTE, Redactor
from buildkite_connector.model.spec import C1Access
from buildkite_connector.model.status import C1State, C1SyncState
from fakes.c1_setup import SetClock, connect, opened
from simulators.c1.apps import Connector, SyncState
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator
from simulators.c1.token import Role
from unit.c1.rest_setup import CALLS, MARKER, OWNERS, at_a_hostile_c1, rest_client
from unit.hostile.c1_answers import ACCESS_TOKEN, KEY, PRIVATE, after_a_token, whole

OTHER = "buildkite-connector/9c9c9c9c-1111-2222-3333-444444444444"
NOW = datetime(2026, 8, 1, 12, 0, 0, 250_000, tzinfo=UTC)
SHOWN = NOW.replace(microsecond=0)
"""As the status keeps it."""


@pytest.fixture
def connector(sim: C1Simulator) -> Connector:
    return sim.register_connector()


async def test_a_connector_that_has_not_synced_has_no_state(sim: C1Simulator, connector: Connector) -> None:
    async with rest_client(sim) as client:
        assert await client.connector(connector.app_id, connector.id) == C1State()
    assert sim.violations == []


@pytest.mark.parametrize("state", [each for each in SyncState if each is not SyncState.UNSPECIFIED])
async def test_the_state_is_c1s_own(sim: C1Simulator, connector: Connector, state: SyncState) -> None:
    connector.started_at, connector.completed_at = NOW, NOW
    connector.schedule = {"cronSpec": "0 3 * * *", "timezone": "Europe/Berlin", "start": None}
    sim.connectors.set_state(connector, state, last_error="no\nsuch\x00 file")
    async with rest_client(sim) as client:
        assert await client.connector(connector.app_id, connector.id) == C1State(
            state=C1SyncState(state.removeprefix("SYNC_STATUS_")),
            started_at=SHOWN,
            completed_at=SHOWN,
            last_error="no such file",
            schedule="0 3 * * * Europe/Berlin",
        )


async def test_a_pause_says_since_when_and_why(sim: C1Simulator, connector: Connector) -> None:
    sim.connectors.pause(connector, "DATA_DROP", "Half is gone.")
    async with rest_client(sim) as client:
        state = await client.connector(connector.app_id, connector.id)
    assert connector.paused is not None
    paused_at = connector.paused.at.replace(microsecond=0)
    assert state == C1State(C1SyncState.DISABLED, paused_at=paused_at, paused_reason="DATA_DROP: Half is gone.")


async def test_a_sync_that_is_forced_becomes_a_task(sim: C1Simulator) -> None:
    registered = sim.register_client()
    connector = sim.register_connector(registered)
    async with rest_client(sim) as client, connect(sim, client=registered) as session:
        await session.hello()
        await client.force_sync(connector.app_id, connector.id)
        await sim.wait_for(lambda: sim.tasks)
        assert (await session.next_task()).task is not None
        assert (await client.connector(connector.app_id, connector.id)).state is C1SyncState.RUNNING
        with pytest.raises(Failure, match=r"refused the request to sync .*: 409 \(the connector is ") as caught:
            await client.force_sync(connector.app_id, connector.id)
    assert caught.value.reason is Reason.C1_CONFLICT
    assert sim.violations == []


async def test_app_connector_and_credential_are_created_found_and_revoked(sim: C1Simulator) -> None:
    async with rest_client(sim) as client:
        assert await client.find_apps(MARKER) == ()
        app = await client.create_app("Buildkite", OWNERS, MARKER)
        assert await client.find_connectors(app, MARKER) == ()
        connector = await client.create_connector(app, "Acme", OWNERS, MARKER)
        credential = await client.create_credential(app, connector)
        assert (await client.find_apps(MARKER), await client.find_apps(OTHER)) == ((app,), ())
        assert (await client.find_connectors(app, MARKER), await client.find_connectors(app, OTHER)) == (
            (connector,),
            (),
        )
        made = await client.credential(app, connector, credential.id)
        await client.revoke_credential(app, connector, credential.id)
        assert await client.credential(app, connector, credential.id) is None
        await client.revoke_credential(app, connector, credential.id)
    assert made is not None
    assert (made.last_used_at, made.expires_at) == (None, credential.expires_at)
    assert sim.connectors.apps[app].owners == sim.connectors.connectors[connector].owners == ["user1"]
    assert sim.connectors.connectors[connector].display_name == "Acme"
    assert credential.client_secret not in repr(credential)
    assert credential.client_id not in repr(credential)
    assert sim.violations == []


async def test_only_what_has_the_marker_counts_and_the_oldest_comes_first(sim: C1Simulator) -> None:
    async with rest_client(sim) as client:
        apps = [await client.create_app("A", (), marker) for marker in (MARKER, OTHER, MARKER, MARKER)]
        connectors = [await client.create_connector(apps[0], "A", (), mark) for mark in (MARKER, OTHER, MARKER, MARKER)]
        everything = sim.connectors
        everything.delete_app(everything.apps[apps[3]])
        everything.delete(everything.connectors[connectors[3]])
        everything.apps[apps[0]].created_at = everything.connectors[connectors[0]].created_at = NOW.replace(year=9998)
        everything.add_app("A", annotations={"managed_by": "buildkite-connector", "iac_resource_address": f"{MARKER}0"})
        everything.add_app("A", annotations={"managed_by": "terraform", "iac_resource_address": MARKER})
        text = everything.connectors[connectors[0]].description
        everything.add(everything.apps[apps[0]], catalog_id="2CAxwRi97USAHvLdVPpyuoITull", description=text)
        everything.add(everything.apps[apps[0]], description=text.replace(MARKER, f"{MARKER}0"))
        assert await client.find_apps(MARKER) == (apps[2], apps[0])
        assert await client.find_connectors(apps[0], MARKER) == (connectors[2], connectors[0])


async def test_what_was_created_for_a_namespace_and_name_is_found_whatever_the_uid(sim: C1Simulator) -> None:
    place = "buildkite-connector/default/acme/"
    async with rest_client(sim) as client:
        marks = (f"{place}1", "buildkite-connector/default/acme2/1", f"{place}2")
        apps = [await client.create_app("A", (), mark) for mark in marks]
        connectors = [await client.create_connector(apps[0], "A", (), mark) for mark in marks]
        sim.connectors.add_app("A", annotations={"managed_by": "terraform", "iac_resource_address": f"{place}1"})
        by_hand = sim.connectors.add(sim.connectors.apps[apps[0]], description="By hand")
        assert await client.find_apps(place) == (apps[0], apps[2])
        assert await client.find_connectors(apps[0], place) == (connectors[0], connectors[2])
        assert await client.find_connectors(apps[0], "") == (*connectors, by_hand.id)
        assert await client.find_connectors(apps[1], "") == ()


async def test_all_pages_are_read(sim: C1Simulator) -> None:
    apps = [sim.connectors.add_app(f"app {n}") for n in range(2 * rest.PAGE_SIZE)]
    async with rest_client(sim) as client:
        last = await client.create_app("A", (), MARKER)
        assert await client.find_apps(MARKER) == (last,)
        for number in range(2 * rest.PAGE_SIZE):
            sim.connectors.add(apps[0], display_name=f"connector {number}")
        connector = await client.create_connector(apps[0].id, "A", (), MARKER)
        assert await client.find_connectors(apps[0].id, MARKER) == (connector,)
    assert [len(sim.calls(rpc)) for rpc in ("ListApps", "ListConnectors")] == [3, 3]
    assert sim.violations == []


@pytest.mark.thorough
async def test_a_page_of_the_largest_apps_is_read(sim: C1Simulator) -> None:
    annotations = {f"{number:064d}": "v" * 256 for number in range(12)}
    largest = {"description": "d" * 2048, "instructions": "i" * 2048, "annotations": annotations}
    for number in range(rest.PAGE_SIZE):
        sim.connectors.add_app(f"app {number}", owners=["2abcDEFghiJKLmnoPQRstuVWXyz"] * 20, **largest)
    async with rest_client(sim) as client:
        assert await client.find_apps(MARKER) == ()
    assert len(sim.calls("ListApps")) == 1
    assert rest.PAGE_SIZE * rest.MOST_PAGES >= 20_000


async def test_a_missing_role_and_a_wrong_app_are_told_apart(sim: C1Simulator, connector: Connector) -> None:
    async with rest_client(sim, roles=[Role.CONNECTOR_ADMINISTRATOR]) as client:
        for app_id, connector_id, missing in (
            ("wrong", connector.id, "C1 does not have app wrong either"),
            (connector.app_id, "wrong", f"App {connector.app_id} has connectors, but not wrong"),
        ):
            with pytest.raises(Failure, match=missing) as caught:
                await client.force_sync(app_id, connector_id)
            assert caught.value.reason is Reason.C1_NOT_FOUND
    async with rest_client(sim, roles=[Role.READ_ONLY_ADMINISTRATOR]) as client:
        await client.connector(connector.app_id, connector.id)
        with pytest.raises(Failure, match="lacks the role Connector Administrator in C1") as caught:
            await client.force_sync(connector.app_id, connector.id)
        assert caught.value.reason is Reason.C1_ACCESS_DENIED


@pytest.mark.parametrize("shown", [True, False])
async def test_a_connector_that_was_deleted_is_not_found(shown: bool) -> None:
    async with C1Simulator(Policy(validate=False, shows_deleted=shown)) as sim, rest_client(sim) as client:
        connector = sim.register_connector()
        credential = await client.create_credential(connector.app_id, connector.id)
        await client.revoke_credential(connector.app_id, connector.id, credential.id)
        assert await client.credential(connector.app_id, connector.id, credential.id) is None
        sim.connectors.delete(connector)
        with pytest.raises(Failure, match="was deleted in C1" if shown else ": 404") as caught:
            await client.connector(connector.app_id, connector.id)
        assert await client.credential(connector.app_id, connector.id, credential.id) is None
    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_NOT_FOUND, Remedy.EDIT)


# Tokens, the Lease, the shared channel


async def test_one_token_serves_many_calls_and_is_replaced_once(sim: C1Simulator, connector: Connector) -> None:
    async with rest_client(sim) as client:
        for _ in range(3):
            await client.connector(connector.app_id, connector.id)
        sim.authority.expire_tokens()
        await asyncio.gather(*(client.connector(connector.app_id, connector.id) for _ in range(5)))
    assert sim.token_requests == 2
    assert {call.code for call in sim.calls("GetConnector")} == {"200", "401"}


async def test_a_token_is_used_as_long_as_c1_says(sim: C1Simulator, connector: Connector) -> None:
    clock = SetClock()
    sim.policy.token_lifetimes["spc"] = 600
    async with rest_client(sim, clock=clock) as client:
        for ahead in (0, 530, 20):
            clock.ahead += ahead
            await client.connector(connector.app_id, connector.id)
            requests = sim.token_requests
    assert requests == 2


async def test_a_client_that_c1_forgot_is_rejected(sim: C1Simulator, connector: Connector) -> None:
    registered = sim.register_rest_client("pcc", [Role.CONNECTOR_ADMINISTRATOR])
    async with rest_client(sim, access=C1Access(registered.client_id, registered.client_secret)) as client:
        await client.connector(connector.app_id, connector.id)
        sim.authority.refuse(registered.client_id)
        with pytest.raises(Failure, match="create another and replace the client ID and secret") as caught:
            await client.connector(connector.app_id, connector.id)
    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)


async def test_a_refusal_while_the_clock_is_wrong_blames_the_clock() -> None:
    clock = SetClock()
    clock.wrong_by = timedelta(seconds=600)
    async with C1Simulator(Policy(validate=False), clock=clock) as sim, rest_client(sim, clock=clock) as client:
        sim.answer_rest("ForceSync", 401, times=None)
        with pytest.raises(
            Failure, match=r"refused the request to sync .*: 401\. This machine's clock says .* ahead of"
        ) as caught:
            await client.force_sync("app1", "con1")
    assert (caught.value.reason, caught.value.remedy) == (Reason.CLOCK_WRONG, Remedy.RETRY)


class Fence:
    """Lets through what is asked `most` times."""

    def __init__(self, most: int) -> None:
        self.left = most

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "not the leader")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("most", "requests"), [(0, []), (1, [("Token", "200")])])
async def test_nothing_is_asked_by_a_process_that_may_not_act(
    sim: C1Simulator, name: str, most: int, requests: list[tuple[str, str]]
) -> None:
    async with rest_client(sim, may_send=Fence(most)) as client:
        with pytest.raises(Failure, match="not the leader"):
            await CALLS[name].make(client)
    assert [(call.rpc, call.code) for call in sim.transcript] == requests


async def test_a_refused_token_is_replaced_and_then_it_may_not_act_any_more(
    sim: C1Simulator, connector: Connector
) -> None:
    async with rest_client(sim, may_send=Fence(4)) as client:
        await client.connector(connector.app_id, connector.id)
        sim.authority.expire_tokens()
        with pytest.raises(Failure, match="not the leader"):
            await client.connector(connector.app_id, connector.id)
    assert [call.code for call in sim.calls("GetConnector")] == ["200", "401"]


async def test_the_channel_is_shared_with_the_session_and_given_back(sim: C1Simulator) -> None:
    registered = sim.register_client()
    spare = sim.register_rest_client()
    async with opened(sim) as c1:
        factory: C1RestClients = c1.rest
        client: C1Rest = factory(C1Access(spare.client_id, spare.client_secret))
        other = c1.rest(C1Access(spare.client_id, spare.client_secret))
        assert len(c1.channels) == 1
        await client.aclose()
        await client.aclose()
        assert len(c1.channels) == 1
        await other.aclose()
        assert len(c1.channels) == 0
        with pytest.raises(RuntimeError, match="closed"):
            await other.force_sync("app1", "con1")
    assert registered.client_id != spare.client_id
    assert sim.transcript == type(sim.transcript)()


@pytest.mark.parametrize(
    ("access", "reason"),
    [
        (C1Access("otter@acme.conductor.one/spc", "secret"), Reason.CLIENT_SECRET_INVALID),
        (C1Access("otter", "secret"), Reason.CLIENT_ID_INVALID),
        (C1Access("otter@acme.conductor.one/spc"), Reason.CLIENT_ID_INVALID),
        (C1Access("otter@acme.conductor.one/wfe"), Reason.WORKLOAD_IDENTITY_REJECTED),
    ],
)
async def test_an_access_that_cannot_work_is_refused_before_any_call(
    sim: C1Simulator, access: C1Access, reason: Reason
) -> None:
    async with opened(sim) as c1:
        with pytest.raises(Failure) as caught:
            c1.rest(access)
        assert len(c1.channels) == 0
    assert (caught.value.reason, caught.value.remedy) == (reason, Remedy.CREDENTIALS)
    assert "otter" not in caught.value.message


async def test_a_host_that_is_not_allowed_is_not_asked(sim: C1Simulator) -> None:
    registered = sim.register_rest_client()
    async with opened(sim, allowed_hosts="*.conductor.one", token_file="/token") as c1:
        for access in (
            C1Access(registered.client_id, registered.client_secret),
            C1Access("otter@vault.internal/wfe"),
        ):
            with pytest.raises(Failure, match="names a host that is not allowed") as caught:
                c1.rest(access)
            assert caught.value.reason is Reason.CLIENT_ID_INVALID
            assert "vault" not in caught.value.message
    assert sim.transcript == type(sim.transcript)()


@pytest.mark.parametrize("text", ["", "a/b", "..", "a" * 65, "a?b", "a b", "é", "a\n"])
async def test_an_id_that_does_not_fit_a_path_is_not_sent(sim: C1Simulator, text: str) -> None:
    async with rest_client(sim) as client:
        for call in (
            client.connector(text, "con1"),
            client.connector("app1", text),
            client.force_sync("app1", text),
            client.find_connectors(text, MARKER),
            client.create_connector(text, "A", (), MARKER),
            client.create_credential("app1", text),
            client.credential("app1", "con1", text),
            client.revoke_credential("app1", "con1", text),
        ):
            with pytest.raises(Failure, match="ID must have 1 to 64 letters") as caught:
                await call
            assert (caught.value.reason, caught.value.remedy) == (Reason.SPEC_INVALID, Remedy.EDIT)
    assert sim.transcript == type(sim.transcript)()


# What C1 sends


def shown(**fields: Any) -> str:
    return json.dumps({"connectorView": {"connector": {"id": "con1", **fields}}, "expanded": []})


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"status": None}, C1State()),
        ({"status": {"status": None, "startedAt": None, "lastError": None}}, C1State()),
        ({"status": {"status": "SYNC_STATUS_UNSPECIFIED"}}, C1State()),
        ({"status": {"status": "SYNC_STATUS_DREAMING", "lastError": "x"}}, C1State(last_error="x")),
        ({"status": {"status": 7, "startedAt": 7, "completedAt": "soon", "lastError": ["x"]}}, C1State()),
        ({"status": {"startedAt": "2026-08-01T12:00:00.250000999Z"}}, C1State(started_at=SHOWN)),
        ({"status": {"startedAt": "2026-08-01T14:00:00.25+02:00"}}, C1State(started_at=SHOWN)),
        ({"status": {"startedAt": "2026-08-01T12:00:00"}}, C1State()),
        ({"status": {"startedAt": "0001-01-01T00:00:00+14:00"}}, C1State()),
        ({"status": {"startedAt": "9" * 5000}}, C1State()),
        ({"connectorSyncCronSchedule": None}, C1State()),
        ({"connectorSyncCronSchedule": {"cronSpec": "@daily", "timezone": ""}}, C1State(schedule="@daily")),
        ({"syncDisabledReason": "x" * 5000}, C1State(paused_reason="x" * (LONGEST_QUOTE - 1) + "…")),
        (
            {"status": {"lastError": f"a {ACCESS_TOKEN} b"}, "syncDisabledReason": f"c {KEY} d"},
            C1State(last_error="a [redacted] b", paused_reason="c [redacted] d"),
        ),
        (
            {"connectorSyncCronSchedule": {"cronSpec": f"0 3 {PRIVATE}"}, "later": [{"field": 1}]},
            C1State(schedule="0 3 [redacted]"),
        ),
    ],
)
async def test_what_c1_shows_is_read_with_tolerance_and_cleaned(fields: dict[str, Any], state: C1State) -> None:
    async with at_a_hostile_c1(after_a_token(whole(shown(**fields)))) as (client, _):
        assert await client.connector("app1", "con1") == state


def test_of_a_long_text_little_is_kept() -> None:
    """Each connector's client keeps what C1 last sent, so that it is not cleaned again."""
    long = {"status": {"lastError": "x" * 200_000}, "syncDisabledCategory": "y" * 20_000}
    found = ConnectorAnswer.model_validate_json(shown(**long)).connector_view.connector
    assert len(found.status.last_error) == len(found.sync_disabled_category) == 4096


SECRET = "secret-token:conductorone.com:v1:bmV3LXNlY3JldA"


@pytest.mark.parametrize(
    ("name", "answer", "how"),
    [
        ("connector", "{}", "without the connector"),
        ("connector", '{"connectorView": null}', "without the connector"),
        ("connector", '{"connectorView": {"connector": null}}', "without the connector"),
        ("connector", '{"connectorView": 7}', "with something other than C1 documents"),
        ("apps", "{}", "with something other than C1 documents"),
        ("connectors", "{}", "with something other than C1 documents"),
        ("apps", "", "with something other than C1 documents"),
        ("apps", '{"list": {}}', "with something other than C1 documents"),
        ("apps", json.dumps({"list": [{}] * 1001}), "with something other than C1 documents"),
        ("apps", json.dumps({"list": [], "nextPageToken": "x" * 4097}), "with something other than C1 documents"),
        ("apps", '{"list": [], "nextPageToken": "2"}', "with a page token that it had given before"),
        ("connectors", '{"list": null, "nextPageToken": "2"}', "with a page token that it had given before"),
        ("create_app", '{"app": {"id": "a/b"}}', "without a usable ID"),
        ("create_app", json.dumps({"app": {"id": PRIVATE}}), "without a usable ID"),
        ("create_app", "{}", "without a usable ID"),
        ("create_connector", "{}", "without a usable ID"),
        ("create_credential", "{}", "without a client ID and secret"),
        (
            "create_credential",
            json.dumps({"credential": {"id": "1", "clientId": "a"}}),
            "without a client ID and secret",
        ),
        (
            "create_credential",
            json.dumps({"credential": {"id": "", "clientId": "a", "clientSecret": SECRET}}),
            "without a usable ID",
        ),
        ("credential", "{}", "without the credential"),
    ],
)
async def test_an_answer_without_what_is_needed_is_refused(name: str, answer: str, how: str) -> None:
    async with at_a_hostile_c1(after_a_token(whole(answer))) as (client, c1):
        with pytest.raises(Failure) as caught:
            await CALLS[name].make(client)
    assert caught.value.message.startswith(f"{c1}, asked to {CALLS[name].words}, answered {how}. ")
    assert caught.value.reason is Reason.C1_UNAVAILABLE
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("deleted_at", [None, "2026-08-01T12:00:00Z"])
async def test_what_a_list_shows_as_deleted_is_not_found(deleted_at: str | None) -> None:
    marks = {"managed_by": "buildkite-connector", "iac_resource_address": MARKER}
    app = {"id": "new1", "annotations": marks, "deletedAt": deleted_at}
    text = f"Managed by buildkite-connector ({MARKER})"
    connector = {"id": "new1", "catalogId": rest.BATON, "description": text, "deletedAt": deleted_at}
    lists = [whole(json.dumps({"list": [item]})) for item in (app, {"connector": connector})]
    async with at_a_hostile_c1(after_a_token(*lists)) as (client, _):
        found = [await client.find_apps(MARKER), await client.find_connectors("app1", MARKER)]
    assert found == [() if deleted_at else ("new1",)] * 2


async def test_a_text_that_c1_shows_again_is_not_cleaned_again(
    sim: C1Simulator, connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted: list[str] = []
    quote = Redactor.quote

    def noting(self: Redactor, text: str, limit: int = LONGEST_QUOTE) -> str:
        quoted.append(text)
        return quote(self, text, limit)

    monkeypatch.setattr(Redactor, "quote", noting)
    async with rest_client(sim) as client:
        for error in ("one", "one", "two", "one"):
            sim.connectors.set_state(connector, SyncState.ERROR, last_error=error)
            assert (await client.connector(connector.app_id, connector.id)).last_error == error
    assert quoted == ["one", "two", "one"]


async def test_pages_without_an_end_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MOST_PAGES", 5)
    pages = [whole(json.dumps({"list": [], "nextPageToken": str(number)})) for number in range(6)]
    async with at_a_hostile_c1(after_a_token(*pages)) as (client, _):
        with pytest.raises(Failure, match="answered with more than 5 pages, which is the limit"):
            await client.find_apps(MARKER)


async def test_a_list_that_takes_too_long_is_left(sim: C1Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "LISTING_TIMEOUT", 0.0)
    for number in range(rest.PAGE_SIZE + 1):
        sim.connectors.add_app(f"app {number}")
    async with rest_client(sim) as client:
        with pytest.raises(Failure, match="asked to list the apps, did not answer within 0 s"):
            await client.find_apps(MARKER)
    assert len(sim.calls("ListApps")) == 1


async def test_the_secret_of_a_new_credential_is_known_to_what_quotes_c1() -> None:
    made = whole(json.dumps({"credential": {"id": "1", "clientId": "a@b/ccc", "clientSecret": SECRET}}))
    echo = whole(json.dumps({"message": f"no {SECRET.rpartition(':')[2]}"}), "409 No")
    async with at_a_hostile_c1(after_a_token(made, echo)) as (client, _):
        await client.create_credential("app1", "con1")
        with pytest.raises(Failure, match=r": 409 \(no \[redacted\]\)"):
            await client.create_credential("app1", "con1")


@pytest.mark.parametrize("overridden", [False, True], ids=["allowed", "BATON_C1_API_HOST"])
async def test_the_client_ids_host_is_quoted_only_where_calls_go_to_it(sim: C1Simulator, overridden: bool) -> None:
    host = "vault.internal.example" if overridden else sim.address
    registered = sim.authority.register_rest_client(host, "spc", "user1", [Role.CONNECTOR_ADMINISTRATOR])
    access = C1Access(registered.client_id, registered.client_secret)
    sim.answer_rest("ForceSync", 409, json.dumps({"message": f"see {host}"}))
    async with rest_client(sim, access=access, api_host=sim.address if overridden else "") as client:
        with pytest.raises(Failure, match=r": 409 \(see ") as caught:
            await client.force_sync("app1", "con1")
    assert (host in caught.value.message.partition("409")[2]) is not overridden
