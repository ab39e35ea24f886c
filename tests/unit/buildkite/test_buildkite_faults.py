"""Everything that goes wrong in the field, over a real socket: survived, or failed with its own error.

Whatever happens, there is the whole directory or none, the token is not told, and the next sync succeeds.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import re
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.buildkite import BuildkiteSettings, Patience, open_buildkite
from buildkite_connector.c1z import SnapshotStore, read_snapshot
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.buildkite_setup import (
    HASTY,
    KEY,
    NO_LIMITS,
    TINY_PAGES,
    Setup,
    serving,
    small_organization,
    tiny_organization,
)
from fakes.virtual_time import VirtualClock, virtual_time
from harness.examples import examples, some
from harness.trust import DIRECT, reaching
from simulators.buildkite import faults
from simulators.buildkite.certificate import Certificate
from simulators.buildkite.faults import Effect
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config

MEMBERS = "/v2/organizations/acme/members"
TEAMS = "/v2/organizations/acme/teams"
TEAM_MEMBERS = "/v2/organizations/acme/teams/*/members"
PATHS = (MEMBERS, TEAMS, TEAM_MEMBERS)
PASSING: dict[str, Effect] = {
    "500": faults.server_error(),
    "502 with HTML": faults.bad_gateway(),
    "503 with Retry-After": faults.unavailable(0),
    "503 with a date": faults.unavailable("Thu, 01 Jan 2015 12:00:00 GMT"),
    "503 with nonsense": faults.unavailable("soon"),
    "503 without Retry-After": faults.unavailable(None),
    "408": faults.answer(408, {"message": "Request Timeout"}),
    "reset before the answer": faults.reset(None),
    "reset in the body": faults.reset(0.5),
    "closed before the answer": faults.disconnect(None),
    "closed in the body": faults.disconnect(0.5),
    "stalled before the answer": faults.stall(None),
    "stalled in the body": faults.stall(0.5),
    "too slow": faults.slow(5),
    "truncated JSON": faults.truncated_json(),
    "no JSON": faults.not_json(),
    "HTML with 200": faults.not_json("<html>please log in</html>"),
    "429 without headers": faults.answer(429, {"message": "slow down"}),
}
"""What is over at the next try."""
HARMLESS: dict[str, Effect] = {
    "an unknown field": faults.set_field("pronouns", {"they": ["them"]}, index=None),
    "no rate-limit headers": faults.no_rate_limit_headers(),
    "absurd rate-limit headers": faults.rate_limit_headers(
        {"RateLimit-User-Limit": "many", "RateLimit-Limit": "", "RateLimit-Reset": "1e400"}
    ),
    "negative rate-limit headers": faults.rate_limit_headers(
        {
            "RateLimit-User-Limit": "-50",
            "RateLimit-User-Remaining": "-1",
            "RateLimit-Remaining": "-7",
            "RateLimit-Reset": "-60",
        }
    ),
    "a reset in a thousand years": faults.rate_limit_headers(
        {
            "RateLimit-User-Limit": "50",
            "RateLimit-User-Remaining": "0",
            "RateLimit-User-Reset": "31557600000",
        }
    ),
    "a reset in the past": faults.rate_limit_headers({"RateLimit-User-Reset": "-99", "RateLimit-Reset": "-99"}),
    "only a next link": faults.relink("last", None),
}
"""What is strange and does not matter."""
FATAL: dict[str, tuple[Effect, str, Reason, str]] = {
    "a field missing": (faults.drop_field("id"), MEMBERS, Reason.BUILDKITE_RESPONSE_INVALID, r"members .*\[0\]\.id"),
    "a field null": (
        faults.set_field("slug", None, index=2),
        TEAMS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        r"teams .*\[2\]\.slug",
    ),
    "a field of another type": (
        faults.set_field("slug", 7),
        TEAMS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        r"\[0\]\.slug",
    ),
    "an unknown role": (
        faults.set_field("role", "owner"),
        TEAM_MEMBERS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        r"\[0\]\.role.*'member' or 'maintainer'",
    ),
    "an object for a list": (
        faults.object_instead_of_list(),
        MEMBERS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        "valid array",
    ),
    "a page loop": (faults.page_loop(), TEAMS, Reason.BUILDKITE_RESPONSE_INVALID, "next page"),
    "a next link to another host": (
        faults.links_elsewhere("https://elsewhere.example"),
        MEMBERS,
        Reason.BUILDKITE_LINK_REFUSED,
        "elsewhere.example",
    ),
    "IP not allowed": (
        faults.answer(403, {"message": "Your IP address is not in the allowlist"}),
        TEAM_MEMBERS,
        Reason.ACCESS_DENIED,
        "allowlist.*allowed IP addresses",
    ),
    "an answers_without_headers-of status": (
        faults.answer(418, {"message": "I'm a teapot"}),
        MEMBERS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        "418.*teapot",
    ),
    "the token revoked": (faults.revoke_token(), TEAM_MEMBERS, Reason.TOKEN_REJECTED, "revoked"),
}
"""What stays as it is: one try settles it."""
LASTING: dict[str, tuple[Effect, Reason]] = {
    "500": (faults.server_error(), Reason.BUILDKITE_UNAVAILABLE),
    "502 with HTML": (faults.bad_gateway(), Reason.BUILDKITE_UNAVAILABLE),
    "503 with Retry-After": (faults.unavailable(0), Reason.BUILDKITE_UNAVAILABLE),
    "reset": (faults.reset(), Reason.BUILDKITE_UNREACHABLE),
    "closed in the body": (faults.disconnect(), Reason.BUILDKITE_UNREACHABLE),
    "stalled in the body": (faults.stall(), Reason.BUILDKITE_UNREACHABLE),
    "truncated JSON": (faults.truncated_json(), Reason.BUILDKITE_RESPONSE_INVALID),
    "no JSON": (faults.not_json(), Reason.BUILDKITE_RESPONSE_INVALID),
    "429 without headers": (faults.answer(429, {"message": "no"}), Reason.BUILDKITE_RATE_LIMITED),
}
"""What could pass and does not."""


async def assert_next_sync_succeeds(setup: Setup) -> None:
    setup.sim.faults.clear()
    setup.sim.grant()
    await setup.sim.resume()
    snapshot = await setup.sync_and_stage()
    read = read_snapshot(snapshot.path).directory
    expected = setup.expected
    assert set(read.accounts) == set(expected.accounts)
    assert set(read.teams) == set(expected.teams)
    assert set(read.memberships) == set(expected.memberships)


async def failing_sync(setup: Setup) -> Failure:
    """The failure of a sync, which leaves what was staged as it was, and tells the token nowhere."""
    before = await setup.stage(setup.expected)
    with pytest.raises(Failure) as failed:
        await setup.sync_and_stage()
    assert await setup.store.restore(KEY, before.sha256) == before
    shown = f"{failed.value} {failed.value!r} {''.join(traceback.format_exception(failed.value))}"
    assert setup.sim.token.value not in shown
    return failed.value


@pytest.mark.parametrize(("fault", "path"), list(zip(PASSING, itertools.cycle(PATHS), strict=False)))
@virtual_time
async def test_a_fault_that_passes_is_survived(fault: str, path: str) -> None:
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(PASSING[fault], path=path)
        collection = await setup.sync()
        assert collection.directory == setup.expected
        assert collection.report.requests == setup.minimum + 3


@pytest.mark.parametrize("fault", some(HARMLESS, 2))
@virtual_time
async def test_an_oddity_is_overlooked(fault: str) -> None:
    async with serving(tiny_organization(), settings=replace(TINY_PAGES, longest_window=0.05)) as setup:
        setup.sim.fault(HARMLESS[fault], times=None, path="/v2/organizations/acme/*")
        collection = await setup.sync()
        assert collection.directory == setup.expected
        assert collection.report.requests == setup.minimum + 2


@pytest.mark.parametrize("fault", FATAL)
@virtual_time
async def test_a_fault_that_stays_fails_the_sync_at_once(fault: str) -> None:
    effect, path, reason, message = FATAL[fault]
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(effect, path=path)
        failure = await failing_sync(setup)
        assert failure.reason is reason
        assert re.search(message, failure.message)
        await assert_next_sync_succeeds(setup)


@pytest.mark.parametrize("fault", some(LASTING, 2))
@virtual_time
async def test_a_fault_that_does_not_pass_fails_the_sync_in_the_end(fault: str) -> None:
    effect, reason = LASTING[fault]
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(effect, path=MEMBERS, times=None)
        failure = await failing_sync(setup)
        assert failure.reason is reason
        assert failure.remedy is Remedy.RETRY
        await assert_next_sync_succeeds(setup)


@pytest.mark.parametrize(
    ("effect", "requests"),
    [
        (faults.server_error(), HASTY.patience.tries),
        (faults.stall(None), HASTY.patience.tries),
        (faults.answer(429, {"message": "slow down", "reset": 0}), HASTY.patience.refusals + 1),
        (faults.answer(403, {"message": "Forbidden"}), 1),
        (faults.unavailable(int(HASTY.patience.longest_retry_after) + 1), 1),
    ],
    ids=["500", "silence", "429", "403", "503 for long"],
)
@virtual_time
async def test_a_request_is_tried_as_often_as_patience_says(effect: Effect, requests: int) -> None:
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(effect, times=None)
        client = setup.client()
        with pytest.raises(Failure):
            await client.token()
        assert client.requests == requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@virtual_time
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with serving() as elsewhere, serving() as setup:
        location = f"{elsewhere.sim.origin}{MEMBERS}?page=1"
        setup.sim.fault(faults.redirect(location, status), path=MEMBERS, times=None)
        failure = await failing_sync(setup)
        assert failure.reason is Reason.BUILDKITE_LINK_REFUSED
        assert elsewhere.sim.transcript.connections == 0
        await assert_next_sync_succeeds(setup)


@virtual_time
async def test_a_next_link_elsewhere_is_not_followed() -> None:
    async with serving() as elsewhere, serving() as setup:
        setup.sim.fault(faults.links_elsewhere(elsewhere.sim.origin), path=MEMBERS, times=None)
        failure = await failing_sync(setup)
        assert failure.reason is Reason.BUILDKITE_LINK_REFUSED
        assert elsewhere.sim.transcript.connections == 0


@virtual_time
async def test_a_refused_connection_fails_the_sync_cleanly() -> None:
    async with serving() as setup:
        await setup.sim.pause()
        failure = await failing_sync(setup)
        assert failure.reason is Reason.BUILDKITE_UNREACHABLE
        assert failure.remedy is Remedy.RETRY
        await assert_next_sync_succeeds(setup)


@virtual_time
async def test_an_outage_in_the_middle_is_survived_when_it_is_short() -> None:
    async with serving() as setup:
        setup.sim.fault(faults.outage(0.02), path=TEAM_MEMBERS, skip=5)
        assert (await setup.sync()).directory == setup.expected


@virtual_time
async def test_an_outage_in_the_middle_that_lasts_fails_the_sync_cleanly() -> None:
    async with serving() as setup:
        setup.sim.fault(faults.outage(), path=TEAM_MEMBERS, skip=5)
        assert (await failing_sync(setup)).reason is Reason.BUILDKITE_UNREACHABLE
        await assert_next_sync_succeeds(setup)


@pytest.mark.parametrize(
    ("certificate", "what"),
    [
        (Certificate.UNTRUSTED, "issuer"),
        (Certificate.WRONG_NAME, "IP address mismatch"),
        (Certificate.EXPIRED, "expired"),
    ],
)
@virtual_time
async def test_a_certificate_that_cannot_be_trusted_ends_it_at_once(
    certificate: Certificate, what: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = Config([small_organization()], limits=NO_LIMITS, tls=certificate)
    async with BuildkiteSimulator(config) as sim:
        assert sim.authority is not None
        ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
        ca_file.write_bytes(sim.authority.pem)
        settings = BuildkiteSettings(sim.url, patience=HASTY.patience)
        async with open_buildkite(settings, reaching(ca_file)) as buildkite:
            setup = Setup(sim, buildkite, SnapshotStore(tmp_path_factory.mktemp("snapshots")))
            failure = await failing_sync(setup)
            assert failure.reason is Reason.BUILDKITE_UNREACHABLE
            assert what in failure.message
            assert "SSL_CERT_FILE" in failure.message
            assert sim.transcript.connections == 1
            assert not sim.requests
            await sim.pause()
            sim.certificate = Certificate.VALID
            await assert_next_sync_succeeds(setup)


@virtual_time
async def test_plain_http_where_tls_is_expected_is_told_apart() -> None:
    async with serving() as setup:
        settings = BuildkiteSettings(setup.sim.url.replace("http://", "https://"), patience=HASTY.patience)
        async with open_buildkite(settings, DIRECT) as buildkite:
            failure = await failing_sync(Setup(setup.sim, buildkite, setup.store))
        assert failure.reason is Reason.BUILDKITE_UNREACHABLE
        assert "TLS" in failure.message


@virtual_time
async def test_a_wait_longer_than_patience_is_handed_to_the_next_sync() -> None:
    async with serving() as setup:
        setup.sim.fault(faults.unavailable(3600), path=MEMBERS)
        failure = await failing_sync(setup)
        assert failure.reason is Reason.BUILDKITE_UNAVAILABLE
        assert failure.retry_after == 3600


@virtual_time
async def test_a_429_of_someone_elses_making_is_waited_out() -> None:
    limits = Limits(user=40, organization=None, window=1.0, reset_decimals=3)
    async with serving(make_organization(30, 20, 60, slug="acme"), limits=limits, latency=0.01) as setup:
        setup.sim.fault(faults.change(lambda api: api.quota.consume({setup.sim.token.user.id: 60}, {})), skip=5)
        collection = await setup.sync()
        assert collection.directory == setup.expected
        assert 0 < setup.sim.transcript.throttled <= 20


@pytest.mark.parametrize(
    "headers",
    [
        faults.no_rate_limit_headers(),
        faults.rate_limit_headers({"RateLimit-User-Reset": "soon", "RateLimit-User-Remaining": "-3"}),
    ],
)
@virtual_time
async def test_a_429_that_tells_only_in_its_body_is_waited_out(headers: Effect) -> None:
    limits = Limits(user=10, organization=None, window=0.5, reset_decimals=3)
    async with serving(make_organization(30, 10, 60, slug="acme"), limits=limits) as setup:
        setup.sim.fault(headers, times=None)
        collection = await setup.sync()
        assert collection.directory == setup.expected
        assert setup.sim.transcript.throttled > 0


class _JumpingClock(VirtualClock):
    """Its wall time is anywhere at all, as on a machine whose clock is set while it runs."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=random.randint(-10_000, 10_000))


@virtual_time
async def test_a_clock_that_jumps_makes_no_difference() -> None:
    limits = Limits(user=40, organization=None, window=1.0, reset_decimals=3)
    async with serving(make_organization(30, 40, 60, slug="acme"), limits=limits, clock=_JumpingClock()) as setup:
        setup.sim.fault(faults.unavailable("Thu, 01 Jan 2015 12:00:00 GMT"), path=MEMBERS)
        with contextlib.suppress(Failure):  # the date may have come to lie in a far future
            await setup.sync()
        assert (await setup.sync()).directory == setup.expected
        assert setup.sim.transcript.throttled == 0


@virtual_time
async def test_nothing_is_left_running_after_a_failure() -> None:
    async with serving(latency=0.05) as setup:
        await setup.sync()
        setup.sim.fault(faults.revoke_token(), path=TEAM_MEMBERS)
        await failing_sync(setup)
        ours = asyncio.all_tasks() - {asyncio.current_task()}
        names = {task.get_coro().__qualname__ for task in ours}  # type: ignore[union-attr]
        assert names <= {"RequestHandler.start"}  # the simulator's connections


@virtual_time
async def test_no_fault_makes_the_token_appear_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as setup:
        for effect in PASSING.values():
            setup.sim.fault(effect, path=TEAM_MEMBERS)
        await setup.sync()
        for effect, path, _, _ in FATAL.values():
            setup.sim.fault(effect, path=path)
            await failing_sync(setup)
            setup.sim.grant()
        assert caplog.records
        assert setup.sim.token.value not in caplog.text


@settings(max_examples=examples(40))
@given(
    seed=st.integers(0, 10_000),
    accounts=st.integers(1, 150),
    teams=st.integers(0, 12),
    script=st.lists(st.none() | st.sampled_from([*PASSING, *HARMLESS]), max_size=25),
    latency=st.sampled_from([0.0, 0.001]),
    page_size=st.integers(1, 100),
)
@virtual_time
async def test_any_organization_is_collected_whole_through_any_faults_that_end(
    *, seed: int, accounts: int, teams: int, script: list[str | None], latency: float, page_size: int
) -> None:
    effects = {**PASSING, **HARMLESS}
    patient = replace(
        HASTY,
        page_size=max(page_size, accounts // 20),
        patience=Patience(tries=40, first=0.001, longest=0.01, blind_pause=0.01, refusals=40),
        longest_window=0.05,
    )
    organization = make_organization(accounts, teams, min(teams * accounts, 300), seed, slug="acme")
    async with serving(organization, settings=patient, latency=latency) as setup:
        setup.sim.script([None if name is None else effects[name] for name in script])
        assert (await setup.sync()).directory == setup.expected
