"""Where tokens are exchanged: what each client is made from, what is required, and what the conditions say."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.model.directory import ALL_KINDS, OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import (
    Credentials,
    ExchangeRequest,
    OrganizationChoice,
    Provisioning,
    TokenExchange,
)
from buildkite_connector.model.status import ConditionType, TokenAccess, TokenStatus
from buildkite_connector.sync.preflight import ScopesMissing
from fakes.connector_states import CREDENTIALS, after, ready
from fakes.virtual_time import virtual_time
from unit.connector import test_checks, test_membership_grounds, test_run_sync

APP = TokenExchange("0123456789abcdef0123", "a private key", "c1-sync@example.com")
EXCHANGING = replace(CREDENTIALS, api_token="", token_exchange=APP)
OF_SECRET = replace(EXCHANGING, organization=OrganizationChoice("of-the-secret", "BATON_ORGANIZATION"))
READING = frozenset({"read_organizations", "read_teams"})
WRITING = READING | {"write_teams"}
ON = Provisioning(enabled=True)


@pytest.mark.parametrize(
    ("credentials", "of_spec", "asked"),
    [
        (EXCHANGING, "of-the-spec", ExchangeRequest(APP, "of-the-spec", frozenset({"read_organizations"}))),
        (OF_SECRET, None, ExchangeRequest(APP, "of-the-secret", frozenset({"read_organizations"}))),
        (replace(EXCHANGING, api_token="token"), None, "token"),
    ],
    ids=["spec", "Secret", "both kinds"],
)
@virtual_time
async def test_a_check_asks_for_the_scopes_of_its_types_on_the_chosen_organization(
    credentials: Credentials, of_spec: str | None, asked: object
) -> None:
    bench = test_checks.Bench(credentials, organization=of_spec and OrganizationSlug(of_spec))
    assert (await bench.check()).failure is None
    assert [made for made, _ in bench.clients] == [asked]


@virtual_time
async def test_without_an_organization_nobody_is_asked() -> None:
    bench = test_checks.Bench(EXCHANGING)
    failure = (await bench.check()).failure
    assert failure is not None
    assert (failure.reason, failure.remedy, bench.clients) == (Reason.SPEC_INVALID, Remedy.EDIT, [])
    assert failure.message.startswith("spec.organization is required with token exchange")


@virtual_time
async def test_with_provisioning_a_check_asks_for_a_token_that_writes() -> None:
    bench = test_checks.Bench(OF_SECRET, provisioning=ON)
    bench.members.scopes = WRITING
    assert (await bench.check()).write_failure is None
    slug = test_checks.PREFLIGHT.organization.slug
    assert bench.clients[1:] == [(ExchangeRequest(APP, slug, WRITING), {"urgent": True})]


@virtual_time
async def test_an_app_that_does_not_grant_write_teams_stops_changes_and_not_syncs() -> None:
    bench = test_checks.Bench(OF_SECRET, provisioning=ON)
    bench.members.reads.append(ScopesMissing("the app lacks write_teams", ("write_teams",)))
    result = await bench.check()
    assert (result.failure, result.missing_scopes) == (None, ("write_teams",))
    assert result.write_failure is not None
    assert result.write_failure.message == "the app lacks write_teams"


@virtual_time
async def test_a_token_of_its_own_for_writes_is_used_beside_token_exchange() -> None:
    bench = test_checks.Bench(replace(OF_SECRET, write_api_token="w"), provisioning=ON)
    bench.members.scopes = WRITING
    await bench.check()
    assert bench.clients[1:] == [("w", {"urgent": True})]


@virtual_time
async def test_a_sync_asks_for_what_its_types_need() -> None:
    bench = test_run_sync.Bench()
    await bench.sync(replace(bench.admitted(), credentials=EXCHANGING))
    assert bench.clients == [
        (ExchangeRequest(APP, "acme-inc", frozenset({"read_organizations"})), {"quota_percent": 80})
    ]


def test_the_scopes_of_all_types_never_write() -> None:
    from buildkite_connector.sync.preflight import required_scopes  # noqa: PLC0415

    assert not {each for each in required_scopes(ALL_KINDS) if each.startswith("write")}


@virtual_time
async def test_a_change_is_made_with_a_token_that_writes() -> None:
    state = ready(provisioning=ON)
    bench = test_membership_grounds.Bench(replace(state, check=replace(state.check, credentials=EXCHANGING)))
    await bench.changes.grounds()
    assert bench.clients == [(ExchangeRequest(APP, "acme-inc", WRITING), {"urgent": True})]


def credentials_valid(state: ConnectorState, credentials: Credentials, failure: Failure | None = None) -> str:
    check = replace(state.check, credentials=credentials, failure=failure)
    found = derive_status(replace(state, check=check), after(10)).condition(ConditionType.CREDENTIALS_VALID)
    assert found is not None
    return found.message


def test_the_condition_says_which_credential_is_used() -> None:
    state = ready()
    assert credentials_valid(state, EXCHANGING) == ("Buildkite issues tokens by token exchange. C1 accepts the client.")
    assert credentials_valid(state, replace(EXCHANGING, api_token="token")) == (
        "Buildkite accepts the API token and C1 accepts the client. The Secret also has a token exchange app, which is"
        " not used: remove the API token to use it."
    )
    elsewhere = Failure(Reason.ORGANIZATION_NOT_FOUND, "No such organization.", remedy=Remedy.EDIT)
    assert credentials_valid(state, EXCHANGING, elsewhere) == (
        "Buildkite issues tokens by token exchange. No such organization."
    )


def test_a_warning_names_the_person_or_the_token_that_is_used() -> None:
    state = ready()
    member = replace(state, records=replace(state.records, token=TokenStatus(access=TokenAccess(False, 1))))
    for credentials, named in (
        (EXCHANGING, "The subject of the token exchange is not an administrator"),
        (replace(EXCHANGING, api_token="token"), "The owner of the Buildkite API token is not an administrator"),
    ):
        told = credentials_valid(member, credentials)
        assert told.startswith(named)
        assert ("token exchange app, which is not used" in told) is (not credentials.exchanges)


def test_nothing_of_token_exchange_is_in_a_repr_and_a_changed_key_is_noticed() -> None:
    request = EXCHANGING.for_reading("acme-inc", READING)
    told = f"{APP!r} {EXCHANGING!r} {request!r}"
    assert not {text for text in (APP.client_id, APP.private_key, APP.subject, "acme-inc") if text in told}
    other = replace(EXCHANGING, token_exchange=replace(APP, private_key="another key"))
    assert other.fingerprint() != EXCHANGING.fingerprint()
