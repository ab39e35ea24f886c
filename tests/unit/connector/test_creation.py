"""A connector is created in C1 once, whatever happens meanwhile, and its credentials are never lost."""

import asyncio
import copy
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from buildkite_connector.connector.creation import SETTLE_SECONDS
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import C1Creation
from buildkite_connector.model.status import C1Record
from fakes.c1_creation import (
    LIFE,
    MARKER,
    Fate,
    Killed,
    Process,
    Surroundings,
    check_promises,
    nothing_yet,
    rotated,
    without_secret,
)
from fakes.log_lines import lines
from fakes.virtual_time import virtual_time

IN_APP = C1Creation("acme-c1", app_id="app0", display_name="Acme")
RANDOM_ENDS = 60
DAY = 86_400.0
Begin = Callable[[Surroundings], Awaitable[Surroundings]]


SITUATIONS = pytest.mark.parametrize("begin", [nothing_yet, rotated, without_secret])


@virtual_time
async def test_a_connector_is_created_in_its_app_with_credentials() -> None:
    its = Surroundings()
    await its.run()
    check_promises(its)
    assert its.created == ["Buildkite", "Buildkite"]
    assert its.apps == {its.record.app_id: MARKER}
    assert its.record.credential is not None
    assert its.record.credential.expires_at is not None
    assert its.record.credential.rotates_at is not None
    before = list(its.log)
    await its.run()
    assert its.log == [*before, "read the Secret"]


@virtual_time
async def test_in_an_app_that_exists_only_the_connector_is_created() -> None:
    its = Surroundings()
    await its.run(IN_APP)
    check_promises(its)
    assert (its.apps, its.created, its.record.app_id) == ({}, ["Acme"], "app0")
    assert "find apps" not in its.log


@SITUATIONS
@pytest.mark.parametrize("late", [None, 0.0, 1.0, 69.0])
def test_a_process_that_is_killed_anywhere_leaves_what_the_next_one_completes(begin: Begin, late: float | None) -> None:
    """At each point in turn: before a request is carried out, before its answer, and carried out after the end."""
    point = 0
    while killed_at(begin, point, late):
        point += 1
    assert point > 8


def killed_at(begin: Begin, point: int, late: float | None) -> bool:
    """Whether the process was killed before it was ready."""
    killed = []

    @virtual_time
    async def live() -> None:
        its = await begin(Surroundings())
        its.process = Process(point, late)
        try:
            await its.run()
        except Killed as kill:
            killed.append(str(kill))
        its.process = Process()
        await its.run()
        await asyncio.sleep(SETTLE_SECONDS)
        await its.run()
        loses = ("create a credential", "write the Secret", "write the status")
        check_promises(its, lost=any(each.startswith(loses) for each in killed))

    live()
    return bool(killed)


@pytest.mark.parametrize("seed", range(RANDOM_ENDS))
@virtual_time
async def test_processes_that_are_killed_at_random_on_bad_days_never_create_twice(seed: int) -> None:
    fates = [*[Fate.ANSWERED] * 6, Fate.REFUSED, Fate.CUT, Fate.LOST, Fate.LATE]
    chance = random.Random(seed)
    its = await chance.choice([nothing_yet, rotated, without_secret])(Surroundings())
    before = set(its.credentials)
    its.late = chance.uniform(0.0, 70.0)
    its.fate = lambda name: _of(name, chance.choice(fates))
    for _ in range(8):
        its.process = Process(chance.randrange(25), chance.choice([None, chance.uniform(0.0, 69.0)]))
        try:
            await its.run()
        except Killed:
            await asyncio.sleep(chance.uniform(0.0, 30.0))
    its.process, its.fate = Process(), lambda _: Fate.ANSWERED
    await its.run()
    await asyncio.sleep(SETTLE_SECONDS)
    await its.run()
    check_promises(its, lost=len(set(its.credentials) - before))


def _of(name: str, fate: Fate) -> Fate:
    """Kubernetes refuses nothing here."""
    return Fate.CUT if fate is Fate.REFUSED and ("Secret" in name or "status" in name) else fate


# What hides success, and what does not


@pytest.mark.parametrize("call", ["create the app", "create the connector"])
@pytest.mark.parametrize(("fate", "calls"), [(Fate.LOST, 1), (Fate.LATE, 1), (Fate.CUT, 2), (Fate.REFUSED, 2)])
@virtual_time
async def test_a_call_whose_answer_is_lost_is_looked_for_before_it_is_made_again(
    call: str, fate: Fate, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    its = Surroundings()
    fates = {call: fate}
    its.fate = lambda name: fates.pop(name, Fate.ANSWERED)
    its.late = 69.0
    await its.run()
    check_promises(its)
    assert its.log.count(call) == calls
    assert caplog.records == []


@virtual_time
async def test_a_call_without_an_answer_is_given_up_and_what_it_created_is_found() -> None:
    its = Surroundings()
    its.fate = lambda name: Fate.SILENT if name == "create the app" else Fate.ANSWERED
    with pytest.raises(Failure, match="C1 has not answered within 30 seconds") as failed:
        await its.run_once()
    assert failed.value.reason is Reason.C1_NOT_CREATED
    assert failed.value.retry_after == pytest.approx(90, abs=1)
    await asyncio.sleep(91)
    await its.run()
    check_promises(its)
    assert its.created == ["Buildkite", "Buildkite"]


@virtual_time
async def test_while_a_call_may_still_be_carried_out_nothing_is_asked_of_c1() -> None:
    its = Surroundings()
    its.fate = lambda name: Fate.LATE if name == "create the app" else Fate.ANSWERED
    with pytest.raises(Failure) as first:
        await its.run_once()
    assert "C1 answered 503. Whether C1 created the app is not known yet; the operator continues at" in str(first.value)
    assert first.value.remedy is Remedy.RETRY
    its.log.clear()
    await asyncio.sleep(60)
    with pytest.raises(Failure) as second:
        await its.run_once()
    assert its.log == ["read the Secret", "try to write the Secret"]
    assert second.value.retry_after == pytest.approx(60, abs=1)


@virtual_time
async def test_a_clock_that_was_set_back_delays_the_next_look_by_two_minutes_at_most() -> None:
    its = Surroundings()
    its.fate = lambda name: Fate.CUT if name == "create the app" else Fate.ANSWERED
    with pytest.raises(Failure):
        await its.run_once()
    its.clock.set_by = -timedelta(hours=1)
    with pytest.raises(Failure) as failed:
        await its.run_once()
    assert failed.value.retry_after == SETTLE_SECONDS


@virtual_time
async def test_no_call_is_made_before_the_status_names_it() -> None:
    """The moment in the status is a fresh one, however long the API server was away (the fake of C1 looks)."""
    its = Surroundings()
    refused = 100
    statuses = 0

    def fate(name: str) -> Fate:
        nonlocal statuses
        statuses += name == "write the status"
        return Fate.CUT if name == "write the status" and statuses < refused else Fate.ANSWERED

    its.fate = fate
    running = asyncio.create_task(its.run())
    await asyncio.sleep(400)
    assert its.apps == {}
    await running
    check_promises(its)


@virtual_time
async def test_more_than_one_of_what_was_created_means_the_oldest_and_nothing_is_deleted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    its = Surroundings(
        apps={"app1": MARKER, "app2": MARKER}, connectors={"c1": ("app1", MARKER), "c2": ("app1", MARKER)}
    )
    await its.run()
    assert (its.record.app_id, its.record.connector_id) == ("app1", "c1")
    assert (len(its.apps), len(its.connectors), its.created) == (2, 2, [])
    message = "C1 has more than one of what was created for this connector; the oldest is used"
    fields = {"connector": "default.acme", "kind": "App", "used": "app1", "others": ["app2"]}
    others = fields | {"kind": "Connector", "used": "c1", "others": ["c2"]}
    assert lines(caplog.records) == [(logging.WARNING, message, fields), (logging.WARNING, message, others)]


# The Secret


@pytest.mark.parametrize("reason", [Reason.SECRET_NOT_OWN, Reason.SECRET_FORBIDDEN])
@virtual_time
async def test_without_a_secret_to_write_nothing_is_created(reason: Reason) -> None:
    its = Surroundings(secret_failure=Failure(reason, "Not this one.", remedy=Remedy.EDIT))
    with pytest.raises(Failure, match=r"^Not this one\.$") as failed:
        await its.run_once()
    assert (failed.value.reason, failed.value.remedy) == (reason, Remedy.EDIT)
    assert (its.created, its.record) == ([], C1Record())


@virtual_time
async def test_a_secret_that_cannot_be_written_is_tried_again_with_the_same_credential() -> None:
    its = Surroundings()
    failures = 7
    its.fate = lambda name: (
        Fate.CUT if name == "write the Secret" and its.log.count(name) <= failures else Fate.ANSWERED
    )
    await its.run()
    check_promises(its)
    assert len(its.credentials) == 1


@SITUATIONS
@virtual_time
async def test_a_credential_that_cannot_be_kept_is_revoked(begin: Begin) -> None:
    its = await begin(Surroundings())
    before = its.live()

    def fate(name: str) -> Fate:
        if name == "create a credential":
            its.secret_failure = Failure(Reason.SECRET_FORBIDDEN, "Not any more.", remedy=Remedy.CREDENTIALS)
        return Fate.ANSWERED

    its.fate = fate
    with pytest.raises(Failure, match=r"Not any more\.$"):
        await its.run_once()
    assert its.live() == before
    assert its.record.creating is None
    its.fate, its.secret_failure = lambda _: Fate.ANSWERED, None
    await its.run()
    check_promises(its)


@virtual_time
async def test_a_secret_that_changed_meanwhile_is_not_overwritten() -> None:
    """What a killed process had sent is carried out between the next one's look and its write."""
    its = Surroundings(process=Process())
    await its.run()
    await asyncio.sleep(2 / 3 * LIFE.total_seconds() + 1)
    its.process = Process(late=1.0)
    its.process.kill_at = await point_of(its, "write the Secret: sent")
    with pytest.raises(Killed):
        await its.run()
    late = max(its.credentials)
    its.process = Process()
    its.fate = lambda name: Fate.CUT if name == "write the Secret" and its.log.count(name) < 4 else Fate.ANSWERED
    with pytest.raises(
        Failure, match=r"Secret acme-c1 got other credentials meanwhile; the operator reads it again\.$"
    ) as failed:
        await its.run_once()
    assert failed.value.reason is Reason.KUBERNETES_UNAVAILABLE
    assert its.secret is not None
    assert its.secret.credential_id == late
    await its.run()
    check_promises(its)


@virtual_time
async def test_a_credential_that_may_come_into_the_secret_late_is_not_revoked() -> None:
    """The first write is carried out late; meanwhile the permission is withdrawn."""
    its = await rotated(Surroundings())

    def fate(name: str) -> Fate:
        if name != "write the Secret":
            return Fate.ANSWERED
        its.secret_failure = Failure(Reason.SECRET_FORBIDDEN, "Not any more.", remedy=Remedy.CREDENTIALS)
        return Fate.LATE

    its.fate = fate
    with pytest.raises(Failure, match="Not any more"):
        await its.run_once()
    await asyncio.sleep(its.late)
    its.fate, its.secret_failure = lambda _: Fate.ANSWERED, None
    await its.run()
    check_promises(its)
    assert len(its.credentials) == 2


@virtual_time
async def test_a_secret_that_is_there_again_ends_what_was_begun_without_it() -> None:
    its = Surroundings()
    await its.run()
    secret, its.secret = its.secret, None
    its.fate = lambda name: Fate.CUT if name == "create a credential" else Fate.ANSWERED
    with pytest.raises(Failure):
        await its.run_once()
    its.secret, its.fate = secret, lambda _: Fate.ANSWERED
    await its.run()
    check_promises(its)
    assert len(its.credentials) == 1


async def point_of(its: Surroundings, name: str) -> int:
    """The number of the point at which a process that goes on from here would be."""
    its = copy.deepcopy(its)
    its.process = Process()
    await its.run()
    return its.process.points.index(name)


@virtual_time
async def test_a_resource_that_is_created_again_takes_up_the_connector_of_the_one_before() -> None:
    its = Surroundings()
    await its.run()
    before = its.record
    its.record, its.session = C1Record(), ""
    await its.run()
    check_promises(its)
    assert (its.record.app_id, its.record.connector_id) == (before.app_id, before.connector_id)
    assert its.created == ["Buildkite", "Buildkite"]
    assert len(its.credentials) == 1


@virtual_time
async def test_it_takes_up_the_connector_although_its_credential_was_revoked() -> None:
    its = Surroundings()
    await its.run()
    its.record, its.session = C1Record(), ""
    for each in its.credentials.values():
        each.revoked = True
    await its.run()
    check_promises(its)
    assert (len(its.connectors), len(its.credentials)) == (1, 2)


@virtual_time
async def test_a_credential_in_the_secret_that_c1_does_not_know_is_replaced() -> None:
    its = Surroundings()
    await its.run()
    assert its.secret is not None
    its.secret = replace(its.secret, credential_id="unknown", client_id="client", client_secret="of nobody")
    await its.run()
    check_promises(its)


@virtual_time
async def test_a_secret_that_lost_its_ids_gets_them_again() -> None:
    its = Surroundings()
    await its.run()
    assert its.secret is not None
    its.secret = replace(its.secret, app_id="", connector_id="", credential_id="")
    await its.run()
    check_promises(its)


@virtual_time
async def test_the_secret_of_another_connector_in_c1_is_left_as_it_is() -> None:
    its = Surroundings()
    await its.run()
    secret = its.secret
    its.record = replace(its.record, app_id="app9", connector_id="connector9")
    with pytest.raises(Failure, match="has the credentials of another connector in C1") as failed:
        await its.run_once()
    assert (failed.value.reason, failed.value.remedy, its.secret) == (Reason.SECRET_NOT_OWN, Remedy.EDIT, secret)


@pytest.mark.parametrize("again", [False, True], ids=["edited", "created again"])
@virtual_time
async def test_a_connector_does_not_move_to_another_app(again: bool) -> None:
    its = Surroundings()
    await its.run(IN_APP)
    if again:
        its.record = C1Record()
    with pytest.raises(Failure, match=r"^spec\.c1\.create\.appID is now .*\. Set it back to app0") as failed:
        await its.run_once(replace(IN_APP, app_id="app7"))
    assert failed.value.remedy is Remedy.EDIT
    assert len(its.connectors) == 1
