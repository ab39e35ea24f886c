"""What a creation in C1 says and logs, what it hands on to C1, and how long it waits."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from buildkite_connector.connector.creation import PROVEN_APART, CreationRun
from buildkite_connector.connector.ports import Kept
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import C1Creation
from buildkite_connector.model.status import C1CredentialRecord, C1Record, C1Step
from fakes.c1_creation import LIFE, MARKER, WANTED, FakeRest, FakeSecret, Fate, Surroundings, check_promises, rotated
from fakes.connector_ports import MINUTE
from fakes.log_lines import lines
from fakes.virtual_time import START, Share, virtual_time

NO_APP = "The app is not created in C1 yet."
NO_CONNECTOR = "The connector is not created in app app1 of C1 yet."
NO_CREDENTIALS = "Connector connector2 in app app1 of C1 has no credentials yet."
NOT_REPLACED = "The connector's credentials in C1 could not be replaced:"
DELETED = (
    " If the connector was deleted in C1, delete this resource and Secret acme-c1 too: created again, the resource"
    " gets a new one."
)
NAMES_ANOTHER = (
    "Secret acme-c1 has the credentials of another connector in C1, connector in app app. Set another"
    " spec.c1.create.secretName."
)
MOVED = (
    "spec.c1.create.appID is now app7, but the connector was created in app app0 and stays there. Set it back to app0;"
    " for a connector in another app, create another BuildkiteConnector."
)
FORGED = (
    "Secret acme-c1 names connector connector in app app, but C1 does not show that the operator created it for this"
    " resource. If it is the right one, set spec.c1.appID and spec.c1.connectorID in place of spec.c1.create; for a new"
    " connector, set another spec.c1.create.secretName."
)
NO_PERMISSION = Failure(Reason.SECRET_FORBIDDEN, "Not any more.", remedy=Remedy.CREDENTIALS, retry_after=3.0)


def busy(seconds: float | None = 77.0) -> Failure:
    return Failure(Reason.C1_UNAVAILABLE, "Busy.", retry_after=seconds)


def not_found() -> Failure:
    return Failure(Reason.C1_NOT_FOUND, "Not there.", remedy=Remedy.EDIT)


def refuses(its: Surroundings, call: str, how: Callable[[], Failure]) -> None:
    its.refusal = how
    its.fate = lambda name: Fate.REFUSED if name == call else Fate.ANSWERED


async def failed(its: Surroundings, wanted: C1Creation = WANTED) -> tuple[Reason, str, Remedy, float | None]:
    with pytest.raises(Failure) as raised:
        await its.run_once(wanted)
    failure = raised.value
    return failure.reason, failure.message, failure.remedy, failure.retry_after


# How far it got


@pytest.mark.parametrize(
    ("call", "how", "reason", "message", "record"),
    [
        ("find apps", busy, Reason.C1_NOT_CREATED, f"{NO_APP} Busy.", C1Record()),
        ("find apps", not_found, Reason.C1_NOT_CREATED, f"{NO_APP} Not there.", C1Record()),
        ("find connectors", busy, Reason.C1_NOT_CREATED, f"{NO_CONNECTOR} Busy.", C1Record("app1")),
        (
            "create a credential",
            not_found,
            Reason.C1_NOT_CREATED,
            f"{NO_CREDENTIALS} Not there.{DELETED}",
            C1Record("app1", "connector2"),
        ),
        ("read the Secret", lambda: NO_PERMISSION, Reason.SECRET_FORBIDDEN, "Not any more.", C1Record()),
    ],
)
@virtual_time
async def test_a_failure_says_how_far_the_creation_got(
    call: str, how: Callable[[], Failure], reason: Reason, message: str, record: C1Record
) -> None:
    its = Surroundings()
    refuses(its, call, how)
    assert await failed(its) == (reason, message, how().remedy, how().retry_after)
    assert its.record == record


@pytest.mark.parametrize(
    ("call", "how", "told"),
    [
        ("try to write the Secret", lambda: NO_PERMISSION, "Not any more."),
        ("create a credential", not_found, f"Not there.{DELETED}"),
        ("create a credential", lambda: Failure(Reason.CLOCK_WRONG, "Late.", retry_after=9.0), "Late."),
    ],
)
@virtual_time
async def test_while_credentials_work_a_failure_says_that_they_were_not_replaced(
    call: str, how: Callable[[], Failure], told: str
) -> None:
    its = await rotated(Surroundings())
    refuses(its, call, how)
    before = its.record
    assert await failed(its) == (how().reason, f"{NOT_REPLACED} {told}", how().remedy, how().retry_after)
    assert its.record == before


NAMED = Kept("app", "connector", "credential", "", "", "0")


@pytest.mark.parametrize(
    ("record", "kept", "app_id", "reason", "message"),
    [
        (C1Record("app9", "connector"), NAMED, "", Reason.SECRET_NOT_OWN, NAMES_ANOTHER),
        (C1Record("app", "connector9"), NAMED, "", Reason.SECRET_NOT_OWN, NAMES_ANOTHER),
        (C1Record("app"), NAMED, "", Reason.SECRET_NOT_OWN, FORGED),
        (C1Record("app0"), None, "app7", Reason.SPEC_INVALID, MOVED),
    ],
)
@virtual_time
async def test_what_the_secret_or_the_spec_names_wrongly_is_said_in_full(
    record: C1Record, kept: Kept | None, app_id: str, reason: Reason, message: str
) -> None:
    its = Surroundings(record=record, secret=kept)
    assert await failed(its, replace(WANTED, app_id=app_id)) == (reason, message, Remedy.EDIT, None)
    assert (its.record, its.secret, its.created) == (record, kept, [])


@pytest.mark.parametrize(
    ("reason", "remedy", "said"),
    [
        (Reason.C1_NOT_FOUND, Remedy.EDIT, FORGED),
        (Reason.C1_ACCESS_DENIED, Remedy.CREDENTIALS, FORGED),
        (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS, f"{NO_APP} Not now."),
    ],
)
@virtual_time
async def test_only_a_c1_that_does_not_show_the_connector_means_that_it_is_another(
    reason: Reason, remedy: Remedy, said: str
) -> None:
    its = Surroundings(secret=NAMED)
    refuses(its, "find connectors", lambda: Failure(reason, "Not now.", remedy=remedy))
    assert (await failed(its))[1] == said


@pytest.mark.parametrize("missing", ["app_id", "connector_id", "credential_id"])
@virtual_time
async def test_a_secret_without_all_ids_names_no_connector(missing: str) -> None:
    its = Surroundings(secret=replace(NAMED, **{missing: ""}))
    await its.run_once()
    assert its.record.connector_id in its.connectors


@pytest.mark.parametrize("removed", ["client_id", "client_secret"])
@virtual_time
async def test_a_secret_without_half_of_its_credentials_gets_new_ones(removed: str) -> None:
    its = Surroundings()
    await its.run()
    assert its.secret is not None
    its.secret = replace(its.secret, **{removed: ""})
    refuses(its, "create a credential", busy)
    assert (await failed(its))[0] is Reason.C1_NOT_CREATED
    its.fate = lambda _: Fate.ANSWERED
    await its.run()
    check_promises(its, lost=1)


# While a call may still be carried out


@pytest.mark.parametrize(
    ("call", "begins", "name"),
    [
        ("create the app", NO_APP, "app"),
        ("create the connector", NO_CONNECTOR, "connector"),
        ("create a credential", NO_CREDENTIALS, "credential"),
    ],
)
@pytest.mark.parametrize(("asked", "wait", "ends"), [(None, 120, "09:02:00"), (600, 600, "09:10:00")])
@virtual_time
async def test_a_lost_answer_is_waited_for_until_a_time_that_is_said(
    call: str, begins: str, name: str, asked: float | None, wait: float, ends: str
) -> None:
    its = Surroundings()
    refuses(its, call, lambda: busy(asked))
    unknown = f"Whether C1 created the {name} is not known yet; the operator continues at"
    assert await failed(its) == (Reason.C1_NOT_CREATED, f"{begins} Busy. {unknown} {ends} UTC.", Remedy.RETRY, wait)
    if name != "credential":
        said = f"{begins} {unknown} 09:02:00 UTC."
        for passes, left in ((60.0, 60.0), (59.5, 0.5)):
            await asyncio.sleep(passes)
            *told, seconds = await failed(its)
            assert told == [Reason.C1_NOT_CREATED, said, Remedy.RETRY]
            assert seconds == pytest.approx(left)


@virtual_time
async def test_a_status_without_the_time_of_the_call_is_waited_for_no_longer() -> None:
    its = Surroundings(record=C1Record(creating=C1Step.APP))
    await its.run_once()
    assert its.created == ["Buildkite", "Buildkite"]


# What is handed on


class Heard(FakeRest):
    """It keeps what is asked of C1."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self.calls: list[tuple[object, ...]] = []

    async def create_app(self, name: str, owners: tuple[str, ...], marker: str) -> str:
        self.calls.append((name, owners, marker))
        return await super().create_app(name, owners, marker)

    async def create_connector(self, app_id: str, name: str, owners: tuple[str, ...], marker: str) -> str:
        self.calls.append((app_id, name, owners, marker))
        return await super().create_connector(app_id, name, owners, marker)


class Tried(FakeSecret):
    """It keeps what a write was tried in place of."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self.tried: list[Kept | None] = []

    async def check_writable(self, there: Kept | None) -> None:
        self.tried.append(there)
        await super().check_writable(there)


@virtual_time
async def test_the_write_that_is_tried_is_in_place_of_the_secret_that_is_there() -> None:
    its = Surroundings()
    secret = Tried(its)
    await CreationRun(WANTED, its.record, "", replace(its.ports(), secret=secret)).run()
    first = its.secret
    await asyncio.sleep(2 / 3 * LIFE.total_seconds() + 1)
    await CreationRun(WANTED, its.record, "", replace(its.ports(), secret=secret)).run()
    assert secret.tried == [None, first]


@virtual_time
async def test_the_status_has_each_call_before_it_is_made_and_its_result_before_the_next() -> None:
    its = Surroundings()
    saved: list[C1Record] = []

    async def save(record: C1Record) -> None:
        saved.append(record)
        await its.save(record)

    await CreationRun(WANTED, its.record, "", replace(its.ports(), save=save)).run()
    assert saved == [
        C1Record(creating=C1Step.APP, creating_since=START),
        C1Record("app1"),
        C1Record("app1", creating=C1Step.CONNECTOR, creating_since=START),
        C1Record("app1", "connector2"),
        C1Record("app1", "connector2", creating=C1Step.CREDENTIAL, creating_since=START),
        its.record,
    ]


@virtual_time
async def test_what_the_secret_names_is_in_the_status_before_anything_else() -> None:
    its = Surroundings()
    await its.run_once()
    whole, its.record = its.record, C1Record(creating=C1Step.APP, creating_since=START)
    saved: list[C1Record] = []

    async def save(record: C1Record) -> None:
        saved.append(record)

    await CreationRun(WANTED, its.record, "", replace(its.ports(), save=save)).run()
    assert saved == [C1Record("app1", "connector2"), whole]


@pytest.mark.parametrize(("fate", "writes"), [(Fate.LOST, 1), (Fate.CUT, 2)])
@virtual_time
async def test_the_secret_is_written_in_place_of_what_is_there_then(fate: Fate, writes: int) -> None:
    """Somebody edited its labels before a write that was cut off; after a lost answer it has the credentials."""
    its = await rotated(Surroundings())
    its.log.clear()

    def once(name: str) -> Fate:
        if name != "write the Secret" or its.log.count(name) > 1:
            return Fate.ANSWERED
        if fate is Fate.CUT and its.secret is not None:
            its.secret = replace(its.secret, version="edited")
        return fate

    its.fate = once
    async with asyncio.timeout(MINUTE):
        await its.run_once()
    assert its.secret is not None
    assert (its.log.count("write the Secret"), its.live()) == (writes, {"credential3", its.secret.credential_id})
    assert its.secret.credential_id != "credential3"


OWNERS = ("user1", "user2")


@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        (
            C1Creation("acme-c1", app_name="App", display_name="Shown", owners=OWNERS),
            [("App", OWNERS, MARKER), ("app1", "Shown", OWNERS, MARKER)],
        ),
        (C1Creation("acme-c1", app_name="App"), [("App", (), MARKER), ("app1", "App", (), MARKER)]),
        (C1Creation("acme-c1", app_id="app0", owners=OWNERS), [("app0", "Buildkite", OWNERS, MARKER)]),
    ],
)
@virtual_time
async def test_c1_gets_the_names_the_owners_and_the_marker(wanted: C1Creation, calls: list[tuple[object, ...]]) -> None:
    its = Surroundings(connectors={"theirs": ("app0", "")})
    heard = Heard(its)
    await CreationRun(wanted, its.record, "", replace(its.ports(), rest=heard)).run()
    assert heard.calls == calls


@virtual_time
async def test_credentials_are_replaced_at_the_moment_that_the_status_names_and_all_before_are_kept_for_their_end() -> (
    None
):
    its = Surroundings()
    await its.run_once()
    for _ in range(2):
        assert its.record.credential is not None
        its.record = replace(its.record, credential=replace(its.record.credential, rotates_at=START))
        await its.run_once()
    ends = START + LIFE
    rotates = START + LIFE * 2 / 3
    newest = C1CredentialRecord("credential5", ends, rotates, ("credential3", "credential4"))
    assert its.record == C1Record("app1", "connector2", credential=newest)
    its.session = "client-credential5"
    await its.run_once()
    assert its.record == C1Record("app1", "connector2", credential=replace(newest, retiring=()))
    assert its.live() == {"credential5"}


# How long it waits, and what it logs


class Whole(Share):
    """The end of a range that must be the one from 0 to 1."""

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (0.0, 1.0)
        return high


@virtual_time
async def test_a_secret_that_is_not_written_is_tried_again_ever_later_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    its = Surroundings()
    asks = iter([None, None, 100.0, None])
    tries: list[float] = []

    def fate(name: str) -> Fate:
        if name == "write the Secret":
            tries.append(round(its.clock.monotonic()))
        return Fate.REFUSED if name == "write the Secret" and len(tries) <= 4 else Fate.ANSWERED

    its.fate = fate
    its.refusal = lambda: Failure(Reason.KUBERNETES_UNAVAILABLE, "It is away.", retry_after=next(asks))
    await CreationRun(WANTED, its.record, "", replace(its.ports(), jitter=Whole(1.0))).run()
    assert tries == [0, 5, 15, 115, 155]
    fields = {"connector": "default.acme", "error": "It is away."}
    assert lines(caplog.records) == [(logging.WARNING, "the connector's Secret could not be written", fields)] * 4


@virtual_time
async def test_credentials_that_c1_accepts_for_a_minute_not_are_given_up_for_six_hours() -> None:
    its = Surroundings()
    its.greetings = [Failure(Reason.C1_CLIENT_REJECTED, "Unknown.", remedy=Remedy.CREDENTIALS)] * 99
    said = f"{NO_CREDENTIALS} Unknown."
    assert await failed(its) == (Reason.C1_NOT_CREATED, said, Remedy.CREDENTIALS, PROVEN_APART)
    assert (len(its.greeted), round(its.clock.monotonic())) == (13, 60)
    assert (its.live(), its.record) == (set(), C1Record("app1", "connector2"))


@virtual_time
async def test_a_credential_that_nobody_holds_and_c1_does_not_revoke_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    its = Surroundings(greetings=[Failure(Reason.CLIENT_ID_INVALID, "Its host.", remedy=Remedy.CREDENTIALS)])
    refuses(its, "revoke a credential", busy)
    assert (await failed(its))[1] == f"{NO_CREDENTIALS} Its host."
    fields = {"connector": "default.acme", "credential": "credential3", "error": "Busy."}
    message = "an unused credential was not revoked: it stays valid in C1 until it expires"
    assert lines(caplog.records) == [(logging.WARNING, message, fields)]
    caplog.clear()
    its.fate = lambda _: Fate.ANSWERED
    await its.run_once()
    since = {"connector": "default.acme", "since": START}
    message = "a credential may be lost: it stays valid in C1 until it expires"
    assert lines(caplog.records) == [(logging.WARNING, message, since)]
