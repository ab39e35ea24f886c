"""A connector that the operator creates in C1: what is reported, when it runs, and what its session notices."""

import asyncio
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from buildkite_connector.connector.creation import SETTLE_SECONDS
from buildkite_connector.kubernetes.events import EventType, draft_events
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import C1Spec, Credentials, Provisioning
from buildkite_connector.model.status import C1Record, Condition, ConditionType, ConnectorStatus, Phase
from buildkite_connector.model.tasks import Code
from fakes.c1_creation import MARKER, WANTED, Fate, Process, c1_refuses, kubernetes_down
from fakes.connector_ports import HOUR, MINUTE
from fakes.creation_setup import LIFE, CreationSetup, SecretWithClient, created_setup
from fakes.virtual_time import until, virtual_time
from harness.examples import some

SEEDS = some(range(15), one_in=4)
READY, CREDENTIALS = ConditionType.READY, ConditionType.CREDENTIALS_VALID
UNTIL_ROTATION = LIFE.total_seconds() / 2


def said(setup: CreationSetup, kind: ConditionType) -> Condition:
    found = setup.status.condition(kind)
    assert found is not None
    return found


def one_of_each(setup: CreationSetup) -> bool:
    """One app, one connector, and a session with the credential that the Secret has."""
    its = setup.its
    assert (len(its.apps), len(its.connectors)) == (1, 1)
    assert its.secret is not None
    assert its.session == its.secret.client_id
    return True


@virtual_time
async def test_it_is_created_and_becomes_ready_within_seconds() -> None:
    setup = CreationSetup()
    async with setup.running():
        await asyncio.sleep(10)
        assert one_of_each(setup)
        assert setup.condition(READY) == ("True", "Ready")
    assert list(setup.its.apps.values()) == [MARKER], "with the resource's UID"
    phases = [each.phase for each in setup.reports.written]
    assert Phase.ERROR not in phases
    first = setup.reports.written[0]
    assert first.c1 is not None
    assert setup.status.c1 is not None
    assert setup.status.c1.credential is not None
    assert setup.status.c1.creating is None


@virtual_time
async def test_a_secret_that_is_not_written_at_once_gets_the_credential_that_was_created_for_it() -> None:
    setup = CreationSetup()
    cut = iter([Fate.CUT, Fate.CUT])
    setup.its.fate = lambda name: next(cut, Fate.ANSWERED) if name == "write the Secret" else Fate.ANSWERED
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert one_of_each(setup)
        assert len(setup.its.credentials) == 1


@virtual_time
async def test_a_new_credential_is_greeted_by_a_client_of_its_own_before_it_is_written() -> None:
    async with created_setup() as setup:
        first, session = setup.clients
        assert (first.polls, first.closed, first.client_id) == (0, 1, session.client_id)
        assert session.closed == 0


@virtual_time
async def test_a_c1_that_does_not_answer_hello_holds_it_up_for_ten_seconds() -> None:
    setup = CreationSetup()
    setup.hangs = True
    async with setup.running():
        await asyncio.sleep(9)
        assert setup.its.record.credential is None
        await asyncio.sleep(2)
        assert setup.its.secret is not None
        assert setup.clients[0].closed == 1


@virtual_time
async def test_when_idle_it_costs_nothing() -> None:
    async with created_setup(after=10 * MINUTE) as setup:
        log, written = len(setup.its.log), len(setup.reports.written)
        await asyncio.sleep(40 * MINUTE)
        assert setup.its.log[log:] == []
        assert len(setup.reports.written) == written


@virtual_time
async def test_a_restart_looks_at_the_secret_once() -> None:
    async with created_setup() as setup:
        pass
    setup.its.log.clear()
    async with setup.running(restored=setup.restored):
        await asyncio.sleep(30 * MINUTE)
        assert setup.its.log == ["read the Secret"]
        assert setup.condition(READY) == ("True", "Ready")


@virtual_time
async def test_a_refusal_says_how_far_it_got_and_is_tried_again_in_five_minutes() -> None:
    setup = CreationSetup()
    setup.its.fate = lambda name: Fate.REFUSED if name == "create the connector" else Fate.ANSWERED
    async with setup.running():
        await asyncio.sleep(MINUTE)
        app_id = setup.its.record.app_id
        told = said(setup, CREDENTIALS)
        assert (told.status.value, told.reason) == ("False", Reason.C1_NOT_CREATED)
        assert told.message == f"The connector is not created in app {app_id} of C1 yet. C1 refused it."
        assert setup.condition(ConditionType.STALLED) == ("True", "C1NotCreated")
        tries = setup.its.log.count("create the connector")
        await asyncio.sleep(3 * MINUTE)
        assert setup.its.log.count("create the connector") == tries == 1
        await asyncio.sleep(2 * MINUTE)
        assert setup.its.log.count("create the connector") == 2
        setup.its.fate = lambda _: Fate.ANSWERED
        await asyncio.sleep(5 * MINUTE)
        assert setup.condition(READY) == ("True", "Ready")


@pytest.mark.parametrize("how", ["edit", "annotation"])
@virtual_time
async def test_after_a_refusal_a_person_does_not_wait(how: str) -> None:
    setup = CreationSetup()
    setup.its.fate = lambda name: Fate.REFUSED if name == "create the app" else Fate.ANSWERED
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.its.fate = lambda _: Fate.ANSWERED
        if how == "edit":
            setup.edit(max_drop_percent=10)
        else:
            setup.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert setup.condition(READY) == ("True", "Ready")


@virtual_time
async def test_a_secret_that_is_not_the_operators_is_reported_by_its_own_reason() -> None:
    setup = CreationSetup()
    setup.its.secret_failure = Failure(Reason.SECRET_NOT_OWN, "Secret acme-c1 is not ours.", remedy=Remedy.EDIT)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(READY) == ("False", "SecretNotOwn")
        assert setup.its.created == []


@pytest.mark.parametrize(
    ("reason", "remedy", "status"),
    [
        (Reason.C1_ACCESS_DENIED, Remedy.CREDENTIALS, "False"),
        (Reason.C1_NOT_FOUND, Remedy.EDIT, "False"),
        (Reason.C1_REQUEST_REJECTED, Remedy.RETRY, "Unknown"),
        (Reason.C1_UNAVAILABLE, Remedy.RETRY, "Unknown"),
    ],
)
@virtual_time
async def test_what_needs_a_person_is_false_and_what_may_pass_is_unknown(
    reason: Reason, remedy: Remedy, status: str
) -> None:
    setup = CreationSetup()
    setup.its.refusal = lambda: c1_refuses(reason, remedy)
    setup.its.fate = lambda name: Fate.REFUSED if name == "create the app" else Fate.ANSWERED
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(CREDENTIALS) == (status, "C1NotCreated")
        assert setup.condition(READY) == ("False", "C1NotCreated")


@pytest.mark.parametrize("read_by", ["the creation", "both"])
@virtual_time
async def test_a_secret_that_is_not_the_operators_needs_a_person(read_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = CreationSetup()
    setup.its.secret_failure = Failure(Reason.SECRET_NOT_OWN, "Secret acme-c1 is not ours.", remedy=Remedy.EDIT)

    async def read(_: object) -> Credentials:
        assert setup.its.secret_failure is not None
        raise setup.its.secret_failure

    if read_by == "both":
        monkeypatch.setattr(SecretWithClient, "read", read)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(CREDENTIALS) == ("False", "SecretNotOwn")


@virtual_time
async def test_while_the_creation_goes_well_nothing_is_false_and_no_event_warns() -> None:
    setup = CreationSetup(provisioning=Provisioning(enabled=True))
    setup.reports.seconds = 1.0
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(READY) == ("True", "Ready")
    written = setup.reports.written
    created = [each for each in written if each.c1 is not None and each.c1.credential is None]
    assert {shown(each, READY) for each in created} == {("Unknown", "C1NotCreated")}
    assert {shown(each, CREDENTIALS) for each in created} == {("Unknown", "C1NotCreated")}
    assert {shown(each, ConditionType.RECONCILING) for each in created} == {("True", "Pending")}
    events = [event for old, new in pairwise([None, *written]) if new for event in draft_events(old, new)]
    assert {each.type for each in events} == {EventType.NORMAL}


def shown(status: ConnectorStatus, kind: ConditionType) -> tuple[str, str] | None:
    found = status.condition(kind)
    return None if found is None else (found.status.value, found.reason.value)


@virtual_time
async def test_another_app_in_the_spec_is_a_warning_of_its_own() -> None:
    async with created_setup() as setup:
        setup.edit(c1=C1Spec(create=replace(WANTED, app_name="", app_id="app7")))
        await asyncio.sleep(MINUTE)
        assert setup.condition(CREDENTIALS) == ("True", "SpecInvalid")
        assert "spec.c1.create.appID is now app7" in said(setup, CREDENTIALS).message
        assert setup.condition(READY) == ("True", "Ready")


@virtual_time
async def test_a_suspended_connector_is_not_created() -> None:
    setup = CreationSetup(suspend=True)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.its.log == []
        setup.edit(suspend=False)
        await asyncio.sleep(10)
        assert setup.condition(READY) == ("True", "Ready")


@pytest.mark.parametrize("how", ["stopped", "edited"])
@virtual_time
async def test_nothing_is_created_for_a_resource_that_was_deleted_or_edited_while_the_status_was_written(
    how: str,
) -> None:
    setup = CreationSetup()
    setup.reports.seconds = 5.0
    async with setup.running():
        await until(lambda: bool(setup.reports.written) and setup.reports.written[-1].c1 is not None)
        await until(lambda: setup.reports.written[-1].c1.creating is not None)  # type: ignore[union-attr]
        if how == "stopped":
            setup.session.stop()
        else:
            setup.edit(c1=None)
        await asyncio.sleep(HOUR)
        assert setup.its.created == []


@virtual_time
async def test_while_the_status_cannot_be_written_nothing_is_created() -> None:
    setup = CreationSetup()
    setup.reports.failures.extend([kubernetes_down()] * 6)
    async with setup.running():
        await until(lambda: not setup.reports.failures)
        assert setup.its.created == []
        await asyncio.sleep(10 * MINUTE)
        assert one_of_each(setup)


# Rotation


@virtual_time
async def test_credentials_are_replaced_while_the_connector_stays_ready() -> None:
    async with created_setup() as setup:
        (old,) = setup.its.credentials
        written = len(setup.reports.written)
        await asyncio.sleep(UNTIL_ROTATION)
        assert one_of_each(setup)
        assert setup.its.credentials[old].revoked
        assert len(setup.its.credentials) == len(setup.sessions) == 2
        statuses = {said_of.status for each in setup.reports.written[written:] if (said_of := each.condition(READY))}
        assert {each.value for each in statuses} == {"True"}


@virtual_time
async def test_an_upload_under_way_is_never_cut_by_a_rotation() -> None:
    async with created_setup() as setup:
        (old,) = setup.its.credentials
        setup.client.upload_seconds = 40 * MINUTE
        await asyncio.sleep(UNTIL_ROTATION - 20 * MINUTE)
        task = setup.task()
        await asyncio.sleep(30 * MINUTE)
        assert len(setup.its.credentials) == 2
        assert (setup.client.client_id, setup.its.credentials[old].revoked) == (f"client-{old}", False)
        finished = setup.client.finished
        await until(lambda: task in finished)
        await asyncio.sleep(10)
        assert len(setup.sessions) == 2
        await asyncio.sleep(10)
        assert setup.client.finished[task].code is Code.OK
        assert [each for each, _ in setup.client.uploads] == [task]
        assert setup.its.credentials[old].revoked
        assert one_of_each(setup)


@virtual_time
async def test_a_refused_rotation_is_a_warning_and_the_connector_works_on() -> None:
    async with created_setup() as setup:
        setup.its.fate = lambda name: Fate.REFUSED if name == "create a credential" else Fate.ANSWERED
        await asyncio.sleep(UNTIL_ROTATION)
        told = said(setup, CREDENTIALS)
        assert (told.status.value, told.reason) == ("True", Reason.C1_ACCESS_DENIED)
        assert told.message == "The connector's credentials in C1 could not be replaced: C1 refused it."
        assert setup.condition(READY) == ("True", "Ready")
        setup.its.fate = lambda _: Fate.ANSWERED
        await asyncio.sleep(HOUR)
        assert setup.condition(CREDENTIALS) == ("True", "Valid")
        assert len(setup.its.live()) == 1


@virtual_time
async def test_a_c1_that_is_away_is_a_warning_only_once_it_lasts() -> None:
    async with created_setup() as setup:
        setup.its.fate = lambda name: Fate.CUT if name == "create a credential" else Fate.ANSWERED
        await asyncio.sleep(UNTIL_ROTATION + 4 * MINUTE)
        assert setup.condition(CREDENTIALS) == ("True", "Valid")
        await asyncio.sleep(2 * HOUR)
        assert setup.condition(CREDENTIALS) == ("True", "C1Unavailable")


@virtual_time
async def test_a_deleted_secret_is_written_again_and_the_session_goes_on_meanwhile() -> None:
    async with created_setup() as setup:
        (old,) = setup.its.credentials
        setup.its.secret = None
        await asyncio.sleep(5 * MINUTE)
        assert one_of_each(setup)
        assert setup.its.credentials[old].revoked
        assert setup.condition(READY) == ("True", "Ready")


@virtual_time
async def test_credentials_that_expired_while_no_operator_ran_are_replaced() -> None:
    async with created_setup() as setup:
        pass
    await asyncio.sleep(LIFE.total_seconds() + HOUR)
    async with setup.running(restored=setup.restored):
        await asyncio.sleep(10 * MINUTE)
        assert one_of_each(setup)
        assert setup.condition(READY) == ("True", "Ready")


# Ends of the process


@pytest.mark.parametrize("seed", SEEDS)
@virtual_time
async def test_killed_at_random_while_it_is_created_and_while_credentials_are_replaced(seed: int) -> None:
    chance = random.Random(seed)
    setup = CreationSetup()
    setup.reports.seconds = 0.3
    for phase in ("created", "replaced"):
        for _ in range(3):
            point, late = chance.choice([None, chance.randrange(20)]), chance.choice([None, 0.5, 60.0])
            setup.its.process = Process(point, late, hangs=True)
            async with setup.running(restored=setup.restored):
                await asyncio.sleep(chance.uniform(0.0, 4.0))
                await setup.kill()
        async with setup.running(restored=setup.restored):
            await asyncio.sleep(SETTLE_SECONDS + 5 * MINUTE)
            assert one_of_each(setup)
            assert setup.condition(READY) == ("True", "Ready"), phase
            assert setup.its.record.credential is not None
            assert setup.its.record.credential.retiring == ()
            if phase == "created":
                rotates = setup.its.record.credential.rotates_at
                assert rotates is not None
                await asyncio.sleep((rotates - setup.clock.now()).total_seconds() - 2.0)


@virtual_time
async def test_a_connector_that_was_named_until_the_operator_stopped_is_not_taken_for_one_that_it_created() -> None:
    """Meanwhile spec.c1.create took the place of the two IDs."""
    setup = CreationSetup()
    setup.its.apps, setup.its.connectors = {"theirs": ""}, {"connector": ("theirs", "")}
    restored = ConnectorStatus(c1=C1Record("theirs", "connector"))
    async with setup.running(restored=restored):
        await asyncio.sleep(MINUTE)
        assert setup.condition(READY) == ("True", "Ready")
        assert [each.app_id for each in setup.its.credentials.values()] == [setup.its.record.app_id]
        assert setup.its.record.app_id != "theirs"


@virtual_time
async def test_a_status_without_its_history_finds_what_was_created() -> None:
    """As after a restore of the cluster from a backup of the resources alone."""
    async with created_setup() as setup:
        pass
    assert setup.restored is not None
    async with setup.running(restored=replace(setup.restored, c1=C1Record())):
        await asyncio.sleep(MINUTE)
        assert one_of_each(setup)
        assert len(setup.its.credentials) == 1
