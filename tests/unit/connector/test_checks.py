"""One check by itself: what it reads and asks, and what it gives."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from buildkite_connector.connector.checks import check
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.connector.transitions import CheckResult
from buildkite_connector.model.directory import Organization, OrganizationSlug, TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import Credentials, Cron, OrganizationChoice, Provisioning
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.sync.preflight import Preflight, ScopesMissing, write_scope_missing
from buildkite_connector.timing.slots import Slots
from fakes.connector_ports import USERS, Buildkite, BuildkiteReader, SecretCredentials, down
from fakes.connector_setup import KEY, Setup
from fakes.connector_states import CREDENTIALS, REJECTED
from fakes.connector_states import PREFLIGHT as UNSCOPED_PREFLIGHT
from fakes.virtual_time import virtual_time

PREFLIGHT = replace(
    UNSCOPED_PREFLIGHT, token=replace(UNSCOPED_PREFLIGHT.token, scopes=frozenset({"read_organizations", "read_teams"}))
)
SECRET_ORGANIZATION = replace(CREDENTIALS, organization=OrganizationChoice("of-the-secret", "BATON_ORGANIZATION"))


@dataclass
class Source(Buildkite):
    """`asked` are the organizations that it was asked for (None: for all), `found` is what it answers."""

    found: Preflight = PREFLIGHT
    asked: list[OrganizationChoice | None] = field(default_factory=list)

    def client(self) -> "Reader":
        return Reader(self)


class Reader(BuildkiteReader):
    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._source = source

    async def token(self) -> TokenFacts:
        await super().token()
        return self._source.found.token

    async def organization(self, choice: OrganizationChoice) -> Organization:
        self._source.asked.append(choice)
        return self._source.found.organization

    async def organizations(self, page: int) -> Page[Organization]:
        self._source.asked.append(None)
        return Page([self._source.found.organization], 1)


class Bench(Setup):
    """What one check runs on. `clients` are those that were made, by token and keyword arguments."""

    def __init__(self, credentials: Credentials = CREDENTIALS, **spec: object) -> None:
        super().__init__(kinds=USERS.kinds, **spec)
        self.fake_secret.credentials = credentials
        self.source_port = Source()
        self.buildkite = self.source_port
        self.clients: list[tuple[Any, dict[str, Any]]] = []
        self.env: Environment = self.environment()
        self.desired = DesiredState(3, self.order.spec, self.fake_secret, sync_request="r1")

    def connect_buildkite(self, token: str, redactor: Redactor, **how: Any) -> BuildkiteAPI:
        assert redactor.holds_secret(CREDENTIALS.client_secret)
        assert how.pop("slot").held
        self.clients.append((token, how))
        return super().connect_buildkite(token, redactor, **how)

    @property
    def writers(self) -> list[str]:
        return [token for token, how in self.clients if "quota_percent" not in how]

    async def check(self, known: Credentials | None = None, *, forced: bool = False) -> CheckResult:
        return await check(KEY, self.desired, known, self.env, forced=forced)


@pytest.mark.parametrize(
    ("known", "forced"),
    [(None, True), (None, False), (replace(CREDENTIALS, api_token="old"), False), (CREDENTIALS, True)],
)
@virtual_time
async def test_credentials_that_are_new_and_any_in_a_full_check_are_tried(
    known: Credentials | None, forced: bool
) -> None:
    bench = Bench()
    result = await bench.check(known, forced=forced)
    assert result == CheckResult(3, "r1", CREDENTIALS, PREFLIGHT, forced=forced, asked_buildkite=True)
    assert bench.clients == [("token", {"quota_percent": 80, "urgent": True, "waits": False})]
    assert bench.source_port.asked == [None]


@virtual_time
async def test_credentials_that_are_known_are_only_read() -> None:
    bench = Bench()
    assert await bench.check(CREDENTIALS) == CheckResult(3, "r1", CREDENTIALS)
    assert (bench.fake_secret.reads, bench.clients) == (1, [])


@pytest.mark.parametrize(
    ("of_spec", "asked"),
    [(None, SECRET_ORGANIZATION.organization), (OrganizationSlug("of-the-spec"), OrganizationChoice("of-the-spec"))],
)
@virtual_time
async def test_the_organization_is_the_specs_or_else_the_secrets(
    of_spec: OrganizationSlug | None, asked: OrganizationChoice
) -> None:
    bench = Bench(SECRET_ORGANIZATION, organization=of_spec)
    await bench.check()
    assert bench.source_port.asked == [asked]


@virtual_time
async def test_an_invalid_spec_is_the_result_and_no_secret_is_read() -> None:
    bench = Bench()
    error = Failure(Reason.SPEC_INVALID, "no such kind", remedy=Remedy.EDIT)
    bench.desired = replace(bench.desired, spec_error=error)
    result = await bench.check(forced=True)
    assert result == CheckResult(3, "r1", None, failure=result.failure, forced=True)
    assert repr(result.failure) == "Failure(SpecInvalid: no such kind)"
    assert (bench.fake_secret.reads, bench.clients) == (0, [])
    assert result.failure is not error
    assert error.__traceback__ is None


@virtual_time
async def test_a_schedule_that_means_nothing_is_the_result_and_no_secret_is_read() -> None:
    bench = Bench(schedule=Cron("0 0 30 2 *", "Etc/UTC"))
    result = await bench.check(forced=True)
    assert result == CheckResult(3, "r1", None, failure=result.failure, forced=True)
    assert result.failure is not None
    assert (result.failure.reason, bench.fake_secret.reads) == (Reason.CRON_INVALID, 0)


@virtual_time
async def test_a_secret_that_cannot_be_read_is_the_result() -> None:
    bench = Bench()
    failure = bench.fake_secret.failure = Failure(Reason.SECRET_NOT_FOUND, "no Secret", remedy=Remedy.CREDENTIALS)
    assert await bench.check(forced=True) == CheckResult(3, "r1", None, failure=failure, forced=True)
    assert bench.clients == []


@virtual_time
async def test_a_refusal_of_buildkite_is_the_result() -> None:
    bench = Bench()
    failure = bench.source_port.refusal = down()
    assert await bench.check() == CheckResult(3, "r1", CREDENTIALS, failure=failure, asked_buildkite=True)


@virtual_time
async def test_scopes_that_are_missing_are_named() -> None:
    bench = Bench()
    failure = bench.source_port.refusal = ScopesMissing("add read_teams", ("read_teams",))
    assert await bench.check() == CheckResult(
        3, "r1", CREDENTIALS, missing_scopes=("read_teams",), failure=failure, asked_buildkite=True
    )


ON = Provisioning(enabled=True)
WRITING = replace(CREDENTIALS, write_api_token="w")
MAY_WRITE = replace(PREFLIGHT, token=replace(PREFLIGHT.token, scopes=PREFLIGHT.token.scopes | {"write_teams"}))
UNSCOPED = write_scope_missing()


@pytest.mark.parametrize(
    ("credentials", "found", "writer", "failure", "missing"),
    [
        (CREDENTIALS, MAY_WRITE, (), None, ()),
        (CREDENTIALS, PREFLIGHT, (), UNSCOPED, ("write_teams",)),
        (WRITING, PREFLIGHT, ("write_teams",), None, ()),
        (WRITING, MAY_WRITE, (), UNSCOPED, ("write_teams",)),
    ],
    ids=["one token", "one token without the scope", "two tokens", "the second without the scope"],
)
@virtual_time
async def test_with_provisioning_the_token_that_writes_is_checked_too(
    credentials: Credentials,
    found: Preflight,
    writer: tuple[str, ...],
    failure: ScopesMissing | None,
    missing: tuple[str, ...],
) -> None:
    bench = Bench(credentials, provisioning=ON)
    bench.source_port.found, bench.members.scopes = found, frozenset(writer)
    result = await bench.check()
    told = result.write_failure
    assert (told and told.message) == (failure and failure.message)
    assert not isinstance(told, ScopesMissing), "kept without its history"
    assert result == CheckResult(
        3, "r1", credentials, found, missing_scopes=missing, asked_buildkite=True, write_failure=told
    )
    assert bench.clients[1:] == ([("w", {"urgent": True})] if credentials.write_api_token else [])


@virtual_time
async def test_while_it_is_off_nobody_asks_whether_a_token_can_write() -> None:
    bench = Bench(WRITING)
    assert (await bench.check()).write_failure is None
    assert bench.writers == []


@virtual_time
async def test_a_second_token_that_is_refused_is_no_failure_of_the_check() -> None:
    bench = Bench(WRITING, provisioning=ON)
    bench.members.reads.append(REJECTED)
    result = await bench.check()
    assert result.write_failure is not None
    assert (result.write_failure.message, result.failure, result.missing_scopes) == (REJECTED.message, None, ())
    assert result.preflight == PREFLIGHT
    assert result.write_failure is not REJECTED


@virtual_time
async def test_a_second_token_has_a_slot_of_its_own() -> None:
    bench = Bench(WRITING, provisioning=ON)
    bench.members.seconds = bench.source_port.preflight_seconds = 5.0
    bench.env = replace(bench.env, check_slots=Slots(1, shared=False))
    checking = asyncio.create_task(bench.check())
    await asyncio.sleep(7)
    assert bench.members.calls == ["token"]
    assert not bench.env.check_slots.free
    await checking
    assert bench.env.check_slots.free


@virtual_time
async def test_an_error_that_is_no_failure_is_no_result() -> None:
    class Broken(SecretCredentials):
        async def read(self) -> Credentials:
            raise ZeroDivisionError

    bench = Bench()
    bench.desired = replace(bench.desired, credentials=Broken())
    with pytest.raises(ZeroDivisionError):
        await bench.check()


@virtual_time
async def test_a_check_has_a_slot_while_buildkite_is_asked_and_none_while_the_secret_is_read() -> None:
    bench = Bench()
    bench.env = replace(bench.env, check_slots=Slots(1, shared=False))
    bench.source_port.preflight_seconds = 5.0
    async with bench.env.check_slots.slot("other"):
        checking = asyncio.create_task(bench.check())
        await asyncio.sleep(5)
        assert (bench.fake_secret.reads, bench.source_port.asked) == (1, [])
    await asyncio.sleep(1)
    assert not bench.env.check_slots.free
    assert (await checking).preflight == PREFLIGHT
    assert bench.env.check_slots.free
