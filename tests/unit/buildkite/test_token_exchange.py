"""Exchanged tokens over a real socket: what is sent, who shares one, when it is renewed, and which quota it uses."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import jwt
import pytest

from buildkite_connector.buildkite.errors import LONGEST_BUILDKITE_WAIT
from buildkite_connector.buildkite.exchange_answers import TOKEN_SECONDS
from buildkite_connector.buildkite.exchange_endpoint import EXCHANGES_AT_ONCE
from buildkite_connector.model.directory import FULL_SCOPE, Membership, OrganizationSlug, Role, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import ScopesMissing, preflight
from fakes.buildkite_setup import HASTY
from fakes.exchange_setup import READING, ec_pem, jwk_of, register, rsa_pem
from fakes.virtual_time import virtual_time
from simulators.buildkite import faults
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from unit.buildkite.exchanging import Exchanging, exchanging

PATIENT = replace(HASTY, timeouts=replace(HASTY.timeouts, read=20.0, total=30.0))


@pytest.mark.parametrize(("pem", "algorithm"), [(ec_pem(), "ES256"), (rsa_pem(), "RS256")], ids=["EC", "RSA"])
@virtual_time
async def test_the_assertion_is_what_buildkite_documents(pem: str, algorithm: str) -> None:
    async with exchanging(pem=pem) as setup:
        client = setup.client()
        facts = await client.token()
        sent = setup.sim.exchanges.minted[0]
        assert await setup.ask(client) == setup.sim.organization.name

    assert (facts.scopes, facts.expires_at) == (frozenset(READING), None)
    header, claims = (
        jwt.get_unverified_header(sent.assertion),
        jwt.decode(sent.assertion, options={"verify_signature": False}),
    )
    assert header == {"alg": algorithm, "typ": "JWT", "kid": jwk_of(pem)["kid"]}
    assert claims.keys() == {"iss", "sub", "aud", "iat", "exp", "jti"}
    assert claims["iss"] == claims["sub"] == setup.registered.exchange.client_id
    assert claims["aud"] == "https://buildkite.com/oauth/token"
    assert claims["exp"] - claims["iat"] == 300
    assert len(claims["jti"]) == 32
    assert sent.scopes == READING


@virtual_time
async def test_a_person_can_be_named_by_uuid() -> None:
    async with exchanging() as setup:
        member = setup.sim.organization.members.records[0]
        setup.registered.exchange = replace(setup.registered.exchange, subject=member["id"])
        facts = await setup.client().token()
        assert (facts.owner_email, setup.exchanges) == ("", 1)


@virtual_time
async def test_an_organization_that_is_not_found_is_not_blamed_on_an_api_token() -> None:
    async with exchanging() as setup:
        client = setup.client()
        setup.sim.fault(faults.answer(404, {}), path="/v2/organizations/*", times=2)
        told = []
        with pytest.raises(Failure) as by_client:
            await setup.ask(client)
        told.append(by_client.value.message)
        setup.sim.fault(faults.answer(200, []), path="/v2/organizations")
        with pytest.raises(Failure) as by_preflight:
            await preflight(client, OrganizationChoice("acme"), FULL_SCOPE.kinds)
        told.append(by_preflight.value.message)
    knows = "Buildkite knows no organization 'acme' that the token exchange app's token can access."
    advice = "Check that the app and the subject belong to it."
    assert told == [
        f"{knows} Check the slug. {advice}",
        f"{knows} The token cannot access any organization. {advice}",
    ]


@virtual_time
async def test_callers_at_the_same_time_share_one_exchange_and_a_later_one_needs_none() -> None:
    async with exchanging() as setup:
        await asyncio.gather(*(setup.ask(setup.client()) for _ in range(50)))
        await setup.ask(setup.client())
        assert (setup.exchanges, setup.unauthorized) == (1, 0)


@virtual_time
async def test_what_nobody_has_asked_for_lately_is_forgotten_whatever_came_of_it_and_whoever_asks() -> None:
    """Each holds a private key, which a connector that was deleted must not leave in memory."""

    def kept() -> list[frozenset[str]]:
        return [each.app.request.scopes for each in setup.buildkite._exchanges._tokens.values()]

    async with exchanging() as setup:
        await setup.ask(setup.client())
        with pytest.raises(Failure):
            await setup.client("read_suites").token()
        used = setup.client(READING[0])
        assert len(kept()) == 3
        await setup.clock.sleep(TOKEN_SECONDS - 1.0)
        await used.token()
        await setup.clock.sleep(2.0)
        assert kept() == [frozenset({READING[0]})]
        await setup.clock.sleep(TOKEN_SECONDS)
        assert kept() == []
        await setup.clock.sleep(TOKEN_SECONDS)
        await setup.ask(setup.client())
        await setup.clock.sleep(2 * TOKEN_SECONDS)
        assert kept() == []


@virtual_time
async def test_callers_at_the_same_time_share_a_failure_and_a_later_one_asks_again() -> None:
    async with exchanging() as setup:
        setup.sim.exchanges.revoke(setup.registered.app.client_id)
        told = await asyncio.gather(*(setup.ask(setup.client()) for _ in range(50)), return_exceptions=True)
        assert {type(each) for each in told} == {Failure}
        assert setup.exchanges == 1
        with pytest.raises(Failure):
            await setup.ask(setup.client())
        assert setup.exchanges == 2


@virtual_time
async def test_one_of_those_who_wait_can_be_cancelled() -> None:
    async with exchanging(settings=PATIENT) as setup:
        setup.sim.fault(faults.slow(5.0), path="/oauth/token")
        first, second = (asyncio.create_task(setup.client().token()) for _ in range(2))
        await asyncio.sleep(1.0)
        first.cancel()
        assert (await second).scopes == set(READING)
        assert setup.exchanges == 1


@virtual_time
async def test_other_scopes_another_person_and_another_key_each_get_a_token_of_their_own() -> None:
    async with exchanging(grantable=(*READING, "write_teams")) as setup:
        known = setup.registered.exchange
        setup.registered.app.jwks.append(jwk_of(rsa_pem()))
        other = setup.sim.organization.members.records[1]["email"]
        await setup.ask(setup.client())
        await setup.ask(setup.client(*READING, "write_teams"))
        setup.registered.exchange = replace(known, subject=other)
        await setup.ask(setup.client())
        setup.registered.exchange = replace(known, private_key=rsa_pem())
        await setup.ask(setup.client())
        minted = setup.sim.exchanges.minted
        assert len({each.token for each in minted}) == len(minted) == 4
        assert [set(each.scopes) for each in minted[:2]] == [set(READING), {*READING, "write_teams"}]
        assert minted[3].kid == jwk_of(rsa_pem())["kid"]


@virtual_time
async def test_who_lacks_the_private_key_does_not_get_the_token_that_is_kept() -> None:
    async with exchanging() as setup:
        await setup.ask(setup.client())
        setup.registered.exchange = replace(setup.registered.exchange, private_key=ec_pem(1))
        with pytest.raises(Failure) as raised:
            await setup.ask(setup.client())
        assert raised.value.reason is Reason.TOKEN_EXCHANGE_REJECTED


@pytest.mark.thorough
@virtual_time
async def test_a_sync_of_three_hours_meets_no_401_and_one_exchange_for_each_renewal() -> None:
    organization = make_organization(120, 150, 300, slug="acme")
    async with exchanging(organization=organization, life=300, config={"limits": Limits(user=1)}) as setup:
        client, began = setup.client(), setup.clock.monotonic()
        found = await preflight(client, OrganizationChoice(organization.slug), FULL_SCOPE.kinds)
        collection = await collect(client, found.organization, FULL_SCOPE)
        seconds = setup.clock.monotonic() - began
        assert len(collection.directory.accounts) == len(organization.members)
        assert seconds > 3 * 3600
        assert setup.unauthorized == 0
        assert 3 * 3600 / 300 < setup.exchanges <= seconds / 240 + 1


@virtual_time
async def test_a_sync_that_waits_for_its_quota_renews_its_token_at_the_moment_of_each_request() -> None:
    """A request may wait for a minute after its token was looked at."""
    async with exchanging(life=60, config={"limits": Limits(user=4)}) as setup:
        client = setup.client()
        slug = OrganizationChoice(setup.sim.organization.slug)
        found = await preflight(client, slug, FULL_SCOPE.kinds)
        collection = await collect(client, found.organization, FULL_SCOPE)
        assert len(collection.directory.accounts) == len(setup.sim.organization.members)
        assert client.throttled_seconds > 120
        assert setup.unauthorized == 0
        assert not any(each.status == 429 for each in setup.sim.requests)


@virtual_time
async def test_the_quota_is_the_persons_and_not_each_tokens() -> None:
    async with exchanging(life=30, config={"limits": Limits(user=10)}) as setup:
        for _ in range(40):
            await setup.ask(setup.client())
        assert len(setup.sim.exchanges.minted) > 3
        assert not any(each.status == 429 for each in setup.sim.requests)


@virtual_time
async def test_a_revoked_token_is_replaced_once() -> None:
    async with exchanging() as setup:
        client = setup.client()
        await setup.ask(client)
        setup.sim.api.revoke(setup.sim.exchanges.minted[0].token)
        await asyncio.gather(*(setup.ask(client) for _ in range(20)))
        assert len(setup.sim.exchanges.minted) == 2


@virtual_time
async def test_a_late_refusal_of_the_old_token_leaves_the_new_one_in_use() -> None:
    async with exchanging(settings=PATIENT) as setup:
        client = setup.client()
        await setup.ask(client)
        setup.sim.api.revoke(setup.sim.exchanges.minted[0].token)
        setup.sim.fault(faults.slow(5.0), path="/v2/organizations/*")
        late = asyncio.create_task(setup.ask(client))
        await asyncio.sleep(1.0)
        await setup.ask(client)
        await late
        await setup.ask(client)
        assert (len(setup.sim.exchanges.minted), setup.unauthorized) == (2, 2)


@virtual_time
async def test_a_write_is_sent_again_after_a_revoked_token() -> None:
    async with exchanging(grantable=(*READING, "write_teams"), config={"writes_expected": True}) as setup:
        client, organization = setup.client(*READING, "write_teams"), setup.sim.organization
        await setup.ask(client)
        setup.sim.api.revoke(setup.sim.exchanges.minted[0].token)
        team = TeamID(next(iter(organization.team_members)))
        inside = {each["user_id"] for each in organization.team_members[team].records}
        outside = next(each["id"] for each in organization.members.records if each["id"] not in inside)
        wanted = Membership(team, outside, Role.MEMBER)
        assert await client.create(OrganizationSlug(organization.slug), wanted) == wanted


@virtual_time
async def test_a_process_that_may_not_act_now_exchanges_nothing() -> None:
    def stop() -> None:
        raise Failure(Reason.KUBERNETES_UNAVAILABLE, "the Lease is lost")

    async with exchanging(may_send=stop) as setup:
        with pytest.raises(Failure, match="the Lease is lost"):
            await setup.client().token()
        assert setup.exchanges == 0


@virtual_time
async def test_a_refused_exchange_is_told_apart_from_a_refused_token() -> None:
    async with exchanging() as setup:
        client = setup.client()
        await setup.ask(client)
        setup.sim.fault(faults.answer(401, {}), path="/v2/organizations/*", times=2)
        with pytest.raises(Failure, match="a token that it has just issued") as refused:
            await setup.ask(client)
        setup.sim.exchanges.revoke(setup.registered.app.client_id)
        with pytest.raises(Failure, match="Check that the app still exists") as revoked:
            await setup.ask(client)
        setup.sim.exchanges.register(setup.registered.app)
        await setup.ask(client)
    assert [each.value.reason for each in (refused, revoked)] == [
        Reason.TOKEN_REJECTED,
        Reason.TOKEN_EXCHANGE_REJECTED,
    ]
    assert {each.value.remedy for each in (refused, revoked)} == {Remedy.CREDENTIALS}


@virtual_time
async def test_a_renewal_that_fails_for_a_while_leaves_the_old_token_in_use(caplog: pytest.LogCaptureFixture) -> None:
    async with exchanging(life=300) as setup:
        client = setup.client()
        await setup.ask(client)
        setup.sim.fault(faults.unavailable(None), path="/oauth/token", times=None)
        for seconds in (241.0, 11.0, 11.0):
            await setup.clock.sleep(seconds)
            await setup.ask(client)
        await setup.clock.sleep(1.0)
        setup.sim.faults.clear()
        await setup.clock.sleep(10.0)
        await setup.ask(client)
        await setup.clock.sleep(1.0)
        assert len(setup.sim.exchanges.minted) == 2
        assert setup.unauthorized == 0
    logged = [vars(each)["error"] for each in caplog.records if "was not renewed" in each.message]
    assert len(logged) == 3
    assert all("Buildkite responded with 503" in each for each in logged)


@virtual_time
async def test_nobody_waits_for_a_renewal_that_hangs() -> None:
    async with exchanging(life=300, settings=PATIENT) as setup:
        clients = [setup.client() for _ in range(3)]
        await setup.ask(clients[0])
        setup.sim.fault(faults.slow(15.0), path="/oauth/token")
        await setup.clock.sleep(241.0)
        began = setup.clock.monotonic()
        await asyncio.gather(*(setup.ask(client) for client in clients))
        await setup.ask(clients[0])
        assert setup.clock.monotonic() - began < 1.0
        assert setup.exchanges == 1  # the second is without an answer
        await setup.clock.sleep(20.0)
        await setup.ask(clients[1])
        assert (setup.exchanges, len(setup.sim.exchanges.minted), setup.unauthorized) == (2, 2, 0)
        setup.sim.api.revoke(setup.sim.exchanges.minted[0].token)
        await setup.ask(clients[2])
        assert setup.unauthorized == 0


@virtual_time
async def test_a_renewal_under_way_ends_with_the_client() -> None:
    async with exchanging(life=300, settings=PATIENT) as setup:
        await setup.ask(setup.client())
        setup.sim.fault(faults.slow(15.0), path="/oauth/token")
        await setup.clock.sleep(241.0)
        await setup.ask(setup.client())
        assert [each.get_name() for each in asyncio.all_tasks()].count("token exchange") == 1
        await setup.buildkite.close()
        assert "token exchange" not in [each.get_name() for each in asyncio.all_tasks()]


@virtual_time
async def test_when_the_endpoint_refuses_one_for_its_rate_limit_all_others_wait_too() -> None:
    waiting = replace(HASTY, patience=replace(HASTY.patience, longest=15.0))
    async with exchanging(settings=waiting) as setup:
        others = [setup.buildkite.client(register(setup.sim, client_id=f"{app:020x}").request()) for app in range(9)]
        setup.sim.fault(faults.answer(429, {}, {"Retry-After": "7"}), path="/oauth/token")
        first = asyncio.create_task(setup.client().token())
        await setup.clock.sleep(1.0)
        await asyncio.gather(*(asyncio.create_task(client.token()) for client in others), first)
        assert 7.0 < setup.clock.monotonic() < 30.0
        assert Counter(each.status for each in setup.sim.requests) == {200: 10, 429: 1}
        assert [each for each in setup.sim.requests if 0.5 < each.at < 7.0] == []


@pytest.mark.parametrize("after", ["100", "99999"])
@virtual_time
async def test_others_are_told_at_once_when_the_endpoint_wants_to_be_left_alone_for_long(after: str) -> None:
    async with exchanging(grantable=(*READING, "write_teams")) as setup:
        setup.sim.fault(faults.answer(429, {}, {"Retry-After": after}), path="/oauth/token")
        with pytest.raises(Failure):
            await setup.client().token()
        await setup.clock.sleep(10.0)
        with pytest.raises(Failure, match="rate limit is used up") as told:
            await setup.client(*READING, "write_teams").token()
        assert (told.value.reason, told.value.remedy) == (Reason.BUILDKITE_RATE_LIMITED, Remedy.RETRY)
        assert told.value.retry_after == pytest.approx(min(int(after), LONGEST_BUILDKITE_WAIT) - 10.0, abs=1.0)
        assert setup.exchanges == 1
        await setup.clock.sleep(float(told.value.retry_after or 0))
        assert (await setup.client().token()).scopes == set(READING)


@virtual_time
async def test_a_renewal_is_not_tried_again_before_the_time_that_buildkite_names() -> None:
    async with exchanging(life=300) as setup:
        client = setup.client()
        await setup.ask(client)
        setup.sim.fault(faults.answer(429, {}, {"Retry-After": "40"}), path="/oauth/token", times=None)
        await setup.clock.sleep(241.0)
        for _ in range(3):
            await setup.ask(client)
            await setup.clock.sleep(12.0)
        assert setup.exchanges == 2
        await setup.clock.sleep(5.0)
        await setup.ask(client)
        await setup.clock.sleep(1.0)
        assert (setup.exchanges, setup.unauthorized) == (3, 0)


@virtual_time
async def test_the_old_token_is_not_repeated_however_many_renewals_fail() -> None:
    async with exchanging(life=300) as setup:
        client = setup.client()
        await setup.ask(client)
        setup.sim.fault(faults.unavailable(None), path="/oauth/token", times=None)
        for seconds in (241.0, 11.0, 11.0, 11.0):
            await setup.clock.sleep(seconds)
            await setup.ask(client)
        token = setup.sim.exchanges.minted[0].token
        setup.sim.fault(faults.answer(403, {"message": f"No {token} here"}), path="/v2/organizations/*")
        with pytest.raises(Failure, match=r"No \[redacted\] here"):
            await setup.ask(client)


@virtual_time
async def test_without_a_good_token_an_outage_of_the_endpoint_is_reported_and_passes() -> None:
    async with exchanging(life=300) as setup:
        client = setup.client()
        await setup.ask(client)
        setup.sim.fault(faults.unavailable(None), path="/oauth/token", times=None)
        await setup.clock.sleep(294.0)
        await setup.ask(client)
        await setup.clock.sleep(2.0)  # what is sent now may arrive too late
        with pytest.raises(Failure) as raised:
            await setup.ask(client)
        assert raised.value.reason is Reason.BUILDKITE_UNAVAILABLE
        setup.sim.faults.clear()
        await setup.ask(client)
        assert setup.unauthorized == 0


@virtual_time
async def test_the_old_and_the_new_key_both_work_while_the_jwks_has_both() -> None:
    async with exchanging() as setup:
        old, new = setup.registered.exchange, replace(setup.registered.exchange, private_key=ec_pem(1))
        setup.registered.app.jwks.append(jwk_of(ec_pem(1)))
        for exchange in (old, new):
            setup.registered.exchange = exchange
            await setup.ask(setup.client())
        del setup.registered.app.jwks[0]
        await setup.clock.sleep(TOKEN_SECONDS + 1.0)
        await setup.ask(setup.client())
        assert [each.kid for each in setup.sim.exchanges.minted] == [
            jwk_of(pem)["kid"] for pem in (ec_pem(), ec_pem(1), ec_pem(1))
        ]


async def _missing(setup: Exchanging, *scopes: str) -> ScopesMissing:
    with pytest.raises(ScopesMissing) as raised:
        await setup.client(*scopes).token()
    return raised.value


@virtual_time
async def test_the_scopes_that_the_app_does_not_grant_are_found_by_asking_for_each() -> None:
    wanted = (*READING, "read_clusters", "read_pipelines")
    async with exchanging(grantable=("read_organizations", "read_clusters")) as setup:
        missing = await _missing(setup, *wanted)
        assert missing.missing == ("read_pipelines", "read_teams")
        assert setup.exchanges == 1 + len(wanted)
        assert (await _missing(setup, "read_suites")).missing == ("read_suites",)
        assert setup.exchanges == 2 + len(wanted)
        assert {each.scopes for each in setup.sim.exchanges.minted} == {("read_clusters",), ("read_organizations",)}


@virtual_time
async def test_an_answer_with_fewer_scopes_than_asked_for_is_no_token() -> None:
    async with exchanging() as setup:
        answer = {"access_token": "bktx_hunter2", "expires_in": 60, "scope": "read_teams read_suites"}
        setup.sim.fault(faults.answer(200, answer), path="/oauth/token")
        assert (await _missing(setup)).missing == ("read_organizations",)


@virtual_time
async def test_scopes_that_nobody_asked_for_are_shown_nowhere() -> None:
    async with exchanging() as setup:
        told = {"access_token": "bktx_0", "expires_in": 900, "scope": f"{' '.join(READING)} \x1b[2Jwrite_teams"}
        setup.sim.fault(faults.answer(200, told), path="/oauth/token")
        assert (await setup.client().token()).scopes == set(READING)


@virtual_time
async def test_where_asking_for_each_does_not_tell_all_scopes_are_named() -> None:
    async with exchanging(grantable=()) as setup:
        setup.sim.fault(faults.unavailable(None), path="/oauth/token", skip=2, times=None)
        missing = await _missing(setup)
    assert missing.missing == READING
    assert "does not grant all of them" in missing.message


@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.thorough)])
@virtual_time
async def test_many_apps_that_start_together_ask_a_few_at_a_time(number: int) -> None:
    async with exchanging(settings=replace(HASTY, timeouts=replace(HASTY.timeouts, read=60.0, total=90.0))) as setup:
        setup.sim.latency = 0.02
        apps = [register(setup.sim, client_id=f"{app:020x}") for app in range(number)]
        clients = [setup.buildkite.client(each.request()) for each in apps]
        await asyncio.gather(*(client.token() for client in clients))
        assert len(setup.sim.exchanges.minted) == number
        assert setup.sim.transcript.peak_in_flight <= EXCHANGES_AT_ONCE


@pytest.mark.parametrize("seconds", [-200, 200])
@virtual_time
async def test_a_clock_a_few_minutes_off_is_no_obstacle(seconds: int) -> None:
    async with exchanging() as setup:
        now = setup.clock.now
        setup.sim.exchanges.now = lambda: now() + timedelta(seconds=seconds)
        await setup.client().token()
