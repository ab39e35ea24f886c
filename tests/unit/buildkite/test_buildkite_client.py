"""The client over a real socket: what it asks, how, and what it makes of the answers."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.model.directory import DEFAULT_KINDS, FULL_SCOPE, ResourceKind, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import ScopesMissing, preflight
from fakes.buildkite_setup import HASTY, NO_LIMITS, Setup, serving, small_organization
from fakes.virtual_time import virtual_time
from harness.organization import ACME_ORG, acme
from harness.trust import DIRECT, reaching
from simulators.buildkite import faults
from simulators.buildkite.api import Token
from simulators.buildkite.certificate import Certificate
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config


@virtual_time
async def test_the_real_organization_is_collected_whole() -> None:
    async with serving(Organization.load(ACME_ORG)) as setup:
        assert (await setup.sync()).directory == acme()


@virtual_time
async def test_a_sync_takes_the_fewest_requests_and_two_for_its_preflight() -> None:
    async with serving() as setup:
        collection = await setup.sync()
        assert len(setup.sim.requests) == collection.report.requests == setup.minimum + 2
        assert not setup.sim.transcript.repeats


@virtual_time
async def test_a_preflight_that_has_to_find_the_organization_takes_two_requests_as_well() -> None:
    async with serving() as setup:
        found = await preflight(setup.client(), None, DEFAULT_KINDS)
        assert found.organization == setup.expected.organization
        assert len(setup.sim.requests) == 2


@virtual_time
async def test_pages_hold_100_and_requests_say_who_asks() -> None:
    async with serving(settings=BuildkiteSettings()) as setup:
        seen: list[str] = []
        setup.sim.fault(faults.change(lambda _: None), where=lambda call: bool(seen.append(call.query["per_page"])))  # type: ignore[func-returns-value]
        await setup.client().teams(setup.expected.organization.slug, 1)
        assert seen == ["100"]


@virtual_time
async def test_the_first_requests_of_all_kinds_go_side_by_side() -> None:
    async with serving(latency=0.05) as setup:
        await setup.sync()
        assert setup.sim.transcript.peak_in_flight >= 8


@virtual_time
async def test_connections_are_kept_and_used_again() -> None:
    async with serving() as setup:
        await setup.sync()
        assert setup.sim.transcript.connections < setup.minimum


@pytest.mark.parametrize(
    ("scopes", "kinds", "missing"),
    [
        (("read_user",), DEFAULT_KINDS, ("read_organizations", "read_teams")),
        (("read_organizations",), DEFAULT_KINDS, ("read_teams",)),
        (("read_teams",), {ResourceKind.USER}, ("read_organizations",)),
    ],
)
@virtual_time
async def test_the_preflight_names_every_missing_scope(
    scopes: tuple[str, ...], kinds: set[ResourceKind], missing: tuple[str, ...]
) -> None:
    async with serving(tokens=[Token(scopes=scopes)]) as setup:
        with pytest.raises(ScopesMissing) as failed:
            await preflight(setup.client(), OrganizationChoice("acme"), kinds)
        assert failed.value.missing == missing
        assert len(setup.sim.requests) == 1


@virtual_time
async def test_a_scope_taken_away_after_the_preflight_is_named_by_the_endpoint_that_needs_it() -> None:
    async with serving(tokens=[Token(scopes=("read_organizations",))]) as setup:
        with pytest.raises(ScopesMissing, match="read_teams") as failed:
            await collect(setup.client(), setup.expected.organization, FULL_SCOPE)
        assert failed.value.missing == ("read_teams",)


@virtual_time
async def test_the_expiry_of_a_token_is_told_in_iso_8601() -> None:
    expires = datetime(2999, 7, 23, 6, 7, 42, tzinfo=UTC)
    async with serving(tokens=[Token(expires_at=expires)]) as setup:
        assert (await setup.client().token()).expires_at == expires


@virtual_time
async def test_an_unknown_slug_is_answered_with_those_that_the_token_reaches() -> None:
    async with serving() as setup:
        with pytest.raises(Failure, match=r"'acmee'.*: acme\.") as failed:
            await preflight(setup.client(), OrganizationChoice("acmee"), DEFAULT_KINDS)
        assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND


@virtual_time
async def test_several_organizations_are_listed_over_all_their_pages() -> None:
    served = [make_organization(1, 0, 0, slug=f"org-{number:03}") for number in range(150)]
    async with (
        BuildkiteSimulator(Config(served, limits=NO_LIMITS)) as sim,
        open_buildkite(BuildkiteSettings(sim.url), DIRECT) as buildkite,
    ):
        client = buildkite.client(sim.token.value)
        with pytest.raises(Failure, match="can access 150") as failed:
            await preflight(client, None, DEFAULT_KINDS)
        assert failed.value.reason is Reason.ORGANIZATION_AMBIGUOUS


@pytest.mark.parametrize("slug", [".", ".."])
@virtual_time
async def test_a_slug_that_is_a_dot_segment_is_asked_for_nowhere(slug: str) -> None:
    async with serving() as setup:
        with pytest.raises(Failure) as failed:
            await preflight(setup.client(), OrganizationChoice(slug), DEFAULT_KINDS)
        assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND
        assert [request.path for request in setup.sim.requests] == ["/v2/access-token", "/v2/organizations"]


@pytest.mark.parametrize("slug", ["../user", "acme/teams", "a b", "ä", "%2e%2e", "?page=2", "#"])
@virtual_time
async def test_a_slug_never_changes_which_endpoint_is_asked(slug: str) -> None:
    async with serving() as setup:
        with pytest.raises(Failure) as failed:
            await preflight(setup.client(), OrganizationChoice(slug), DEFAULT_KINDS)
        assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND
        asked = [request.path for request in setup.sim.requests]
        assert [path.count("/") for path in asked] == [2, 3, 2]


@pytest.mark.parametrize("token", ["", " ", "bkua_1\n2", "bkua 1", '"bkua_1"', "bkct_1", "bküa", "\ud800", "bkua_\x00"])
@virtual_time
async def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(token: str) -> None:
    async with serving() as setup:
        with pytest.raises(Failure) as failed:
            setup.buildkite.client(token)
        assert failed.value.reason is Reason.TOKEN_INVALID
        assert failed.value.remedy is Remedy.CREDENTIALS
        assert not token.strip() or token not in f"{failed.value} {failed.value!r}"


@virtual_time
async def test_teams_that_are_gone_are_left_out_and_counted() -> None:
    async with serving() as setup:
        gone = TeamID(setup.sim.organization.teams.records[3]["id"])
        setup.sim.fault(
            faults.edit_data([{"operation": "remove_team", "id": gone}]),
            path=f"/v2/organizations/acme/teams/{gone}/members",
        )
        collection = await setup.sync()
        assert gone not in {team.id for team in collection.directory.teams}
        assert collection.directory == setup.expected
        assert collection.report.teams_gone == 1


@virtual_time
async def test_a_team_that_is_listed_and_cannot_be_found_is_not_taken_for_deleted() -> None:
    async with serving() as setup:
        setup.sim.organization.remove_team(setup.sim.organization.teams.records[3]["id"], stays_listed=True)
        with pytest.raises(Failure, match="which the list of teams still has") as failed:
            await setup.sync()
        assert failed.value.reason is Reason.LIST_INCOMPLETE


@virtual_time
async def test_an_organization_lost_on_the_way_is_not_taken_for_deleted_teams() -> None:
    async with serving() as setup:
        lost = Token(organizations=frozenset({"another"}))
        setup.sim.fault(
            faults.change(lambda api: api.tokens.update({lost.value: lost})),
            path="/v2/organizations/acme/teams/*/members",
        )
        with pytest.raises(Failure) as failed:
            await setup.sync()
        assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND


@virtual_time
async def test_people_who_come_and_go_while_pages_are_read_are_all_there_in_the_end() -> None:
    async with serving() as setup:
        setup.sim.fault(
            faults.edit_data(
                [
                    {"operation": "add_member", "id": "new", "name": "New", "email": "n@example.com", "at": 0},
                    {"operation": "add_team_member", "team": _largest(setup), "user_id": "new", "user_name": "New"},
                ]
            ),
            path="/v2/organizations/acme/members",
            query={"page": "2"},
        )
        collection = await setup.sync()
        assert collection.directory.accounts == setup.expected.accounts
        assert collection.report.rereads >= 1


@virtual_time
async def test_someone_known_only_from_a_team_is_added() -> None:
    async with serving() as setup:
        someone = setup.sim.organization.team_members[_largest(setup)].records[0]["user_id"]
        setup.sim.organization.remove_member(someone, from_teams=False)
        collection = await setup.sync()
        assert collection.report.accounts_added == 1
        assert collection.directory.accounts[-1].id == someone


def _largest(setup: Setup) -> str:
    rosters = setup.sim.organization.team_members
    return max(rosters, key=lambda team: len(rosters[team]))


@virtual_time
async def test_connectors_that_share_a_token_share_its_quota() -> None:
    settings = BuildkiteSettings()
    limits = Limits(user=50, organization=None, window=1.0, reset_decimals=3)
    async with serving(make_organization(30, 20, 60, slug="acme"), settings=settings, limits=limits) as setup:
        await asyncio.gather(setup.sync(), setup.sync(), setup.sync())
        assert len(setup.sim.requests) == 3 * (setup.minimum + 2)
        assert setup.sim.transcript.throttled == 0


@virtual_time
async def test_the_quota_of_the_organization_holds_for_its_pages() -> None:
    limits = Limits(user=None, organization=20, window=1.0, reset_decimals=3)
    async with serving(make_organization(30, 20, 60, slug="acme"), limits=limits) as setup:
        await setup.sync()
        assert setup.minimum > 20
        assert setup.sim.transcript.throttled == 0


@virtual_time
async def test_an_urgent_client_waits_for_no_other() -> None:
    limits = Limits(user=1000, organization=1000)
    async with serving(settings=replace(HASTY, most_at_once=1), limits=limits, latency=0.1) as setup:
        client, slug = setup.client(), setup.expected.organization.slug
        await client.token()
        others = [asyncio.create_task(client.teams(slug, 1)) for _ in range(3)]
        await asyncio.sleep(0.01)
        began = asyncio.get_running_loop().time()
        await setup.buildkite.client(setup.sim.token.value, urgent=True).token()
        assert asyncio.get_running_loop().time() - began < 0.15
        await asyncio.gather(*others)


@pytest.mark.parametrize(("waits", "requests"), [(True, 2), (False, 1)])
@virtual_time
async def test_a_client_that_does_not_wait_reports_the_first_silence(waits: bool, requests: int) -> None:
    async with serving() as setup:
        setup.sim.fault(faults.stall())
        client = setup.buildkite.client(setup.sim.token.value, waits=waits)
        if waits:
            await client.token()
        else:
            with pytest.raises(Failure) as failed:
                await client.token()
            assert failed.value.reason is Reason.BUILDKITE_UNREACHABLE
        assert client.requests == requests


@pytest.mark.parametrize(("kilobytes", "read"), [(900, True), (1100, False)])
@virtual_time
async def test_a_page_may_be_larger_than_one_object_but_not_without_end(kilobytes: int, read: bool) -> None:
    async with serving() as setup:
        setup.sim.fault(faults.set_field("description", "x" * 1024 * kilobytes), times=None)
        client, slug = setup.client(), setup.expected.organization.slug
        if read:
            assert len((await client.teams(slug, 1)).items) == setup.page_size
        else:
            with pytest.raises(Failure, match="is larger than 1,048,576 bytes"):
                await client.teams(slug, 1)
        with pytest.raises(Failure, match="is larger than 262,144 bytes"):
            await client.token()


@virtual_time
async def test_a_client_goes_on_with_what_an_earlier_one_learned_of_the_quota() -> None:
    limits = Limits(user=10, organization=None, window=30.0)
    async with serving(limits=limits) as setup:
        for _ in range(7):
            await setup.client().token()
        await setup.client(quota_percent=80).token()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await setup.client(quota_percent=80).token()
        assert len(setup.sim.requests) == 8


@virtual_time
async def test_a_client_tells_how_long_it_waited_for_its_quota() -> None:
    limits = Limits(user=20, organization=None, window=1.0, reset_decimals=3)
    async with serving(make_organization(30, 20, 60, slug="acme"), limits=limits) as setup:
        collection = await setup.sync()
        assert setup.sim.transcript.throttled == 0
        assert collection.report.throttled_seconds > 0.5


@virtual_time
async def test_a_wait_for_the_quota_counts_while_it_lasts() -> None:
    async with serving(limits=Limits(user=1, organization=None, window=30.0)) as setup:
        client = setup.client()
        await client.token()
        waiting = asyncio.create_task(client.token())
        await asyncio.sleep(10)
        assert client.throttled_seconds == pytest.approx(10, abs=0.5)
        await waiting


@virtual_time
async def test_a_private_authority_is_trusted_by_its_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with BuildkiteSimulator(Config([small_organization()], limits=NO_LIMITS, tls=Certificate.VALID)) as sim:
        assert sim.authority is not None
        ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
        ca_file.write_bytes(sim.authority.pem)
        async with open_buildkite(BuildkiteSettings(sim.url), reaching(ca_file)) as buildkite:
            assert (await buildkite.client(sim.token.value).token()).uuid == sim.token.uuid


@virtual_time
async def test_no_proxy_gets_to_see_what_goes_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as setup:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert (await setup.client().token()).uuid == setup.sim.token.uuid


@virtual_time
async def test_a_cookie_does_not_come_back() -> None:
    async with serving() as setup:
        setup.sim.fault(faults.rate_limit_headers({"Set-Cookie": "session=1; Path=/"}))
        connections = setup.buildkite._access.connections
        await setup.client().token()
        async with connections.one() as http:
            assert not http.cookies


@virtual_time
async def test_the_token_is_in_no_log_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as setup:
        client = setup.client()
        await collect(client, setup.expected.organization, FULL_SCOPE)
        assert "httpcore" in {record.name.partition(".")[0] for record in caplog.records}
        assert setup.sim.token.value not in caplog.text
        assert setup.sim.token.value not in f"{client!r} {setup.buildkite!r}"


@virtual_time
async def test_no_request_leaves_while_this_process_may_not_act() -> None:
    acts = True

    def may_send() -> None:
        if not acts:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "not the leader")

    async with (
        serving() as setup,
        open_buildkite(BuildkiteSettings(api_url=setup.sim.url), DIRECT, may_send=may_send) as buildkite,
    ):
        client = buildkite.client(setup.sim.token.value)
        await client.teams(setup.expected.organization.slug, 1)
        acts, before = False, len(setup.sim.requests)
        with pytest.raises(Failure, match="not the leader"):
            await client.teams(setup.expected.organization.slug, 2)
        assert len(setup.sim.requests) == before


@virtual_time
async def test_a_request_that_was_let_through_is_asked_about_again_as_it_is_written() -> None:
    """Connecting takes time, and a process may be stopped amid it."""
    answers = iter([True, False])

    def may_send() -> None:
        if not next(answers):
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "not the leader")

    async with (
        serving() as setup,
        open_buildkite(BuildkiteSettings(api_url=setup.sim.url), DIRECT, may_send=may_send) as buildkite,
    ):
        with pytest.raises(Failure, match="not the leader"):
            await buildkite.client(setup.sim.token.value).teams(setup.expected.organization.slug, 1)
        assert (setup.sim.transcript.connections, setup.sim.requests) == (1, [])
