"""A connector with a portal: what a check and a sync ask it, with which token, and what the conditions say."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from buildkite_connector.connector.conditions import EXCHANGE_UNUSED, derive_status
from buildkite_connector.connector.shrink_guard import shrunk
from buildkite_connector.connector.transitions import CheckResult
from buildkite_connector.model.directory import (
    DEFAULT_KINDS,
    AccessTokenID,
    AccountDetails,
    AccountID,
    Counts,
    OrganizationSlug,
    ResourceKind,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import OrganizationChoice, TokenExchange
from buildkite_connector.model.status import ConditionStatus, ConditionType, Phase
from buildkite_connector.sync.ports import PortalAPI
from buildkite_connector.timing.slots import Slots
from fakes.connector_ports import HOUR, USERS
from fakes.connector_setup import Setup
from fakes.connector_states import CREDENTIALS, after, ready, synced
from fakes.log_lines import lines
from fakes.portal_api import FakePortal, details, token
from fakes.virtual_time import virtual_time
from unit.connector import test_checks, test_run_sync, test_shrink_guard

WITH_PORTAL = replace(
    CREDENTIALS,
    organization=OrganizationChoice("acme-inc", "BATON_ORGANIZATION"),
    portal_token="portal-token",
)
TOKENS = frozenset({ResourceKind.USER, ResourceKind.API_TOKEN})
REJECTED = Failure(Reason.PORTAL_REJECTED, "Buildkite rejects the portal's token.", remedy=Remedy.CREDENTIALS)
NOT_FOUND = Failure(Reason.PORTAL_NOT_FOUND, "There is no portal acme-c1.", remedy=Remedy.EDIT)
STALE = Failure(Reason.PORTAL_DOCUMENT_INVALID, "The portal's document is another one.", remedy=Remedy.CREDENTIALS)
FAILED = Failure(Reason.PORTAL_QUERY_FAILED, "Buildkite answers with an error.")
BOTH_ACCEPTED = "Buildkite accepts the API token and the portal's token, and C1 accepts the client."
CREDENTIALS_VALID, READY, SYNCED = ConditionType.CREDENTIALS_VALID, ConditionType.READY, ConditionType.SYNCED


def everybody(number: int = 10) -> list[tuple[AccountID, AccountDetails]]:
    """What a portal shows of the accounts of `connector_ports`."""
    return [(AccountID(f"a{each}"), details(each)) for each in range(number)]


# A check


class CheckBench(test_checks.Bench):
    """`quoted`: what the portal's client makes of a sentence with its token and the organization's slug."""

    def connect_portal(self, organization: str, portal: str, token: str, redactor: Redactor, **how: Any) -> PortalAPI:
        assert how["slot"].held
        self.quoted = redactor.quote("portal-token of acme-inc")
        return super().connect_portal(organization, portal, token, redactor, **how)


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [(USERS.kinds, ["members"]), (TOKENS, ["members", "tokens"]), (frozenset({ResourceKind.TEAM}), [])],
    ids=lambda kinds: "+".join(sorted(kinds)),
)
@virtual_time
async def test_a_check_asks_the_portal_of_the_confirmed_organization_for_one_item(
    kinds: frozenset[ResourceKind], asked: list[str]
) -> None:
    bench = CheckBench(WITH_PORTAL, portal="acme-c1")
    bench.desired = replace(bench.desired, spec=replace(bench.desired.spec, kinds=kinds))
    result = await bench.check()
    assert result == CheckResult(3, "r1", WITH_PORTAL, test_checks.PREFLIGHT, asked_buildkite=True)
    slug = test_checks.PREFLIGHT.organization.slug
    assert bench.portals == [((slug, "acme-c1", "portal-token"), {"urgent": True, "waits": False})]
    assert bench.portal.asked == [(operation, None, 1) for operation in asked]
    assert bench.quoted == "[redacted] of acme-inc"


@virtual_time
async def test_without_a_portal_its_token_is_ignored_and_nothing_is_asked() -> None:
    bench = CheckBench(WITH_PORTAL)
    assert (await bench.check()).failure is None
    assert bench.portals == []


@pytest.mark.parametrize("failure", [REJECTED, NOT_FOUND, STALE, FAILED])
@virtual_time
async def test_a_portal_that_fails_is_the_checks_failure(failure: Failure) -> None:
    bench = CheckBench(WITH_PORTAL, portal="acme-c1")
    bench.portal.failure = failure
    found = test_checks.PREFLIGHT
    assert await bench.check() == CheckResult(3, "r1", WITH_PORTAL, found, failure=failure, asked_buildkite=True)


@virtual_time
async def test_a_portal_is_not_asked_while_the_api_token_fails() -> None:
    bench = CheckBench(WITH_PORTAL, portal="acme-c1")
    failure = bench.source_port.refusal = Failure(Reason.TOKEN_REJECTED, "no", remedy=Remedy.CREDENTIALS)
    assert (await bench.check()).failure is failure
    assert bench.portals == []


@virtual_time
async def test_api_tokens_without_a_portal_are_refused_before_the_secret_is_read() -> None:
    bench = CheckBench(WITH_PORTAL)
    bench.desired = replace(bench.desired, spec=replace(bench.desired.spec, kinds=TOKENS))
    failure = (await bench.check()).failure
    assert failure is not None
    assert (failure.reason, failure.remedy) == (Reason.SPEC_INVALID, Remedy.EDIT)
    assert failure.message.startswith("The resource type api_token is read through a portal: set spec.portal.slug")
    assert (bench.fake_secret.reads, bench.clients) == (0, [])


@virtual_time
async def test_the_checks_slot_is_held_while_the_portal_is_asked() -> None:
    bench = CheckBench(WITH_PORTAL, portal="acme-c1")
    bench.env = replace(bench.env, check_slots=Slots(1, shared=False))
    bench.portal.seconds = 5.0
    checking = asyncio.create_task(bench.check())
    await asyncio.sleep(2)
    assert not bench.env.check_slots.free
    await checking
    assert bench.env.check_slots.free


# A sync


class SyncBench(test_run_sync.Bench):
    def __init__(self, members: int = 10) -> None:
        super().__init__()
        self.portal = FakePortal(everybody(members), page_size=500)

    def connect_portal(self, organization: str, portal: str, token: str, redactor: Redactor, **how: Any) -> PortalAPI:
        assert how.pop("slot").held
        self.of_portal = redactor.quote("portal-token of acme-inc")
        return super().connect_portal(organization, portal, token, redactor, **how)


@virtual_time
async def test_a_sync_stages_what_the_portal_shows_and_counts_its_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = SyncBench()
    owner = AccountID("a3")
    bench.portal.listed_tokens = [replace(token(0), owner=owner)]
    record, _ = await bench.sync(replace(bench.admitted(portal="acme-c1", kinds=TOKENS), credentials=WITH_PORTAL))
    assert bench.portals == [((OrganizationSlug("acme-inc"), "acme-c1", "portal-token"), {})]
    [(_, directory, _)] = bench.shelf.staged
    assert {each.id: each.details for each in directory.accounts} == dict(everybody())
    assert [(each.id, each.owner) for each in directory.api_tokens] == [(AccessTokenID("token-0"), owner)]
    assert (record.counts, record.requests, record.throttled_seconds) == (
        Counts(10, 0, 0, api_tokens=1, last_logins=10),
        1 + 2,
        12.6,
    )
    ((_, _, told),) = lines(caplog.records)
    assert (told["accounts"], told["api_tokens"], told["requests"], told["throttled_seconds"]) == (10, 1, 3, 12.6)
    ((_, facts),) = bench.observer.facts
    assert (facts["api_tokens"], facts["requests"]) == (1, 3)
    assert bench.of_portal == "[redacted] of acme-inc"


@virtual_time
async def test_without_a_portal_a_sync_asks_none() -> None:
    bench = SyncBench()
    await bench.sync(replace(bench.admitted(), credentials=WITH_PORTAL))
    assert bench.portals == []
    assert {each.details for each in bench.shelf.staged[0][1].accounts} == {None}


@virtual_time
async def test_accounts_are_never_staged_without_what_the_portal_shows() -> None:
    bench = SyncBench()
    bench.portal.failure = FAILED
    with pytest.raises(Failure, match="answers with an error"):
        await bench.sync(replace(bench.admitted(portal="acme-c1"), credentials=WITH_PORTAL))
    assert bench.shelf.staged == []


@virtual_time
async def test_a_change_of_memberships_meanwhile_keeps_what_the_portal_showed() -> None:
    bench = SyncBench()
    bench.looks = [1, 1]
    run = bench.admitted(portal="acme-c1", kinds=frozenset({ResourceKind.USER, ResourceKind.TEAM}))
    record, _ = await bench.sync(replace(run, credentials=WITH_PORTAL))
    assert record.requests == 1 + 4, "one of the portal"
    assert bench.buildkite.rereads == [frozenset({TeamID("t-1")})]
    [(_, directory, _)] = bench.shelf.staged
    assert {each.id: each.details for each in directory.accounts} == dict(everybody())
    assert len(bench.portal.asked) == 1


# A connector


def connected(**spec: object) -> Setup:
    setup = Setup(portal="acme-c1", kinds=USERS.kinds, **spec)
    setup.fake_secret.credentials = replace(setup.fake_secret.credentials, portal_token="portal-token")
    setup.portal.listed_members, setup.portal.page_size = everybody(), 500
    return setup


def told(setup: Setup, kind: ConditionType) -> tuple[str, str, str]:
    found = setup.status.condition(kind)
    assert found is not None
    return found.status.value, found.reason.value, found.message


@virtual_time
async def test_a_connector_with_a_portal_is_ready_and_says_that_its_token_works() -> None:
    setup = connected()
    async with setup.running():
        await asyncio.sleep(60)
        assert setup.condition(READY) == ("True", "Ready")
        assert told(setup, CREDENTIALS_VALID) == ("True", "Valid", BOTH_ACCEPTED)


@virtual_time
async def test_a_changed_token_of_the_portal_is_checked_and_synced_with() -> None:
    setup = connected()
    async with setup.running():
        await asyncio.sleep(60)
        before, syncs = len(setup.portals), len(setup.buildkite.collections)
        setup.rotate(portal_token="another")
        await asyncio.sleep(120)
        assert [made[2] for made, _ in setup.portals[before:]] == ["another", "another"]
        assert len(setup.buildkite.collections) == syncs + 1
    other = replace(WITH_PORTAL, portal_token="another")
    assert (other == WITH_PORTAL, other.fingerprint() == WITH_PORTAL.fingerprint()) == (False, False)


@pytest.mark.parametrize(
    ("failure", "valid", "phase"),
    [
        (REJECTED, ("False", "PortalRejected", REJECTED.message), Phase.ERROR),
        (STALE, ("False", "PortalDocumentInvalid", STALE.message), Phase.ERROR),
        (
            NOT_FOUND,
            ("Unknown", "PortalNotFound", f"Buildkite accepts the API token. {NOT_FOUND.message}"),
            Phase.ERROR,
        ),
        (FAILED, ("True", "Valid", BOTH_ACCEPTED), Phase.DEGRADED),
    ],
)
@virtual_time
async def test_a_portal_that_begins_to_fail_stops_syncs_and_the_status_says_why(
    failure: Failure, valid: tuple[str, str, str], phase: Phase
) -> None:
    setup = connected()
    async with setup.running():
        await asyncio.sleep(60)
        staged = dict(setup.store.files)
        setup.portal.failure = failure
        setup.annotate(sync_request="now")
        await asyncio.sleep(60)
        assert told(setup, READY) == ("False", failure.reason.value, failure.message)
        assert told(setup, CREDENTIALS_VALID) == valid
        assert setup.status.phase is phase
        assert setup.store.files == staged
        setup.portal.failure = None
        await asyncio.sleep(HOUR)
        assert setup.condition(READY) == ("True", "Ready")


@virtual_time
async def test_a_portal_that_fails_amid_a_sync_fails_it_and_is_tried_again() -> None:
    setup = connected()
    failing: list[Failure] = [STALE]

    def fail(_operation: str, _cursor: str | None) -> None:
        if len(setup.portal.asked) == 2:
            raise failing[0]

    setup.portal.before = fail
    async with setup.running():
        await asyncio.sleep(60)
        assert setup.condition(SYNCED) == ("False", "PortalDocumentInvalid")
        assert setup.condition(CREDENTIALS_VALID) == ("False", "PortalDocumentInvalid")
        await asyncio.sleep(HOUR)
        assert setup.condition(READY) == ("True", "Ready")


# What the conditions say


EXCHANGE = TokenExchange("0123456789abcdef0123", "key", "c1@example.com")


@pytest.mark.parametrize(
    ("spec", "change", "says"),
    [
        (
            {"portal": "p"},
            {"api_token": "", "token_exchange": EXCHANGE},
            "Buildkite issues tokens by token exchange and accepts the portal's token. C1 accepts the client.",
        ),
        (
            {"portal": "p"},
            {"token_exchange": EXCHANGE},
            f"{BOTH_ACCEPTED} {EXCHANGE_UNUSED}",
        ),
        ({"portal": ""}, {}, "Buildkite accepts the API token and C1 accepts the client."),
        (
            {"portal": "p", "kinds": frozenset({ResourceKind.TEAM})},
            {},
            "Buildkite accepts the API token and C1 accepts the client.",
        ),
        (
            {"portal": "p", "kinds": frozenset({ResourceKind.API_TOKEN})},
            {},
            BOTH_ACCEPTED,
        ),
    ],
)
def test_the_condition_names_the_credentials_that_work(spec: dict[str, Any], change: dict[str, Any], says: str) -> None:
    state = ready()
    state = replace(
        state,
        desired=replace(state.desired, spec=replace(state.desired.spec, **spec)),
        check=replace(state.check, credentials=replace(WITH_PORTAL, **change)),
    )
    found = derive_status(state, after(10)).condition(CREDENTIALS_VALID)
    assert found is not None
    assert (found.status, found.message) == (ConditionStatus.TRUE, says)


def test_tokens_that_expire_make_a_snapshot_shrink_like_anything_else() -> None:
    kinds, counts = {*DEFAULT_KINDS, ResourceKind.API_TOKEN}, Counts(100, 10, 100, api_tokens=8)
    state = test_shrink_guard.delivered_with(ready(), 1, "sync2", kinds, counts)

    def warning(tokens: int) -> str | None:
        later = synced(state, after(2 * HOUR), "sync3", replace(counts, api_tokens=tokens))
        assert later.staged is not None
        return shrunk(later.records, later.staged, None)

    assert warning(7) is None
    assert "has 6 API tokens, the last delivered one had 8 (25 % fewer)" in (warning(6) or "")


@virtual_time
async def test_last_logins_that_vanish_are_held_before_and_after_a_restart() -> None:
    """C1 would treat everybody as never active."""
    setup = connected()
    async with setup.running():
        await asyncio.sleep(60)
        setup.task()
        await asyncio.sleep(60)
        assert setup.condition(ConditionType.DELIVERED) == ("True", "Delivered")
        setup.portal.listed_members = [(id_, replace(each, last_seen_at=None)) for id_, each in everybody()]
        setup.annotate(sync_request="now")
        await asyncio.sleep(60)
        held = told(setup, ConditionType.DELIVERED)
        assert held[:2] == ("False", "ShrinkHeld")
        assert "has 0 last logins, the last delivered one had 10 (100 % fewer" in held[2]
    staged = next(reversed(setup.store.files.values()))
    setup.store.replace_file(counts=replace(staged.counts, last_logins=None))  # as a store reads it from the file
    async with setup.running(restored=setup.status):
        setup.task()
        await asyncio.sleep(60)
        assert told(setup, ConditionType.DELIVERED) == held
        assert len(setup.c1.uploads) == 1


def test_the_portal_token_is_in_no_repr_and_never_quoted() -> None:
    assert "portal-token" not in repr(WITH_PORTAL)
    assert WITH_PORTAL.redactor.holds_secret("portal-token")
